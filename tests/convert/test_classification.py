"""A classifier's variants against float: what is counted, and what is refused."""

from collections.abc import Sequence

import numpy as np
import pytest

from convert.classification import classification
from convert.gate import compare
from edge_runtime.bundle.gate import Comparison
from edge_runtime.bundle.manifest import Limits
from train.decision_rule import DecisionRule

LIMITS = Limits(auroc_drop=0.01, sensitivity_drop=0.01, label_agreement=0.98)
LABELS = np.array([1] * 50 + [0] * 50)
GROUPS = [f"patient{number // 4}" for number in range(100)]
FLOAT = np.linspace(1, 0, 100, dtype=np.float32)


def answers(scores: np.ndarray) -> np.ndarray:
    return np.stack([1 - scores, scores], axis=1).astype(np.float32)


def against(
    scores: np.ndarray,
    reference: np.ndarray = FLOAT,
    threshold: float = 0.5,
    groups: Sequence[str] = GROUPS,
) -> Comparison:
    both = {"int8": answers(scores), "float32": answers(reference)}
    rule = DecisionRule(("benign", "malignant"), {"malignant": threshold})
    first, second = compare(classification(LABELS, groups, rule, LIMITS), both)  # type: ignore[arg-type]
    assert (first.variant, second.variant) == ("float32", "int8")
    return second


def test_the_same_answers_hold() -> None:
    assert against(FLOAT).failures == ()


def test_differences_are_counted() -> None:
    moved = FLOAT.copy()
    moved[3] -= 0.25
    figures = {name: its.value for name, its in against(moved).figures.items()}
    assert (figures["images"], figures["groups"]) == (100, 25)
    assert figures["largest_difference"] == pytest.approx(0.25)
    assert figures["mean_difference"] == pytest.approx(0.0025)
    assert figures["label_agreement"] == 1
    assert figures["percentile_99_difference"] == pytest.approx(0.0025)  # between two of 100
    assert figures["mcnemar"] == 1
    assert figures["auroc_difference"] == pytest.approx(0)


def test_decisions_lost_on_one_side_alone_are_unlikely_by_chance() -> None:
    """Six of six changed decisions became wrong: 2 / 2**6."""
    moved = FLOAT.copy()
    moved[44:50] = 0.4
    assert against(moved).figures["mcnemar"].value == pytest.approx(2 / 2**6)


def test_an_area_that_may_be_lower_fails_though_it_is_not_on_average() -> None:
    """One patient's pictures lose all, another's gain: the mean moves little, the interval far."""
    start = FLOAT * 0.2 + 0.4
    moved = start.copy()
    moved[:4], moved[46:54] = 0.41, start[46:54]
    int8 = against(moved, start, 0.45)
    difference = int8.figures["auroc_difference"]
    assert difference.interval is not None
    assert difference.interval[0] < difference.value < 0
    assert any("may be lower by" in failure for failure in int8.failures or ())


def test_lost_positives_fail_on_sensitivity() -> None:
    moved = FLOAT.copy()
    moved[49] = 0.4
    failure = "sensitivity lower by 0.0200 > 0.01 (1 of 50 pictures, 0 may)"
    assert failure in (against(moved).failures or ())


@pytest.mark.parametrize(("lost", "held"), [(1, True), (2, False)])
def test_as_many_positives_may_be_lost_as_the_limit_says(lost: int, held: bool) -> None:
    """1 - .99 is more than .01 in floats: the pictures are counted."""
    labels = np.repeat([1, 0], 100)
    reference = np.linspace(1, 0, 200, dtype=np.float32)
    moved = reference.copy()
    moved[100 - lost : 100] = 0.495
    rule = DecisionRule(("benign", "malignant"), {"malignant": 0.5})
    groups = [f"patient{number // 4}" for number in range(200)]
    measure = classification(labels, groups, rule, LIMITS)
    failures = measure(answers(reference), answers(moved))[1]
    assert any(failure.startswith("sensitivity") for failure in failures) != held


def test_another_order_fails_on_auroc() -> None:
    moved = FLOAT.copy()
    moved[50:70] = 0.499
    moved[:50] = 0.5 + (moved[:50] - 0.5) / 1000
    moved[50:55] = 0.9
    failures = against(moved).failures or ()
    assert any(failure.startswith("AUROC") for failure in failures)
    assert any(failure.startswith("label agreement") for failure in failures)


def test_a_float_model_that_answers_nonsense_cannot_be_a_measure() -> None:
    with pytest.raises(ValueError, match="not a number"):
        against(FLOAT, FLOAT * np.nan)


def test_one_group_alone_cannot_be_judged() -> None:
    failures = against(FLOAT, groups=["one"] * 100).failures or ()
    assert any(its.startswith("one group alone") for its in failures)
