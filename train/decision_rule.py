"""From probabilities to labels, and how good both are, of two classes or more.

Of two classes the positive one is given from its threshold on, else the other. Of more, a label is
the most probable class among those that reach their thresholds, or none: as a device decides
(`edge_runtime.nodules.decide`), but for the margin around a threshold and the mean over frames.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from train.metrics import (
    METRICS,
    Decisions,
    Floats,
    Labels,
    Metrics,
    PartialMetrics,
    Ranked,
    Scores,
    measure,
    one_against_rest,
    share,
    with_intervals,
)

Probability = NDArray[np.floating]
"""float ``[N, classes]``: the probability of each class."""
NO_LABEL = -1
"""In place of a class where none reaches its threshold."""


@dataclass(frozen=True)
class ClassDecisions:
    """Decisions among more than two classes on resampled samples: each count is float ``[B]``."""

    each: Sequence[Decisions]
    """Each class against all others."""
    top: Ranked
    """The probability of the most probable class, and whether that is the true one."""
    correct: NDArray[np.bool_]
    """``[N]``: whether the label is the true one."""
    labelled: NDArray[np.bool_]
    """``[N]``: whether there is a label."""
    weights: Floats
    """``[B, N]``: how often each sample is in each resample."""

    @property
    def right(self) -> Floats:
        """Right labels."""
        return self.weights @ self.correct

    @property
    def decided(self) -> Floats:
        """Labels that were given."""
        return self.weights @ self.labelled

    @property
    def total(self) -> Floats:
        """All samples."""
        return np.asarray(self.weights.sum(axis=1))

    @property
    def majority(self) -> Floats:
        """The share of the commonest class."""
        return share(np.max([one.positives for one in self.each], axis=0), self.total)

    def macro(self, compute: Callable[[Decisions], Floats]) -> Floats:
        """The mean over the classes; NaN where it does not exist of one of them."""
        return np.asarray(np.mean([compute(one) for one in self.each], axis=0))

    def figures(self) -> dict[str, Floats]:
        """Every metric by its name, ``[B]``, NaN where it does not exist."""
        return {
            name: metric.of_classes(self) if metric.of_classes else self.macro(metric.compute)
            for name, metric in METRICS.items()
        }


@dataclass(frozen=True)
class DecisionRule:
    """The classes of a task with the probabilities from which labels are given."""

    classes: tuple[str, ...]
    thresholds: Mapping[str, float | Floats]
    """By label: of two classes the positive one's alone, of more each class's. Each is one number,
    or ``[N]``, one for each sample."""

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.classes) == 2

    def called(self, probability: Probability) -> NDArray[np.int64]:
        """The place of the class that each sample is called, ``[N]``; `NO_LABEL` without one."""
        if self.is_binary:
            return (probability[:, -1] >= self.thresholds[self.classes[-1]]).astype(np.int64)
        thresholds = [self.thresholds[label] for label in self.classes]
        reached = np.stack(
            [probability[:, place] >= least for place, least in enumerate(thresholds)], axis=1
        )
        best = np.argmax(np.where(reached, probability, -1.0), axis=1)
        return np.where(reached.any(axis=1), best, NO_LABEL)

    def measure(self, labels: Labels, probability: Probability, groups: Sequence[str]) -> Metrics:
        """Measures the decisions; `groups` says whose each sample is.

        Raises ValueError where a class is absent or a probability is not a number.
        """
        if self.is_binary:
            threshold = self.thresholds[self.classes[-1]]
            return measure(labels, probability[:, -1], threshold, groups)
        if len(np.unique(labels)) < len(self.classes):
            raise ValueError("a class has no image")
        called = self.called(probability)
        by_class = {
            label: one_against_rest(labels == place, probability[:, place], called == place, groups)
            for place, label in enumerate(self.classes)
        }
        partial = self._partial(labels, probability, groups)
        entries = {entry.name: getattr(partial, entry.name) for entry in fields(partial)}
        return Metrics(**entries | {"by_class": by_class})

    def by_subgroup(
        self,
        labels: Labels,
        probability: Probability,
        groups: Sequence[str],
        names: Sequence[str],
    ) -> dict[str, PartialMetrics]:
        """Measures the samples of each name in `names`, ``[N]``, apart; the names come sorted."""
        inside = {name: np.array([other == name for other in names]) for name in sorted({*names})}
        return {
            name: self._partial(
                labels[members],
                probability[members],
                [group for group, member in zip(groups, members, strict=True) if member],
            )
            for name, members in inside.items()
        }

    def _partial(
        self, labels: Labels, probability: Probability, groups: Sequence[str]
    ) -> PartialMetrics:
        """The figures of samples of which a class may be absent, without those of each class."""
        called = self.called(probability)
        if self.is_binary:
            return one_against_rest(labels == 1, probability[:, -1], called == 1, groups)
        places = range(len(self.classes))
        truths = [labels == place for place in places]
        ranked = [
            Ranked.of(truths[place].astype(np.int64), probability[:, place]) for place in places
        ]
        likeliest = np.argmax(probability, axis=1)
        top = Ranked.of((likeliest == labels).astype(np.int64), probability.max(axis=1))

        def figures(weights: Floats) -> dict[str, Floats]:
            each = [
                Decisions(ranked[place], truths[place], called == place, weights)
                for place in places
            ]
            return ClassDecisions(
                each, top, called == labels, called != NO_LABEL, weights
            ).figures()

        whole, intervals = with_intervals(figures, groups)
        columns = (*places, NO_LABEL)
        matrix = tuple(
            tuple(int(np.sum(truths[place] & (called == column))) for column in columns)
            for place in places
        )
        return PartialMetrics(
            samples=len(labels),
            groups=len(set(groups)),
            confusion=None,
            confusion_matrix=matrix,
            intervals=intervals,
            **whole,  # type: ignore[arg-type]
        )


def fit_temperature(labels: Labels, probability: Probability) -> float:
    """The temperature that gives `probability`, ``[N, classes]``, the least log loss.

    Softmax of the logits over one temperature for all classes: Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017, section 4.2. The search is bounded to 0.2 .. 20: a perfect
    separation would otherwise have no minimum.
    """
    logits = np.log(probability + 1e-12)
    behind = logits - logits[np.arange(len(labels)), labels][:, np.newaxis]

    def log_loss(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp.reduce(behind / np.exp(log_temperature), axis=1)))

    optimum = minimize_scalar(log_loss, bounds=(np.log(0.2), np.log(20.0)), method="bounded")
    return float(np.exp(optimum.x))


def without_temperature(probability: Probability, temperature: float) -> NDArray[np.float64]:
    """The probabilities before the logits were divided by `temperature`."""
    logits = temperature * np.log(np.clip(probability.astype(np.float64), 1e-12, 1.0))
    return np.asarray(np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)))


def choose_thresholds(
    classes: Sequence[str], labels: Labels, probability: Probability, sensitivity: float
) -> dict[str, float]:
    """The thresholds of a `DecisionRule`, from samples that nothing was learnt from.

    Of two classes that of the positive one. Of more, each class's alone: the highest from which at
    least `sensitivity` of the class's samples are found. Some of them another class wins, so that a
    little less is reached where classes are hard to tell apart.
    """
    places = [len(classes) - 1] if len(classes) == 2 else range(len(classes))
    return {
        classes[place]: choose_threshold(
            (labels == place).astype(np.int64), probability[:, place], sensitivity
        )
        for place in places
    }


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
