"""Damaged and odd videos."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import BadInput, EndOfRecording
from devices.capture import open_device
from devices.capture.video import Video


def read_all(path: Path) -> int:
    count = 0
    with open_device(str(path)) as device:
        while True:
            device.read(1.0)
            count += 1


def test_a_video_cut_before_its_index_is_refused(make_video: Callable[..., Path]) -> None:
    path = make_video("cut.mp4")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadInput, match="truncated"):
        read_all(path)


def test_a_video_whose_index_promises_more_frames_is_refused(
    make_video: Callable[..., Path],
) -> None:
    path = make_video("cut.mp4", frames=40)
    content = bytearray(path.read_bytes())
    index = content.rindex(b"moov") - 4
    start = len(content) // 3
    content[start:index] = bytes(index - start)  # as a half-copied file leaves it
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"truncated or damaged|without a single frame"):
        read_all(path)


def test_a_cut_avi_is_noticed_at_its_end(make_video: Callable[..., Path]) -> None:
    path = make_video("cut.avi", frames=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=r"truncated or damaged: \d+ of about 40"):
        read_all(path)


@pytest.mark.parametrize("name", ["whole.mp4", "whole.avi"])
def test_a_whole_video_ends_as_it_should(make_video: Callable[..., Path], name: str) -> None:
    with pytest.raises(EndOfRecording):
        read_all(make_video(name, frames=40))


@pytest.mark.parametrize("size", [(320, 240), (1280, 720)])
def test_the_pixels_are_opencvs_however_many_threads_decode(
    make_video: Callable[..., Path], size: tuple[int, int]
) -> None:
    path = make_video("sweep.mp4", 12, *size)
    plain = cv2.VideoCapture(str(path))
    with Video(path) as video:
        for _ in range(12):
            np.testing.assert_array_equal(video.read(1).pixels, plain.read()[1])


def test_text_with_the_name_of_a_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("this is no video")
    with pytest.raises(BadInput, match="not a video"):
        read_all(path)


def test_a_video_of_specks_is_refused(make_video: Callable[..., Path]) -> None:
    path = make_video("speck.avi", width=2, height=2)
    with pytest.raises(BadInput, match="2 x 2 pixels are too few"):
        read_all(path)
