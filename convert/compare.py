"""Holds every variant against the float model: the same pictures, the device's own interpreter."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.compute import Backend
from edge_runtime.manifest import REFERENCE, Limits, Variant
from train.metrics import Labels, Metrics, measure


@dataclass(frozen=True)
class Comparison:
    """One variant against float32, on one set of pictures."""

    variant: Variant
    metrics: Metrics
    auroc_drop: float
    sensitivity_drop: float
    label_agreement: float
    """The share of pictures on which both decide alike at the operating point."""
    largest_difference: float
    """Between the probabilities of the positive class."""
    mean_difference: float
    failures: tuple[str, ...]
    """What lies below its limit, in words; empty for a variant that holds."""


def answer(
    backend: Backend,
    pictures: NDArray[np.uint8],
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    output: str = "probability",
) -> NDArray[np.float32]:
    """Returns one output, such as float32 ``[N, classes]``, for uint8 ``[N, side, side, 1]``."""
    indices = progress(range(len(pictures)))
    return np.stack([backend.run(pictures[index : index + 1])[output][0] for index in indices])


def compare(
    threshold: float,
    limits: Limits,
    labels: Labels,
    groups: Sequence[str],
    answers: Mapping[Variant, NDArray[np.float32]],
) -> list[Comparison]:
    """Compares every variant's answers with those of float32, which comes first.

    A variant whose answers are not numbers has failed and is not measured further.
    Raises ValueError where float32 itself answers nonsense or a class is absent.
    """
    reference = answers[REFERENCE][:, -1]
    base = measure(labels, reference, threshold, groups)
    return [
        _against(
            variant, answers[variant][:, -1], reference, base, threshold, limits, labels, groups
        )
        for variant in sorted(answers, key=lambda name: name != REFERENCE)
    ]


def _against(
    variant: Variant,
    answered: NDArray[np.float32],
    reference: NDArray[np.float32],
    base: Metrics,
    threshold: float,
    limits: Limits,
    labels: Labels,
    groups: Sequence[str],
) -> Comparison:
    """One variant's positive probabilities held against those of float32."""
    scores = np.nan_to_num(answered, nan=0.0, posinf=0.0, neginf=0.0)
    metrics = measure(labels, scores, threshold, groups)
    auroc_drop = base.auroc - metrics.auroc
    sensitivity_drop = base.sensitivity - metrics.sensitivity
    agreement = float(np.mean((scores >= threshold) == (reference >= threshold)))
    checks = [
        (not np.isfinite(answered).all(), "answers that are not numbers"),
        (
            auroc_drop > limits.auroc_drop,
            f"AUROC lower by {auroc_drop:.4f} > {limits.auroc_drop}",
        ),
        (
            sensitivity_drop > limits.sensitivity_drop,
            f"sensitivity lower by {sensitivity_drop:.4f} > {limits.sensitivity_drop}",
        ),
        (
            agreement < limits.label_agreement,
            f"label agreement {agreement:.4f} < {limits.label_agreement}",
        ),
    ]
    difference = np.abs(scores - reference)
    return Comparison(
        variant=variant,
        metrics=metrics,
        auroc_drop=auroc_drop,
        sensitivity_drop=sensitivity_drop,
        label_agreement=agreement,
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        failures=tuple(words for failed, words in checks if failed),
    )
