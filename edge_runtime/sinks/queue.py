"""A queue of results before each sink: a slow disk or reader does not stop the frames."""

import logging
import threading
from collections import deque

from devices import BadInput, Pixels
from edge_runtime.results.result import Result
from edge_runtime.sinks.sink import NO_PIXELS, Sink

_LOGGER = logging.getLogger(__name__)

PIXEL_CAPACITY, RECORD_CAPACITY = 8, 512
"""Results that may wait for a sink with pixels, a quarter of a second of video, and for a sink
without pixels, some ten seconds."""
DRAIN_TIMEOUT = 10.0
"""Seconds that a sink may take at the end for one of the results that still wait."""


class SinkQueue:
    """Writes to one sink in a thread of its own, through a queue of bounded length.

    A recording waits for a slow sink. A live session does not: a full queue drops the oldest
    result for the new one, and counts it in `lost`.
    """

    def __init__(self, sink: Sink, live: bool) -> None:
        self._sink, self._live = sink, live
        self._capacity = (
            1
            if sink.latest_only and live
            else PIXEL_CAPACITY
            if sink.wants_pixels
            else RECORD_CAPACITY
        )
        self._waiting: deque[tuple[Result, Pixels]] = deque()
        self._changed = threading.Condition()
        self._closed = self._draining = False
        self.lost = 0
        """Results that the sink was too slow for."""
        self.error: Exception | None = None
        """The error of a sink that failed; such a sink gets no more results."""
        self.name = type(sink).__name__
        self._thread = threading.Thread(target=self._write, name=self.name, daemon=True)
        self._thread.start()

    def put(self, result: Result, pixels: Pixels) -> None:
        """Adds one result; waits for room only in a recording."""
        with self._changed:
            self._changed.wait_for(self._has_room)
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self.lost += 1
            if not self._ended:
                self._waiting.append((result, pixels if self._sink.wants_pixels else NO_PIXELS))
                self._changed.notify_all()

    def stop_waiting(self) -> None:
        """Ends every wait for room, because the session was asked to end."""
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
        if self._thread.is_alive():
            self.error = BadInput(f"{self.name}: does not take its results; some are lost")
        self.lost += len(self._waiting)

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
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    return
                result, pixels = self._waiting.popleft()
                self._changed.notify_all()
            try:
                self._sink.write(result, pixels)
            except Exception as error:
                _LOGGER.warning("the sink %s failed: %s", self.name, type(error).__name__)
                with self._changed:
                    self.error = error
                    self._changed.notify_all()
                return
            del result, pixels  # the next result may come much later
