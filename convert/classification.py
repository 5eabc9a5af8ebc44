"""What the release gate measures of a classifier."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from convert.gate import Answers, Measure
from edge_runtime.bundle.gate import Figure
from edge_runtime.bundle.manifest import Limits
from train.decision_rule import DecisionRule
from train.metrics import Labels, Metrics, paired_difference, shown_in


def classification(
    labels: Labels, groups: Sequence[str], rule: DecisionRule, limits: Limits
) -> Measure:
    """Measures answers float32 ``[N, classes]``, and the labels that `rule` makes of them.

    The intervals are by bootstrap over `groups`, that of the AUROC's difference by the same for
    both (`paired_difference`). `label_agreement` is the share of pictures on which both decide
    alike, `mcnemar` the exact two-sided p of so uneven a split of the changed decisions into right
    and wrong (McNemar, Psychometrika 1947, 12:153); the differences are of probabilities: of two
    classes the positive one's, of more that of the class that moves most. The limit of the
    sensitivity holds for the positive class of two, and for each of more.

    What is returned raises ValueError where a class is absent or float32 answers no numbers.
    """

    def held(reference: Answers, answered: Answers) -> tuple[dict[str, Figure], tuple[str, ...]]:
        before = rule.measure(labels, reference, groups)
        judged = -1 if rule.is_binary else slice(None)
        difference, interval = paired_difference(
            labels, reference[:, judged], answered[:, judged], groups
        )
        should, called = rule.called(reference), rule.called(answered)
        changed = int(np.sum(called != should))
        agreement = 1 - changed / len(labels)
        may_change = _allowed(1 - limits.label_agreement, len(labels))
        off = np.abs(answered - reference)[:, judged].reshape(len(labels), -1).max(axis=1)
        now = rule.measure(labels, answered, groups)
        figures = {
            **_figures(now, rule),
            "auroc_difference": Figure(difference, interval),
            "label_agreement": Figure(agreement),
            "mcnemar": Figure(_mcnemar(called == labels, should == labels)),
            "largest_difference": Figure(float(off.max())),
            "percentile_99_difference": Figure(float(np.percentile(off, 99))),
            "mean_difference": Figure(float(off.mean())),
        }
        lowest = difference if interval is None else interval[0]
        failures = {
            "one group alone gives no interval of the AUROC's difference": interval is None,
            f"AUROC of {len(labels)} pictures may be lower by {-lowest:.4f} > "
            f"{limits.auroc_drop}": lowest < -limits.auroc_drop,
            **_lost(before, now, limits.sensitivity_drop),
            f"label agreement {agreement:.4f} < {limits.label_agreement} ({changed} of "
            f"{len(labels)} labels change, {may_change} may)": changed > may_change,
        }
        return figures, tuple(words for words, failed in failures.items() if failed)

    return held


def _lost(before: Metrics, now: Metrics, limit: float) -> dict[str, bool]:
    """Whether too many pictures of a class are not found any more, by the words that say it."""
    both = (
        [("", before, now)]
        if not before.by_class
        else [
            (f" of {label}", figures, now.by_class[label])
            for label, figures in before.by_class.items()
        ]
    )
    failures = {}
    for of_class, earlier, later in both:
        assert earlier.sensitivity is not None  # each class has pictures, or `measure` refuses
        assert later.sensitivity is not None
        assert earlier.confusion is not None
        assert later.confusion is not None
        drop = earlier.sensitivity - later.sensitivity
        lost = earlier.confusion.true_positive - later.confusion.true_positive
        pictures = earlier.confusion.true_positive + earlier.confusion.false_negative
        may_be_lost = _allowed(limit, pictures)
        words = (
            f"sensitivity{of_class} lower by {drop:.4f} > {limit} ({lost} of {pictures} pictures, "
            f"{may_be_lost} may)"
        )
        failures[words] = lost > may_be_lost
    return failures


def _allowed(share: float, pictures: int) -> int:
    """How many of so many pictures that share allows; 1e-9 takes back the rounding of floats."""
    return int(share * pictures + 1e-9)


def figures_alone(
    labels: Labels, groups: Sequence[str], rule: DecisionRule, answered: Answers
) -> dict[str, Figure]:
    """Measures answers float32 ``[N, classes]`` by themselves, as `classification` does.

    Raises ValueError where a class is absent or an answer is not a number.
    """
    return _figures(rule.measure(labels, answered, groups), rule)


def _figures(now: Metrics, rule: DecisionRule) -> dict[str, Figure]:
    shown = shown_in("gate", len(rule.classes))
    figures = {name: (getattr(now, name), now.intervals.get(name)) for name in shown}
    for label, metrics in now.by_class.items():
        figures[f"sensitivity_of_{label}"] = (
            metrics.sensitivity,
            metrics.intervals.get("sensitivity"),
        )
    return {
        "images": Figure(now.samples),
        "groups": Figure(now.groups),
        # Where no picture gets a label, there is no accuracy.
        **{name: Figure(*figure) for name, figure in figures.items() if figure[0] is not None},
    }


def _mcnemar(right: NDArray[np.bool_], before: NDArray[np.bool_]) -> float:
    """The exact two-sided p of the decisions, ``[N]``, that became wrong and that became right."""
    lost, gained = int(np.sum(before & ~right)), int(np.sum(right & ~before))
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
