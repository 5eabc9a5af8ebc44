"""Whether the answers of a model have changed: the population stability index with an interval.

The index of two distributions p and q over the same bins is the sum of (q - p) ln(q / p), the
symmetric divergence of Jeffreys. Below 0.1 it is read as little change, and from 0.25 on as a
change that calls for action: Siddiqi, "Credit Risk Scorecards", 2006, chapter 9. These levels are a
rule of thumb without error rates (Yurdakul and Naranjo, "Statistical properties of the population
stability index", Journal of Risk Model Validation 14(4), 2020). Therefore the interval decides, and
not the index alone.

Neighbouring frames show the same nodule, so that frames are not independent. Hours on a device, and
groups of a data set, are nearly so: blocks are drawn whole, with replacement, on both sides (block
bootstrap of Carlstein, Annals of Statistics 14(3), 1986). Chance only ever adds to an index, and
adds to each resample once more. So the interval is the basic one (Davison and Hinkley, "Bootstrap
Methods and their Application", 1997, section 5.2), which takes that off, on the scale of the square
root, on which an index is a distance and its spread hardly depends on its size. docs/results.md
has how often chance and a shift of simulated patients are called a change.

Both distributions get one more block that is their mean. An empty bin then costs little where there
are few blocks, and nothing is divided by 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from edge_runtime.results.aggregates import LATENCY, Counts, bins_of, total_counts

LITTLE_CHANGE, LARGE_CHANGE = 0.1, 0.25
MIN_BLOCKS = 10
"""With fewer blocks on a side nothing is said: a bootstrap of so few draws the same ones."""
MIN_SHARE = 0.1
"""Neighbouring bins with a smaller share of the reference are joined: ten bins are usual."""
RESAMPLES_OF_BLOCKS = 1000
_SEED = 0


class Stability(StrEnum):
    """What an index and its interval say."""

    CHANGE = "a change"
    """The whole interval lies at `LITTLE_CHANGE` or above."""
    NO_CHANGE = "no change"
    """The whole interval lies below `LARGE_CHANGE`."""
    TOO_FEW = "too few frames to say"
    NO_REFERENCE = "no reference"
    NOT_COMPARED = "not compared"
    """The latency, which moves with the load of the device, and not with the pictures."""


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a measure has moved from its reference."""

    measure: str
    reference_count: int
    reference_blocks: int
    count: int
    blocks: int
    index: float | None
    """None where a side has no counts, or where the measure is not compared."""
    interval: tuple[float, float] | None
    """95 %; None where a side has fewer than `MIN_BLOCKS` blocks."""
    verdict: Stability


def stability_index(p: NDArray[np.floating], q: NDArray[np.floating]) -> NDArray[np.floating]:
    """The population stability index of shares ``[..., bins]``; a bin that is 0 in both adds 0."""
    both = (p > 0) & (q > 0)
    ratio = np.divide(q, p, out=np.ones_like(q), where=both)
    return np.asarray(((q - p) * np.log(ratio)).sum(axis=-1))


def compare_blocks(reference: Sequence[Counts], now: Sequence[Counts]) -> list[Shift]:
    """How far each measure of `now` has moved from `reference`; the same for the same counts."""
    measures = dict.fromkeys(name for block in (*reference, *now) for name in block)
    return [_compare(measure, reference, now) for measure in measures]


def _compare(measure: str, reference: Sequence[Counts], now: Sequence[Counts]) -> Shift:
    bins = _joined_bins(measure, reference, now)
    before, after = (_table(measure, blocks, bins) for blocks in (reference, now))
    counts = int(before.sum()), len(before), int(after.sum()), len(after)
    if measure == LATENCY:
        return Shift(measure, *counts, None, None, Stability.NOT_COMPARED)
    if not len(before):
        return Shift(measure, *counts, None, None, Stability.NO_REFERENCE)
    if not len(after):
        return Shift(measure, *counts, None, None, Stability.TOO_FEW)
    index = float(_index(before.sum(axis=0), after.sum(axis=0), len(before), len(after)))
    if min(len(before), len(after)) < MIN_BLOCKS:
        return Shift(measure, *counts, index, None, Stability.TOO_FEW)
    rng = np.random.default_rng(_SEED)
    drawn = np.sqrt(_index(_drawn(before, rng), _drawn(after, rng), len(before), len(after)))
    low, high = np.percentile(drawn, (2.5, 97.5))
    middle = index**0.5
    # It holds the index, as a reader expects of an interval.
    interval = (
        min(index, max(0.0, 2 * middle - float(high)) ** 2),
        max(index, max(0.0, 2 * middle - float(low)) ** 2),
    )
    verdict = Stability.TOO_FEW
    if interval[0] >= LITTLE_CHANGE:
        verdict = Stability.CHANGE
    elif interval[1] < LARGE_CHANGE:
        verdict = Stability.NO_CHANGE
    return Shift(measure, *counts, index, interval, verdict)


def _drawn(table: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The counts ``[resamples, bins]`` of blocks ``[blocks, bins]`` drawn with replacement."""
    shares = np.full(len(table), 1 / len(table))
    return np.asarray(rng.multinomial(len(table), shares, RESAMPLES_OF_BLOCKS) @ table)


def _index(
    before: NDArray[np.floating], after: NDArray[np.floating], blocks_before: int, blocks: int
) -> NDArray[np.floating]:
    """The index of counts ``[..., bins]``, each side with one more block that is their mean."""
    p, q = (side / side.sum(axis=-1, keepdims=True) for side in (before, after))
    mean = (p + q) / 2
    return stability_index(
        (blocks_before * p + mean) / (blocks_before + 1), (blocks * q + mean) / (blocks + 1)
    )


def _joined_bins(
    measure: str, reference: Sequence[Counts], now: Sequence[Counts]
) -> list[list[str]]:
    """The categories that are counted together: of a measure with an order, neighbours.

    A bin that holds `MIN_SHARE` of the reference stands alone, so that what lies beyond it counts.
    """
    counts, bins = total_counts(reference, measure), bins_of(measure)
    if bins is None:
        return [[name] for name in counts | total_counts(now, measure)]
    least = MIN_SHARE * sum(counts.values())
    joined: list[list[str]] = []
    light: list[str] = []
    weight = 0
    for place in map(str, range(bins.number)):
        count = counts.get(place, 0)
        if count >= least > 0:
            joined += [light, [place]] if light else [[place]]
            light, weight = [], 0
            continue
        light.append(place)
        weight += count
        if weight >= least > 0:
            joined.append(light)
            light, weight = [], 0
    return [*joined, light] if light else joined


def _table(
    measure: str, blocks: Sequence[Counts], bins: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """The counts ``[blocks, bins]`` of the blocks that have any."""
    rows = [
        [sum(counts.get(name, 0) for name in names) for names in bins]
        for counts in (block.get(measure, {}) for block in blocks)
        if sum(counts.values())
    ]
    return np.array(rows, np.float64).reshape(len(rows), len(bins))
