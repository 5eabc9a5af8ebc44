"""What the release gate measures of a classifier."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from convert.gate import Answers, Measure
from edge_runtime.gate import Figure
from edge_runtime.manifest import Limits
from train.metrics import Labels, measure, paired_difference, shown_in


def classification(
    labels: Labels, groups: Sequence[str], threshold: float, limits: Limits
) -> Measure:
    """Measures answers float32 ``[N, classes]`` by the positive class's probability, the last.

    A picture counts as positive from `threshold` on. The intervals are by bootstrap over `groups`,
    that of the AUROC's difference by the same for both (`paired_difference`). `label_agreement` is
    the share of pictures on which both decide alike, `mcnemar` the exact two-sided p of so uneven a
    split of the changed decisions into right and wrong (McNemar, Psychometrika 1947, 12:153); the
    differences are of probabilities.

    What is returned raises ValueError where a class is absent or float32 answers no numbers.
    """

    def held(reference: Answers, answered: Answers) -> tuple[dict[str, Figure], tuple[str, ...]]:
        expected, scores = reference[:, -1], answered[:, -1]
        before = measure(labels, expected, threshold, groups)
        difference, interval = paired_difference(labels, expected, scores, groups)
        should, called = expected >= threshold, scores >= threshold
        agreement = float(np.mean(called == should))
        off = np.abs(scores - expected)
        figures = {
            **figures_alone(labels, groups, threshold, answered),
            "auroc_difference": Figure(difference, interval),
            "label_agreement": Figure(agreement),
            "mcnemar": Figure(_mcnemar(called == labels, should == labels)),
            "largest_difference": Figure(float(off.max())),
            "percentile_99_difference": Figure(float(np.percentile(off, 99))),
            "mean_difference": Figure(float(off.mean())),
        }
        lowest = difference if interval is None else interval[0]
        drop = before.sensitivity - figures["sensitivity"].value
        failures = {
            "one group alone gives no interval of the AUROC's difference": interval is None,
            f"AUROC may be lower by {-lowest:.4f} > {limits.auroc_drop}": (
                lowest < -limits.auroc_drop
            ),
            f"sensitivity lower by {drop:.4f} > {limits.sensitivity_drop}": (
                drop > limits.sensitivity_drop
            ),
            f"label agreement {agreement:.4f} < {limits.label_agreement}": (
                agreement < limits.label_agreement
            ),
        }
        return figures, tuple(words for words, failed in failures.items() if failed)

    return held


def figures_alone(
    labels: Labels, groups: Sequence[str], threshold: float, answered: Answers
) -> dict[str, Figure]:
    """Measures answers float32 ``[N, classes]`` by themselves, as `classification` does.

    Raises ValueError where a class is absent or an answer is not a number.
    """
    now = measure(labels, answered[:, -1], threshold, groups)
    return {
        "images": Figure(now.samples),
        "groups": Figure(now.groups),
        **{name: Figure(getattr(now, name), now.intervals.get(name)) for name in shown_in("gate")},
    }


def _mcnemar(right: NDArray[np.bool_], before: NDArray[np.bool_]) -> float:
    lost, gained = int(np.sum(before & ~right)), int(np.sum(right & ~before))
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
