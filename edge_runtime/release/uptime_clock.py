"""A clock that does not count the time in which the process stood still."""

import time
from collections.abc import Callable


class UptimeClock:
    """A clock for time-outs: a long pause between two calls counts as STEP seconds.

    While a machine or a process stands still, or a slow card blocks it for half a minute, the other
    parts cannot work. That time must not count as their silence.
    """

    STEP = 1.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last, self._sum = clock, clock(), 0.0

    def __call__(self) -> float:
        """Seconds so far, without the pauses."""
        now = self._clock()
        self._sum += min(now - self._last, self.STEP)
        self._last = now
        return self._sum
