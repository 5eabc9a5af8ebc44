"""The release gate: each variant against float, the same pictures, the device's interpreter."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from devices.compute import Backend
from edge_runtime.manifest import REFERENCE, Limits, Variant
from train.metrics import Interval, Labels, Metrics, measure, paired_difference


@dataclass(frozen=True)
class Comparison:
    """One variant against float32, on one set of pictures."""

    variant: Variant
    metrics: Metrics
    auroc_difference: float
    """This AUROC less that of float32."""
    auroc_interval: Interval | None
    """Its 95 % interval by bootstrap over groups, the same for both; none where there is one."""
    sensitivity_drop: float
    specificity_drop: float
    label_agreement: float
    """The share of pictures on which both decide alike at the operating point."""
    mcnemar: float
    """How likely so uneven a split of the changed decisions into right and wrong is by chance: the
    exact two-sided p (McNemar, Psychometrika 1947, 12:153)."""
    largest_difference: float
    """Between the probabilities of the positive class."""
    percentile_99_difference: float
    mean_difference: float
    failures: tuple[str, ...]
    """What lies below its limit, in words; empty for a variant that holds."""


@dataclass(frozen=True)
class NotMeasured:
    """A variant that could not be converted or run; it has failed."""

    variant: Variant
    failures: tuple[str, ...]


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
    difference, interval = paired_difference(labels, reference, scores, groups)
    lowest = difference if interval is None else interval[0]
    sensitivity_drop = base.sensitivity - metrics.sensitivity
    called, should = scores >= threshold, reference >= threshold
    agreement = float(np.mean(called == should))
    checks = [
        (not np.isfinite(answered).all(), "answers that are not numbers"),
        (interval is None, "one group alone gives no interval of the AUROC's difference"),
        (
            lowest < -limits.auroc_drop,
            f"AUROC may be lower by {-lowest:.4f} > {limits.auroc_drop}",
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
    off = np.abs(scores - reference)
    return Comparison(
        variant=variant,
        metrics=metrics,
        auroc_difference=difference,
        auroc_interval=interval,
        sensitivity_drop=sensitivity_drop,
        specificity_drop=base.specificity - metrics.specificity,
        label_agreement=agreement,
        mcnemar=_mcnemar(called == labels, should == labels),
        largest_difference=float(off.max()),
        percentile_99_difference=float(np.percentile(off, 99)),
        mean_difference=float(off.mean()),
        failures=tuple(words for failed, words in checks if failed),
    )


def _mcnemar(right: NDArray[np.bool_], before: NDArray[np.bool_]) -> float:
    lost, gained = int(np.sum(before & ~right)), int(np.sum(right & ~before))
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
