"""A run names what made it."""

import os
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from devices import BadInput
from train.arguments import require_bounded
from train.learner import Epoch
from train.run import commit, read_run, read_test_answers


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


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe", b"path,split\n", b"split,label\ntest,benign\n", b'"\0']
)
def test_answers_that_are_damaged_are_one_line(
    content: bytes | None, run_folder: Path, tmp_path: Path
) -> None:
    whole = read_test_answers(run_folder, ("benign", "malignant"))
    assert len(whole.labels) == len(whole.groups) > 0
    path = tmp_path / "answers.csv"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=r"answers\.csv: (not |no answers)"):
        read_test_answers(tmp_path, ("benign", "malignant"))


def test_a_model_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("model.weights.h5", "w", force_zip64=True) as member,
    ):
        for _ in range(1025):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 21
    with pytest.raises(BadInput, match="more than 1,073,741,824 bytes once it is unpacked"):
        require_bounded(path)


def test_a_pipe_is_no_model(run_folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run_folder, tmp_path / "run")
    (run / "model.keras").unlink()
    os.mkfifo(run / "model.keras")
    with pytest.raises(BadInput, match=r"model\.keras"):
        read_run(run)
    with pytest.raises(BadInput, match="not a regular file"):
        require_bounded(run / "model.keras")
