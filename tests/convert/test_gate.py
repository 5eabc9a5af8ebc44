"""Variants against float: what is counted, and what is refused."""

import numpy as np
import pytest

from convert.gate import compare
from edge_runtime.manifest import Limits, Variant

LIMITS = Limits(auroc_drop=0.01, sensitivity_drop=0.01, label_agreement=0.98)
LABELS = np.array([1] * 50 + [0] * 50)
GROUPS = [f"patient{number // 4}" for number in range(100)]
FLOAT = np.linspace(1, 0, 100, dtype=np.float32)


def answers(scores: np.ndarray) -> np.ndarray:
    return np.stack([1 - scores, scores], axis=1).astype(np.float32)


def against(scores: np.ndarray, variant: Variant = "int8") -> tuple[str, ...]:
    both = {variant: answers(scores), "float32": answers(FLOAT)}
    first, second = compare(0.5, LIMITS, LABELS, GROUPS, both)
    assert (first.variant, second.variant) == ("float32", variant)
    assert first.failures == ()
    return second.failures


def test_the_same_answers_hold() -> None:
    assert against(FLOAT) == ()


def test_differences_are_counted() -> None:
    moved = FLOAT.copy()
    moved[3] -= 0.25
    _, int8 = compare(
        0.5, LIMITS, LABELS, GROUPS, {"float32": answers(FLOAT), "int8": answers(moved)}
    )
    assert int8.largest_difference == pytest.approx(0.25)
    assert int8.mean_difference == pytest.approx(0.0025)
    assert int8.label_agreement == 1
    assert int8.percentile_99_difference == pytest.approx(0.0025)  # between two of 100
    assert int8.mcnemar == 1
    assert int8.auroc_difference == pytest.approx(0)


def test_decisions_lost_on_one_side_alone_are_unlikely_by_chance() -> None:
    """Six of six changed decisions became wrong: 2 / 2**6."""
    moved = FLOAT.copy()
    moved[44:50] = 0.4
    _, int8 = compare(
        0.5, LIMITS, LABELS, GROUPS, {"float32": answers(FLOAT), "int8": answers(moved)}
    )
    assert int8.mcnemar == pytest.approx(2 / 2**6)


def test_an_area_that_may_be_lower_fails_though_it_is_not_on_average() -> None:
    """One patient's pictures lose all, another's gain: the mean moves little, the interval far."""
    start = FLOAT * 0.2 + 0.4
    moved = start.copy()
    moved[:4], moved[46:54] = 0.41, start[46:54]
    _, int8 = compare(
        0.45, LIMITS, LABELS, GROUPS, {"float32": answers(start), "int8": answers(moved)}
    )
    assert int8.auroc_interval is not None
    assert int8.auroc_interval[0] < int8.auroc_difference < 0
    assert any(failure.startswith("AUROC may be lower by") for failure in int8.failures)


def test_lost_positives_fail_on_sensitivity() -> None:
    moved = FLOAT.copy()
    moved[49] = 0.4
    assert "sensitivity lower by 0.0200 > 0.01" in against(moved)


def test_another_order_fails_on_auroc() -> None:
    moved = FLOAT.copy()
    moved[50:70] = 0.499
    moved[:50] = 0.5 + (moved[:50] - 0.5) / 1000
    moved[50:55] = 0.9
    assert any(failure.startswith("AUROC") for failure in against(moved))
    assert any(failure.startswith("label agreement") for failure in against(moved))


def test_answers_that_are_not_numbers_fail() -> None:
    moved = FLOAT.copy()
    moved[7] = np.nan
    assert "answers that are not numbers" in against(moved)


def test_a_float_model_that_answers_nonsense_cannot_be_a_measure() -> None:
    with pytest.raises(ValueError, match="not a number"):
        compare(0.5, LIMITS, LABELS, GROUPS, {"float32": answers(FLOAT * np.nan)})


def test_one_group_alone_cannot_be_judged() -> None:
    both = {"int8": answers(FLOAT), "float32": answers(FLOAT)}
    _, int8 = compare(0.5, LIMITS, LABELS, ["one"] * 100, both)  # type: ignore[arg-type]
    assert any(its.startswith("one group alone") for its in int8.failures)
