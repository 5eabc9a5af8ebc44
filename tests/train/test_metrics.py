"""The figures, against hand-counted cases, definitions and scikit-learn."""

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from devices import BadInput
from devices.schema_io import read_json
from train import metrics
from train.decision_rule import DecisionRule
from train.metrics import (
    Confusion,
    Floats,
    Labels,
    Metrics,
    PartialMetrics,
    Scores,
    as_labels,
    calibration_error,
    chance_calibration_error,
    curves,
    measure,
    paired_difference,
    reliability,
    resamples,
    roc_band,
)

LABELS = np.array([1, 1, 1, 0, 0, 0, 0, 0])
SCORES = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1, 0.1, 0.0])
GROUPS = list("aabbccdd")
RULE = DecisionRule(("no", "yes"), {"yes": 0.5})

Answered = tuple[Labels, Scores, list[str]]


def answered(groups: int, each: int, spread: float = 0.0, seed: int = 0) -> Answered:
    """Answers of which each group leans its own way by a normal deviate of `spread`."""
    draw = np.random.default_rng(seed)
    labels = (draw.random(groups * each) < 0.6).astype(np.int64)
    lean = np.repeat(draw.normal(0, spread, groups), each)
    log_odds = draw.normal(size=groups * each) + 2 * labels - 1 + lean
    names = [f"g{number // each}" for number in range(groups * each)]
    return labels, 1 / (1 + np.exp(-log_odds)), names


@st.composite
def weighted(draw: st.DrawFn) -> tuple[Labels, Scores, Floats]:
    """Both classes, scores with ties, and weights that leave both classes some."""
    count = draw(st.integers(2, 40))
    few = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1)
    scores = draw(st.lists(few, min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    weights = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    labels[:2], weights[:2] = [0, 1], [1, 1]
    return np.array(labels), np.array(scores), np.array(weights, np.float64)


def test_figures_counted_by_hand() -> None:
    its = measure(LABELS, SCORES, 0.5, GROUPS)
    assert its.samples == 8
    assert its.groups == 4
    assert its.confusion == Confusion(2, 1, 4, 1)
    assert its.accuracy == pytest.approx(6 / 8)
    assert its.majority == pytest.approx(5 / 8)
    assert its.sensitivity == pytest.approx(2 / 3)
    assert its.specificity == pytest.approx(4 / 5)
    assert its.ppv == pytest.approx(2 / 3)
    assert its.npv == pytest.approx(4 / 5)
    assert its.f1 == pytest.approx(2 / 3)
    assert its.auroc == pytest.approx(14 / 15)  # pairs in the right order
    assert its.auprc == pytest.approx((1 + 1 + 3 / 4) / 3)  # precision at each positive
    assert its.ece == pytest.approx((0.1 + 0.2 + 0.7 + 0.7 + 0.2 + 0.2) / 8)  # ties in one bin


def test_one_class_alone_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="one class"):
        measure(np.zeros(3, np.int64), SCORES[:3], 0.5, GROUPS[:3])


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        measure(LABELS, np.full(8, np.nan), 0.5, GROUPS)


@given(weighted())
def test_weighted_areas_are_scikit_learns(case: tuple[Labels, Scores, Floats]) -> None:
    labels, scores, weights = case
    ranked = metrics.Ranked.of(labels, scores)
    assert ranked.auroc(weights[np.newaxis])[0] == pytest.approx(
        roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12
    )
    assert ranked.auprc(weights[np.newaxis])[0] == pytest.approx(
        average_precision_score(labels, scores, sample_weight=weights), abs=1e-12
    )


@given(weighted())
def test_a_weight_is_a_repetition(case: tuple[Labels, Scores, Floats]) -> None:
    labels, scores, weights = case
    times = weights.astype(np.int64)
    apart = metrics.Ranked.of(labels, scores).calibration_error(weights[np.newaxis])
    repeated = calibration_error(np.repeat(labels, times), np.repeat(scores, times))
    assert apart[0] == pytest.approx(repeated, abs=1e-12)


@settings(max_examples=25)
@given(weighted(), st.integers(0, 1000))
def test_no_figure_depends_on_the_order_of_the_samples(
    case: tuple[Labels, Scores, Floats], seed: int
) -> None:
    labels, scores, _ = case
    turned = np.random.default_rng(seed).permutation(len(labels))
    groups = ["abc"[number % 3] for number in range(len(labels))]
    one = asdict(measure(labels, scores, 0.5, groups))
    other = asdict(measure(labels[turned], scores[turned], 0.5, [groups[i] for i in turned]))
    for name in ("auroc", "auprc", "ece", "f1"):
        assert one[name] == pytest.approx(other[name])
        assert one["intervals"].get(name) == pytest.approx(other["intervals"].get(name))


def test_without_a_positive_decision_there_is_no_ppv() -> None:
    its = measure(LABELS, SCORES, 0.95, GROUPS)
    assert its.ppv is None
    assert "ppv" not in its.intervals
    assert its.npv == pytest.approx(5 / 8)


def test_metrics_survive_json() -> None:
    its = measure(LABELS, SCORES, 0.95, GROUPS)
    text = json.dumps(asdict(its), allow_nan=False)
    assert read_json(text, Metrics, "a") == its


def test_metrics_without_an_area_are_only_partial() -> None:
    none = replace(measure(LABELS, SCORES, 0.5, GROUPS), auroc=None)  # type: ignore[arg-type]
    text = json.dumps(asdict(none))
    assert read_json(text, PartialMetrics, "a").auroc is None
    with pytest.raises(BadInput, match="auroc"):
        read_json(text, Metrics, "a")


def test_every_figure_lies_in_its_interval() -> None:
    its = measure(*answered(20, 20)[:2], 0.5, answered(20, 20)[2])
    assert len(its.intervals) == 9
    for name, (low, high) in its.intervals.items():
        assert 0 <= low <= getattr(its, name) <= high <= 1
        assert low < high


def test_the_same_answers_give_the_same_intervals() -> None:
    labels, scores, groups = answered(12, 10)
    assert measure(labels, scores, 0.5, groups) == measure(labels, scores, 0.5, groups)


def test_whole_groups_are_resampled() -> None:
    """As many as there are, and all samples of one equally often."""
    groups = list("aaabbcccc")
    drawn = np.concatenate(list(resamples(groups)))
    assert len(drawn) == 1000
    for weights in drawn:
        a, b, c = weights[0], weights[3], weights[5]
        assert weights.tolist() == [a] * 3 + [b] * 2 + [c] * 4
        assert a + b + c == 3
    assert np.mean([weights[0] for weights in drawn]) == pytest.approx(1, abs=0.1)


def test_samples_that_are_alike_within_groups_widen_the_interval() -> None:
    labels, scores, groups = answered(20, 40, spread=2.0)
    low, high = measure(labels, scores, 0.5, groups).intervals["auroc"]
    alone = measure(labels, scores, 0.5, [str(number) for number in range(len(labels))])
    narrow, wide = alone.intervals["auroc"]
    assert high - low > 1.5 * (wide - narrow)


def test_the_interval_of_the_area_covers_the_truth_as_often_as_it_says() -> None:
    """The score of a positive exceeds that of a negative by N(2, 2): the area is Phi(sqrt 2)."""
    truth, found = 0.9214, 0
    for seed in range(40):
        labels, scores, groups = answered(40, 5, seed=seed)
        low, high = measure(labels, scores, 0.5, groups).intervals["auroc"]
        found += low <= truth <= high
    assert found >= 34  # of 40, at .95: fewer has a chance below 1 %


def test_one_group_has_no_interval() -> None:
    assert measure(LABELS, SCORES, 0.5, ["a"] * 8).intervals == {}
    assert paired_difference(LABELS, SCORES, SCORES, ["a"] * 8) == (0.0, None)
    assert roc_band(LABELS, SCORES, ["a"] * 8, np.array([0.5])) is None


def test_resamples_of_one_class_say_nothing_of_the_area() -> None:
    """Two patients, one of each class: a resample has both or the area does not exist."""
    its = measure(LABELS, SCORES, 0.5, ["p"] * 3 + ["n"] * 5)
    assert its.intervals["auroc"] == pytest.approx((14 / 15, 14 / 15))


def test_subgroups_are_measured_apart() -> None:
    names = ["small", "large", "small", "small", "large", "large", "large", "large"]
    small = np.array([name == "small" for name in names])
    subgroups = RULE.by_subgroup(LABELS, np.stack([1 - SCORES, SCORES], axis=1), GROUPS, names)
    assert list(subgroups) == ["large", "small"]
    alone = measure(LABELS[small], SCORES[small], 0.5, list("abb"))
    assert asdict(subgroups["small"]) == asdict(alone)


def test_a_subgroup_of_one_class_has_what_one_class_can_have() -> None:
    names = ["a"] * 3 + ["b"] * 5
    subgroups = RULE.by_subgroup(LABELS, np.stack([1 - SCORES, SCORES], axis=1), GROUPS, names)
    assert subgroups["a"].sensitivity == pytest.approx(2 / 3)
    assert subgroups["b"].specificity == pytest.approx(4 / 5)
    assert subgroups["a"].specificity is None
    assert subgroups["b"].sensitivity is None
    assert set(subgroups["a"].intervals) == {"accuracy", "sensitivity", "ece"}
    for its in subgroups.values():
        assert its.ppv is its.npv is its.f1 is its.auroc is its.auprc is None


def test_a_difference_is_paired() -> None:
    """Of two models that err alike the difference is known better than either area."""
    labels, scores, groups = answered(20, 20, spread=1.0)
    noise = np.random.default_rng(1).normal(0, 0.05, len(labels))
    difference, interval = paired_difference(labels, scores, scores + noise, groups)
    assert interval is not None
    assert difference == pytest.approx(
        roc_auc_score(labels, scores + noise) - roc_auc_score(labels, scores)
    )
    assert interval[0] <= difference <= interval[1]
    low, high = measure(labels, scores, 0.5, groups).intervals["auroc"]
    assert interval[1] - interval[0] < (high - low) / 2


def test_a_model_differs_from_itself_by_nothing() -> None:
    assert paired_difference(LABELS, SCORES, SCORES, GROUPS) == (0.0, (0.0, 0.0))


def test_reliability_by_hand() -> None:
    halves = reliability(LABELS, SCORES, bins=2)
    assert np.array(halves) == pytest.approx(np.array([(0.1, 0, 4), (0.675, 0.75, 4)]))


@given(weighted())
def test_reliability_counts_every_sample_once(case: tuple[Labels, Scores, Floats]) -> None:
    labels, scores, _ = case
    curve = reliability(labels, scores)
    assert sum(its.samples for its in curve) == len(labels)
    assert sum(its.observed * its.samples for its in curve) == pytest.approx(labels.sum())
    assert sum(its.predicted * its.samples for its in curve) == pytest.approx(scores.sum())
    assert all(lower.predicted <= upper.predicted for lower, upper in pairwise(curve))


def test_bins_hold_equally_many() -> None:
    labels, scores, _ = answered(30, 10)
    assert [its.samples for its in reliability(labels, scores)] == [20] * 15


def test_overconfidence_is_a_calibration_error() -> None:
    """Answers of 0.98 of which four in five are right."""
    right = np.array([1, 1, 1, 1, 0] * 40)
    assert calibration_error(right, np.full(200, 0.98)) == pytest.approx(0.18)
    assert calibration_error(right, np.full(200, 0.8)) == pytest.approx(0)


def test_chance_alone_makes_a_calibration_error_that_more_samples_lessen() -> None:
    draw = np.random.default_rng(0)
    scores = draw.random(4000)
    labels = (draw.random(4000) < scores).astype(np.int64)
    assert chance_calibration_error(scores) == pytest.approx(
        calibration_error(labels, scores), abs=0.01
    )
    assert chance_calibration_error(scores[:400]) > 2 * chance_calibration_error(scores)


def test_the_interval_of_a_calibration_error_reaches_down_to_the_truth() -> None:
    """Perfect calibration, of which chance makes an error of about .04 and percentiles more."""
    held = 0
    for seed in range(10):
        draw = np.random.default_rng(seed)
        scores = draw.random(600)
        labels = (draw.random(600) < scores).astype(np.int64)
        its = measure(labels, scores, 0.5, [str(number) for number in range(600)])
        held += its.intervals["ece"][0] < 0.01
    assert held >= 7


def test_curves_are_at_each_distinct_score() -> None:
    alarms, sensitivity, precision = curves(LABELS, SCORES)
    assert sensitivity == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1, 1, 1, 1])
    assert alarms == pytest.approx([0, 0, 1 / 5, 1 / 5, 2 / 5, 4 / 5, 1])
    assert precision == pytest.approx([1, 1, 2 / 3, 3 / 4, 3 / 5, 3 / 7, 3 / 8])


def test_the_band_holds_the_curve() -> None:
    labels, scores, groups = answered(20, 20)
    at = np.linspace(0, 1, 11)
    band = roc_band(labels, scores, groups, at)
    assert band is not None
    alarms, sensitivity, _ = curves(labels, scores)
    middle = np.interp(at, alarms, sensitivity)[1:]
    assert band.shape == (2, 11)
    assert (band[0, 1:] <= middle).all()
    assert (middle <= band[1, 1:]).all()


def test_labels_become_their_places() -> None:
    assert as_labels(["a", "c", "a", "b"], ("a", "b", "c")).tolist() == [0, 2, 0, 1]
