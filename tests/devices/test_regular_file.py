"""A pipe in the place of a file is refused, and nobody waits for a writer."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from devices import BadInput
from devices.boards import read_board
from devices.capture import open_device
from devices.capture.dicom import read_header
from devices.capture.image import read_image
from devices.capture.kinds import kind_of
from devices.capture.script import find_script
from devices.regular_file import read_regular
from edge_runtime.bench.measure import read_bench
from edge_runtime.bundle.signing import read_signing_key
from edge_runtime.bundle.trust import AdmittedVersions, read_trusted
from edge_runtime.deploy.fleet import read_fleet
from edge_runtime.screen.saved_regions import read_saved_regions


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["a.dcm", "a.png", "a.mp4", "a"])
def test_a_pipe_is_no_recording(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(BadInput, match="neither a regular file nor a folder"):
        open_device(str(tmp_path / name))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["a.dcm", "a.png"])
def test_a_pipe_in_a_folder_is_passed_by(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(BadInput), open_device(str(tmp_path)) as device:
        device.read(1.0)


@pytest.mark.timeout(60)
def test_a_pipe_is_no_file_of_settings(tmp_path: Path) -> None:
    pipe = tmp_path / "a.pem"
    os.mkfifo(pipe)
    for read in (
        read_regular,
        read_fleet,
        read_saved_regions,
        lambda path: AdmittedVersions(path).require_not_older(b"", "a", 1),
        read_signing_key,
    ):
        with pytest.raises(BadInput):
            read(pipe)
    assert read_trusted(tmp_path).keys == {}


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(BadInput, match="larger than 4 bytes"):
        read_regular(path, 4)


@pytest.mark.timeout(60)
def test_a_pipe_is_no_picture_of_a_table(tmp_path: Path) -> None:
    for name, read in (("a.dcm", read_header), ("a.png", read_image)):
        os.mkfifo(tmp_path / name)
        kind_of(tmp_path / name)
        with pytest.raises(BadInput, match="not a regular file"):
            read(tmp_path / name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.png", read_image),
        ("a.json", read_bench),
        ("a.toml", lambda path: read_board(str(path))),
        ("a.txt", lambda path: find_script(str(path))),
    ],
)
def test_a_sparse_file_is_not_read_whole(
    name: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.touch()
    os.truncate(path, 1 << 36)
    with pytest.raises(BadInput, match=r"larger than|not a script"):
        read(path)
