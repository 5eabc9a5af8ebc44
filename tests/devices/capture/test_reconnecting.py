"""A live device that goes is opened again, at 1, 2, 4 ... 30 seconds, and counts its frames on."""

import gc
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from devices import (
    BadInput,
    CaptureDevice,
    DeviceLost,
    DeviceStalled,
    Frame,
    HardwareMissing,
    Pixels,
)
from devices.capture.reconnecting import Reconnecting
from devices.capture.scripted import Scripted, Unplug
from tests.devices.capture.conftest import entries, resident

PICTURE: Pixels = np.zeros((4, 4), np.uint8)
GONE = DeviceLost("unplugged")


class Time:
    """A clock that goes on as one waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def lives(*scripts: list[Pixels | Exception] | Exception) -> Callable[[], CaptureDevice]:
    """Opens the first script, then the next, or fails as it says."""
    left = iter(scripts)

    def opener() -> CaptureDevice:
        script = next(left)
        if isinstance(script, Exception):
            raise script
        return Scripted(script, live=True)

    return opener


def attempts(device: Reconnecting, time: Time) -> list[float]:
    """Reads until a frame comes, and returns the moments at which the device was tried again."""
    moments: list[float] = []
    while True:
        try:
            device.read(1.0)
        except DeviceStalled as error:
            if "tried again" not in str(error):
                moments.append(time.now)
        else:
            return [*moments, time.now]


def test_it_is_tried_again_ever_more_slowly_and_at_once_slow_again_when_it_was_back() -> None:
    time = Time()
    missing = HardwareMissing("no camera")
    opener = lives([PICTURE, GONE], *[missing] * 6, [PICTURE, GONE], [PICTURE])
    device = Reconnecting(opener, time, time.wait)
    device.read(1.0)
    with pytest.raises(DeviceLost):
        device.read(1.0)
    assert attempts(device, time) == [1, 3, 7, 15, 31, 61, 91]
    with pytest.raises(DeviceLost):
        device.read(1.0)
    assert attempts(device, time) == [92]


def test_a_device_that_comes_back_slower_is_as_slow_as_it_says() -> None:
    time, rates = Time(), iter((30.0, 3.0))

    def opener() -> CaptureDevice:
        return Scripted([PICTURE, GONE], live=True, fps=next(rates))

    device = Reconnecting(opener, time, time.wait)
    assert device.fps == 30.0
    for _ in range(2):
        with suppress(DeviceLost):
            device.read(1.0)
    attempts(device, time)
    assert device.fps == 3.0


def test_one_that_comes_and_goes_without_a_frame_is_not_tried_all_the_time() -> None:
    time = Time()
    device = Reconnecting(lives([GONE], [GONE], [GONE], [PICTURE]), time, time.wait)
    lost: list[float] = []
    while len(lost) < 3:
        try:
            device.read(1.0)
        except DeviceLost:
            lost.append(time.now)
        except DeviceStalled:
            pass
    assert lost == [0, 1, 3]


def test_frames_are_counted_on() -> None:
    time = Time()
    device = Reconnecting(lives([PICTURE, PICTURE, GONE], [PICTURE, PICTURE]), time, time.wait)
    seen: list[int] = []
    while len(seen) < 4:
        with suppress(DeviceLost, DeviceStalled):
            seen.append(device.read(1.0).index)
    assert seen == [0, 1, 2, 3]


def test_damaged_pictures_are_counted_on() -> None:
    class Damaging(Scripted):
        """Passes over one picture before each that it gives, and before it goes."""

        def read(self, timeout: float) -> Frame:
            self.damaged += 1
            return super().read(timeout)

    time = Time()
    device = Reconnecting(lambda: Damaging([PICTURE, GONE], live=True), clock=time, wait=time.wait)
    seen = 0
    while seen < 2:
        with suppress(DeviceLost, DeviceStalled):
            device.read(1.0)
            seen += 1
    assert device.damaged == 3


@pytest.mark.parametrize("error", [BadInput("x"), HardwareMissing("x"), DeviceLost("x")])
def test_what_was_never_there_is_an_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        Reconnecting(lives(error))


def test_no_read_waits_longer_than_its_time_out() -> None:
    time = Time()
    device = Reconnecting(lives([GONE], [PICTURE]), time, time.wait)
    with pytest.raises(DeviceLost):
        device.read(0.25)
    with pytest.raises(DeviceStalled):
        device.read(0.25)
    assert time.now == 0.25


def test_closing_ends_the_wait() -> None:
    device = Reconnecting(lives([GONE], [PICTURE]))
    with pytest.raises(DeviceLost):
        device.read(1.0)
    device._next += 3600
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(DeviceStalled):
            device.read(3600)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    device.close()
    assert ended.wait(60)


@pytest.mark.slow
def test_ten_thousand_returns_leave_one_device_and_nothing_else() -> None:
    """In a process of its own: the memory of this one is also that of other tests."""
    module, name = return_ten_thousand_times.__module__, return_ten_thousand_times.__name__
    code = f"import {module} as its; its.{name}()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr


def return_ten_thousand_times() -> None:
    open_now: set[int] = set()
    script: list[Pixels | Unplug] = [PICTURE, Unplug()]
    lines = itertools.cycle(script)

    class Counted(Scripted):
        def __init__(self) -> None:
            super().__init__(lines, live=True)
            open_now.add(id(self))

        def close(self) -> None:
            open_now.discard(id(self))

    def go_and_return(times: int) -> None:
        for _ in range(times):
            device.read(1.0)
            with pytest.raises(DeviceLost):
                device.read(1.0)
            assert not open_now
            with pytest.raises(DeviceStalled):
                device.read(1.0)

    def opening() -> int:
        """How many threads still open a device, but for those that are at their end."""
        threads = [its for its in threading.enumerate() if its.name == "opening"]
        for thread in threads:
            thread.join(60)
        return sum(thread.is_alive() for thread in threads)

    time = Time()
    device = Reconnecting(Counted, time, time.wait)
    go_and_return(500)
    gc.collect()
    files, memory = entries("fd"), resident()
    go_and_return(9500)
    gc.collect()
    assert opening() == 0
    assert entries("fd") <= files
    assert resident() - memory < 2_000_000
    device.close()


def test_what_was_opened_while_it_was_closed_is_closed_too() -> None:
    closed: list[int] = []

    class Noted(Scripted):
        def close(self) -> None:
            closed.append(id(self))

    made: list[Noted] = []

    def opener() -> CaptureDevice:
        if made:
            device.close()
        made.append(Noted([GONE], live=True))
        return made[-1]

    time = Time()
    device = Reconnecting(opener, time, time.wait)
    with pytest.raises(DeviceLost):
        device.read(1.0)
    with pytest.raises(DeviceStalled):
        device.read(1.0)
    with pytest.raises(DeviceLost, match="was closed"):
        device.read(1.0)
    assert closed == [id(its) for its in made]


class Slow:
    """Opens at once, and from then on only when it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.closed = threading.Event()
        self.attempts = 0

    def __call__(self) -> CaptureDevice:
        self.attempts += 1
        if self.attempts == 1:
            return Scripted([GONE], live=True)
        assert self.go.wait(60)
        device = Scripted([PICTURE], live=True)
        device.close = self.closed.set  # type: ignore[method-assign]
        return device


def lost(opener: Callable[[], CaptureDevice]) -> Reconnecting:
    """A device that has just gone, and is tried again at once."""
    device = Reconnecting(opener, clock=Time(), wait=lambda seconds: None)
    with pytest.raises(DeviceLost):
        device.read(1.0)
    device._next = 0.0
    return device


def test_no_read_waits_for_an_opening_longer_than_its_time_out() -> None:
    slow = Slow()
    with lost(slow) as device:
        for _ in range(3):
            with pytest.raises(DeviceStalled, match="is being opened"):
                device.read(0.01)
        slow.go.set()
        assert device.read(5.0).index == 0
    assert slow.attempts == 2


def test_closing_waits_for_no_opening_and_closes_what_comes_of_it() -> None:
    slow = Slow()
    device = lost(slow)
    raised: list[Exception] = []

    def read() -> None:
        try:
            device.read(60.0)
        except DeviceLost as error:
            raised.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    device.close()
    reader.join(60)
    assert [str(error) for error in raised] == ["the device was closed"]
    slow.go.set()
    assert slow.attempts == 1 or slow.closed.wait(60)


def test_what_was_opened_and_never_read_is_closed() -> None:
    slow = Slow()
    device = lost(slow)
    with pytest.raises(DeviceStalled):
        device.read(0.0)
    slow.go.set()
    opening = next(its for its in threading.enumerate() if its.name == "opening")
    opening.join(60)
    device.close()
    assert slow.closed.is_set()


def test_a_mistake_in_the_opening_is_not_taken_for_an_absent_device() -> None:
    answers = iter([Scripted([GONE], live=True)])
    with lost(lambda: next(answers)) as device, pytest.raises(StopIteration):
        device.read(1.0)
