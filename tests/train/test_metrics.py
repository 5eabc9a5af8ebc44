"""The figures, against hand-counted cases and definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.metrics import Confusion, as_labels, choose_threshold, fit_temperature, measure

LABELS = np.array([1, 1, 1, 0, 0, 0, 0, 0])
SCORES = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1, 0.1, 0.0])


def test_figures_counted_by_hand() -> None:
    metrics = measure(LABELS, SCORES, 0.5)
    assert metrics.confusion == Confusion(2, 1, 4, 1)
    assert metrics.accuracy == pytest.approx(6 / 8)
    assert metrics.majority == pytest.approx(5 / 8)
    assert metrics.sensitivity == pytest.approx(2 / 3)
    assert metrics.specificity == pytest.approx(4 / 5)
    assert metrics.f1 == pytest.approx(2 / 3)
    assert metrics.auroc == pytest.approx(14 / 15)  # pairs in the right order


def test_one_class_alone_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="one class"):
        measure(np.zeros(3, np.int64), SCORES[:3], 0.5)


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        measure(LABELS, np.full(8, np.nan), 0.5)


@given(
    scores=st.lists(st.floats(0, 1), min_size=2, max_size=60),
    target=st.floats(0.01, 0.99),
    data=st.data(),
)
def test_the_threshold_reaches_the_sensitivity_and_no_higher_one_does(
    scores: list[float], target: float, data: st.DataObject
) -> None:
    labels = np.array(
        data.draw(st.lists(st.integers(0, 1), min_size=len(scores), max_size=len(scores)))
    )
    labels[0], labels[1] = 0, 1
    values = np.array(scores)
    threshold = choose_threshold(labels, values, target)
    positives = values[labels == 1]
    assert np.mean(positives >= threshold) >= target - 1e-9
    higher = positives[positives > threshold]
    if higher.size:
        assert np.mean(positives > higher.min()) < target or np.isclose(threshold, higher.min())


def test_the_threshold_lies_between_two_scores() -> None:
    assert choose_threshold(LABELS, SCORES, 0.6) == pytest.approx(0.75)


def test_overconfidence_is_cooled() -> None:
    """Answers of 0.98 that are right in four of five cases want a temperature above 1."""
    right = np.array([1, 1, 1, 1, 0] * 40)
    probability = np.tile([0.02, 0.98], (200, 1))
    temperature = fit_temperature(right, probability)
    assert 1 / (1 + (0.02 / 0.98) ** (1 / temperature)) == pytest.approx(0.8, abs=0.005)


def test_calibrated_answers_stay_as_they_are() -> None:
    right = np.array([1, 1, 1, 1, 0] * 40)
    assert fit_temperature(right, np.tile([0.2, 0.8], (200, 1))) == pytest.approx(1, abs=0.01)


def test_labels_become_ones_and_zeros() -> None:
    assert as_labels(["a", "b", "a"], "b").tolist() == [0, 1, 0]
