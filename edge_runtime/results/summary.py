"""The summary of a session: what became of every frame, and percentiles of the latency."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from edge_runtime.results.delivery import Tally

MIN_MS, MAX_MS, BIN_RATIO = 0.01, 100_000.0, 1.01
LATENCY_BINS = math.ceil(math.log(MAX_MS / MIN_MS) / math.log(BIN_RATIO)) + 2


class LatencyHistogram:
    """Milliseconds in logarithmic bins of 1 %: percentiles to within 1 %, constant memory."""

    def __init__(self) -> None:
        self._counts = np.zeros(LATENCY_BINS, dtype=np.int64)

    def add(self, milliseconds: float) -> None:
        """Counts one latency."""
        clipped = min(max(milliseconds, MIN_MS), MAX_MS)
        self._counts[round(math.log(clipped / MIN_MS) / math.log(BIN_RATIO))] += 1

    def percentile(self, percent: float) -> float:
        """The latency in milliseconds that `percent` of the frames keep; NaN without frames."""
        total = int(self._counts.sum())
        if total == 0:
            return math.nan
        rank = max(1, math.ceil(total * percent / 100))
        bin_number = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(MIN_MS * BIN_RATIO**bin_number)


@dataclass
class Summary:
    """The counts of a session: `read` is `classified` plus the sum of `not_judged`."""

    read: int = 0
    classified: int = 0
    not_judged: Counter[str] = field(default_factory=Counter)
    """Frames that were not classified, by their cause."""
    labels: Counter[str] = field(default_factory=Counter)
    """The nodules of the classified frames by their label, each counted in every frame that shows
    it; `no label` where the model abstained. A frame may show several."""
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    seconds: float = 0.0
    tallies: list[Tally] = field(default_factory=list)
    """The counts of each sink that sends results elsewhere, and of each that lost results. A sink
    that sends later goes on counting until it is closed."""

    def lines(self) -> list[str]:
        """The summary as lines for a person."""
        p50, p95, p99 = (self.latency.percentile(percent) for percent in (50, 95, 99))
        not_judged = ", ".join(f"{count} {cause}" for cause, count in self.not_judged.items())
        labels = ", ".join(f"{count} {label}" for label, count in self.labels.items())
        rate = self.classified / self.seconds if self.seconds else 0.0
        frames = (
            f"frames: {self.read} read, {self.classified} classified, "
            f"not judged: {not_judged or 'none'}"
        )
        sinks = [tally.delivery().line() for tally in self.tallies]
        if not self.classified:
            return [frames, *sinks]
        return [
            frames,
            f"nodules, each counted in every frame that shows it: {labels}",
            *sinks,
            f"latency, capture to result: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms; "
            f"{rate:.1f} frames/s",
        ]
