"""How a frame passes from the capturing thread to the inference thread."""

import threading
from collections import Counter, deque
from typing import Generic, TypeVar

RECORDING_CAPACITY, REFILL_LEVEL = 3, 1
"""Frames of a recording that are read ahead, and how many are left when reading goes on. A thread
that wakes for every single frame spends as much time on waking as on decoding."""
REPLACED = "replaced by a newer frame"
"""Why a frame has no result, where the slot dropped it."""

_F = TypeVar("_F")


class FrameSlot(Generic[_F]):
    """Hands over the newest frame of a live device, or every frame of a recording.

    A newer live frame replaces a frame that nobody took in time, and the old frame counts as
    dropped: a queue would only make every later result older. A recording makes the reader wait.
    """

    def __init__(self, every_frame: bool) -> None:
        self._every_frame = every_frame
        self._frames: deque[_F] = deque()
        self._changed = threading.Condition()
        self._end: Exception | None = None
        self._lost: Exception | None = None
        self.read = 0
        """Frames put in so far."""
        self.dropped = 0
        """Frames that a newer frame replaced before anyone took them."""
        self.passed_over: Counter[str] = Counter()
        """Frames that were read and not handed over, by their cause."""

    def put(self, frame: _F, read: int = 1) -> None:
        """Adds a frame. In a recording it waits for room, unless the slot is closed.

        `read` is 0 where what is added is no frame.
        """
        with self._changed:
            self.read += read
            if self._every_frame:
                self._changed.wait_for(
                    lambda: len(self._frames) < RECORDING_CAPACITY or self.closed
                )
            elif self._frames:
                self._frames.clear()
                self.dropped += 1
            self._frames.append(frame)
            if len(self._frames) == 1:
                self._changed.notify_all()

    def wait_until_taken(self, timeout: float) -> None:
        """Waits until the slot is empty, for `timeout` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._frames or self.closed, timeout)

    def pass_over(self, cause: str) -> None:
        """Counts a frame that was read and will not be handed over."""
        with self._changed:
            self.read += 1
            self.passed_over[cause] += 1

    def take(self, timeout: float) -> _F | None:
        """The next frame, or None after `timeout` seconds.

        Raises the error given to `close` once all frames are taken. Raises the error given to
        `lose` once, before any frame that came after the loss.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: bool(self._frames) or self.closed or self._lost is not None, timeout
            )
            if self._lost is not None:
                lost, self._lost = self._lost, None
                raise lost
            if self._frames:
                frame = self._frames.popleft()
                if len(self._frames) == REFILL_LEVEL or not self._every_frame:
                    self._changed.notify_all()
                return frame
            if self._end is not None:
                raise self._end
            return None

    def lose(self, error: Exception) -> None:
        """Notes that the capture device has gone. Frames that nobody took are dropped."""
        with self._changed:
            self.dropped += len(self._frames)
            self._frames.clear()
            self._lost = error
            self._changed.notify_all()

    def close(self, end: Exception) -> None:
        """Notes that no more frames will come; `end` says why. The first reason given stays."""
        with self._changed:
            self._end = self._end or end
            self._changed.notify_all()

    def drain(self) -> int:
        """Empties the slot and returns how many frames were in it."""
        with self._changed:
            left = len(self._frames)
            self._frames.clear()
            return left

    @property
    def waiting(self) -> int:
        """How many frames are in the slot."""
        return len(self._frames)

    @property
    def closed(self) -> bool:
        """Whether the last frame was put in."""
        return self._end is not None
