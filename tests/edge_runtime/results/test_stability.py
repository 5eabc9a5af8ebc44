"""The population stability index, the interval of it, and what is said of a change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.results.aggregates import LATENCY, SCORE, Counts
from edge_runtime.results.stability import (
    LARGE_CHANGE,
    LITTLE_CHANGE,
    MIN_BLOCKS,
    Shift,
    Stability,
    compare_blocks,
    stability_index,
)

MEASURE = "probability of malignant"
PLACES = st.integers(0, 49).map(str)
BLOCK = st.dictionaries(PLACES, st.integers(1, 10_000), min_size=1, max_size=8)
BLOCKS = st.lists(BLOCK.map(lambda counts: {MEASURE: counts}), min_size=1, max_size=30)


def shift(reference: list[Counts], now: list[Counts], measure: str = MEASURE) -> Shift:
    (answer,) = [each for each in compare_blocks(reference, now) if each.measure == measure]
    return answer


def test_the_index_is_that_of_the_textbook() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
    expected = 0.1 * np.log(1.5) + -0.1 * np.log(0.8)
    assert stability_index(p, q) == pytest.approx(expected)


@settings(max_examples=40)
@given(BLOCKS)
def test_the_same_counts_have_not_changed(blocks: list[Counts]) -> None:
    same = shift(blocks, blocks)
    assert same.index == pytest.approx(0, abs=1e-9)
    assert same.verdict is not Stability.CHANGE


@settings(max_examples=40)
@given(BLOCKS, BLOCKS)
def test_the_interval_holds_the_index_and_decides(
    reference: list[Counts], now: list[Counts]
) -> None:
    answer = shift(reference, now)
    assert answer.index is not None
    assert 0 <= answer.index < np.inf
    if min(len(reference), len(now)) < MIN_BLOCKS:
        assert answer.interval is None
        assert answer.verdict is Stability.TOO_FEW
    else:
        assert answer.interval is not None
        low, high = answer.interval
        assert 0 <= low <= answer.index <= high < np.inf
        expected = Stability.CHANGE if low >= LITTLE_CHANGE else Stability.TOO_FEW
        expected = Stability.NO_CHANGE if low < LITTLE_CHANGE and high < LARGE_CHANGE else expected
        assert answer.verdict is expected


@settings(max_examples=40)
@given(BLOCKS, BLOCKS, st.integers(2, 1000))
def test_longer_hours_of_the_same_shares_say_the_same(
    reference: list[Counts], now: list[Counts], factor: int
) -> None:
    """Frames of an hour depend on one another: more of them are no better evidence."""
    longer: list[Counts] = [
        {MEASURE: {place: factor * count for place, count in block[MEASURE].items()}}
        for block in now
    ]
    one, other = shift(reference, now), shift(reference, longer)
    assert other.verdict is one.verdict
    assert other.index == pytest.approx(one.index)


@settings(max_examples=40)
@given(BLOCKS, BLOCKS)
def test_the_same_counts_get_the_same_answer(reference: list[Counts], now: list[Counts]) -> None:
    assert compare_blocks(reference, now) == compare_blocks(reference, now)


def blocks_of(places: list[int], count: int = MIN_BLOCKS, measure: str = MEASURE) -> list[Counts]:
    return [{measure: {str(place): 5 for place in places}} for _ in range(count)]


def test_what_moves_beyond_a_single_bin_of_the_reference_is_a_change() -> None:
    assert shift(blocks_of([20]), blocks_of([21])).verdict is Stability.CHANGE
    assert shift(blocks_of([20]), blocks_of([19])).verdict is Stability.CHANGE
    assert (
        shift(blocks_of([5], measure=SCORE), blocks_of([30], measure=SCORE), SCORE).verdict
        is Stability.CHANGE
    )


def test_few_blocks_say_nothing_however_many_frames_they_hold() -> None:
    many: list[Counts] = [{MEASURE: {"1": 10**9}}] * (MIN_BLOCKS - 1)
    assert shift(many, blocks_of([40], 100)).verdict is Stability.TOO_FEW
    assert shift(blocks_of([40], 100), many).verdict is Stability.TOO_FEW


def test_a_label_that_was_never_given_is_a_change() -> None:
    reference: list[Counts] = [{"label": {"benign": 9}}] * 20
    now: list[Counts] = [{"label": {"benign": 5, "malignant": 4}}] * 20
    assert shift(reference, now, "label").verdict is Stability.CHANGE


def test_a_measure_on_one_side_alone_is_not_compared() -> None:
    only: list[Counts] = [{"state": {"LIVE, a nodule": 1}}] * 20
    assert shift(blocks_of([1]), only, "state").verdict is Stability.NO_REFERENCE
    assert shift(only, blocks_of([1]), "state").verdict is Stability.TOO_FEW


def test_a_busy_device_is_no_drift() -> None:
    slow = shift(blocks_of([5], measure=LATENCY), blocks_of([50], measure=LATENCY), LATENCY)
    assert (slow.index, slow.verdict) == (None, Stability.NOT_COMPARED)


def hours(rng: np.random.Generator, number: int, shifted: float) -> list[Counts]:
    """Hours of one to three patients, whose frames lie near together, in log-odds."""
    blocks: list[Counts] = []
    for _ in range(number):
        counts = np.zeros(50, int)
        for _ in range(rng.integers(1, 4)):
            odds = rng.normal(shifted, 1.5) + rng.normal(0, 0.7, rng.integers(30, 300))
            places = np.minimum(50 / (1 + np.exp(-odds)), 49).astype(int)
            counts += np.bincount(places, minlength=50)
        blocks.append({MEASURE: {str(n): int(c) for n, c in enumerate(counts) if c}})
    return blocks


SIZES = pytest.mark.parametrize(("reference", "now"), [(13, 10), (13, 40), (60, 40)])
"""Groups of a reference, and hours of a device."""


SHIFT = 1.4
"""In log-odds, of the probability of every patient."""


def shares(blocks: list[Counts]) -> NDArray[np.float64]:
    """The share of each bin."""
    counts = np.zeros(50)
    for block in blocks:
        for place, count in block[MEASURE].items():
            counts[int(place)] += count
    counts /= counts.sum()
    return counts


@pytest.mark.slow
@SIZES
def test_how_often_chance_and_a_shift_are_called_a_change(reference: int, now: int) -> None:
    """Prints the figures of docs/results.md."""
    rng = np.random.default_rng(reference * now)
    before, after = hours(rng, 20_000, 0), hours(rng, 20_000, SHIFT)
    index = stability_index(*(shares(blocks) for blocks in (before, after)))
    called = {
        shifted: [
            shift(hours(rng, reference, 0), hours(rng, now, shifted)).verdict for _ in range(200)
        ].count(Stability.CHANGE)
        / 200
        for shifted in (0.0, SHIFT)
    }
    print(
        f"\n{reference} groups, {now} hours: called a change without one {called[0.0]:.1%},"
        f" with an index of {index:.2f} {called[SHIFT]:.0%}"
    )
    assert called[0.0] <= 0.05


@SIZES
def test_chance_is_seldom_called_a_change_and_a_large_change_mostly_is(
    reference: int, now: int
) -> None:
    rng = np.random.default_rng(reference * now)
    verdicts = {
        shifted: [
            shift(hours(rng, reference, 0), hours(rng, now, shifted)).verdict for _ in range(40)
        ]
        for shifted in (0.0, 2.0)
    }
    assert verdicts[0.0].count(Stability.CHANGE) <= 2
    assert verdicts[0.0].count(Stability.NO_CHANGE) >= 10
    assert verdicts[2.0].count(Stability.CHANGE) >= 30
    assert verdicts[2.0].count(Stability.NO_CHANGE) <= 1
