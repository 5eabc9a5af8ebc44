"""A run names what made it."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from train.learner import Epoch
from train.run import commit, read_run


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)


def test_the_commit_is_that_of_the_file_and_says_whether_it_was_changed(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("1")
    assert commit(file) is None
    git(tmp_path, "init")
    assert commit(file) is None  # in a tree that does not hold it, as an environment may lie
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-m", "a")
    known = commit(file)
    assert known is not None
    assert re.fullmatch("[0-9a-f]{40}", known)
    file.write_text("2")
    assert commit(file) == f"{known}-dirty"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(Path(__file__)) is None


def test_the_time_of_a_training_is_that_of_its_teachers_too(run_folder: Path) -> None:
    record = read_run(run_folder).record
    history = tuple(replace(record.history[0], seconds=seconds) for seconds in (2.0, 3.0))
    last = Epoch(8, 0.5, 0.9, 0.5, 0.9, seconds=10.0)
    assert replace(record, history=history).seconds == 5.0
    assert replace(record, history=history, teachers=(last, last)).seconds == 165.0
