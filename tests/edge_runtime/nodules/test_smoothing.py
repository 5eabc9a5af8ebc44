"""Smoothing over time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.nodules.smoothing import Smoother


def test_the_mean_does_not_depend_on_the_frame_rate() -> None:
    means = []
    for rate in (10, 100):
        smoother = Smoother(0.5)
        smoother.add([0.0], 0.0)
        means.append([smoother.add([1.0], n / rate)[0] for n in range(1, rate + 1)][-1])
    assert means[0] == pytest.approx(means[1])
    assert means[0] == pytest.approx(1 - math.exp(-2))


def test_stills_stand_alone() -> None:
    smoother = Smoother(0.5)
    smoother.add([0.0], None)
    assert smoother.add([1.0], None) == (1.0,)


def test_no_smoothing_passes_values_through() -> None:
    smoother = Smoother(0.0)
    assert [smoother.add([value], at) for at, value in enumerate((0.1, 0.9))] == [(0.1,), (0.9,)]


def test_what_was_forgotten_no_longer_counts() -> None:
    smoother = Smoother(0.5)
    smoother.add([0.0], 0.0)
    smoother.forget()
    assert smoother.add([1.0], 0.01) == (1.0,)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1))
def test_a_mean_stays_within_what_was_seen(seen: list[tuple[float, float]]) -> None:
    smoother = Smoother(0.5)
    values = [value for value, _ in seen]
    for value, at in seen:
        assert min(values) - 1e-9 <= smoother.add([value], at)[0] <= max(values) + 1e-9


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=5))
def test_each_label_is_smoothed_by_itself(seen: list[list[float]]) -> None:
    together, alone = Smoother(0.5), [Smoother(0.5) for _ in range(3)]
    for at, values in enumerate(seen):
        means = [each.add([value], at)[0] for each, value in zip(alone, values, strict=True)]
        assert together.add(values, at) == tuple(means)
