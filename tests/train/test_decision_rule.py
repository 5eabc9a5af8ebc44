"""Labels from probabilities, of two classes and of more, held against scikit-learn's figures."""

from dataclasses import asdict, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    recall_score,
    roc_auc_score,
)

from edge_runtime.bundle.archive import Bundle
from edge_runtime.nodules.decide import decide
from train.decision_rule import (
    NO_LABEL,
    DecisionRule,
    Probability,
    choose_threshold,
    choose_thresholds,
    fit_temperature,
    without_temperature,
)
from train.metrics import Labels, measure, metrics_of, paired_difference, shown_in

LABELS = np.array([1, 1, 1, 0, 0, 0, 0, 0])
SCORES = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1, 0.1, 0.0])
CLASSES = ("cyst", "solid", "normal")


def answered(samples: int = 120, classes: int = 3, seed: int = 0) -> tuple[Labels, Probability]:
    """Answers that lean to the truth."""
    draw = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    logits = draw.normal(size=(samples, classes)) + 1.5 * np.eye(classes)[labels]
    shares = np.exp(logits)
    return labels, shares / shares.sum(axis=1, keepdims=True)


def groups_of(samples: int) -> list[str]:
    return [f"p{number // 4}" for number in range(samples)]


RULE = DecisionRule(CLASSES, {"cyst": 0.5, "solid": 0.4, "normal": 0.45})


def test_the_figures_are_those_of_scikit_learn() -> None:
    labels, probability = answered()
    called = RULE.called(probability)
    figures = RULE.measure(labels, probability, groups_of(120))
    assert figures.auroc == pytest.approx(roc_auc_score(labels, probability, multi_class="ovr"))
    given_one = called != NO_LABEL
    assert 0 < given_one.mean() < 1
    assert figures.abstained == pytest.approx(1 - given_one.mean())
    assert figures.accuracy == pytest.approx(accuracy_score(labels[given_one], called[given_one]))
    # One that gets no label is as wrong as any: a class of its own that is never the truth.
    recalls = recall_score(labels, np.where(given_one, called, 3), labels=[0, 1, 2], average=None)
    assert figures.balanced_accuracy == pytest.approx(recalls.mean())
    for place, label in enumerate(CLASSES):
        of_class = figures.by_class[label]
        assert of_class.sensitivity == pytest.approx(recalls[place])
        assert of_class.auroc == pytest.approx(
            roc_auc_score(labels == place, probability[:, place])
        )
    expected = confusion_matrix(labels, np.where(given_one, called, 3))[:3]
    assert np.array_equal(figures.confusion_matrix, expected)
    assert figures.confusion is None


def test_without_an_abstention_the_mean_sensitivity_is_the_balanced_accuracy() -> None:
    labels, probability = answered(seed=3)
    rule = DecisionRule(CLASSES, dict.fromkeys(CLASSES, 0.0))
    figures = rule.measure(labels, probability, groups_of(120))
    assert figures.abstained == 0
    assert figures.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(labels, probability.argmax(axis=1))
    )


def test_the_intervals_hold_the_figures() -> None:
    labels, probability = answered()
    figures = RULE.measure(labels, probability, groups_of(120))
    for name in ("auroc", "balanced_accuracy", "abstained", "accuracy"):
        low, high = figures.intervals[name]
        assert low <= getattr(figures, name) <= high
    assert set(figures.by_class["solid"].intervals) >= {"auroc", "sensitivity", "specificity"}


def test_two_classes_are_measured_as_ever() -> None:
    rule = DecisionRule(("no", "yes"), {"yes": 0.5})
    groups = list("aabbccdd")
    both = np.stack([1 - SCORES, SCORES], axis=1)
    assert rule.measure(LABELS, both, groups) == measure(LABELS, SCORES, 0.5, groups)


def test_a_class_without_an_image_cannot_be_measured() -> None:
    labels, probability = answered()
    known = labels != 1
    with pytest.raises(ValueError, match="no image"):
        RULE.measure(labels[known], probability[known], groups_of(int(known.sum())))


def test_a_subgroup_without_a_class_has_what_it_can_have() -> None:
    labels, probability = answered()
    names = ["a" if label else "b" for label in labels]
    subgroups = RULE.by_subgroup(labels, probability, groups_of(120), names)
    assert subgroups["a"].auroc is None
    assert subgroups["a"].accuracy > 0.5
    assert subgroups["a"].samples + subgroups["b"].samples == 120


@given(
    st.lists(st.tuples(*[st.floats(0.01, 1)] * 3), min_size=1, max_size=20),
    st.tuples(*[st.floats(0.05, 0.95)] * 3),
)
def test_labels_are_those_that_a_device_gives(
    demo_bundle: Bundle, rows: list[tuple[float, ...]], thresholds: tuple[float, ...]
) -> None:
    probability = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    chosen = dict(zip(CLASSES, thresholds, strict=True))
    called = DecisionRule(CLASSES, chosen).called(probability)
    plain = demo_bundle.manifest.classifier
    stage = msgspec.structs.replace(
        plain,
        labels=CLASSES,
        aliases={},
        prevalence=dict.fromkeys(CLASSES, 1 / 3),
        operating_point=replace(plain.operating_point, thresholds=chosen),
        decision=replace(plain.decision, margin=0.0),
    )
    for row, place in zip(probability, called, strict=True):
        label, _ = decide(dict(zip(CLASSES, row, strict=True)), stage)
        assert (None if place == NO_LABEL else CLASSES[place]) == label


def test_each_class_has_a_threshold_that_finds_enough_of_it() -> None:
    labels, probability = answered(300, 5, seed=1)
    names = tuple("abcde")
    thresholds = choose_thresholds(names, labels, probability, 0.8)
    assert tuple(thresholds) == names
    for place, name in enumerate(names):
        mine = probability[labels == place, place]
        assert np.mean(mine >= thresholds[name]) >= 0.8
        assert np.mean(mine >= thresholds[name] + 0.1) < 0.9
    assert [*choose_thresholds(("no", "yes"), LABELS, np.stack([1 - SCORES, SCORES], 1), 0.6)] == [
        "yes"
    ]


def test_the_temperature_of_three_classes_is_found_and_taken_back() -> None:
    """Answers sharpened by a temperature of 0.4 want one of 2.5 times as much as before."""
    labels, probability = answered(600)
    before = fit_temperature(labels, probability)
    sharp = without_temperature(probability, 2.5)
    assert fit_temperature(labels, sharp) == pytest.approx(2.5 * before, rel=1e-3)
    assert without_temperature(sharp, 1 / 2.5) == pytest.approx(probability, abs=1e-6)


def test_the_difference_of_two_models_is_that_of_their_macro_areas() -> None:
    labels, first = answered(seed=1)
    second = answered(seed=2)[1]
    difference, interval = paired_difference(labels, first, second, groups_of(120))
    areas = [roc_auc_score(labels, its, multi_class="ovr") for its in (first, second)]
    assert difference == pytest.approx(areas[1] - areas[0])
    assert interval is not None
    assert interval[0] <= difference <= interval[1]


@pytest.mark.slow
def test_a_hundred_classes_are_measured() -> None:
    labels, probability = answered(400, 100)
    names = tuple(f"c{place}" for place in range(100))
    rule = DecisionRule(names, choose_thresholds(names, labels, probability, 0.9))
    figures = asdict(rule.measure(labels, probability, groups_of(400)))
    assert len(figures["by_class"]) == 100
    assert np.sum(figures["confusion_matrix"]) == 400


def test_tables_show_what_a_task_has() -> None:
    assert "balanced_accuracy" not in metrics_of(2)
    assert {"balanced_accuracy", "abstained"} <= {*metrics_of(3)}
    assert "specificity" not in metrics_of(3)
    assert shown_in("headline", 3)["auroc"].title == "macro AUROC"
    assert shown_in("headline", 2)["auroc"].title == "AUROC"


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
