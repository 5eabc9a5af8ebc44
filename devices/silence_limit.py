"""How long a live source may be silent before it counts as gone."""


class SilenceLimit:
    """Twice the time that the last two frames took, in seconds, and within bounds.

    A source that is slow by nature is not a silent one, and a single long wait is no slow source.
    Before two frames came it is the upper bound.
    """

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most, self._last = least, most, most
        self.seconds = most

    def __float__(self) -> float:
        return self.seconds

    def learn(self, waited: float) -> None:
        """Takes in how long a frame was waited for."""
        self.seconds = min(max(self._least, 2 * min(waited, self._last)), self._most)
        self._last = waited
