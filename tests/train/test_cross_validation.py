"""Each image is tested once by a model that never saw it, however often the work is broken off."""

import csv
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from devices import BadInput
from devices.schema_io import write_json
from tests.conftest import TINY, refused, sonolite
from train.cross_validation import SUMMARY, CrossValidation, cross_validate, summarise
from train.fit import Callbacks
from train.learner import Epoch
from train.metrics import calibration_error
from train.run import read_record, read_run

FOLDS = 3


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "two.toml"
    path.write_text(TINY.replace("epochs = 30", "epochs = 2"))
    return path


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory, labelled: Path, two_epochs: Path) -> Path:
    """The folder of an unbroken cross-validation."""
    out = tmp_path_factory.mktemp("crossed") / "folds"
    words = ("train", labelled, "--recipe", two_epochs, "--folds", str(FOLDS), "--out", out)
    done = sonolite(*words)
    assert done.code == 0, done
    assert "together" in done.stdout
    assert f"fold {FOLDS} of {FOLDS}" in done.stderr
    return out


@pytest.fixture(scope="module")
def runs(crossed: Path) -> list[Path]:
    return [crossed / f"fold{number}" for number in range(1, FOLDS + 1)]


def rows_tested(run: Path) -> list[dict[str, str]]:
    with open(run / "answers.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == "test"]


def test_each_image_is_tested_once(runs: list[Path]) -> None:
    names = [row["path"] for run in runs for row in rows_tested(run)]
    assert len(names) == len(set(names)) == 60


def test_no_group_is_tested_by_a_model_that_learnt_from_it(runs: list[Path]) -> None:
    for run in runs:
        split = read_run(run).split
        known = {its.group for part in ("train", "validation") for its in split.of(part)}
        assert not known & {its.group for its in split.of("test")}


def test_the_summary_is_of_the_folds(crossed: Path, runs: list[Path]) -> None:
    summary, records = summarise(runs), [read_record(run) for run in runs]
    aurocs = [record.metrics["test"].auroc for record in records]
    assert summary.auroc == pytest.approx(np.mean(aurocs))
    assert summary.auroc_deviation == pytest.approx(np.std(aurocs, ddof=1))
    assert summary.folds == tuple(record.metrics["test"] for record in records)
    rows = [
        (row, record.thresholds["malignant"])
        for run, record in zip(runs, records, strict=True)
        for row in rows_tested(run)
    ]
    truth = np.array([row["label"] == "malignant" for row, _ in rows])
    scores = np.array([float(row["probability"]) for row, _ in rows])
    called = scores >= np.array([threshold for _, threshold in rows])
    together = summary.together
    assert together.sensitivity == pytest.approx(called[truth].mean())
    assert together.specificity == pytest.approx(1 - called[~truth].mean())
    assert together.ece == pytest.approx(calibration_error(truth.astype(np.int64), scores))
    assert (together.samples, together.groups) == (60, 30)
    low, high = together.intervals["sensitivity"]
    assert low <= together.sensitivity <= high


def test_the_summary_is_written_beside_the_folds(crossed: Path, runs: list[Path]) -> None:
    assert sorted(path.name for path in crossed.iterdir()) == [SUMMARY, "fold1", "fold2", "fold3"]
    written = json.loads((crossed / SUMMARY).read_text())
    assert written == json.loads(json.dumps(asdict(summarise(runs))))


def test_broken_off_it_says_how_to_go_on(tmp_path: Path, labelled: Path, two_epochs: Path) -> None:
    said: list[str] = []

    def press(_: Epoch) -> None:
        raise KeyboardInterrupt

    callbacks = Callbacks(epoch=press, note=said.append)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(labelled, str(two_epochs), tmp_path / "folds", 0, FOLDS, False, callbacks)
    assert said[-1] == "stopped early; --resume goes on"


@pytest.mark.slow
def test_broken_off_in_the_second_fold_it_is_gone_on_with(
    tmp_path: Path, labelled: Path, two_epochs: Path, crossed: Path
) -> None:
    out, fold = tmp_path / "folds", [""]

    def press(epoch: Epoch) -> None:
        if fold[-1].startswith("fold 2"):
            raise KeyboardInterrupt

    def cross(resume: bool, callbacks: Callbacks) -> CrossValidation:
        return cross_validate(labelled, str(two_epochs), out, 0, FOLDS, resume, callbacks)

    with pytest.raises(KeyboardInterrupt):
        cross(False, Callbacks(epoch=press, note=fold.append))
    assert (out / "fold2.unfinished").is_dir()
    assert not (out / "fold3").exists()
    assert not (out / SUMMARY).exists()
    written = (out / "fold1" / "run.json").stat().st_mtime_ns
    learnt: list[Epoch] = []
    resumed = cross(True, Callbacks(epoch=learnt.append))
    assert [its.epoch for its in learnt] == [2, 1, 2]
    assert (out / "fold1" / "run.json").stat().st_mtime_ns == written
    assert asdict(resumed) == asdict(summarise([crossed / f"fold{its}" for its in (1, 2, 3)]))
    assert (out / SUMMARY).read_bytes() == (crossed / SUMMARY).read_bytes()
    assert not (out / "fold2.unfinished").exists()


def test_a_fold_that_was_broken_off_is_not_taken_for_a_whole_one(
    tmp_path: Path, labelled: Path, two_epochs: Path, crossed: Path
) -> None:
    out = Path(shutil.copytree(crossed, tmp_path / "folds"))
    record = read_record(out / "fold2")
    (out / "fold2" / "run.json").write_bytes(write_json(replace(record, interrupted=True)))
    with pytest.raises(BadInput, match="fold2: was broken off; remove it"):
        cross_validate(labelled, str(two_epochs), out, 0, FOLDS, True, Callbacks())


@pytest.mark.parametrize("change", [("--seed", "1"), ("--folds", "4"), ("--recipe", "other")])
def test_folds_of_another_cross_validation_are_not_taken_for_its_own(
    tmp_path: Path, labelled: Path, two_epochs: Path, crossed: Path, change: tuple[str, str]
) -> None:
    """Else an image could be tested twice, or by a model that learnt from it."""
    recipe = two_epochs
    if change[0] == "--recipe":
        recipe = tmp_path / "other.toml"
        recipe.write_text(TINY)
        change = ("--recipe", str(recipe))
    words = ("train", labelled, "--recipe", recipe, "--folds", str(FOLDS), "--out", crossed)
    done = sonolite(*words, "--resume", *change)
    refused(done, "fold1", "a run of another recipe, seed, data or number of folds")


def test_nothing_is_overwritten_and_nothing_taken_up_that_is_not_there(
    tmp_path: Path, labelled: Path, two_epochs: Path, crossed: Path
) -> None:
    words = ("train", labelled, "--recipe", two_epochs, "--folds", str(FOLDS))
    refused(sonolite(*words, "--out", crossed), "exists already")
    refused(sonolite(*words, "--out", tmp_path / "a", "--resume"), "no cross-validation")


def test_too_few_groups_are_refused_before_anything_is_written(
    tmp_path: Path, labelled: Path, two_epochs: Path
) -> None:
    with pytest.raises(BadInput, match="at least 16 are needed, one for each fold"):
        cross_validate(labelled, str(two_epochs), tmp_path / "a", 0, 16, False, Callbacks())
    assert not list(tmp_path.iterdir())
