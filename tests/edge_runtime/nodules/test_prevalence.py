"""Probabilities at another prevalence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from devices import BadInput
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.manifest import ClassifierStage, OperatingPoint
from edge_runtime.nodules.prevalence import at_prevalence, parse_prevalence

SHARES = st.floats(0.01, 0.99)


def shares(positive: float) -> dict[str, float]:
    return {"benign": 1 - positive, "malignant": positive}


@given(SHARES, SHARES, SHARES)
def test_the_log_odds_move_by_those_of_the_prevalences(p: float, old: float, new: float) -> None:
    def log_odds(positive: float) -> float:
        return math.log(positive / (1 - positive))

    adjusted = at_prevalence(shares(p), shares(old), shares(new))["malignant"]
    expected = log_odds(p) - log_odds(old) + log_odds(new)
    assert adjusted == pytest.approx(1 / (1 + math.exp(-expected)))


@given(SHARES, SHARES)
def test_the_same_prevalence_changes_nothing(p: float, old: float) -> None:
    assert at_prevalence(shares(p), shares(old), shares(old)) == pytest.approx(shares(p))


@given(SHARES, SHARES, SHARES)
def test_there_and_back_is_where_it_began(p: float, old: float, new: float) -> None:
    there = at_prevalence(shares(p), shares(old), shares(new))
    assert at_prevalence(there, shares(new), shares(old)) == pytest.approx(shares(p))


def test_one_number_is_the_share_of_the_positive_label(demo_bundle: Bundle) -> None:
    stage = demo_bundle.manifest.classifier
    assert parse_prevalence("0.1", stage, "--prevalence") == pytest.approx(shares(0.1))
    both = parse_prevalence("malignant=0.1,benign=0.9", stage, "--prevalence")
    assert both == shares(0.1)


@pytest.mark.parametrize(
    "text",
    ["", "0", "1", "-0.1", "nan", "many", "malignant=0.1", "x=1", "benign=0.5,malignant=0.9"],
)
def test_other_texts_are_refused(demo_bundle: Bundle, text: str) -> None:
    with pytest.raises(BadInput, match="--prevalence"):
        parse_prevalence(text, demo_bundle.manifest.classifier, "--prevalence")


def test_of_three_labels_each_share_is_needed(demo_bundle: Bundle) -> None:
    labels = {"benign": 0.4, "malignant": 0.3, "normal": 0.5}
    stage: ClassifierStage = replace(
        demo_bundle.manifest.classifier,
        labels=tuple(labels),
        aliases={},
        operating_point=OperatingPoint(labels, 0.9, "validation"),
        prevalence={"benign": 0.2, "malignant": 0.3, "normal": 0.5},
    )
    text = "benign=0.2,malignant=0.1,normal=0.7"
    assert parse_prevalence(text, stage, "--prevalence")["normal"] == 0.7
    with pytest.raises(BadInput, match=r"add up to 1, as in benign=0\.33"):
        parse_prevalence("benign=0.2,malignant=0.1", stage, "--prevalence")
