"""A video is whole, or it is said in time that it cannot be."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from devices import BadInput, EndOfRecording, Pixels
from devices.capture import open_device
from devices.capture.phantom import Phantom
from devices.capture.promised import promised_frames
from edge_runtime.results.states import State
from edge_runtime.sinks.overlay import draw_result
from edge_runtime.sinks.video import OverlayVideo, overlay_file
from tests.edge_runtime.results.examples import RESULT


def test_a_video_that_begins_before_the_scanner_has_the_size_of_its_screen(tmp_path: Path) -> None:
    part = tmp_path / "a.mp4"
    video = OverlayVideo(part, tmp_path / "a.mkv", 20.0, evidence=False)
    without = replace(RESULT, frame=None, nodules=(), state=State.SEARCHING, box=None)
    video.write(without, np.zeros((240, 320), np.uint8))
    for result in (RESULT, without):
        video.write(result, np.zeros((480, 640, 3), np.uint8))
    video.finish(part)
    saved = cv2.VideoCapture(str(part))
    assert saved.get(cv2.CAP_PROP_FRAME_WIDTH) == 640
    assert saved.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    saved.release()


@pytest.mark.parametrize("shape", [(240, 640, 3), (400, 200, 3), (900, 1200, 3), (31, 33, 3)])
def test_a_screen_of_another_shape_keeps_its_proportions_between_black_bars(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    path = tmp_path / "a.avi"
    plain = replace(RESULT, nodules=(), box=None, state=State.SEARCHING)
    with overlay_file(path, False, 1.0) as video:
        for size in ((301, 401, 3), shape):
            video.write(plain, np.full(size, 200, np.uint8))
    saved = cv2.VideoCapture(str(path))
    first, later = saved.read()[1], saved.read()[1]
    saved.release()
    assert later.shape == first.shape
    screen = draw_result(np.full(shape, 200, np.uint8), plain)
    rows, columns = np.nonzero(later.max(axis=2) > 15)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert width / height == pytest.approx(screen.shape[1] / screen.shape[0], rel=0.02)
    assert max(width / later.shape[1], height / later.shape[0]) > 0.98
    assert abs(rows.min() - (later.shape[0] - height) / 2) <= 1
    assert abs(columns.min() - (later.shape[1] - width) / 2) <= 1


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    """It would crash OpenCV."""
    path = tmp_path / os.fsdecode(b"\xff") / "a.mp4"
    path.parent.mkdir()
    with pytest.raises(BadInput, match="not UTF-8"), overlay_file(path, False, 20.0):
        pass


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


@cache
def moving() -> list[Pixels]:
    phantom = Phantom(width=320, height=240)
    return [phantom.render(index) for index in range(20)]


def screens(count: int) -> list[Pixels]:
    return [moving()[index % 20] for index in range(count)]


@pytest.mark.parametrize("fps", [1.0, 7.55, 29.97, 500.0])
@pytest.mark.parametrize("frames", [1, 32, 70])
def test_an_mp4_holds_the_frames_that_were_written(tmp_path: Path, fps: float, frames: int) -> None:
    path = tmp_path / "a.mp4"
    with overlay_file(path, False, fps) as video:
        for pixels in screens(frames):
            video.write(RESULT, pixels)
    assert list(tmp_path.iterdir()) == [path]
    assert promised_frames(path) == frames
    with av.open(str(path)) as saved:
        stream = saved.streams.video[0]
        assert stream.average_rate is not None
        assert float(stream.average_rate) == pytest.approx(fps, abs=0.01)
        pictures = list(saved.decode(stream))
    assert len(pictures) == frames
    last = pictures[-1].to_ndarray(format="bgr24")
    shown = draw_result(screens(frames)[-1], RESULT)
    assert np.abs(last.astype(int) - shown[: len(last), : last.shape[1]]).mean() < 6
    assert pictures[-1].time == pytest.approx((frames - 1) / fps, abs=2e-3)


KILLED = """
import os, signal, sys
from pathlib import Path
from edge_runtime.sinks.video import overlay_file
from tests.edge_runtime.results.examples import RESULT
from tests.edge_runtime.sinks.test_video import screens
with overlay_file(Path(sys.argv[1]), False, 20.0) as video:
    for pixels in screens(400):
        video.write(RESULT, pixels)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("name", "left"), [("a.mp4", "a.unfinished.mkv"), ("a.avi", "a.unfinished.avi")]
)
def test_what_a_killed_process_wrote_plays_and_is_not_overwritten(
    tmp_path: Path, name: str, left: str
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / name], check=False)
    assert done.returncode == -signal.SIGKILL
    content = (tmp_path / left).read_bytes()
    with open_device(str(tmp_path / left)) as device:
        frames = 0
        with suppress(EndOfRecording):
            while True:
                assert device.read(1.0).pixels.shape[1] == 320
                frames += 1
    assert frames > 200
    with overlay_file(tmp_path / name, False, 20.0) as video:
        video.write(RESULT, screens(1)[0])
    assert (tmp_path / left).read_bytes() == content
    assert (tmp_path / name).exists()


def test_a_session_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with overlay_file(tmp_path / "a.mp4", False, 20.0) as video:
            video.write(RESULT, screens(1)[0])
            raise BadInput("the source is damaged")

    with pytest.raises(BadInput, match="source is damaged"):
        fail()
    assert not list(tmp_path.iterdir())
