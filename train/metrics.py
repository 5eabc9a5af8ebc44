"""The figures by which a binary classifier is judged, and the two numbers set on validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

Labels = NDArray[np.int64]
"""int64 ``[N]``: 1 for the positive class, 0 for the other."""
Scores = NDArray[np.floating]
"""float ``[N]``: the probability of the positive class."""


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions; positive means the task's last label."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int


@dataclass(frozen=True)
class Metrics:
    """Every share is 0..1; `majority` is the accuracy of always naming the commoner class."""

    samples: int
    accuracy: float
    majority: float
    sensitivity: float
    specificity: float
    f1: float
    auroc: float
    confusion: Confusion


def measure(labels: Labels, scores: Scores, threshold: float) -> Metrics:
    """Measures decisions `score >= threshold`; both classes must be there.

    Raises ValueError where a class is absent or a score is not a number.
    """
    if not np.isfinite(scores).all():
        raise ValueError("a probability is not a number")
    decisions = (scores >= threshold).astype(np.int64)
    (tn, fp), (fn, tp) = confusion_matrix(labels, decisions, labels=[0, 1]).tolist()
    if tp + fn == 0 or tn + fp == 0:
        raise ValueError("only one class is present")
    positives = float(np.mean(labels))
    return Metrics(
        samples=len(labels),
        accuracy=(tp + tn) / len(labels),
        majority=max(positives, 1 - positives),
        sensitivity=tp / (tp + fn),
        specificity=tn / (tn + fp),
        f1=float(f1_score(labels, decisions, zero_division=0.0)),
        auroc=float(roc_auc_score(labels, scores)),
        confusion=Confusion(tp, fn, tn, fp),
    )


def fit_temperature(labels: Labels, probability: NDArray[np.floating]) -> float:
    """The temperature that gives `probability`, ``[N, 2]``, the least log loss (Guo et al. 2017).

    The search is bounded to 0.2 .. 20: a perfect separation would otherwise have no minimum.
    """
    log_odds = np.log(probability[:, 1] + 1e-12) - np.log(probability[:, 0] + 1e-12)
    signed = np.where(labels == 1, log_odds, -log_odds)

    def log_loss(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0.0, -signed / np.exp(log_temperature))))

    found = minimize_scalar(log_loss, bounds=(np.log(0.2), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def choose_threshold(labels: Labels, scores: Scores, sensitivity: float) -> float:
    """The highest threshold at which at least `sensitivity` of the positives are found.

    It lies half-way to the next lower score, so that rounding (int8 answers in steps of 1/256)
    does not turn the last case found into the first one missed.
    """
    positives = np.sort(scores[labels == 1])[::-1]
    needed = int(np.ceil(sensitivity * len(positives) - 1e-9))
    lowest_found = float(positives[max(needed, 1) - 1])
    below = scores[scores < lowest_found]
    return lowest_found if below.size == 0 else (lowest_found + float(below.max())) / 2


def as_labels(labels: Sequence[str], positive: str) -> Labels:
    """1 where a label is the positive one."""
    return np.array([label == positive for label in labels], dtype=np.int64)
