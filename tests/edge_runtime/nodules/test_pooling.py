"""One decision from all frames of a nodule."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_stage

from devices import BadInput
from devices.schema_io import read_json, write_json
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.manifest import ClassifierStage, Decision, OperatingPoint
from edge_runtime.nodules.decide import BELOW_THRESHOLD, OUT_OF_SCOPE, TOO_CLOSE
from edge_runtime.nodules.pooling import (
    LIMIT,
    NOT_ENOUGH,
    UNDECIDED,
    UNSETTLED,
    Pool,
    PoolingPolicy,
    Verdict,
    add,
    frame_weight,
    independent_views,
    interval,
    settle,
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
MARGIN = 0.05
THREE = {"benign": 0.4, "malignant": 0.3, "normal": 0.5}
FRAMES = st.lists(
    st.tuples(st.floats(-0.1, 1.0), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1.3)),
    max_size=60,
)
"""Seconds since the frame before, probability, weight and out-of-scope score, for each frame."""


@pytest.fixture(scope="module")
def stage(demo_bundle: Bundle) -> ClassifierStage:
    """Two labels, with a threshold of 0.5."""
    return replace_stage(
        demo_bundle.manifest.classifier,
        operating_point=OperatingPoint({"malignant": 0.5}, 0.9, "validation"),
        decision=Decision(smoothing_seconds=0.5, margin=MARGIN),
    )


@pytest.fixture(scope="module")
def three(stage: ClassifierStage) -> ClassifierStage:
    return replace_stage(
        stage,
        labels=tuple(THREE),
        aliases={},
        prevalence=dict.fromkeys(THREE, 1 / 3),
        operating_point=OperatingPoint(THREE, 0.9, "validation"),
    )


def shares(malignant: float) -> dict[str, float]:
    return {"benign": 1 - malignant, "malignant": malignant}


def pooled(values: list[float], rate: float = 20.0, weight: float = 1.0) -> Pool:
    """The pool of frames with these probabilities of `malignant`."""
    pool = None
    for index, value in enumerate(values):
        pool = add(pool, shares(value), index / rate, weight, POLICY)
    assert pool is not None
    return pool


def certain(probability: dict[str, float], at: float = 0.0) -> Pool:
    """A pool with much to say."""
    logarithms = {label: math.log(p) for label, p in probability.items()}
    none = dict.fromkeys(probability, 0.0)
    return Pool(logarithms, none, none, POLICY.memory_seconds, at)


def settle_all(
    frames: list[tuple[float, float, float, float]], stage: ClassifierStage
) -> list[tuple[float, Verdict]]:
    """The time and the verdict of each frame."""
    pool, verdict, at, verdicts = None, UNDECIDED, 0.0, []
    for passed, value, weight, scope in frames:
        at += passed
        pool = add(pool, shares(value), at, weight, POLICY)
        verdict = settle(verdict, pool, scope, stage, POLICY)
        verdicts.append((pool.at, verdict))
    return verdicts


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=8),
    st.integers(1, 6),
)
def test_the_frame_rate_does_not_matter(frames: list[tuple[float, float]], finer: int) -> None:
    slow = add(None, shares(0.5), 0.0, 1.0, POLICY)
    fast = slow
    for index, (value, weight) in enumerate(frames):
        slow = add(slow, shares(value), (index + 1) / 10, weight, POLICY)
        for part in range(1, finer + 1):
            at = (index + part / finer) / 10
            fast = add(fast, shares(value), at, weight, POLICY)
    assert fast.probability == pytest.approx(slow.probability)
    assert fast.seconds == pytest.approx(slow.seconds)
    assert fast.variance == pytest.approx(slow.variance, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_pool_stays_within_what_was_seen(values: list[float]) -> None:
    malignant = pooled(values).probability["malignant"]
    assert malignant >= min(1 - LIMIT, min(values)) - 1e-9
    assert malignant <= max(LIMIT, max(values)) + 1e-9


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=9))
def test_the_probabilities_of_three_labels_add_up_to_1(
    frames: list[tuple[float, float, float]],
) -> None:
    pool = None
    for at, values in enumerate(frames):
        pool = add(pool, dict(zip(THREE, values, strict=True)), at / 10, 1.0, POLICY)
    assert pool is not None
    assert sum(pool.probability.values()) == pytest.approx(1)


def test_of_two_labels_the_log_odds_are_averaged() -> None:
    policy = replace(POLICY, memory_seconds=600.0)
    pool = None
    for at, value in enumerate((0.5, 0.2, 0.9)):
        pool = add(pool, shares(value), at / 1000, 1.0, policy)
    mean = (math.log(0.2 / 0.8) + math.log(0.9 / 0.1)) / 2
    assert pool is not None
    assert pool.probability["malignant"] == pytest.approx(1 / (1 + math.exp(-mean)), abs=1e-4)


def test_a_frame_without_weight_changes_no_probability() -> None:
    before = pooled([0.2] * 20)
    after = add(before, shares(0.99), before.at + 0.05, 0.0, POLICY)
    assert after.probability == pytest.approx(before.probability)


def test_what_was_seen_long_ago_is_forgotten() -> None:
    old = pooled([0.9] * 40)
    new = add(old, shares(0.1), old.at + 60, 1.0, POLICY)
    assert new.probability["malignant"] == pytest.approx(0.1, abs=1e-3)


def test_a_frame_after_a_gap_speaks_for_one_view_only() -> None:
    pool = pooled([0.5])
    assert add(pool, shares(0.5), 60.0, 1.0, POLICY).seconds < POLICY.correlation_seconds


def test_an_earlier_time_counts_as_the_same() -> None:
    pool = pooled([0.2] * 20)
    again = add(pool, shares(0.9), 0.0, 1.0, POLICY)
    assert (again.at, again.seconds) == (pool.at, pool.seconds)


def test_impossible_probabilities_stay_finite() -> None:
    pool = pooled([0.0, 1.0, 0.0, 1.0])
    assert all(map(math.isfinite, (*pool.logarithms.values(), *pool.variance.values())))


@given(st.floats(0, 1), st.floats(0, 1), st.none() | st.floats(0, 10))
def test_a_weight_lies_between_0_and_1(score: float, sharp: float, scope: float | None) -> None:
    assert 0 <= frame_weight(score, sharp, scope, POLICY) <= 1


@pytest.mark.parametrize(
    ("score", "sharp", "scope", "weight"),
    [
        (1.0, 0.2, None, 1.0),
        (0.5, 0.9, 0.8, 0.5),
        (1.0, 0.1, 0.5, 0.5),
        (1.0, 1.0, 0.9, 0.5),
        (1.0, 1.0, 1.0, 0.0),
    ],
)
def test_a_frame_weighs_what_speaks_for_it(
    score: float, sharp: float, scope: float | None, weight: float
) -> None:
    assert frame_weight(score, sharp, scope, POLICY) == pytest.approx(weight)


def test_more_frames_of_one_view_are_no_more_views() -> None:
    views = [independent_views(pooled([0.7] * (rate + 1), rate), POLICY) for rate in (10, 100)]
    assert views[0] == pytest.approx(views[1])
    assert 1 < views[0] < 2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_an_interval_holds_the_pooled_probability(values: list[float]) -> None:
    pool = pooled(values)
    for label, p in pool.probability.items():
        low, high = interval(pool, label, POLICY)
        assert 0 < low <= p + 1e-9
        assert p - 1e-9 <= high < 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_of_two_labels_the_intervals_mirror_each_other(values: list[float]) -> None:
    pool = pooled(values)
    low, high = interval(pool, "malignant", POLICY)
    mirrored = interval(pool, "benign", POLICY)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-6)


def test_an_interval_narrows_with_time_and_widens_with_disagreement() -> None:
    def width(pool: Pool) -> float:
        low, high = interval(pool, "malignant", POLICY)
        return high - low

    agreed, brief = pooled([0.7] * 100), pooled([0.7] * 10)
    torn = pooled([0.1, 0.98] * 50)
    assert width(agreed) < width(brief)
    assert width(agreed) < width(torn)


def test_there_is_no_label_before_enough_was_seen(stage: ClassifierStage) -> None:
    verdicts = settle_all([(0.05, 0.95, 1.0, 0.0)] * 20, stage)
    assert verdicts[5][1] == UNDECIDED
    assert verdicts[5][1].reason == NOT_ENOUGH
    assert verdicts[-1][1].label == "malignant"


def test_frames_of_low_weight_take_longer(stage: ClassifierStage) -> None:
    waits = []
    for weight in (1.0, 0.5):
        verdicts = settle_all([(0.05, 0.95, weight, 0.0)] * 60, stage)
        waits.append(next(at for at, verdict in verdicts if verdict.label))
    assert waits[1] > 1.9 * waits[0]


@pytest.mark.parametrize(
    ("value", "label", "reason"),
    [
        (0.61, "malignant", None),
        (0.58, None, TOO_CLOSE),
        (0.5, None, TOO_CLOSE),
        (0.42, None, TOO_CLOSE),
        (0.39, "benign", None),
    ],
)
def test_a_label_is_given_beyond_margin_and_hysteresis(
    stage: ClassifierStage, value: float, label: str | None, reason: str | None
) -> None:
    verdict = settle(UNDECIDED, certain(shares(value)), None, stage, POLICY)
    assert (verdict.label, verdict.reason) == (label, reason)


@pytest.mark.parametrize(("value", "label"), [(0.56, "malignant"), (0.54, None)])
def test_a_label_is_kept_until_it_is_within_the_margin(
    stage: ClassifierStage, value: float, label: str | None
) -> None:
    given_before = settle(UNDECIDED, certain(shares(0.9)), None, stage, POLICY)
    kept = settle(given_before, certain(shares(value), 1.0), None, stage, POLICY)
    assert kept.label == label


def test_another_label_waits_for_the_hold(stage: ClassifierStage) -> None:
    verdict = settle(UNDECIDED, certain(shares(0.9)), None, stage, POLICY)
    labels = []
    for at in (1.0, 1.2, 1.39, 1.41):
        verdict = settle(verdict, certain(shares(0.1), at), None, stage, POLICY)
        labels.append(verdict.label or verdict.reason)
    assert labels == [UNSETTLED, UNSETTLED, UNSETTLED, "benign"]


def test_without_a_hold_there_still_is_an_abstention(stage: ClassifierStage) -> None:
    policy = replace(POLICY, hold_seconds=0.0)
    verdict = settle(UNDECIDED, certain(shares(0.9)), None, stage, policy)
    verdict = settle(verdict, certain(shares(0.1), 1.0), None, stage, policy)
    assert verdict.reason == UNSETTLED
    assert settle(verdict, certain(shares(0.1), 1.0), None, stage, policy).label == "benign"


def test_the_same_label_comes_back_at_once(stage: ClassifierStage) -> None:
    verdict = settle(UNDECIDED, certain(shares(0.9)), None, stage, POLICY)
    verdict = settle(verdict, certain(shares(0.5), 1.0), None, stage, POLICY)
    assert verdict.reason == TOO_CLOSE
    assert settle(verdict, certain(shares(0.9), 1.01), None, stage, POLICY).label == "malignant"


def test_a_picture_out_of_scope_has_no_label(stage: ClassifierStage) -> None:
    verdict = settle(UNDECIDED, certain(shares(0.9)), 1.0, stage, POLICY)
    assert verdict.label == "malignant"
    assert settle(verdict, certain(shares(0.9), 1.0), 1.01, stage, POLICY).reason == OUT_OF_SCOPE


@pytest.mark.parametrize(
    ("benign", "malignant", "normal", "label"),
    [
        (0.6, 0.3, 0.1, "benign"),
        (0.1, 0.45, 0.45, "malignant"),
        (0.38, 0.2, 0.42, BELOW_THRESHOLD),
        (0.2, 0.22, 0.58, TOO_CLOSE),
    ],
)
def test_of_three_labels_thresholds_decide(
    three: ClassifierStage, benign: float, malignant: float, normal: float, label: str
) -> None:
    values = {"benign": benign, "malignant": malignant, "normal": normal}
    verdict = settle(UNDECIDED, certain(values), None, three, POLICY)
    assert (verdict.label or verdict.reason) == label


@given(FRAMES)
def test_a_label_never_follows_another_without_the_hold(
    stage: ClassifierStage, frames: list[tuple[float, float, float, float]]
) -> None:
    last, abstained_at = None, math.inf
    for at, verdict in settle_all(frames, stage):
        if verdict.label is None:
            abstained_at = min(abstained_at, at)
            continue
        if last not in (None, verdict.label):
            assert at - abstained_at >= POLICY.hold_seconds
        last, abstained_at = verdict.label, math.inf


@given(st.lists(st.booleans(), min_size=2, max_size=200))
def test_within_the_hold_a_label_changes_at_most_once(
    stage: ClassifierStage, sides: list[bool]
) -> None:
    verdict, labels = UNDECIDED, []
    for index, side in enumerate(sides):
        pool = certain(shares(0.9 if side else 0.1), index / 20)
        verdict = settle(verdict, pool, None, stage, POLICY)
        if verdict.label is not None:
            labels.append((pool.at, verdict.label))
    changes = [at for (_, before), (at, after) in pairwise(labels) if before != after]
    for first, second in pairwise(changes):
        assert second - first >= POLICY.hold_seconds


@given(FRAMES)
def test_a_verdict_has_a_label_or_a_reason_never_both(
    stage: ClassifierStage, frames: list[tuple[float, float, float, float]]
) -> None:
    for _, verdict in settle_all(frames, stage):
        assert (verdict.label is None) != (verdict.reason is None)


@given(FRAMES)
def test_the_same_frames_give_the_same_verdicts(
    stage: ClassifierStage, frames: list[tuple[float, float, float, float]]
) -> None:
    assert settle_all(frames, stage) == settle_all(frames, stage)


def test_a_policy_under_which_no_label_comes_is_refused() -> None:
    text = write_json(POLICY)
    assert read_json(text, PoolingPolicy, "policy") == POLICY
    endless = text.replace(b'"min_seconds": 0.5', b'"min_seconds": 3.0')
    with pytest.raises(BadInput, match="min_seconds"):
        read_json(endless, PoolingPolicy, "policy")
