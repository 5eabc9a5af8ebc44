"""The scripted device: faults on time, in time that is made up."""

import threading
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import DeviceLost, DeviceStalled, EndOfRecording, Frame, Pixels
from devices.capture.reconnecting import Reconnecting
from devices.capture.scripted import (
    CODEC_BLOCK_ROWS,
    UNWRITTEN_BGR,
    Scripted,
    ScriptEvent,
    SizeChange,
    Stall,
    Torn,
    Unplug,
    tear,
)
from tests.devices.capture.test_reconnecting import Time

GREY: Pixels = np.random.default_rng(0).integers(1, 120, (128, 160), dtype=np.uint8)
COLOUR: Pixels = np.dstack([GREY, GREY, 2 * GREY])


def test_a_stall_is_a_stall_until_it_is_over() -> None:
    time = Time()
    device = Scripted([GREY, Stall(2.5), GREY], live=True, clock=time, wait=time.wait)
    device.read(1.0)
    for _ in range(2):
        with pytest.raises(DeviceStalled):
            device.read(1.0)
    frame = device.read(1.0)
    assert (frame.index, frame.captured_at) == (1, 2.5)


def test_a_stall_shorter_than_the_time_out_is_a_late_frame() -> None:
    time = Time()
    device = Scripted([Stall(0.5), GREY], live=True, clock=time, wait=time.wait)
    assert device.read(1.0).captured_at == 0.5


def test_no_read_waits_longer_than_its_time_out() -> None:
    time = Time()
    device = Scripted([Stall(0.6), Stall(0.6), GREY], live=True, clock=time, wait=time.wait)
    with pytest.raises(DeviceStalled):
        device.read(1.0)
    assert time.now == 1.0
    assert device.read(1.0).captured_at == pytest.approx(1.2)


def test_closing_ends_a_stall() -> None:
    device = Scripted([Stall(3600), GREY], live=True)
    ended = threading.Event()

    def read() -> None:
        with suppress(DeviceStalled):
            device.read(3600)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    device.close()
    assert ended.wait(60)


def test_the_next_device_goes_on_with_the_script() -> None:
    time = Time()
    script: list[ScriptEvent] = [GREY, Unplug(), COLOUR, Stall(2), GREY, Unplug(), GREY]
    lines = iter(script)
    device = Reconnecting(
        lambda: Scripted(lines, live=True, clock=time, wait=time.wait), time, time.wait
    )
    happened: list[object] = []
    with suppress(EndOfRecording):
        while True:
            try:
                happened.append(device.read(1.0).pixels.ndim)
            except (DeviceLost, DeviceStalled) as error:
                happened.append(type(error))
    stalled = [DeviceStalled]
    assert happened == [2, DeviceLost, *stalled, 3, *stalled, 2, DeviceLost, *stalled, 2]


def test_a_size_is_that_of_all_later_pictures_of_the_device() -> None:
    device = Scripted([GREY, SizeChange(80, 64), GREY, COLOUR, SizeChange(40, 32), GREY])
    shapes = [device.read(1.0).pixels.shape for _ in range(4)]
    assert shapes == [(128, 160), (64, 80), (64, 80, 3), (32, 40)]


def test_one_picture_is_torn_and_the_script_keeps_its_own() -> None:
    kept = GREY.copy()
    device = Scripted([GREY, Torn(), GREY, GREY])
    equal = [np.array_equal(device.read(1.0).pixels, kept) for _ in range(3)]
    assert equal == [True, False, True]
    assert np.array_equal(GREY, kept)


@given(st.integers(0, 10_000), st.sampled_from([GREY, COLOUR]))
def test_what_is_torn_is_whole_above_and_flat_below(seed: int, pixels: Pixels) -> None:
    torn = tear(pixels, seed)
    assert np.array_equal(torn, tear(pixels, seed))
    bad = np.flatnonzero((torn != pixels).reshape(len(pixels), -1).any(axis=1))
    assert len(bad) >= len(pixels) // 5
    assert bad[0] % CODEC_BLOCK_ROWS == 0
    assert (bad == np.arange(bad[0], len(pixels))).all()
    assert (torn[bad[0] :] == torn[-1]).all()


def test_pictures_are_torn_in_each_of_the_known_ways() -> None:
    lowest = [tear(COLOUR, seed)[-1] for seed in range(30)]
    green = sum((row == UNWRITTEN_BGR).all() for row in lowest)
    grey = sum((row == 128).all() for row in lowest)
    assert min(green, grey, 30 - green - grey) >= 3


EVENTS: st.SearchStrategy[ScriptEvent] = st.one_of(
    st.just(GREY),
    st.builds(Stall, st.floats(0.01, 5)),
    st.builds(Unplug),
    st.builds(SizeChange, st.integers(32, 200), st.integers(32, 200)),
    st.builds(Torn, st.integers(0, 9)),
)


@given(st.lists(EVENTS, max_size=30))
def test_every_picture_of_any_script_comes_once_and_in_its_time(script: list[ScriptEvent]) -> None:
    time = Time()
    lines = iter(script)
    device = Reconnecting(
        lambda: Scripted(lines, live=True, clock=time, wait=time.wait), time, time.wait
    )
    frames: list[Frame] = []
    with suppress(EndOfRecording):
        while True:
            began = time.now
            with suppress(DeviceLost, DeviceStalled):
                frames.append(device.read(1.0))
            assert time.now - began <= 1.0 + 1e-9
    assert [frame.index for frame in frames] == list(range(sum(its is GREY for its in script)))
    stamps = [frame.captured_at for frame in frames]
    assert stamps == sorted(stamps)
