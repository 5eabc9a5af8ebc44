"""`sonolite train` and `evaluate`, as a user calls them."""

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import TINY, Outcome, refused, sonolite
from train.commands import training_callbacks
from train.fit import Callbacks
from train.run import read_record, read_run
from train.terminal import progress_bar


def test_the_same_seed_gives_the_same_numbers(
    tmp_path: Path, run_folder: Path, labelled: Path, tiny_recipe: Path
) -> None:
    again = tmp_path / "again"
    assert sonolite("train", labelled, "--recipe", tiny_recipe, "--out", again).code == 0
    first, second = read_record(run_folder), read_record(again)
    for one, other in zip(first.history, second.history, strict=True):
        assert replace(one, seconds=0) == replace(other, seconds=0)
    assert first.metrics == second.metrics
    assert first.data == second.data
    assert (first.temperature, first.thresholds) == (second.temperature, second.thresholds)
    assert (run_folder / "answers.csv").read_bytes() == (again / "answers.csv").read_bytes()


def test_the_sensitivity_on_validation_is_what_was_asked_for(run_folder: Path) -> None:
    record = read_record(run_folder)
    assert record.metrics["validation"].sensitivity >= record.recipe.operating_point.sensitivity


def test_the_report_is_one_file_that_needs_nothing_else(run_folder: Path) -> None:
    page = (run_folder / "report.html").read_text()
    assert "not for diagnosis" in page
    assert 'src="data:image/svg+xml;base64,' in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)


def test_a_run_is_read_back_with_its_split(run_folder: Path, labelled: Path) -> None:
    run = read_run(run_folder)
    assert len(run.split.samples) == 60
    assert all(sample.path.is_file() for sample in run.split.samples)
    assert all(labelled in sample.path.parents for sample in run.split.samples)


def test_unknown_groups_are_pointed_out(tmp_path: Path, one_epoch: Path, labelled: Path) -> None:
    lines = (labelled / "manifest.csv").read_text().splitlines()
    flat = [",".join(line.split(",")[:6]) for line in lines]
    table = shutil.copytree(labelled, tmp_path / "images") / "nogroups.csv"
    table.write_text("\n".join(flat))
    done = sonolite("train", table, "--recipe", one_epoch, "--out", tmp_path / "run")
    assert done.code == 0
    assert "no groups are known" in done.stderr


def test_bad_data_is_one_line_and_leaves_nothing(
    tmp_path: Path, tiny_recipe: Path, labelled: Path
) -> None:
    def attempt(data: Path) -> Outcome:
        return sonolite("train", data, "--recipe", tiny_recipe, "--out", tmp_path / "run")

    empty = tmp_path / "empty"
    empty.mkdir()
    refused(attempt(empty), "no labelled images")
    one = tmp_path / "one"
    one.mkdir()
    (one / "benign").symlink_to(labelled / "benign")
    refused(attempt(one), "no image of class 'malignant'")
    table = tmp_path / "a.csv"
    table.write_text("path,label\na.png,cyst\n")
    refused(attempt(table), "'cyst' is no class")
    broken = tmp_path / "broken"
    broken.mkdir()
    for label in ("benign", "malignant"):
        for patient in range(4):
            image = broken / label / f"p{patient}{label}" / "a.png"
            image.parent.mkdir(parents=True)
            image.write_text("no image")
            (image.parent / "b.png").write_text("no image")
    refused(attempt(broken), "none of the 16 images can be used: unreadable")
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_table_that_lists_an_image_twice_is_refused(tmp_path: Path, tiny_recipe: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("path,label,group\na.png,benign,p1\n./a.png,malignant,p2\n")
    words = ("train", table, "--recipe", tiny_recipe, "--out", tmp_path / "run")
    refused(sonolite(*words), "listed twice")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, labelled: Path, tiny_recipe: Path
) -> None:
    words = ("train", labelled, "--recipe", tiny_recipe, "--out", tmp_path / "no" / "run")
    refused(sonolite(*words), "there is no folder")


def test_a_run_is_never_overwritten(run_folder: Path, labelled: Path) -> None:
    refused(sonolite("train", labelled, "--out", run_folder), "exists already")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.keras").unlink(), "has no model.keras"),
        (lambda folder: (folder / "model.keras").write_bytes(b"PK"), "model.keras is not the one"),
        (lambda folder: (folder / "run.json").write_text("{"), "run.json"),
        (lambda folder: (folder / "run.json").write_text("{}"), "run.json"),
        (lambda folder: (folder / "split.csv").write_text("path,label\n"), "split.csv is not"),
    ],
)
def test_a_damaged_run_is_refused(
    tmp_path: Path, run_folder: Path, labelled: Path, damage: object, said: str
) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    damage(folder)  # type: ignore[operator]
    refused(sonolite("evaluate", folder, "--data", labelled), said)
    refused(sonolite("convert", folder, "--out", tmp_path / "a.sonolite"), said)
    assert not (tmp_path / "a.sonolite").exists()


def test_a_run_of_another_version_is_refused(
    tmp_path: Path, run_folder: Path, labelled: Path
) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "schema": 99}))
    refused(sonolite("evaluate", folder, "--data", labelled), "schema 99")


KILLED = """
import os, signal, sys
import train.run
from edge_runtime.cli import main
train.run.shutil.copytree = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_kill_while_the_run_is_written_leaves_no_run(
    tmp_path: Path, labelled: Path, one_epoch: Path
) -> None:
    """All but the learning curves is written by then, under another name. The weights are kept."""
    words = ["train", str(labelled), "--recipe", str(one_epoch), "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "run").exists()
    left = sorted(path.name for path in tmp_path.glob(".run.*/*"))
    assert left == ["answers.csv", "model.keras", "report.html", "run.json", "split.csv"]
    resumed = sonolite(*words, "--resume")
    assert resumed.code == 0, resumed
    assert "epoch 1:" not in resumed.stderr
    assert read_run(tmp_path / "run").record.interrupted is False
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_folds_and_a_scanner_are_not_held_out_at_once(tmp_path: Path, labelled: Path) -> None:
    words = ("--folds", "3", "--hold-out", "320x240", "--out", tmp_path / "run")
    refused(sonolite("train", labelled, *words), "one of them")


def test_one_fold_is_no_cross_validation(tmp_path: Path, labelled: Path) -> None:
    refused(sonolite("train", labelled, "--folds", "1", "--out", tmp_path / "run"), "--folds")


def test_the_train_table_shows_each_part_with_its_intervals(
    tmp_path: Path, labelled: Path, one_epoch: Path
) -> None:
    done = sonolite("train", labelled, "--recipe", one_epoch, "--out", tmp_path / "run")
    for word in ("train", "validation", "test", "auroc", "sensitivity", "ece", "not for diagnosis"):
        assert word in done.stdout
    low, high = read_record(tmp_path / "run").metrics["test"].intervals["accuracy"]
    assert f"{low:.3f}-{high:.3f}" in done.stdout
    assert "next: sonolite convert" in done.stderr


def test_a_training_that_was_stopped_ends_as_stopped_programs_do(
    tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that `train && convert` does not go on with half a model."""
    recipe = tmp_path / "two.toml"
    recipe.write_text(TINY.replace("epochs = 30", "epochs = 2"))

    def press(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("train.commands.training_callbacks", lambda *_: Callbacks(epoch=press))
    done = sonolite("train", labelled, "--recipe", recipe, "--out", tmp_path / "run")
    assert done.code == 130
    assert "--resume goes on" in done.stderr
    assert "next: sonolite convert" not in done.stderr
    assert read_record(tmp_path / "run").interrupted


def test_words_of_the_data_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A group may be called [patient 1]."""
    with progress_bar() as bar:
        training_callbacks(bar, Callbacks).note("groups [patient 1], [/A] 12")
    assert "note: groups [patient 1], [/A] 12" in capsys.readouterr().err
