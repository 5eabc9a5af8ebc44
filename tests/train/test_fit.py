"""A training gives the same numbers however often it is broken off, and never half a state."""

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import KILLED, TINY, sonolite
from tests.train.conftest import BATCHES, EPOCHS, Train, assert_same, stop_at, without_seconds
from train.fit import Callbacks, Fitted
from train.learner import Epoch, Learner
from train.recipe import Distillation, Recipe
from train.resume import STATE
from train.run import read_record

TEACHERS, STUDIED = 2, 3


@pytest.fixture(scope="module")
def distilled(plain: Recipe) -> Recipe:
    """Two teachers of two epochs, whose student learns for three."""
    distillation = Distillation(TEACHERS, learning_rate=0.01, epochs=STUDIED)
    fit = replace(plain.fit, epochs=2, average=0.7, patience=None)
    return replace(plain, fit=fit, distillation=distillation)


@pytest.fixture(scope="module")
def student(
    distilled: Recipe, trained: Train, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Fitted, Path]:
    """What becomes of it, and where its curves are."""
    folder = tmp_path_factory.mktemp("student") / "a"
    return trained(distilled, folder), folder


def test_each_teacher_is_a_training_of_its_own(
    tmp_path: Path, distilled: Recipe, trained: Train, student: tuple[Fitted, Path]
) -> None:
    """The first one is that of the recipe without distillation."""
    alone = trained(replace(distilled, distillation=None), tmp_path / "alone")
    first, second = without_seconds(student[0].teachers)
    assert first == without_seconds(alone.history)[-1]
    assert second.epoch == first.epoch
    assert second.loss != first.loss
    assert len(student[0].history) == STUDIED


def test_the_curves_of_each_network_are_kept_apart(student: tuple[Fitted, Path]) -> None:
    logs = student[1] / "logs"
    assert {its.parent.name for its in logs.rglob("*tfevents*")} == {
        "teacher1",
        "teacher2",
        "student",
    }


@pytest.mark.parametrize(
    ("at", "epochs", "teachers"),
    [
        pytest.param(BATCHES + 1, 1, 0, marks=pytest.mark.slow),
        pytest.param(3 * BATCHES + 1, 2, 0, marks=pytest.mark.slow),
        pytest.param(4 * BATCHES + 1, 2, 0, marks=pytest.mark.slow),
        (5 * BATCHES + 1, 1, TEACHERS),
    ],
    ids=["the first teacher", "the second", "the student's first epoch", "its second"],
)
def test_a_distillation_broken_off_is_usable_and_goes_on_to_the_same_result(
    tmp_path: Path,
    distilled: Recipe,
    trained: Train,
    student: tuple[Fitted, Path],
    at: int,
    epochs: int,
    teachers: int,
) -> None:
    broken = trained(distilled, tmp_path / "a", stop_at(at))
    assert broken.interrupted
    assert (len(broken.history), len(broken.teachers)) == (epochs, teachers)
    assert_same(student[0], trained(distilled, tmp_path / "a"))


def test_it_can_be_broken_off_while_a_network_is_built(
    tmp_path: Path, distilled: Recipe, trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = itertools.count(1)

    def build(*words: Any) -> Learner:
        if next(built) == TEACHERS:
            raise KeyboardInterrupt
        return Learner(*words)

    monkeypatch.setattr("train.fit.Learner", build)
    broken = trained(distilled, tmp_path / "a")
    assert broken.interrupted
    assert (len(broken.history), broken.teachers) == (2, ())


@pytest.mark.slow
def test_a_teacher_that_is_taken_up_again_is_not_made_of_what_was_a_student(
    tmp_path: Path, distilled: Recipe, trained: Train, student: tuple[Fitted, Path]
) -> None:
    def press(_: object) -> None:
        raise KeyboardInterrupt

    trained(distilled, tmp_path / "a", stop_at(5 * BATCHES + 1))
    with pytest.raises(KeyboardInterrupt):
        trained(distilled, tmp_path / "a", Callbacks(begin=press))
    assert_same(student[0], trained(distilled, tmp_path / "a"))


@pytest.mark.slow
def test_a_student_that_cannot_be_taken_up_again_is_not_given_up_for_a_teacher(
    tmp_path: Path, distilled: Recipe, trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the student's network is built, of which there is a state already."""
    built: list[bool] = []

    def build(*words: Any) -> Learner:
        built.append(True)
        if len(built) == TEACHERS + 1:
            raise KeyboardInterrupt
        return Learner(*words)

    trained(distilled, tmp_path / "a", stop_at(5 * BATCHES + 1))
    monkeypatch.setattr("train.fit.Learner", build)
    with pytest.raises(KeyboardInterrupt):
        trained(distilled, tmp_path / "a")


def test_a_distillation_with_patience_is_refused(distilled: Recipe) -> None:
    with pytest.raises(ValueError, match="leave patience out"):
        replace(distilled, fit=replace(distilled.fit, average=0.0, patience=2))


@pytest.mark.parametrize("kind", ["plain", pytest.param("everything", marks=pytest.mark.slow)])
def test_a_training_gone_on_with_is_the_unbroken_one(
    tmp_path: Path, trained: Train, kind: str, request: pytest.FixtureRequest
) -> None:
    recipe: Recipe = request.getfixturevalue(kind)
    unbroken = trained(recipe, tmp_path / "a")
    assert not unbroken.interrupted
    assert len(unbroken.history) == EPOCHS
    broken = trained(recipe, tmp_path / "b", stop_at(2 * BATCHES + 2))
    assert broken.interrupted
    assert without_seconds(broken.history) == without_seconds(unbroken.history[:2])
    resumed = trained(recipe, tmp_path / "b")
    assert not resumed.interrupted
    assert resumed.history[:2] == broken.history
    assert_same(unbroken, resumed)


def test_a_broken_off_training_is_that_of_its_whole_epochs(
    tmp_path: Path, trained: Train, plain: Recipe
) -> None:
    """Without a schedule it is what a recipe of so many epochs gives."""
    broken = trained(plain, tmp_path / "a", stop_at(2 * BATCHES + 1))
    short = trained(replace(plain, fit=replace(plain.fit, epochs=2)), tmp_path / "b")
    assert_same(short, broken)


def test_it_can_be_broken_off_between_epochs(tmp_path: Path, trained: Train, plain: Recipe) -> None:
    def press(epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    broken = trained(plain, tmp_path / "a", Callbacks(epoch=press))
    assert broken.interrupted
    assert len(broken.history) == 3


def test_before_the_first_whole_epoch_nothing_is_made_of_it(
    tmp_path: Path, trained: Train, plain: Recipe
) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(plain, tmp_path / "a", stop_at(2))
    assert not (tmp_path / "a" / STATE).exists()


def test_the_watch_is_told_how_much_is_left(tmp_path: Path, trained: Train, plain: Recipe) -> None:
    begun: list[int] = []
    trained(plain, tmp_path / "a", replace(stop_at(BATCHES + 1), begin=begun.append))
    trained(plain, tmp_path / "a", Callbacks(begin=begun.append))
    assert begun == [EPOCHS * BATCHES, (EPOCHS - 1) * BATCHES]


def test_another_seed_gives_another_model(tmp_path: Path, trained: Train, plain: Recipe) -> None:
    once = replace(plain, fit=replace(plain.fit, epochs=1))
    one, other = trained(once, tmp_path / "a", seed=3), trained(once, tmp_path / "b", seed=4)
    assert not np.array_equal(one.model.get_weights()[0], other.model.get_weights()[0])


def test_with_patience_the_best_epoch_is_kept(
    tmp_path: Path, trained: Train, plain: Recipe
) -> None:
    """And what follows it ends after so many epochs that are no better."""
    hasty = replace(plain, fit=replace(plain.fit, learning_rate=0.9, epochs=12, patience=2))
    fitted = trained(hasty, tmp_path / "a")
    scores = [(its.validation_auroc, -its.validation_loss) for its in fitted.history]
    assert fitted.best_epoch == scores.index(max(scores)) + 1
    assert len(fitted.history) == min(12, fitted.best_epoch + 3)


@pytest.mark.slow
def test_a_kill_in_the_midst_of_an_epoch_loses_that_epoch_alone(
    tmp_path: Path, labelled: Path
) -> None:
    """40 images make 3 batches an epoch; the kill comes in the third."""
    recipe = tmp_path / "a.toml"
    recipe.write_text(TINY.replace("epochs = 30", "epochs = 4"))
    words = ["train", str(labelled), "--recipe", str(recipe), "--out"]
    killed = [sys.executable, "-c", KILLED, *words, str(tmp_path / "b")]
    done = subprocess.run(killed, check=False, capture_output=True, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "b").exists()
    assert (tmp_path / "b.unfinished" / STATE).exists()
    assert sonolite(*words, tmp_path / "a").code == 0
    resumed = sonolite(*words, tmp_path / "b", "--resume")
    assert resumed.code == 0, resumed
    assert "epoch 1:" not in resumed.stderr
    assert "epoch 4:" in resumed.stderr
    one, other = read_record(tmp_path / "a"), read_record(tmp_path / "b")
    assert without_seconds(one.history) == without_seconds(other.history)
    assert one.metrics == other.metrics
    assert not (tmp_path / "b.unfinished").exists()
