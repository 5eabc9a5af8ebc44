"""Time in which something could have happened."""

import time
from collections.abc import Callable


class UptimeClock:
    """A clock that runs while its owner does: a longer pause between two looks counts as one step.

    A machine or a process that stood still, or a card that was written to for half a minute, kept
    others from what is expected of them; that is no silence of theirs.
    """

    STEP = 1.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last, self._sum = clock, clock(), 0.0

    def __call__(self) -> float:
        """Seconds awake so far."""
        now = self._clock()
        self._sum += min(now - self._last, self.STEP)
        self._last = now
        return self._sum
