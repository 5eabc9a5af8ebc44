"""A video is whole, or it is said in time that it cannot be."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import BadInput
from edge_runtime.results.states import State
from edge_runtime.sinks.video import OverlayVideo
from tests.edge_runtime.sinks.test_overlay import RESULT


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root mounts a disk of its own")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_video_that_begins_before_the_scanner_has_the_size_of_its_screen(tmp_path: Path) -> None:
    part = tmp_path / "a.mp4"
    video = OverlayVideo(part, part, 20.0, evidence=False)
    without = replace(RESULT, frame=None, nodules=(), state=State.SEARCHING, box=None)
    video.write(without, np.zeros((240, 320), np.uint8))
    for result in (RESULT, without):
        video.write(result, np.zeros((480, 640, 3), np.uint8))
    video.finish()
    saved = cv2.VideoCapture(str(part))
    assert saved.get(cv2.CAP_PROP_FRAME_WIDTH) == 640
    assert saved.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    saved.release()


def test_a_disk_that_fills_up_ends_the_video_in_time(small_disk: Path) -> None:
    """Not at the end of an hour, when nothing of it could be kept."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    part = small_disk / "a.avi"
    video = OverlayVideo(part, part, 20.0, evidence=False)

    def fill() -> None:
        for number in range(1000):
            video.write(RESULT, np.roll(noise, number, axis=0))

    with pytest.raises(BadInput, match=r"--save .*a\.avi: the disk is full"):
        fill()
