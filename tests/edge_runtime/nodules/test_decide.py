"""From probabilities to a label, or to none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.manifest import ClassifierStage, OperatingPoint
from edge_runtime.nodules.decide import BELOW_THRESHOLD, TOO_CLOSE, decide

BREAST = {"benign": 0.4, "malignant": 0.3, "normal": 0.5}


@pytest.fixture
def three(demo_bundle: Bundle) -> ClassifierStage:
    """A stage of three labels."""
    return replace(
        demo_bundle.manifest.classifier,
        labels=tuple(BREAST),
        aliases={},
        prevalence=dict.fromkeys(BREAST, 1 / 3),
        operating_point=OperatingPoint(BREAST, 0.9, "validation"),
    )


def probabilities(malignant: float) -> dict[str, float]:
    return {"benign": 1 - malignant, "malignant": malignant}


@given(st.floats(0, 1))
def test_there_is_a_label_or_a_reason_never_both(demo_bundle: Bundle, value: float) -> None:
    label, reason = decide(probabilities(value), demo_bundle.manifest.classifier)
    assert (label is None) != (reason is None)


def test_the_threshold_and_its_margin_decide(demo_bundle: Bundle) -> None:
    stage = demo_bundle.manifest.classifier
    threshold = stage.operating_point.thresholds["malignant"]
    margin = stage.decision.margin
    assert decide(probabilities(threshold + margin + 1e-6), stage) == ("malignant", None)
    assert decide(probabilities(threshold - margin - 1e-6), stage) == ("benign", None)
    assert decide(probabilities(threshold), stage) == (None, TOO_CLOSE)


@pytest.mark.parametrize(
    ("benign", "malignant", "normal", "decision"),
    [
        (0.6, 0.3, 0.1, ("benign", None)),
        (0.39, 0.36, 0.25, ("malignant", None)),
        (0.38, 0.2, 0.42, (None, BELOW_THRESHOLD)),
        (0.1, 0.4, 0.505, (None, TOO_CLOSE)),
    ],
)
def test_of_three_labels_the_most_probable_above_its_threshold_is_given(
    three: ClassifierStage,
    benign: float,
    malignant: float,
    normal: float,
    decision: tuple[str | None, str | None],
) -> None:
    smoothed = {"benign": benign, "malignant": malignant, "normal": normal}
    assert decide(smoothed, three) == decision


@given(st.tuples(*[st.floats(0, 1)] * 3))
def test_a_label_of_three_has_reached_its_threshold(
    demo_bundle: Bundle, values: tuple[float, float, float]
) -> None:
    stage = replace(
        demo_bundle.manifest.classifier,
        labels=tuple(BREAST),
        aliases={},
        prevalence=dict.fromkeys(BREAST, 1 / 3),
        operating_point=OperatingPoint(BREAST, 0.9, "validation"),
    )
    smoothed = dict(zip(BREAST, values, strict=True))
    label, reason = decide(smoothed, stage)
    assert (label is None) != (reason is None)
    if label is not None:
        assert smoothed[label] >= BREAST[label]
