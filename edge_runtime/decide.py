"""From a stream of probabilities to a label, or to none."""

import math

from edge_runtime.manifest import Stage


class Smoother:
    """An exponential mean over time, so that it does not depend on the frame rate."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._mean: float | None = None
        self._at = 0.0

    def add(self, value: float, at: float | None) -> float:
        """Returns the mean including `value`, seen at `at` seconds; None stands alone."""
        if at is None:
            self._mean = None
            return value
        if self._mean is None or self._seconds == 0:
            self._mean = value
        else:
            weight = -math.expm1(-max(0.0, at - self._at) / self._seconds)
            self._mean += weight * (value - self._mean)
        self._at = at
        return self._mean

    def forget(self) -> None:
        """Begins anew: what was seen before has nothing to do with what comes."""
        self._mean = None


def decide(smoothed: float, stage: Stage) -> tuple[str | None, str | None]:
    """Returns a label and no reason, or no label and the reason why.

    The positive label from the threshold on; none closer to the threshold than the margin.
    """
    threshold, margin = stage.operating_point.threshold, stage.decision.margin
    if abs(smoothed - threshold) < margin:
        return None, "too close to the threshold"
    return (stage.positive if smoothed >= threshold else stage.labels[0]), None
