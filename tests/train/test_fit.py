"""A training gives the same numbers however often it is broken off, and never half a state."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import BadInput
from edge_runtime import preprocess
from tests.conftest import KILLED, SLIM, TINY, sonolite
from train.batches import Material
from train.fit import STATE, Epoch, Fitted, Learner, Watch, _momentum, fit, predict
from train.importers import read_samples
from train.loading import load, prepare
from train.metrics import Labels, as_labels
from train.network import BLOCKS, FusedNormalization
from train.recipe import (
    Convolutions,
    Distillation,
    Fit,
    InvertedResiduals,
    Network,
    Recipe,
    read_recipe,
)
from train.run import read_record

EPOCHS = 4


def recipe_of(folder: Path, text: str, **fitted: object) -> Recipe:
    path = folder / "a.toml"
    path.write_text(text)
    recipe = read_recipe(str(path))
    return replace(recipe, fit=replace(recipe.fit, **{"epochs": EPOCHS, "batch": 8, **fitted}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Convolutions with patience; the best epoch is kept."""
    return recipe_of(tmp_path_factory.mktemp("plain"), TINY)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """All that has a state of its own: dropout, dice, statistics, averaged weights, a schedule."""
    recipe = recipe_of(
        tmp_path_factory.mktemp("all"), SLIM, average=0.7, weight_decay=1e-3, label_smoothing=0.1
    )
    network = InvertedResiduals(kind="mobilenet-v2", dropout=0.2, width=0.25)
    return replace(recipe, network=network)


@pytest.fixture(scope="module", autouse=True)
def _two_blocks() -> Iterator[None]:
    """Two blocks show what seventeen do, and are traced in a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BLOCKS, "mobilenet-v2", ((1, 3, 1, 1, 8), (1, 3, 2, 6, 8)))
        yield


@pytest.fixture(scope="module")
def given_data(labelled: Path, plain: Recipe) -> tuple[Material, tuple[NDArray[np.uint8], Labels]]:
    """20 images to learn from, 12 to validate on."""
    samples = read_samples(labelled, plain.task).samples
    preprocessing = preprocess.parse(plain.preprocessing)
    loaded = load([*samples[:16], *samples[-16:]], preprocessing)
    labels = as_labels([sample.label for sample in loaded.samples], "malignant")
    seen, held = [*range(10), *range(16, 26)], [*range(10, 16), *range(26, 32)]
    train = Material([loaded.patches[i] for i in seen], labels[seen], preprocessing, None)
    return train, (prepare([loaded.patches[i] for i in held], preprocessing), labels[held])


Train = Callable[..., Fitted]


@pytest.fixture(scope="module")
def trained(given_data: tuple[Material, tuple[NDArray[np.uint8], Labels]]) -> Train:
    """`trained(recipe, folder, watch)`: one training on that data."""
    material, validation = given_data

    def train(recipe: Recipe, folder: Path, watch: Watch | None = None, seed: int = 3) -> Fitted:
        folder.mkdir(exist_ok=True)
        varied = replace(material, scanner=recipe.augmentation)
        return fit(recipe, seed, varied, validation, folder, watch or Watch())

    return train


BATCHES = 3
"""Of an epoch: 20 images by 8."""


def stop_at(batch: int) -> Watch:
    """Presses Ctrl-C at the end of a batch, counted from 1 over all epochs."""
    told: list[int] = []

    def press() -> None:
        told.append(1)
        if len(told) == batch:
            raise KeyboardInterrupt

    return Watch(batch=press)


def without_seconds(history: tuple[Epoch, ...]) -> list[Epoch]:
    return [replace(its, seconds=0) for its in history]


def assert_same(one: Fitted, other: Fitted) -> None:
    assert without_seconds(one.history) == without_seconds(other.history)
    assert (one.temperature, one.threshold) == (other.temperature, other.threshold)
    assert one.best_epoch == other.best_epoch
    for a, b in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        assert np.array_equal(a, b)


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


def test_a_student_learns_to_answer_as_its_teachers_do_in_the_mean(
    tmp_path: Path,
    distilled: Recipe,
    trained: Train,
    student: tuple[Fitted, Path],
    given_data: tuple[Material, tuple[NDArray[np.uint8], Labels]],
) -> None:
    """The longer the nearer; the teachers are those of the recipe without distillation."""
    alone = trained(replace(distilled, distillation=None), tmp_path / "alone")
    told: list[Epoch] = []
    studious = Distillation(TEACHERS, learning_rate=0.01, epochs=20)
    patient = trained(
        replace(distilled, distillation=studious), tmp_path / "a", Watch(epoch=told.append)
    )
    assert without_seconds(alone.history) == without_seconds((told[0], told[1]))
    assert without_seconds(patient.teachers) == without_seconds((told[1], told[3]))
    assert told[1].loss != told[3].loss
    assert len(patient.history) == 20
    assert patient.history[-1].loss < student[0].history[0].loss


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
        (BATCHES + 1, 1, 0),
        (3 * BATCHES + 1, 2, 0),
        (4 * BATCHES + 1, 2, 0),
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


def test_a_distillation_with_patience_is_refused(distilled: Recipe) -> None:
    with pytest.raises(ValueError, match="leave patience out"):
        replace(distilled, fit=replace(distilled.fit, average=0.0, patience=2))


@pytest.mark.parametrize("kind", ["plain", "everything"])
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

    broken = trained(plain, tmp_path / "a", Watch(epoch=press))
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
    trained(plain, tmp_path / "a", Watch(begin=begun.append))
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


def test_averaging_changes_what_is_kept_and_not_how_it_learns(
    tmp_path: Path, trained: Train, everything: Recipe
) -> None:
    last = replace(everything, fit=replace(everything.fit, average=0.0))
    one, other = trained(everything, tmp_path / "a"), trained(last, tmp_path / "b")
    assert [its.loss for its in one.history] == [its.loss for its in other.history]
    assert [its.validation_loss for its in one.history] != [
        its.validation_loss for its in other.history
    ]


@pytest.mark.parametrize(("steps", "momentum"), [(704, 0.995), (136, 1 - 1 / 40.8), (3, 0.0)])
def test_a_short_training_is_not_averaged_with_what_was_there_before_it(
    steps: int, momentum: float
) -> None:
    fit = Fit(learning_rate=1e-3, batch=32, epochs=8, average=0.995)
    assert _momentum(fit, steps) == pytest.approx(momentum)


def test_half_precision_learns_too_and_is_kept_as_float32(
    tmp_path: Path, trained: Train, everything: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU can be told to learn as a GPU does, only slower."""
    with monkeypatch.context() as patch:
        patch.setattr("train.fit.has_gpu", lambda: True)
        half = trained(everything, tmp_path / "a")
    whole = trained(everything, tmp_path / "b")
    losses = [its.loss for its in half.history]
    assert losses[-1] < losses[0] == pytest.approx(whole.history[0].loss, abs=0.1)
    assert losses[0] != whole.history[0].loss
    assert {its.dtype for its in half.model.get_weights()} == {
        its.dtype for its in whole.model.get_weights()
    }
    assert half.model.compute_dtype == "float32"


def test_the_kept_model_is_plain_keras(tmp_path: Path, trained: Train, everything: Recipe) -> None:
    once = replace(everything, fit=replace(everything.fit, epochs=1))
    fitted = trained(once, tmp_path / "a")
    assert not any(isinstance(its, FusedNormalization) for its in fitted.model.layers)
    assert all(type(its).__module__.startswith("keras.") for its in fitted.model.layers)
    fitted.model.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras", compile=False, safe_mode=True)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    assert np.array_equal(predict(again, pictures), predict(fitted.model, pictures))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, trained: Train, plain: Recipe) -> Path:
    """The folder of a training that was broken off after one epoch."""
    folder = tmp_path_factory.mktemp("state") / "a"
    trained(plain, folder, stop_at(BATCHES + 1))
    return folder


@pytest.fixture(scope="module")
def learner(plain: Recipe, given_data: tuple[Material, object]) -> Learner:
    return Learner(plain, 3, given_data[0])


NOT_A_STATE = r"state\.npz: not a state that can be gone on from"


@settings(max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_state_that_ends_early_is_refused(state: Path, learner: Learner, share: float) -> None:
    whole = (state / STATE).read_bytes()
    folder = state.with_name("cut")
    folder.mkdir(exist_ok=True)
    (folder / STATE).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadInput, match=NOT_A_STATE):
        learner.restore(folder)


@settings(max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_state_is_the_same_or_refused(
    state: Path, learner: Learner, place: float, byte: int
) -> None:
    content = bytearray((state / STATE).read_bytes())
    content[int(place * len(content))] = byte
    folder = state.with_name("damaged")
    folder.mkdir(exist_ok=True)
    (folder / STATE).write_bytes(content)
    try:
        history = learner.restore(folder)
    except BadInput:
        return
    assert history == learner.restore(state)


@pytest.mark.parametrize("change", ["filters", "kind", "dense"])
def test_the_state_of_another_network_is_refused(
    state: Path, given_data: tuple[Material, object], plain: Recipe, everything: Recipe, change: str
) -> None:
    others: dict[str, Network] = {
        "filters": Convolutions(kind="convolutions", filters=(8, 8), head="average", dropout=0),
        "kind": everything.network,
        "dense": Convolutions(
            kind="convolutions", filters=(8, 16), head="average", dropout=0, dense=4
        ),
    }
    other = Learner(replace(plain, network=others[change]), 3, given_data[0])
    with pytest.raises(BadInput, match=NOT_A_STATE):
        other.restore(state)


def test_arrays_that_are_no_state_are_refused(tmp_path: Path, learner: Learner) -> None:
    np.savez(tmp_path / STATE, a=np.zeros(3))
    with pytest.raises(BadInput, match=NOT_A_STATE):
        learner.restore(tmp_path)
    history = np.frombuffer(b"[]", np.uint8)
    np.savez(tmp_path / STATE, history=history)
    with pytest.raises(BadInput, match=NOT_A_STATE):
        learner.restore(tmp_path)


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
