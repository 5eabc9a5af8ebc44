"""A pipe in the place of a file is refused, and nobody waits for a writer."""

import os
from pathlib import Path

import pytest

from devices import BadInput
from devices.capture import open_device
from devices.regular_file import read_regular
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
