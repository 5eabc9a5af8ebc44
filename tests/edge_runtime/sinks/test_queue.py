"""Sinks behind their queues: slow ones delay a recording, never a live picture."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from devices import BadInput, Pixels
from edge_runtime.results.result import Result
from edge_runtime.sinks import queue
from edge_runtime.sinks.queue import PIXEL_CAPACITY, RECORD_CAPACITY, SinkQueue
from tests.edge_runtime.results.examples import RESULT

SCREEN: Pixels = np.ones((4, 4), np.uint8)


class Gated:
    """A sink that takes nothing until it is let."""

    def __init__(self, wants_pixels: bool = False, error: Exception | None = None) -> None:
        self.wants_pixels, self.latest_only, self._error = wants_pixels, False, error
        self.open, self.asked = threading.Event(), threading.Event()
        self.told: list[int] = []
        self.screens: list[Pixels] = []

    def write(self, result: Result, pixels: Pixels) -> None:
        self.asked.set()
        assert self.open.wait(60)
        if self._error is not None:
            raise self._error
        self.told.append(result.sequence)
        self.screens.append(pixels)


def results(count: int) -> Iterator[Result]:
    return (replace(RESULT, sequence=number) for number in range(count))


def test_everything_is_told_in_order_before_it_closes() -> None:
    sink = Gated()
    box = SinkQueue(sink, live=False)
    sink.open.set()
    for result in results(100):
        box.put(result, SCREEN)
    box.close()
    assert (sink.told, box.tally.delivery().given_up, box.error) == (list(range(100)), 0, None)


def test_a_live_picture_never_waits_and_what_was_given_up_is_counted() -> None:
    sink = Gated(wants_pixels=True)
    box = SinkQueue(sink, live=True)
    first, *rest = results(PIXEL_CAPACITY + 6)
    box.put(first, SCREEN)
    assert sink.asked.wait(60)  # it holds the first one; the queue is empty
    for result in rest:
        box.put(result, SCREEN)
    sink.open.set()
    box.close()
    assert box.tally.delivery().given_up == 5
    assert sink.told == [0, *range(6, PIXEL_CAPACITY + 6)]


def test_a_recording_waits_for_room() -> None:
    sink = Gated(wants_pixels=True)
    box = SinkQueue(sink, live=False)

    def put() -> None:
        for result in results(PIXEL_CAPACITY + 4):
            box.put(result, SCREEN)

    putting = threading.Thread(target=put)
    putting.start()
    assert sink.asked.wait(60)
    assert putting.is_alive()
    sink.open.set()
    putting.join(60)
    box.close()
    assert sink.told == list(range(PIXEL_CAPACITY + 4))


def test_results_of_a_recording_wake_the_sink_when_half_the_room_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "WAKE_SECONDS", 600.0)
    sink = Gated()
    sink.open.set()
    box = SinkQueue(sink, live=False)
    *first, last = results(RECORD_CAPACITY // 2)
    for result in first:
        box.put(result, SCREEN)
    assert not sink.asked.wait(0.1)
    box.put(last, SCREEN)
    assert sink.asked.wait(60)
    box.close()
    assert sink.told == list(range(RECORD_CAPACITY // 2))


def test_records_wait_without_their_pixels() -> None:
    assert RECORD_CAPACITY > PIXEL_CAPACITY
    sink = Gated()
    sink.open.set()
    box = SinkQueue(sink, live=True)
    box.put(RESULT, SCREEN)
    box.close()
    assert sink.screens[0].size == 1


def test_a_sink_that_fails_is_told_nothing_more_and_holds_nobody() -> None:
    error = BadInput("the disk is full")
    sink = Gated(error=error)
    sink.open.set()
    box = SinkQueue(sink, live=False)
    for result in results(2 * RECORD_CAPACITY):
        box.put(result, SCREEN)
    box.close()
    assert box.error is error
    assert sink.told == []


def test_a_sink_that_never_returns_does_not_hold_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Gated()
    box = SinkQueue(sink, live=True)
    for result in results(3):
        box.put(result, SCREEN)
    monkeypatch.setattr(queue, "DRAIN_TIMEOUT", 0.01)
    box.close()
    assert isinstance(box.error, BadInput)
    assert box.tally.delivery().given_up >= 2
    sink.open.set()


def test_who_shows_what_is_now_is_told_the_newest_alone_and_has_lost_nothing() -> None:
    sink = Gated()
    sink.latest_only = True
    box = SinkQueue(sink, live=True)
    first, *rest = results(9)
    box.put(first, SCREEN)
    assert sink.asked.wait(60)
    for result in rest:
        box.put(result, SCREEN)
    sink.open.set()
    box.close()
    assert sink.told == [0, 8]
    assert (box.tally.delivery().given_up, box.reports) == (0, False)


def test_a_session_that_was_asked_to_end_waits_for_no_sink_and_loses_nothing() -> None:
    sink = Gated(wants_pixels=True)
    box = SinkQueue(sink, live=False)
    box.stop_waiting()
    for result in results(PIXEL_CAPACITY + 6):
        box.put(result, SCREEN)
    sink.open.set()
    box.close()
    delivery = box.tally.delivery()
    assert (delivery.delivered, delivery.given_up) == (PIXEL_CAPACITY + 6, 0)
