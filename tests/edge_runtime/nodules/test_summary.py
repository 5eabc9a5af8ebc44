"""What a session saw of one nodule."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.nodules.pooling import PoolingPolicy, interval
from edge_runtime.nodules.summary import (
    MAX_BEST,
    BestFrame,
    NoduleSummary,
    session_policy,
    summarise,
)

POLICY = PoolingPolicy(
    memory_seconds=3.0,
    correlation_seconds=0.5,
    view_deviation=1.0,
    full_sharpness=0.2,
    min_seconds=0.5,
    hysteresis=0.05,
    hold_seconds=0.4,
)


def seen(weights: list[float], values: list[float] | None = None) -> NoduleSummary:
    """The summary of frames with these weights, ten a second."""
    summary = None
    for index, weight in enumerate(weights):
        malignant = 0.7 if values is None else values[index]
        probability = {"benign": 1 - malignant, "malignant": malignant}
        summary = summarise(summary, 4, BestFrame(weight, index / 10, index), probability, POLICY)
    assert summary is not None
    return summary


def test_frames_and_seconds_are_counted() -> None:
    summary = seen([0.5] * 21)
    assert (summary.number, summary.frames) == (4, 21)
    assert (summary.first_seen, summary.last_seen) == (0.0, 2.0)


def test_the_best_frames_have_the_largest_weights() -> None:
    summary = seen([0.1, 0.9, 0.8, 0.1, 0.1, 0.1, 0.1, 0.6])
    assert [frame.index for frame in summary.best] == [1, 7]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_best_frames_are_other_views(weights: list[float]) -> None:
    best = seen(weights).best
    assert 1 <= len(best) <= MAX_BEST
    assert max(weights) == best[0].weight
    moments = sorted(frame.at for frame in best)
    for before, after in pairwise(moments):
        assert after - before >= POLICY.correlation_seconds


def test_the_beginning_counts_as_much_as_the_end() -> None:
    summary = seen([1.0] * 201, [0.5] + [0.2] * 100 + [0.8] * 100)
    assert summary.pool.probability["malignant"] == pytest.approx(0.5, abs=0.02)
    low, high = interval(summary.pool, "malignant", session_policy(POLICY))
    assert low < 0.5 < high
