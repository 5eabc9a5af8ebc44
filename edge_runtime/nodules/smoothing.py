"""How the probabilities of a nodule are smoothed over time."""

import math
from collections.abc import Sequence


class Smoother:
    """An exponential mean over time: it does not depend on the frame rate."""

    def __init__(self, seconds: float) -> None:
        """`seconds` is the time constant; 0 does not smooth."""
        self._seconds = seconds
        self._mean: tuple[float, ...] | None = None
        self._at = 0.0

    def add(self, values: Sequence[float], at: float | None) -> tuple[float, ...]:
        """Returns the mean with `values`, one for each label, of a frame at `at` seconds.

        A frame without a time is not smoothed.
        """
        if at is None:
            self._mean = None
            return tuple(values)
        if self._mean is None or self._seconds == 0:
            self._mean = tuple(values)
        else:
            weight = -math.expm1(-max(0.0, at - self._at) / self._seconds)
            pairs = zip(self._mean, values, strict=True)
            self._mean = tuple(mean + weight * (value - mean) for mean, value in pairs)
        self._at = at
        return self._mean

    def forget(self) -> None:
        """Begins again: the next frame does not belong to the earlier frames."""
        self._mean = None
