"""The age of a picture that came over a connection which can hold pictures back.

A network, a server or a halted process may hold pictures back and deliver them later, all at once.
Then the time of arrival does not show the time of capture. Known is the last moment when no picture
was waiting: every picture that waits now was sent after it. A waiting picture counts as captured at
that moment, so that an old picture never counts as new. A picture that the reader had to wait for
counts as captured at its arrival, unless the wait was so long that it may have been held back.
"""

IMMEDIATE_SECONDS = 0.003
"""Seconds; a waiting picture is taken faster. At up to 100 pictures a second the reader waits
longer for the next one, unless it needs the whole time between two."""
MIN_HELD_SECONDS, HELD_FACTOR = 0.2, 3
"""After a wait of so many seconds, and of so many times the longer of the two waits before, the
picture may have been held back."""


class CaptureTime:
    """The earliest time of capture of each message of a connection, on the clock of the reader."""

    def __init__(self, now: float) -> None:
        """Begins at `now` with no waiting picture."""
        self._empty = now
        self._waits = (0.0, 0.0)

    def of_message(self, asked: float, arrived: float) -> float:
        """The earliest time of capture of a message, asked for and arrived at these seconds.

        Call it for every message, not only for pictures.
        """
        waited = arrived - asked
        if waited < IMMEDIATE_SECONDS:
            return self._empty
        held_back = waited >= max(MIN_HELD_SECONDS, HELD_FACTOR * max(self._waits))
        self._waits = (self._waits[1], waited)
        self._empty = asked if held_back else arrived
        return self._empty
