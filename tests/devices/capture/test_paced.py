"""A recording that plays at its own frame rate."""

import time

from devices.capture.paced import PacedRecording
from devices.capture.phantom import Phantom


def test_a_recording_keeps_its_pace() -> None:
    with PacedRecording(Phantom(fps=20, live=False)) as recording:
        began = time.monotonic()
        frames = [recording.read(1).index for _ in range(8)]
        assert time.monotonic() - began >= 7 / 20 - 0.005
    assert frames == list(range(8))
