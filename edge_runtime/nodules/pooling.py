"""One decision about a nodule from all frames that showed it.

The probabilities of the frames are pooled as a weighted mean of their logarithms, a logarithmic
opinion pool: Genest and Zidek, "Combining probability distributions: a critique and an annotated
bibliography", Statistical Science 1(1), 1986. Of two labels it is the mean of the log-odds. A mean,
unlike a sum, does not grow surer with every frame of the same view; the thresholds that were chosen
for single pictures hold for it, at the same prevalence.

A frame weighs as much as the seconds that it stands for, times what speaks for it, and is forgotten
exponentially. Stills have no time: each is decided alone, by `decide`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_runtime.bundle.manifest import ClassifierStage
from edge_runtime.bundle.policies import PoolingPolicy as PoolingPolicy
from edge_runtime.nodules.decide import OUT_OF_SCOPE, TOO_CLOSE, decide

NOT_ENOUGH = "not seen well for long enough"
UNSETTLED = "another label was given a moment ago"

LIMIT = 1e-4
"""Probabilities count as at least this far from 0 and from 1: no single frame outweighs all."""
SCOPE_START = 0.8
"""The out-of-scope score from which on a frame counts less; from 1 on it does not count."""
NORMAL_QUANTILE = 1.96
"""Standard deviations on each side of the mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What the frames of one nodule say together."""

    logarithms: Mapping[str, float]
    """The mean logarithm of the probability of each label."""
    log_odds: Mapping[str, float]
    """The mean log-odds of each label."""
    variance: Mapping[str, float]
    """The variance of those log-odds."""
    seconds: float
    """The weight of the frames that are not forgotten, in seconds of full weight."""
    at: float
    """Seconds of the last frame."""

    @property
    def probability(self) -> dict[str, float]:
        """The pooled probability of each label; they add up to 1."""
        largest = max(self.logarithms.values())
        shares = {label: math.exp(mean - largest) for label, mean in self.logarithms.items()}
        total = sum(shares.values())
        return {label: share / total for label, share in shares.items()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The label of a nodule, or the reason why it has none."""

    label: str | None = None
    reason: str | None = NOT_ENOUGH
    last_label: str | None = None
    """The label that was given last."""
    abstains_since: float = -math.inf
    """Seconds of the first frame without a label after the last one with a label."""


UNDECIDED = Verdict()


def frame_weight(
    locator_score: float,
    sharpness: float,
    out_of_scope_score: float | None,
    policy: PoolingPolicy,
) -> float:
    """How much a frame counts, from 0 to 1.

    It is the score of the locator, times the share of the full sharpness, times a share that falls
    from 1 at SCOPE_START to 0 where the picture is out of scope.
    """
    in_scope = 1.0
    if out_of_scope_score is not None:
        in_scope = _clamp((1 - out_of_scope_score) / (1 - SCOPE_START), 0, 1)
    return locator_score * min(1.0, sharpness / policy.full_sharpness) * in_scope


def add(
    pool: Pool | None,
    probability: Mapping[str, float],
    at: float,
    weight: float,
    policy: PoolingPolicy,
) -> Pool:
    """The pool with a frame of `at` seconds, whose calibrated probabilities stand by label.

    The frame stands for the time since the frame before, but for `correlation_seconds` at most: the
    first frame of a pool only begins the time. A time before that of the last frame counts as the
    same time. The variance is that of West, "Updating mean and variance estimates: an improved
    method", Communications of the ACM 22(9), 1979.
    """
    clamped = {label: _clamp(p, LIMIT, 1 - LIMIT) for label, p in probability.items()}
    logarithms = {label: math.log(p) for label, p in clamped.items()}
    log_odds = {label: math.log(p / (1 - p)) for label, p in clamped.items()}
    none = dict.fromkeys(clamped, 0.0)
    if pool is None:
        return Pool(logarithms, log_odds, none, 0.0, at)
    at = max(at, pool.at)
    memory, passed = policy.memory_seconds, at - pool.at
    kept = pool.seconds * math.exp(-passed / memory)
    added = -weight * memory * math.expm1(-min(passed, policy.correlation_seconds) / memory)
    if kept + added <= 0:
        return Pool(logarithms, log_odds, none, 0.0, at)
    share = added / (kept + added)
    changes = {label: new - pool.log_odds[label] for label, new in log_odds.items()}
    return Pool(
        {label: old + share * (logarithms[label] - old) for label, old in pool.logarithms.items()},
        {label: old + share * changes[label] for label, old in pool.log_odds.items()},
        {
            label: (1 - share) * (old + share * changes[label] ** 2)
            for label, old in pool.variance.items()
        },
        kept + added,
        at,
    )


def independent_views(pool: Pool, policy: PoolingPolicy) -> float:
    """The effective number of independent views, at least 1.

    Neighbouring frames are nearly the same view: ``n = t / 2τ``, with the weighted seconds t and
    the integrated autocorrelation time τ: Sokal, "Monte Carlo methods in statistical mechanics:
    foundations and new algorithms", 1997, section 3. `correlation_seconds` is 2τ.
    """
    return max(1.0, pool.seconds / policy.correlation_seconds)


def interval(pool: Pool, label: str, policy: PoolingPolicy) -> tuple[float, float]:
    """Where the pooled probability of the label lies with more views of the nodule, in 95 of 100.

    It is ``l ± 1.96 √(v / n)`` in log-odds, with n independent views, and with the variance v
    between them: ``(n s² + d²) / (n + 1)``, where s² was seen, and `view_deviation` d counts as
    one view, because a single view tells nothing about others. It says nothing about the error
    that the model makes in all views.
    """
    p = _clamp(pool.probability[label], LIMIT, 1 - LIMIT)
    views = independent_views(pool, policy)
    variance = (views * pool.variance[label] + policy.view_deviation**2) / (views + 1)
    middle, reach = math.log(p / (1 - p)), NORMAL_QUANTILE * math.sqrt(variance / views)
    return _sigmoid(middle - reach), _sigmoid(middle + reach)


def settle(
    verdict: Verdict,
    pool: Pool,
    out_of_scope_score: float | None,
    stage: ClassifierStage,
    policy: PoolingPolicy,
) -> Verdict:
    """The verdict after the last frame of the pool, which has this out-of-scope score.

    Labels, thresholds and margin are those of `decide`. A label is given where the probability is
    beyond the margin by the hysteresis, and kept until it is within the margin. The same label may
    come back at once; before another one, no label is given for `hold_seconds`. A picture that is
    out of scope has no label, whatever was seen before.
    """
    if out_of_scope_score is not None and out_of_scope_score > 1:
        return _abstain(verdict, OUT_OF_SCOPE, pool.at)
    if pool.seconds < policy.min_seconds or pool.seconds == 0:
        return _abstain(verdict, NOT_ENOUGH, pool.at)
    probability = pool.probability
    label, reason = decide(probability, stage)
    if label is None:
        assert reason is not None
        return _abstain(verdict, reason, pool.at)
    if label == verdict.label:
        return verdict
    if _distance(probability, label, stage) < stage.decision.margin + policy.hysteresis:
        return _abstain(verdict, TOO_CLOSE, pool.at)
    is_other = verdict.last_label not in (None, label)
    held = verdict.label is None and pool.at - verdict.abstains_since >= policy.hold_seconds
    if is_other and not held:
        return _abstain(verdict, UNSETTLED, pool.at)
    return Verdict(label, None, last_label=label)


def _abstain(verdict: Verdict, reason: str, at: float) -> Verdict:
    since = verdict.abstains_since if verdict.label is None else at
    return replace(verdict, label=None, reason=reason, abstains_since=since)


def _distance(probability: Mapping[str, float], label: str, stage: ClassifierStage) -> float:
    """How far the probability that decides about the label is from its threshold."""
    decisive = stage.positive if stage.is_binary else label
    return abs(probability[decisive] - stage.operating_point.thresholds[decisive])


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
