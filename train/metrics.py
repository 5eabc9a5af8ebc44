"""The metrics by which a classifier is judged.

`PartialMetrics` is the registry: one field for each metric. What is here tells one class from the
other, or from all others; `train.decision_rule` judges any number of classes by it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from train.decision_rule import ClassDecisions

Labels = NDArray[np.int64]
"""int64 ``[N]``: the place of each sample's class among the task's labels. Where one class is told
from the rest, 1 for that class, the positive one, and 0 for the rest."""
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


Table = Literal["headline", "folds", "gate", "card", "subgroups", "card subgroups", "classes"]
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
    of_classes: Callable[["ClassDecisions"], Floats] | None = None
    """How it is computed of more than two classes; None where it is the mean over the classes, each
    against all others (macro average)."""
    classes_meaning: str = ""
    """In words, of more than two classes; empty where it is `meaning`."""
    shown_of: Literal["two", "more", "any"] = "any"
    """How many classes a task has whose tables show it."""

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
    of a class: alone it has an accuracy, an ECE, and its own sensitivity or specificity. Of more
    than two classes each figure that knows a positive class is the mean over the classes, each
    against all others.

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
            of_classes=lambda decisions: decisions.majority,
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
            tables=("headline", "folds", "gate", "card", "subgroups", "card subgroups", "classes"),
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
            lambda decisions: share(decisions.tp + decisions.tn, decisions.total),
            tables=("folds", "gate", "card"),
            of_classes=lambda decisions: share(decisions.right, decisions.decided),
            classes_meaning="the share of the decisions that are right, of the images that were "
            "given a label",
        ),
    ]
    balanced_accuracy: Annotated[
        float | None,
        Metric(
            "balanced accuracy",
            "the mean of the classes' sensitivities; an image without a label counts as missed",
            lambda decisions: np.full_like(decisions.total, np.nan),
            tables=("headline", "folds", "gate", "card", "subgroups", "card subgroups"),
            short="balanced",
            of_classes=lambda decisions: decisions.macro(lambda one: share(one.tp, one.positives)),
            shown_of="more",
        ),
    ] = None
    """None of two classes, whose sensitivity and specificity say it."""
    abstained: Annotated[
        float | None,
        Metric(
            "no label",
            "the share of the images of which no class reaches its threshold",
            lambda decisions: np.full_like(decisions.total, np.nan),
            tables=("headline", "folds", "gate", "card", "subgroups"),
            better="lower",
            of_classes=lambda decisions: share(
                decisions.total - decisions.decided, decisions.total
            ),
            shown_of="more",
        ),
    ] = None
    """None of two classes, one of which is always decided for."""
    sensitivity: Annotated[
        float | None,
        Metric(
            "sensitivity",
            "the share of the positive images that are called positive",
            lambda decisions: share(decisions.tp, decisions.positives),
            tables=("headline", "folds", "gate", "card", "subgroups", "card subgroups", "classes"),
            short="sens.",
            shown_of="two",
        ),
    ]
    specificity: Annotated[
        float | None,
        Metric(
            "specificity",
            "the share of the negative images that are called negative",
            lambda decisions: share(decisions.tn, decisions.negatives),
            tables=("headline", "folds", "gate", "card", "subgroups", "card subgroups", "classes"),
            short="spec.",
            shown_of="two",
        ),
    ]
    ppv: Annotated[
        float | None,
        Metric(
            "PPV",
            "the share of the positive decisions that are right; it moves with the share of "
            "positive images",
            lambda decisions: share(
                decisions.tp, (decisions.tp + decisions.fp) * decisions.has_both_classes
            ),
            tables=("subgroups", "classes"),
            shown_of="two",
        ),
    ]
    npv: Annotated[
        float | None,
        Metric(
            "NPV",
            "the share of the negative decisions that are right; it moves with the share of "
            "positive images",
            lambda decisions: share(
                decisions.tn, (decisions.tn + decisions.fn) * decisions.has_both_classes
            ),
            tables=("subgroups",),
            shown_of="two",
        ),
    ]
    f1: Annotated[
        float | None,
        Metric(
            "F1",
            "the harmonic mean of sensitivity and PPV",
            lambda decisions: share(
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
            interval="basic",  # see `_basic_interval`
            of_classes=lambda decisions: decisions.top.calibration_error(decisions.weights),
            classes_meaning="the expected calibration error of the most probable class's "
            "probability (Guo et al., ICML 2017)",
        ),
    ]
    confusion: Confusion | None
    """None of more than two classes, which have a `confusion_matrix`."""
    confusion_matrix: tuple[tuple[int, ...], ...] = ()
    """Of more than two classes: images by the true class, a row each, then by the class that they
    were called, in the last column by none. Empty of two classes."""
    by_class: dict[str, "PartialMetrics"] = field(default_factory=dict)
    """Of more than two classes: each class against all others, by its label."""
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


def metrics_of(classes: int) -> dict[str, Metric]:
    """The metrics that tables show of a task with so many classes, named and explained for it."""
    if classes == 2:
        return {name: metric for name, metric in METRICS.items() if metric.shown_of != "more"}
    return {
        name: replace(metric, meaning=metric.classes_meaning or metric.meaning)
        if metric.of_classes
        else replace(
            metric,
            title=f"macro {metric.title}",
            short=f"macro {metric.column}",
            meaning=f"the mean over the classes, each against all others, of {metric.meaning}",
        )
        for name, metric in METRICS.items()
        if metric.shown_of != "two"
    }


def shown_in(table: Table, classes: int = 2) -> dict[str, Metric]:
    """The metrics that a table shows of a task with so many classes, by name.

    The table `classes` holds each class against all others, as of two.
    """
    return {name: metric for name, metric in metrics_of(classes).items() if table in metric.tables}


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
    measured = one_against_rest(labels == 1, scores, scores >= threshold, groups)
    return Metrics(**{entry.name: getattr(measured, entry.name) for entry in fields(measured)})


def paired_difference(
    labels: Labels, first: Scores, second: Scores, groups: Sequence[str]
) -> tuple[float, Interval | None]:
    """The AUROC of `second` less that of `first`, with its 95 % interval over the same resamples.

    Scores are those of the positive class, ``[N]``, or of each of more classes, ``[N, classes]``,
    whose areas against all others are averaged. There is no interval where there is one group. All
    classes must be present.
    """
    pairs = (
        [(Ranked.of(labels, first), Ranked.of(labels, second))]
        if first.ndim == 1
        else [
            tuple(
                Ranked.of((labels == place).astype(np.int64), scores[:, place])
                for scores in (first, second)
            )
            for place in range(first.shape[1])
        ]
    )

    def difference(weights: Floats) -> Floats:
        areas = [other.auroc(weights) - one.auroc(weights) for one, other in pairs]
        return np.asarray(np.mean(areas, axis=0))

    drawn = [difference(weights) for weights in resamples(groups)]
    return float(difference(np.ones((1, len(labels))))[0]), _percentile_interval(drawn)


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
    ranked = Ranked.of(labels, scores)
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
    return float(Ranked.of(labels, scores).calibration_error(np.ones((1, len(labels))))[0])


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
    (tp,), (fp,) = Ranked.of(labels, scores).counts(np.ones((1, len(labels))))
    return fp / fp[-1], tp / tp[-1], tp / (tp + fp)


def roc_band(labels: Labels, scores: Scores, groups: Sequence[str], at: Floats) -> Floats | None:
    """Ends of the 95 % interval of the sensitivity at each false positive rate in `at`, ``[2, K]``.

    Each point has its own interval; the whole curve leaves the band more often. None where there
    is one group.
    """
    ranked = Ranked.of(labels, scores)
    lines = [
        np.interp(at, np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1]))
        for weights in resamples(groups)
        for tp, fp in zip(*ranked.counts(weights), strict=True)
        if tp[-1] and fp[-1]
    ]
    return np.quantile(lines, (0.025, 0.975), axis=0) if lines else None


def as_labels(labels: Sequence[str], classes: Sequence[str]) -> Labels:
    """The place of each label among the classes. Raises ValueError for another label."""
    return np.array([classes.index(label) for label in labels], dtype=np.int64)


class Ranked(NamedTuple):
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
    def of(cls, labels: Labels, scores: Scores) -> "Ranked":
        """Raises ValueError where a score is not a number."""
        if not np.isfinite(scores).all():
            raise ValueError("a probability is not a number")
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order].astype(np.float64)
        ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        return cls(order, labels[order], ranked, ends)

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """True and false positives where each distinct score is the threshold, ``[B, K]``."""
        ordered = weights[:, self.order]
        tp = np.cumsum(ordered * self.labels, axis=1)[:, self.ends]
        return tp, np.cumsum(ordered, axis=1)[:, self.ends] - tp

    def auroc(self, weights: Floats) -> Floats:
        """The area under the ROC, by the trapezoidal rule."""
        tp, fp = self.counts(weights)
        between = tp - np.diff(tp, prepend=0) / 2
        area = np.sum(np.diff(fp, prepend=0) * between, axis=1)
        return share(area, tp[:, -1] * fp[:, -1])

    def auprc(self, weights: Floats) -> Floats:
        """The average precision."""
        tp, fp = self.counts(weights)
        precision = np.nan_to_num(share(tp, tp + fp))
        both = fp[:, -1] > 0
        return share(np.sum(np.diff(tp, prepend=0) * precision, axis=1), tp[:, -1] * both)

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
        return share(np.abs(positive - score).sum(axis=1), weight.sum(axis=1))


@dataclass(frozen=True)
class Decisions:
    """Decisions `score >= threshold` on resampled samples: each count is float ``[B]``."""

    ranked: Ranked
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
        return share(self.positives, self.total)

    @property
    def has_both_classes(self) -> NDArray[np.bool_]:
        """Whether a resample has samples of both classes."""
        return self.positives * self.negatives > 0

    def figures(self) -> dict[str, Floats]:
        """Every metric by its name, ``[B]``, NaN where it does not exist."""
        return {name: metric.compute(self) for name, metric in METRICS.items()}


def share(part: Floats, whole: Floats) -> Floats:
    """`part` over `whole`, NaN where there is no whole."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def one_against_rest(
    positive: NDArray[np.bool_], scores: Scores, called: NDArray[np.bool_], groups: Sequence[str]
) -> PartialMetrics:
    """Measures the decisions `called`, ``[N]``, where `positive` is the truth.

    Raises ValueError where a score is not a number.
    """
    ranked = Ranked.of(positive.astype(np.int64), scores)
    whole, intervals = with_intervals(
        lambda weights: Decisions(ranked, positive, called, weights).figures(), groups
    )
    return PartialMetrics(
        samples=len(positive),
        groups=len(set(groups)),
        confusion=Confusion(
            true_positive=int(np.sum(positive & called)),
            false_negative=int(np.sum(positive & ~called)),
            true_negative=int(np.sum(~positive & ~called)),
            false_positive=int(np.sum(~positive & called)),
        ),
        intervals=intervals,
        **whole,  # type: ignore[arg-type]
    )


def with_intervals(
    figures: Callable[[Floats], Mapping[str, Floats]], groups: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, Interval]]:
    """Every metric, None where it does not exist, and the 95 % intervals of those that have one.

    `figures` computes the metrics by name, ``[B]``, for weights ``[B, N]``.
    """
    once = figures(np.ones((1, len(groups))))
    drawn = [figures(weights) for weights in resamples(groups)]
    whole = {name: float(figure[0]) for name, figure in once.items()}
    intervals: dict[str, Interval] = {}
    for name, metric in METRICS.items():
        ends = _percentile_interval([resample[name] for resample in drawn])
        if ends is not None and metric.interval != "none":
            basic = metric.interval == "basic"
            intervals[name] = _basic_interval(whole[name], *ends) if basic else ends
    return {name: None if np.isnan(value) else value for name, value in whole.items()}, intervals


def _percentile_interval(drawn: Sequence[Floats]) -> Interval | None:
    """The percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13): 2.5 to 97.5 %.

    A resample in which the figure does not exist, having drawn one class alone, says nothing of it
    and is left out. None where nothing is left.
    """
    known = np.concatenate(drawn) if drawn else np.empty(0)
    known = known[~np.isnan(known)]
    if not known.size:
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def _basic_interval(figure: float, low: float, high: float) -> Interval:
    """The basic bootstrap interval (Davison and Hinkley 1997, section 5.2) of a calibration error.

    Chance only ever adds to that error, and a resample has more chance in it than the sample: its
    percentiles lie too high, by as much as the figure itself lies above the truth. It is never
    below zero, and holds the figure.
    """
    return max(0.0, 2 * figure - high), max(figure, 2 * figure - low)
