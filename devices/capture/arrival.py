"""How old a picture may be that came over a line which can hold pictures back.

A network, a server or a halted process may keep pictures and hand them over later, all at once.
When one arrives says nothing then of when it was captured. What is known is when last nothing lay
there to be taken: whatever is there now was sent after that. A picture counts as captured then, so
that an old one is never taken for a new one; one that was waited for counts as captured when it
came, unless the wait was so long that it may itself have been held back.
"""

IMMEDIATE_SECONDS = 0.003
"""Seconds; a picture that lies there is taken sooner. One of up to 100 a second is waited for
longer, where its reader does not take all the time between two."""
MIN_HELD_SECONDS, HELD_FACTOR = 0.2, 3
"""A wait of so many seconds, and so many times the longer one of the two before it, may have been
of a line that held back."""


class ArrivalTime:
    """Since when the pictures that come may have been lying there, on the clock of their reader."""

    def __init__(self, now: float) -> None:
        """Begins with nothing there."""
        self._empty = now
        self._waits = (0.0, 0.0)

    def came(self, asked: float, arrived: float) -> float:
        """When what was asked for and arrived at these seconds may have been captured, at the
        earliest.

        Every message counts, whatever is in it.
        """
        waited = arrived - asked
        if waited < IMMEDIATE_SECONDS:
            return self._empty
        held_back = waited >= max(MIN_HELD_SECONDS, HELD_FACTOR * max(self._waits))
        self._waits = (self._waits[1], waited)
        self._empty = asked if held_back else arrived
        return self._empty
