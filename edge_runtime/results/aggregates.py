"""Counts of what a model answered, without a picture, an identity or a source.

A block holds the counts of answers that may depend on one another: those of an hour on a device, or
those of one group of patients in a data set. Each measure of a block has a count for each category.
A measure with an order has numbered bins as categories.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from edge_runtime.results.result import Result
from edge_runtime.results.states import State

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Word = Annotated[str, Meta(min_length=1, max_length=128)]
MeasureCounts = Annotated[dict[Word, Count], Meta(max_length=256)]
"""The count of each category of one measure."""
Counts = Annotated[dict[Word, MeasureCounts], Meta(max_length=128)]
"""The counts of one block, by measure."""

PROBABILITY, SCORE, LATENCY = "probability of ", "out-of-scope score", "latency"
"""The measures with an order; the label follows `PROBABILITY`."""
LABELS, REASONS, STATES = "label", "reason", "state"
NO_LABEL = "no label"
MAX_CATEGORIES = 64
"""Categories of a measure without an order; further ones are counted as one."""
REST = "other"


@dataclass(frozen=True)
class Bins:
    """Bins of one width, or of one ratio; what lies outside is in the first or the last."""

    low: float
    high: float
    number: int
    logarithmic: bool = False

    def place(self, value: float) -> int:
        """The number of the bin of a value, from 0."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        clipped = min(max(value, self.low), self.high)
        share = (self._scaled(clipped) - low) / (high - low)
        return min(int(share * self.number), self.number - 1)

    def middle(self, place: int) -> float:
        """The value in the middle of a bin."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        scaled = low + (place + 0.5) / self.number * (high - low)
        return math.exp(scaled) if self.logarithmic else scaled

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


_PROBABILITIES = Bins(0, 1, 50)
_SCORES = Bins(0.1, 10, 80, logarithmic=True)  # each bin is 6 % wide
_SECONDS = Bins(0.001, 16, 56, logarithmic=True)  # each bin is 19 % wide


def bins_of(measure: str) -> Bins | None:
    """The bins of a measure; None for a measure without an order."""
    if measure.startswith(PROBABILITY):
        return _PROBABILITIES
    return {SCORE: _SCORES, LATENCY: _SECONDS}.get(measure)


def count_result(block: Counts, result: Result) -> None:
    """Adds a frame and its nodules to a block. A result without a frame is not counted.

    Nodules count in LIVE alone. No text of a device is kept: it may hold an address.
    """
    if result.frame is None:
        return
    live = result.state is State.LIVE
    state = f"{result.state}, {'a' if result.nodules else 'no'} nodule" if live else result.state
    _count(block, STATES, state)
    _count_value(block, LATENCY, result.latency_ms.total / 1000)
    for nodule in result.nodules if live else ():
        count_answer(
            block, nodule.probability, nodule.thresholds, nodule.out_of_scope_score, nodule.label
        )
        _count(block, REASONS, nodule.reason or LABELS)


def count_answer(
    block: Counts,
    probability: Mapping[str, float],
    labels: Collection[str],
    score: float | None,
    label: str | None,
) -> None:
    """Adds the answer to one picture to a block: the probabilities of some `labels`, the
    out-of-scope score, and the label, or that there is none.
    """
    for name in labels:
        _count_value(block, PROBABILITY + name, probability[name])
    if score is not None:
        _count_value(block, SCORE, score)
    _count(block, LABELS, label or NO_LABEL)


def _count_value(block: Counts, measure: str, value: float) -> None:
    bins = bins_of(measure)
    assert bins is not None
    counts = block.setdefault(measure, {})
    place = str(bins.place(value))
    counts[place] = counts.get(place, 0) + 1


def _count(block: Counts, measure: str, category: str) -> None:
    counts = block.setdefault(measure, {})
    name = category if category in counts or len(counts) < MAX_CATEGORIES else REST
    counts[name] = counts.get(name, 0) + 1


def total_counts(blocks: Sequence[Counts], measure: str) -> MeasureCounts:
    """The counts of a measure in all blocks, by category."""
    total: dict[str, int] = {}
    for block in blocks:
        for category, count in block.get(measure, {}).items():
            total[category] = total.get(category, 0) + count
    return total


def quantile(counts: MeasureCounts, measure: str, share: float) -> float:
    """The value that a share of the counts do not exceed, to within a bin; NaN without counts."""
    bins, total = bins_of(measure), sum(counts.values())
    assert bins is not None
    passed = 0
    for place in sorted(map(int, counts)):
        passed += counts[str(place)]
        if passed >= share * total > 0:
            return bins.middle(place)
    return math.nan


def require_bins(block: Counts) -> None:
    """Raises ValueError where a category of a measure with an order is the number of no bin."""
    for measure, counts in block.items():
        bins = bins_of(measure)
        places = None if bins is None else {str(place) for place in range(bins.number)}
        if places is not None and not places.issuperset(counts):
            raise ValueError(f"{measure}: a bin that there is not")


@dataclass(frozen=True, slots=True)
class DailyAggregates:
    """The counts of one day and one bundle on a device: the content of a file."""

    schema: Literal[1]
    bundle: Word
    """Name, version and digest."""
    day: Annotated[str, Meta(pattern=r"\A\d{4}-\d\d-\d\d\Z")]
    """Of UTC."""
    hours: Annotated[
        dict[Annotated[str, Meta(pattern=r"\A[0-2]\d\Z")], Counts], Meta(max_length=24)
    ]
    """The block of each hour of UTC."""

    def __post_init__(self) -> None:
        for block in self.hours.values():
            require_bins(block)
