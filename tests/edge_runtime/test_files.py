"""Files and folders that appear whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devices import BadInput
from edge_runtime.files import whole_file, whole_folder

KILLED = """
import os, signal
from pathlib import Path
from edge_runtime.files import whole_{kind}
with whole_{kind}(Path({path!r})) as part:
    target = part if {kind!r} == "file" else part / "inner"
    target.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with whole_file(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    program = KILLED.format(kind="file", path=str(path))
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_goes_with_the_next_attempt(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a[1].x"
    program = KILLED.format(kind=kind, path=str(path))
    subprocess.run([sys.executable, "-c", program], check=False)
    (tmp_path / f".a[1].{os.getppid()}.part.x").write_text("of a process that lives")
    assert len(list(tmp_path.iterdir())) == 2
    with whole_file(path) as part:
        part.write_text("new")
    assert {found.name for found in tmp_path.iterdir()} == {
        *("a[1].x", f".a[1].{os.getppid()}.part.x")
    }


def test_a_killed_writer_leaves_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "run"
    program = KILLED.format(kind="folder", path=str(path))
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()


def test_a_folder_is_never_overwritten(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exists already"), whole_folder(tmp_path):
        pass


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no folder"), whole_file(tmp_path / "no" / "a"):
        pass


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def write() -> None:
        with whole_file(path) as part:
            part.write_text("half")
            Path("/dev/full").write_bytes(b"x")

    with pytest.raises(BadInput, match="No space left"):
        write()
    assert not list(tmp_path.iterdir())
