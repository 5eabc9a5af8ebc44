"""From probabilities to a label, or to none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.bundle import Bundle
from edge_runtime.decide import Smoother, decide


def test_the_mean_does_not_depend_on_the_frame_rate() -> None:
    means = []
    for rate in (10, 100):
        smoother = Smoother(0.5)
        smoother.add(0.0, 0.0)
        means.append([smoother.add(1.0, n / rate) for n in range(1, rate + 1)][-1])
    assert means[0] == pytest.approx(means[1])
    assert means[0] == pytest.approx(1 - math.exp(-2))


def test_stills_stand_alone() -> None:
    smoother = Smoother(0.5)
    smoother.add(0.0, None)
    assert smoother.add(1.0, None) == 1.0


def test_no_smoothing_passes_values_through() -> None:
    smoother = Smoother(0.0)
    assert [smoother.add(value, at) for at, value in enumerate((0.1, 0.9))] == [0.1, 0.9]


def test_what_was_forgotten_no_longer_counts() -> None:
    smoother = Smoother(0.5)
    smoother.add(0.0, 0.0)
    smoother.forget()
    assert smoother.add(1.0, 0.01) == 1.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1))
def test_a_mean_stays_within_what_was_seen(seen: list[tuple[float, float]]) -> None:
    smoother = Smoother(0.5)
    values = [value for value, _ in seen]
    for value, at in seen:
        assert min(values) - 1e-9 <= smoother.add(value, at) <= max(values) + 1e-9


@given(st.floats(0, 1))
def test_there_is_a_label_or_a_reason_never_both(demo_bundle: Bundle, value: float) -> None:
    label, reason = decide(value, demo_bundle.manifest.stages[0])
    assert (label is None) != (reason is None)


def test_the_threshold_and_its_margin_decide(demo_bundle: Bundle) -> None:
    stage = demo_bundle.manifest.stages[0]
    threshold, margin = stage.operating_point.threshold, stage.decision.margin
    assert decide(threshold + margin + 1e-6, stage) == ("malignant", None)
    assert decide(threshold - margin - 1e-6, stage) == ("benign", None)
    assert decide(threshold, stage) == (None, "too close to the threshold")
