"""What every capture device that can run here promises, one test for all of them."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import CaptureDevice, EndOfRecording
from devices.capture import ImageFolder, Phantom, Scripted, Video

Opener = Callable[[Callable[[], float]], CaptureDevice]


@pytest.fixture(params=["video", "folder", "phantom", "scripted"])
def opener(request: pytest.FixtureRequest, make_video: Callable[..., Path]) -> Opener:
    """Opens a device with three frames and the clock it is given."""
    video = make_video("three.mp4", frames=3)
    for number in range(3):
        cv2.imwrite(str(video.parent / f"{number}.png"), np.full((40, 60), number, np.uint8))
    pictures = [np.full((40, 60), number, np.uint8) for number in range(3)]
    openers: dict[str, Opener] = {
        "video": lambda clock: Video(video, clock),
        "folder": lambda clock: ImageFolder(video.parent, clock),
        "phantom": lambda clock: Phantom(frames=3, live=False, clock=clock),
        "scripted": lambda clock: Scripted(pictures, clock=clock),
    }
    return openers[request.param]


def test_every_frame_comes_in_order_and_then_the_end(opener: Opener) -> None:
    with opener(lambda: 7.0) as device:
        frames = [device.read(1.0) for _ in range(3)]
        with pytest.raises(EndOfRecording):
            device.read(1.0)
    assert [frame.index for frame in frames] == [0, 1, 2]


def test_frames_are_stamped_with_the_clock_that_was_given(opener: Opener) -> None:
    ticks = iter(range(100, 200))
    with opener(lambda: float(next(ticks))) as device:
        stamps = [device.read(1.0).captured_at for _ in range(3)]
    assert stamps == sorted(stamps)
    assert stamps[0] >= 100


def test_pixels_are_bytes_in_one_or_three_channels(opener: Opener) -> None:
    with opener(lambda: 0.0) as device:
        pixels = device.read(1.0).pixels
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2 or pixels.shape[2] == 3


def test_the_end_stays_the_end(opener: Opener) -> None:
    with opener(lambda: 0.0) as device:
        for _ in range(3):
            device.read(1.0)
        for _ in range(2):
            with pytest.raises(EndOfRecording):
                device.read(1.0)


def test_the_frame_rate_is_a_rate(opener: Opener) -> None:
    with opener(lambda: 0.0) as device:
        assert 1 <= device.fps <= 240
        assert device.live is False
