"""A run that is damaged, foreign or inconsistent is refused in one line, and nothing is written."""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.conftest import refused, sonolite

Rows = list[dict[str, str]]


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def edit_record(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_text(json.dumps(record))


def edit_split(run: Path, change: Callable[[Rows], Rows]) -> None:
    """Changes the rows of the split, and puts its hash right."""
    with open(run / "split.csv", newline="") as file:
        rows = change(list(csv.DictReader(file)))
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    (run / "split.csv").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    edit_record(run, lambda record: record["data"].update(split_sha256=sha256))


def refusal(run: Path, *words: str) -> None:
    refused(sonolite("convert", run, "--out", run.parent / "a.sonolite"), *words)
    assert [its.name for its in run.parent.iterdir()] == [run.name]


def test_a_run_of_another_version(run: Path) -> None:
    edit_record(run, lambda record: record.update(schema=1))
    refusal(run, "a run of schema 1")


def test_a_run_without_an_operating_point(run: Path) -> None:
    edit_record(run, lambda record: record.pop("thresholds"))
    refusal(run, "run.json", "thresholds")


def test_a_run_one_of_whose_labels_would_never_be_given(run: Path) -> None:
    edit_record(run, lambda record: record.update(thresholds={"malignant": 0.99}))
    refusal(run, "the label malignant would never be given, with the threshold 0.990")


def test_a_test_list_that_overlaps_the_training_groups(run: Path) -> None:
    def move(rows: Rows) -> Rows:
        group = next(row["group"] for row in rows if row["split"] == "train")
        first = next(row for row in rows if row["group"] == group)
        return [row | {"split": "test"} if row is first else row for row in rows]

    edit_split(run, move)
    refusal(run, "stands on two sides")


@pytest.mark.parametrize("left", [0, 1])
def test_a_test_list_with_hardly_a_sample_of_a_class(run: Path, left: int) -> None:
    def drop(rows: Rows) -> Rows:
        positive = [row for row in rows if row["split"] == "test" and row["label"] == "malignant"]
        return [row for row in rows if row not in positive[left:]]

    edit_split(run, drop)
    done = sonolite("convert", run, "--out", run.parent / "a.sonolite")
    if left and done.code == 0:
        return  # one image of a class can be ranked, and was ranked as the run says
    refused(done)
    assert not list(run.parent.glob("a.*"))


def test_a_split_that_was_changed(run: Path) -> None:
    text = (run / "split.csv").read_text()
    (run / "split.csv").write_text(text.replace("test", "train", 1))
    refusal(run, "split.csv is not the one of this run")


def test_a_model_that_would_run_code_of_its_own(run: Path) -> None:
    picture = keras.Input((32, 32, 1), dtype="uint8")
    answer = keras.layers.Lambda(lambda its: its, output_shape=(32, 32, 1))(picture)
    keras.Model(picture, answer).save(run / "model.keras")
    sha256 = hashlib.sha256((run / "model.keras").read_bytes()).hexdigest()
    edit_record(run, lambda record: record.update(model_sha256=sha256))
    refusal(run, "not a Keras model that can be read")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_model_file_that_ends_early(run: Path, keep: float) -> None:
    content = (run / "model.keras").read_bytes()[: int(keep * (run / "model.keras").stat().st_size)]
    (run / "model.keras").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    edit_record(run, lambda record: record.update(model_sha256=sha256))
    refusal(run, "not a Keras model that can be read")


def test_a_full_disk(run: Path) -> None:
    """The bundle is larger than what a file may be here; as on a full disk, the write fails."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        done = sonolite("convert", run, "--out", run.parent / "a.sonolite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(done, "a.sonolite: cannot be written")
    assert [its.name for its in run.parent.iterdir()] == [run.name]
