"""How long a live source may be silent before it counts as gone."""


class SilenceLimit:
    """The limit is twice the shorter of the last two waits, in seconds, within bounds.

    So a slow source does not count as silent, and one long wait does not make a source slow. Before
    two frames have come, the limit is the upper bound.
    """

    def __init__(self, lower: float, upper: float) -> None:
        self._lower, self._upper, self._last = lower, upper, upper
        self.seconds = upper

    def __float__(self) -> float:
        return self.seconds

    def learn(self, waited: float) -> None:
        """Takes in the wait for a frame, in seconds."""
        self.seconds = min(max(self._lower, 2 * min(waited, self._last)), self._upper)
        self._last = waited
