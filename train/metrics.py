"""The metrics by which a binary classifier is judged, and the two numbers set on validation.

`PartialMetrics` is the registry: one field for each metric.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Labels = NDArray[np.int64]
"""int64 ``[N]``: 1 for the positive class, 0 for the other."""
Scores = NDArray[np.floating]
"""float ``[N]``: the probability of the positive class."""
Floats = NDArray[np.float64]
Interval = tuple[float, float]
"""The two ends of a 95 % interval."""

BINS = 15
"""Of the calibration error; the number of Guo et al., ICML 2017."""
RESAMPLES = 1000
SEED = 0
"""The same groups are always resampled alike, so that two models can be compared in pairs."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of decisions; positive means the task's last label."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int


Table = Literal["headline", "folds", "gate", "card", "subgroups", "card subgroups"]
"""The tables that show a choice of the metrics; all other tables show every metric."""


@dataclass(frozen=True)
class Metric:
    """How one metric is computed, named and printed: the annotation of a field of `PartialMetrics`.

    The field's name is the metric's name in JSON.
    """

    title: str
    meaning: str
    """In words, for whoever reads a report."""
    compute: Callable[["Decisions"], Floats]
    """``[B]``, NaN where the metric does not exist."""
    tables: tuple[Table, ...] = ()
    """The choices that show it, besides the tables of all metrics."""
    short: str = ""
    """The title in a narrow column; empty where it is `title`."""
    lowest: float = 0.0
    highest: float = 1.0
    better: Literal["higher", "lower"] = "higher"
    decimals: int = 3
    interval: Literal["percentile", "basic", "none"] = "percentile"
    """How the 95 % interval follows from the resamples. A metric without one describes the samples,
    not the model."""

    @property
    def column(self) -> str:
        """The title in a narrow column."""
        return self.short or self.title

    def text(self, value: float, more: int = 0) -> str:
        """The value with its decimals, and `more` of them."""
        return f"{value:.{self.decimals + more}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialMetrics:
    """Figures of samples of which one class may be absent; every share is 0..1.

    None stands where a figure does not exist, for want of positive decisions or negative ones, or
    of a class: alone it has an accuracy, an ECE, and its own sensitivity or specificity.

    To add a metric, add a field here with its `Metric`, and with None as its default, so that runs
    written before can still be read. Every table takes its metrics from these fields, in their
    order.
    """

    samples: int
    groups: int
    majority: Annotated[
        float,
        Metric(
            "majority",
            "the accuracy of always naming the commoner class",
            lambda decisions: np.maximum(decisions.prevalence, 1 - decisions.prevalence),
            tables=("gate", "card"),
            interval="none",
        ),
    ]
    auroc: Annotated[
        float | None,
        Metric(
            "AUROC",
            "the share of all pairs of a positive and a negative image in which the positive one "
            "has the higher probability",
            lambda decisions: decisions.ranked.auroc(decisions.weights),
            tables=("headline", "folds", "gate", "card", "subgroups", "card subgroups"),
        ),
    ]
    auprc: Annotated[
        float | None,
        Metric(
            "AUPRC",
            "the average precision: precision over recall, summed in steps, never interpolated",
            lambda decisions: decisions.ranked.auprc(decisions.weights),
            tables=("card",),
        ),
    ]
    accuracy: Annotated[
        float,
        Metric(
            "accuracy",
            "the share of all decisions that are right",
            lambda decisions: _share(decisions.tp + decisions.tn, decisions.total),
            tables=("folds", "gate", "card"),
        ),
    ]
    sensitivity: Annotated[
        float | None,
        Metric(
            "sensitivity",
            "the share of the positive images that are called positive",
            lambda decisions: _share(decisions.tp, decisions.positives),
            tables=("headline", "folds", "gate", "card", "subgroups", "card subgroups"),
            short="sens.",
        ),
    ]
    specificity: Annotated[
        float | None,
        Metric(
            "specificity",
            "the share of the negative images that are called negative",
            lambda decisions: _share(decisions.tn, decisions.negatives),
            tables=("headline", "folds", "gate", "card", "subgroups", "card subgroups"),
            short="spec.",
        ),
    ]
    ppv: Annotated[
        float | None,
        Metric(
            "PPV",
            "the share of the positive decisions that are right; it moves with the share of "
            "positive images",
            lambda decisions: _share(
                decisions.tp, (decisions.tp + decisions.fp) * decisions.has_both_classes
            ),
            tables=("subgroups",),
        ),
    ]
    npv: Annotated[
        float | None,
        Metric(
            "NPV",
            "the share of the negative decisions that are right; it moves with the share of "
            "positive images",
            lambda decisions: _share(
                decisions.tn, (decisions.tn + decisions.fn) * decisions.has_both_classes
            ),
            tables=("subgroups",),
        ),
    ]
    f1: Annotated[
        float | None,
        Metric(
            "F1",
            "the harmonic mean of sensitivity and PPV",
            lambda decisions: _share(
                2 * decisions.tp,
                (2 * decisions.tp + decisions.fp + decisions.fn) * decisions.has_both_classes,
            ),
        ),
    ]
    ece: Annotated[
        float,
        Metric(
            "ECE",
            "the expected calibration error of the positive class's probability",
            lambda decisions: decisions.ranked.calibration_error(decisions.weights),
            tables=("headline", "folds", "gate", "card"),
            better="lower",
            interval="basic",  # see `_reflected`
        ),
    ]
    confusion: Confusion
    intervals: dict[str, Interval]
    """By the metric's name, its 95 % interval over `resamples` of whole groups. Empty where there
    is one group. Of fewer than some ten groups they say little, and are mostly too narrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(PartialMetrics):
    """Figures of samples of both classes."""

    sensitivity: float
    specificity: float
    f1: float
    auroc: float
    auprc: float


def _registered() -> dict[str, Metric]:
    """The metrics among the fields of `PartialMetrics`."""
    hints = get_type_hints(PartialMetrics, include_extras=True)
    return {
        name: metric
        for name, hint in hints.items()
        for metric in getattr(hint, "__metadata__", ())
        if isinstance(metric, Metric)
    }


METRICS: Mapping[str, Metric] = _registered()
"""Every metric by its name, in the order in which tables show them."""


def shown_in(table: Table) -> dict[str, Metric]:
    """The metrics that a table shows, by name."""
    return {name: metric for name, metric in METRICS.items() if table in metric.tables}


class Bin(NamedTuple):
    """Samples of like probability, of a reliability curve."""

    predicted: float
    """Their mean probability of the positive class."""
    observed: float
    """The share of them that is positive."""
    samples: int


def measure(
    labels: Labels, scores: Scores, threshold: float | Floats, groups: Sequence[str]
) -> Metrics:
    """Measures decisions `score >= threshold`; `groups` says whose each sample is.

    Raises ValueError where a class is absent or a score is not a number.
    """
    if labels.min() == labels.max():
        raise ValueError("only one class is present")
    return Metrics(**_entries(labels, scores, threshold, groups))


def by_subgroup(
    labels: Labels, scores: Scores, threshold: float, groups: Sequence[str], names: Sequence[str]
) -> dict[str, PartialMetrics]:
    """Measures the samples of each name in `names`, ``[N]``, apart; the names come sorted."""
    subgroups = {name: np.array([other == name for other in names]) for name in sorted(set(names))}
    return {
        name: PartialMetrics(
            **_entries(
                labels[inside],
                scores[inside],
                threshold,
                [group for group, member in zip(groups, inside, strict=True) if member],
            )
        )
        for name, inside in subgroups.items()
    }


def paired_difference(
    labels: Labels, first: Scores, second: Scores, groups: Sequence[str]
) -> tuple[float, Interval | None]:
    """The AUROC of `second` less that of `first`, with its 95 % interval over the same resamples.

    There is no interval where there is one group. Both classes must be present.
    """
    one, other = _Ranked.of(labels, first), _Ranked.of(labels, second)
    drawn = [other.auroc(weights) - one.auroc(weights) for weights in resamples(groups)]
    whole = np.ones((1, len(labels)))
    return float((other.auroc(whole) - one.auroc(whole))[0]), _interval(drawn)


def resamples(groups: Sequence[str]) -> Iterator[Floats]:
    """Yields, in blocks ``[B, N]``, how often each sample is in each of 1,000 resamples.

    Whole groups are drawn with replacement, as many as there are: the randomised cluster bootstrap
    of Field and Welsh, J. R. Statist. Soc. B 2007, 69:369. Samples of one patient are alike, so
    that drawing single samples would make intervals that are too narrow. Nothing is yielded for
    one group, of which no resample differs from the others.
    """
    index = {group: number for number, group in enumerate(sorted(set(groups)))}
    member = np.array([index[group] for group in groups])
    if len(index) > 1:
        draw = np.random.default_rng(SEED)
        times = draw.multinomial(len(index), np.full(len(index), 1 / len(index)), RESAMPLES)
        block = max(1, 2**18 // len(groups))  # a block fits a processor's cache
        for start in range(0, RESAMPLES, block):
            yield times[start : start + block, member].astype(np.float64)


def reliability(labels: Labels, scores: Scores, bins: int = BINS) -> list[Bin]:
    """The reliability curve over `bins` bins of equal mass, lowest probability first."""
    ranked = _Ranked.of(labels, scores)
    counts, positives, sums = ranked.binned(np.ones((1, len(labels))), bins)[:, 0]
    return [
        Bin(float(total / count), float(positive / count), int(count))
        for count, positive, total in zip(counts, positives, sums, strict=True)
        if count
    ][::-1]


def calibration_error(labels: Labels, scores: Scores) -> float:
    """The expected calibration error: how far the bins of `reliability` lie off, on average.

    Naeini et al., AAAI 2015, for the probability of the positive class, over bins of equal mass
    (Nguyen and O'Connor, EMNLP 2015): probabilities crowd at the ends, so that bins of equal width
    hold a handful of samples in the middle and the error counts their chance; bins of equal mass
    are the less biased (Roelofs et al., AISTATS 2022).
    """
    return float(_Ranked.of(labels, scores).calibration_error(np.ones((1, len(labels))))[0])


def chance_calibration_error(scores: Scores) -> float:
    """The calibration error that `scores` would have, on average, if they were the whole truth.

    The labels are drawn with these probabilities (the consistency resampling of Bröcker and Smith,
    Weather and Forecasting 2007, 22:651). What is measured means nothing below it.
    """
    draw = np.random.default_rng(SEED)
    labels = (draw.random((200, len(scores))) < scores).astype(np.int64)
    return float(np.mean([calibration_error(drawn, scores) for drawn in labels]))


def curves(labels: Labels, scores: Scores) -> tuple[Floats, Floats, Floats]:
    """False positive rate, sensitivity and precision at each distinct score, highest first.

    Each is float ``[K]``; both classes must be present.
    """
    (hits,), (alarms,) = _Ranked.of(labels, scores).counts(np.ones((1, len(labels))))
    return alarms / alarms[-1], hits / hits[-1], hits / (hits + alarms)


def roc_band(labels: Labels, scores: Scores, groups: Sequence[str], at: Floats) -> Floats | None:
    """Ends of the 95 % interval of the sensitivity at each false positive rate in `at`, ``[2, K]``.

    Each point has its own interval; the whole curve leaves the band more often. None where there
    is one group.
    """
    ranked = _Ranked.of(labels, scores)
    lines = [
        np.interp(at, np.append(0, alarms / alarms[-1]), np.append(0, hits / hits[-1]))
        for weights in resamples(groups)
        for hits, alarms in zip(*ranked.counts(weights), strict=True)
        if hits[-1] and alarms[-1]
    ]
    return np.quantile(lines, (0.025, 0.975), axis=0) if lines else None


def fit_temperature(labels: Labels, probability: NDArray[np.floating]) -> float:
    """The temperature that gives `probability`, ``[N, 2]``, the least log loss (Guo et al. 2017).

    The search is bounded to 0.2 .. 20: a perfect separation would otherwise have no minimum.
    """
    log_odds = np.log(probability[:, 1] + 1e-12) - np.log(probability[:, 0] + 1e-12)
    signed = np.where(labels == 1, log_odds, -log_odds)

    def log_loss(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0.0, -signed / np.exp(log_temperature))))

    optimum = minimize_scalar(log_loss, bounds=(np.log(0.2), np.log(20.0)), method="bounded")
    return float(np.exp(optimum.x))


def choose_threshold(labels: Labels, scores: Scores, sensitivity: float) -> float:
    """The highest threshold at which at least `sensitivity` of the positives are found.

    It lies half-way to the next lower score, so that rounding (int8 answers in steps of 1/256)
    does not turn the last case found into the first one missed.
    """
    positives = np.sort(scores[labels == 1])[::-1]
    needed = int(np.ceil(sensitivity * len(positives) - 1e-9))
    lowest_hit = float(positives[max(needed, 1) - 1])
    below = scores[scores < lowest_hit]
    return lowest_hit if below.size == 0 else (lowest_hit + float(below.max())) / 2


def as_labels(labels: Sequence[str], positive: str) -> Labels:
    """1 where a label is the positive one."""
    return np.array([label == positive for label in labels], dtype=np.int64)


class _Ranked(NamedTuple):
    """Answers sorted once, highest score first, so that a resample is but a vector of weights.

    Weights are float ``[B, N]``, in the order in which the samples were given; each figure is then
    ``[B]``, and NaN where a class it needs has no weight. The areas are those of scikit-learn with
    `sample_weight`.
    """

    order: NDArray[np.intp]
    labels: Labels
    scores: Floats
    ends: NDArray[np.intp]
    """The last sample of each run of equal scores, which no threshold can part."""

    @classmethod
    def of(cls, labels: Labels, scores: Scores) -> "_Ranked":
        """Raises ValueError where a score is not a number."""
        if not np.isfinite(scores).all():
            raise ValueError("a probability is not a number")
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order].astype(np.float64)
        ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        return cls(order, labels[order], ranked, ends)

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Positives and negatives at or above each distinct score, ``[B, K]``."""
        ordered = weights[:, self.order]
        hits = np.cumsum(ordered * self.labels, axis=1)[:, self.ends]
        return hits, np.cumsum(ordered, axis=1)[:, self.ends] - hits

    def auroc(self, weights: Floats) -> Floats:
        """The area under the ROC, by trapezia."""
        hits, alarms = self.counts(weights)
        between = hits - np.diff(hits, prepend=0) / 2
        area = np.sum(np.diff(alarms, prepend=0) * between, axis=1)
        return _share(area, hits[:, -1] * alarms[:, -1])

    def auprc(self, weights: Floats) -> Floats:
        """The average precision."""
        hits, alarms = self.counts(weights)
        precision = np.nan_to_num(_share(hits, hits + alarms))
        both = alarms[:, -1] > 0
        return _share(np.sum(np.diff(hits, prepend=0) * precision, axis=1), hits[:, -1] * both)

    def binned(self, weights: Floats, bins: int) -> Floats:
        """Weight, weight of the positives and sum of the scores in each bin, ``[3, B, bins]``.

        The bins are of equal mass; equal scores lie together in the bin where their middle falls.
        """
        ordered = weights[:, self.order]
        upto = np.cumsum(ordered, axis=1)[:, self.ends]
        middle = upto - np.diff(upto, prepend=0) / 2
        run = np.minimum((middle * bins / upto[:, -1:]).astype(np.int64), bins - 1)
        sample_bin = np.repeat(run, np.diff(self.ends, prepend=-1), axis=1)
        cell = (sample_bin + bins * np.arange(len(weights))[:, np.newaxis]).ravel()
        sums = (ordered, ordered * self.labels, ordered * self.scores)
        counted = [np.bincount(cell, addends.ravel(), len(weights) * bins) for addends in sums]
        return np.array(counted, np.float64).reshape(3, len(weights), bins)

    def calibration_error(self, weights: Floats) -> Floats:
        """The expected calibration error over `BINS` bins of equal mass."""
        weight, positive, score = self.binned(weights, BINS)
        return _share(np.abs(positive - score).sum(axis=1), weight.sum(axis=1))


@dataclass(frozen=True)
class Decisions:
    """Decisions `score >= threshold` on resampled samples: each count is float ``[B]``."""

    ranked: _Ranked
    positive: NDArray[np.bool_]
    """``[N]``: the truth."""
    called: NDArray[np.bool_]
    """``[N]``: the decision."""
    weights: Floats
    """``[B, N]``: how often each sample is in each resample."""

    @cached_property
    def tp(self) -> Floats:
        """True positives."""
        return self.weights @ (self.positive & self.called)

    @cached_property
    def fn(self) -> Floats:
        """False negatives."""
        return self.weights @ (self.positive & ~self.called)

    @cached_property
    def fp(self) -> Floats:
        """False positives."""
        return self.weights @ (~self.positive & self.called)

    @cached_property
    def tn(self) -> Floats:
        """True negatives."""
        return self.weights @ (~self.positive & ~self.called)

    @property
    def positives(self) -> Floats:
        """Positive samples."""
        return self.tp + self.fn

    @property
    def negatives(self) -> Floats:
        """Negative samples."""
        return self.tn + self.fp

    @property
    def total(self) -> Floats:
        """All samples."""
        return self.tp + self.fn + self.fp + self.tn

    @property
    def prevalence(self) -> Floats:
        """The share of the positive samples."""
        return _share(self.positives, self.total)

    @property
    def has_both_classes(self) -> NDArray[np.bool_]:
        """Whether a resample has samples of both classes."""
        return self.positives * self.negatives > 0

    def figures(self) -> dict[str, Floats]:
        """Every metric by its name, ``[B]``, NaN where it does not exist."""
        return {name: metric.compute(self) for name, metric in METRICS.items()}


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _entries(
    labels: Labels, scores: Scores, threshold: float | Floats, groups: Sequence[str]
) -> Mapping[str, Any]:
    """The fields of `PartialMetrics` for decisions `score >= threshold`."""
    ranked, positive, called = _Ranked.of(labels, scores), labels == 1, scores >= threshold
    once = Decisions(ranked, positive, called, np.ones((1, len(labels)))).figures()
    whole = {name: float(figure[0]) for name, figure in once.items()}
    drawn = [
        Decisions(ranked, positive, called, weights).figures() for weights in resamples(groups)
    ]
    intervals: dict[str, Interval] = {}
    for name, metric in METRICS.items():
        ends = _interval([resample[name] for resample in drawn])
        if ends is not None and metric.interval != "none":
            basic = metric.interval == "basic"
            intervals[name] = _reflected(whole[name], *ends) if basic else ends
    return {
        "samples": len(labels),
        "groups": len(set(groups)),
        **{name: None if np.isnan(figure) else figure for name, figure in whole.items()},
        "confusion": Confusion(
            true_positive=int(np.sum(positive & called)),
            false_negative=int(np.sum(positive & ~called)),
            true_negative=int(np.sum(~positive & ~called)),
            false_positive=int(np.sum(~positive & called)),
        ),
        "intervals": intervals,
    }


def _interval(drawn: Sequence[Floats]) -> Interval | None:
    """The 2.5th and 97.5th percentile (Efron and Tibshirani 1993, chapter 13).

    A resample in which the figure does not exist, having drawn one class alone, says nothing of it
    and is left out. None where nothing is left.
    """
    known = np.concatenate(drawn) if drawn else np.empty(0)
    known = known[~np.isnan(known)]
    if not known.size:
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def _reflected(figure: float, low: float, high: float) -> Interval:
    """The basic bootstrap interval (Davison and Hinkley 1997, section 5.2) of a calibration error.

    Chance only ever adds to that error, and a resample has more chance in it than the sample: its
    percentiles lie too high, by as much as the figure itself lies above the truth. It is never
    below zero, and holds the figure.
    """
    return max(0.0, 2 * figure - high), max(figure, 2 * figure - low)
