"""How frames pass between the threads."""

import threading

import numpy as np
import pytest

from devices import DeviceLost, EndOfRecording, Frame
from edge_runtime.session.frame_slot import RECORDING_CAPACITY, FrameSlot


def frame(index: int) -> Frame:
    return Frame(np.zeros((2, 2), np.uint8), 0.0, index)


def test_live_the_newest_frame_is_taken_and_the_rest_counted() -> None:
    slot: FrameSlot[Frame] = FrameSlot(every_frame=False)
    for index in range(5):
        slot.put(frame(index))
    taken = slot.take(0)
    assert taken is not None
    assert taken.index == 4
    assert (slot.read, slot.dropped) == (5, 4)
    assert slot.take(0) is None


def test_a_recording_keeps_every_frame_in_order() -> None:
    slot: FrameSlot[Frame] = FrameSlot(every_frame=True)

    def fill() -> None:
        for index in range(50):
            slot.put(frame(index))
        slot.close(EndOfRecording("end"))

    thread = threading.Thread(target=fill)
    thread.start()
    seen = []
    for _ in range(50):
        taken = slot.take(60)
        assert taken is not None
        seen.append(taken.index)
    thread.join(60)
    with pytest.raises(EndOfRecording):
        slot.take(60)
    assert seen == list(range(50))
    assert slot.dropped == 0


def test_what_was_put_in_before_the_end_is_still_taken() -> None:
    slot: FrameSlot[Frame] = FrameSlot(every_frame=True)
    slot.put(frame(0))
    slot.close(EndOfRecording("end"))
    assert slot.take(0) is not None
    with pytest.raises(EndOfRecording):
        slot.take(0)


def test_closing_frees_a_reader_that_waits_for_room() -> None:
    slot: FrameSlot[Frame] = FrameSlot(every_frame=True)

    def fill() -> None:
        for index in range(RECORDING_CAPACITY + 1):
            slot.put(frame(index))

    thread = threading.Thread(target=fill)
    thread.start()
    while slot.read <= RECORDING_CAPACITY:  # the last one is counted before it waits for room
        pass
    slot.close(EndOfRecording("stopped"))
    thread.join(60)
    assert not thread.is_alive()
    assert slot.drain() == RECORDING_CAPACITY + 1


def test_the_first_reason_for_the_end_stays() -> None:
    slot: FrameSlot[Frame] = FrameSlot(every_frame=False)
    slot.close(OSError("first"))
    slot.close(EndOfRecording("second"))
    with pytest.raises(OSError, match="first"):
        slot.take(0)


def test_a_loss_is_told_once_and_what_nobody_took_is_not_shown_after_it() -> None:
    slot: FrameSlot[Frame] = FrameSlot(every_frame=False)
    slot.put(frame(0))
    slot.lose(DeviceLost("unplugged"))
    slot.put(frame(1))
    with pytest.raises(DeviceLost):
        slot.take(0)
    taken = slot.take(0)
    assert taken is not None
    assert (taken.index, slot.read, slot.dropped) == (1, 2, 1)
    assert slot.take(0) is None
