"""A queue of results before each sink: a slow disk or reader does not stop the frames."""

import logging
import threading
from collections import deque

from devices import BadInput, Pixels, describe_error
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import Result
from edge_runtime.sinks.sink import NO_PIXELS, CountedSink, Sink

_LOGGER = logging.getLogger(__name__)

PIXEL_CAPACITY, RECORD_CAPACITY = 8, 512
"""Results that may wait for a sink with pixels, a quarter of a second of video, and for a sink
without pixels, some ten seconds."""
WAKE_SECONDS = 0.05
"""Seconds in which the results of a recording gather: a thread that wakes for each of them takes
time from the frames."""
TOO_SLOW = "the sink is too slow, and the oldest results made room"
DRAIN_TIMEOUT = 10.0
"""Seconds that a sink may take at the end for one of the results that still wait."""


class SinkQueue:
    """Writes to one sink in a thread of its own, through a queue of bounded length.

    A recording waits for a slow sink. A live session does not: a full queue drops the oldest
    result for the new one, and counts it as given up, but not for a sink of the newest alone.
    """

    def __init__(self, sink: Sink, live: bool, endless: bool = False) -> None:
        """`endless` as for `CaptureDevice`: an error then costs one result of a counted sink."""
        self._sink = sink
        self.name = type(sink).__name__
        self._counted = isinstance(sink, CountedSink)
        self.tally = sink.tally if isinstance(sink, CountedSink) else Tally(self.name)
        """The counts of the sink; they go on where sessions follow one another."""
        self._live = live or self.tally.may_lose
        self._capacity = PIXEL_CAPACITY if sink.wants_pixels else RECORD_CAPACITY
        if sink.latest_only and live:
            self._capacity = 1
        self._gathers = not (self._live or sink.latest_only)
        self._waiting: deque[tuple[Result, Pixels]] = deque()
        self._changed = threading.Condition()
        self._closed = self._draining = self._writing = False
        self.error: Exception | None = None
        """The error of a sink that failed; such a sink gets no more results."""
        self._endless = self._live or endless
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name=self.name, daemon=True)
        self._thread.start()

    def put(self, result: Result, pixels: Pixels) -> None:
        """Adds one result; waits for room only in a recording."""
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self.error is not None:
                self._lose(1)
            if self._ended:
                return
            if self._live and len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                if not self._sink.latest_only:  # a display wants no older results
                    self._lose(1, TOO_SLOW)
            self._waiting.append((result, pixels if self._sink.wants_pixels else NO_PIXELS))
            self._count_waiting()
            if not self._gathers or len(self._waiting) == 1 or self._has_many():
                self._changed.notify_all()

    def stop_waiting(self) -> None:
        """Ends every wait for room, because the session was asked to end.

        A recording then adds its last few results beyond the capacity.
        """
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def close(self) -> None:
        """Waits until the sink took all results, as long as it takes one within DRAIN_TIMEOUT."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        waiting = len(self._waiting) + 1
        while self._thread.is_alive() and len(self._waiting) < waiting:
            waiting = len(self._waiting)
            self._thread.join(DRAIN_TIMEOUT)
        why = None
        with self._changed:
            if self._thread.is_alive():
                why = f"{self.tally.name}: does not take its results; some are lost"
                if not (self._endless and self._counted):
                    self.error = BadInput(why)
            self._lose(len(self._waiting) + self._writing, why)
            self._waiting.clear()
            self._writing = False
            self._count_waiting()

    @property
    def reports(self) -> bool:
        """Whether the summary tells the counts: those of every counted sink, and every loss."""
        return self._counted or self._lost > 0

    def _lose(self, count: int, why: str | None = None) -> None:
        self._lost += count
        self.tally.give_up(count, why)

    def _count_waiting(self) -> None:
        self.tally.queued = len(self._waiting) + self._writing

    def _has_many(self) -> bool:
        return 2 * len(self._waiting) >= self._capacity

    def _has_room(self) -> bool:
        waits = not (self._live or self._draining or self._ended)
        return len(self._waiting) < self._capacity or not waits

    @property
    def _ended(self) -> bool:
        return self._closed or self.error is not None

    def _write(self) -> None:
        """Gives the sink one result after the other, until the queue ends or the sink fails."""
        while True:
            with self._changed:
                if not self._waiting:
                    self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                    if self._gathers:
                        self._changed.wait_for(
                            lambda: self._has_many() or self._closed or self._draining,
                            WAKE_SECONDS,
                        )
                if not self._waiting:
                    return
                result, pixels = self._waiting.popleft()
                self._writing = True
                self._changed.notify_all()
            failure: Exception | None = None
            try:
                self._sink.write(result, pixels)
            except Exception as error:
                failure = error
            with self._changed:
                if not self._writing:
                    return  # the result was given up meanwhile
                self._writing = False
                self._count_waiting()
                if failure is None:
                    if not self.tally.counts_itself:
                        self.tally.deliver()
                else:
                    self._lose(1, describe_error(failure))
                    if not (self._endless and self._counted):
                        _LOGGER.warning("the sink %s failed: %s", self.name, type(failure).__name__)
                        self.error = failure
                        self._changed.notify_all()
                        return
            del failure, result, pixels  # the next result may come much later
