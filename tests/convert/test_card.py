"""The card quotes what else a recipe was tested on, and nothing of another recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from convert.card import read_other
from devices import BadInput
from devices.schema_io import write_json
from edge_runtime.bundle.archive import CARD, open_bundle
from tests.conftest import refused, sonolite
from train.cross_validation import SUMMARY, read_cross_validation
from train.measurement import BOXES
from train.run import read_record

FLOAT32 = ("--variants", "float32")
"""The card says the same whatever the variants."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, messy: Path, one_epoch: Path) -> Path:
    """One recipe and data: a run, a scanner held out, all but it, and folds."""
    folder = tmp_path_factory.mktemp("runs")
    for name, *options in (
        ("run",),
        ("one", "--hold-out", "400x300"),
        ("rest", "--hold-out", "!400x300"),
        ("folds", "--folds", "2"),
    ):
        words = ("train", messy, "--recipe", one_epoch, "--out", folder / name)
        done = sonolite(*words, *options)
        assert done.code == 0, done
    return folder


def test_other_runs_of_the_recipe_are_quoted(runs: Path, tmp_path: Path) -> None:
    quoted = [word for name in ("one", "rest", "folds") for word in ("--quote", runs / name)]
    done = sonolite("convert", runs / "run", "--out", tmp_path / "a.sonolite", *FLOAT32, *quoted)
    assert done.code == 0, done
    card = open_bundle(tmp_path / "a.sonolite").read(CARD).decode()
    for name, what in (("one", "400x300"), ("rest", "all scanners but 400x300")):
        test = read_record(runs / name).metrics["test"]
        assert f"| {what} | {test.samples} | {test.auroc:.3f} (" in card
    folds = read_cross_validation(runs / "folds")
    assert f"| each group once, in 2 folds | 61 | {folds.auroc:.3f} ±" in card


def test_groups_that_were_parted_are_told(runs: Path, tmp_path: Path) -> None:
    record = read_record(runs / "one")
    (runs / "one" / "run.json").write_bytes(write_json(replace(record, parted=5)))
    words = ("convert", runs / "run", "--out", tmp_path / "a.sonolite", *FLOAT32)
    try:
        assert sonolite(*words, "--quote", runs / "one").code == 0
    finally:
        (runs / "one" / "run.json").write_bytes(write_json(record))
    card = open_bundle(tmp_path / "a.sonolite").read(CARD).decode()
    assert "no group stands on two sides" in card
    assert "| 400x300; 5 groups have images on both sides, so patients may have, too |" in card


@contextmanager
def recorded(run: Path, **changes: object) -> Iterator[None]:
    """A run whose record says otherwise for a while."""
    record = read_record(run)
    (run / "run.json").write_bytes(write_json(replace(record, **changes)))  # type: ignore[arg-type]
    try:
        yield
    finally:
        (run / "run.json").write_bytes(write_json(record))


def test_a_training_that_was_stopped_is_called_so(runs: Path, tmp_path: Path) -> None:
    words = ("convert", runs / "run", "--out", tmp_path / "a.sonolite", *FLOAT32)
    with recorded(runs / "run", interrupted=True):
        assert sonolite(*words).code == 0
    card = open_bundle(tmp_path / "a.sonolite").read(CARD).decode()
    assert "**The training was stopped after" in card
    with recorded(runs / "one", interrupted=True), pytest.raises(BadInput, match="was stopped"):
        read_other(runs / "one", read_record(runs / "run"))


@pytest.mark.parametrize(("fewer", "taken"), [(1, True), (-1, False)])
def test_a_held_out_scanner_may_leave_images_out(runs: Path, fewer: int, taken: bool) -> None:
    """Those of groups that have images on both sides."""
    ours, data = read_record(runs / "run"), read_record(runs / "one").data
    test = {label: count - fewer for label, count in data.counts["test"].items()}
    with recorded(runs / "one", data=replace(data, counts=data.counts | {"test": test})):
        if taken:
            assert read_other(runs / "one", ours) == read_record(runs / "one")
        else:
            with pytest.raises(BadInput, match="of another recipe or other data"):
                read_other(runs / "one", ours)


def test_without_them_the_card_has_no_such_table(runs: Path, tmp_path: Path) -> None:
    assert sonolite("convert", runs / "run", "--out", tmp_path / "a.sonolite", *FLOAT32).code == 0
    card = open_bundle(tmp_path / "a.sonolite").read(CARD).decode()
    assert "other splits" not in card
    assert "*Box*" not in card  # nor has this data a box that could be drawn otherwise


def test_boxes_that_are_drawn_otherwise_are_on_the_card(bundle_path: Path) -> None:
    card = open_bundle(bundle_path).read(CARD).decode()
    assert "*Box* is the images again" in card
    for name in BOXES:
        assert f"| box: {name} | " in card


def test_a_run_of_another_recipe_is_not_quoted(
    runs: Path, run_folder: Path, tmp_path: Path
) -> None:
    words = (
        "convert",
        runs / "run",
        "--out",
        tmp_path / "a.sonolite",
        *FLOAT32,
        "--quote",
        run_folder,
    )
    refused(sonolite(*words), str(run_folder), "of another recipe or other data")


def test_the_run_itself_is_not_quoted(runs: Path, tmp_path: Path) -> None:
    words = (
        "convert",
        runs / "run",
        "--out",
        tmp_path / "a.sonolite",
        *FLOAT32,
        "--quote",
        runs / "run",
    )
    refused(sonolite(*words), "of the very split that is converted")


def test_what_is_no_run_is_not_quoted(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "folds").mkdir()
    words = ("convert", runs / "run", "--out", tmp_path / "a.sonolite", *FLOAT32, "--quote")
    refused(sonolite(*words, tmp_path / "folds"), "not a run")
    (tmp_path / "folds" / SUMMARY).write_text("{")
    refused(sonolite(*words, tmp_path / "folds"), SUMMARY)
