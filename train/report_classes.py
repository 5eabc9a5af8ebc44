"""The sections of a run's report that are others where there are more than two classes."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from train.html_page import GREY, NEGATIVE, POSITIVE, new_figure, pair, plot, table
from train.measurement import Answers
from train.metrics import calibration_error, curves, reliability, shown_in
from train.report_figures import cell, percent, positives

MOST_CURVES = 10
"""Classes whose curves are drawn: of more, those that are told apart worst."""
MOST_CELLS = 20
"""Classes of which the confusion matrix is a table with numbers; of more it is a picture."""
COLOURS = (NEGATIVE, POSITIVE, "#2a8c5c", "#8a5fb4", "#b8912a", "#17212b", "#d072a8", "#5aa9b8")


def decided_words(test: Mapping[str, Any], labels: Sequence[str]) -> tuple[str, ...]:
    """How the test images were decided, in sentences."""
    found = "; ".join(
        f"{label} {percent(figures, 'sensitivity')}" for label, figures in test["by_class"].items()
    )
    without = test["abstained"] or 0.0
    return (
        f"Of each class's images it finds: {found}. The mean, the balanced accuracy, is "
        f"{percent(test, 'balanced_accuracy')}.",
        f"In {100 * without:.1f} % no class reaches its threshold, and no label is given. Of the "
        f"labels that are given {percent(test, 'accuracy')} are right; always naming the commonest "
        f"of the {len(labels)} classes would be right in {100 * test['majority']:.1f} %.",
    )


def classes_table(test: Mapping[str, Any]) -> str:
    """Each class of the test split against all others."""
    shown = shown_in("classes")
    rows = [
        [label, str(positives(figures)), *(cell(figures, name) for name in shown)]
        for label, figures in test["by_class"].items()
    ]
    head = ["class, on test", "images", *(metric.title for metric in shown.values())]
    return table(head, rows) + (
        '<p class="soft">Each class against all others; a decision for it is its label.</p>'
    )


def ranking(test: Answers, figures: Mapping[str, Any]) -> str:
    """The ROC and the precision of each class against all others, on test."""
    by_class = figures["by_class"]
    drawn = sorted(range(len(by_class)), key=lambda place: [*by_class.values()][place]["auroc"])
    roc, axes = new_figure(5.4, 4.8)
    precision_recall, other = new_figure(5.4, 4.8)
    for place in sorted(drawn[:MOST_CURVES]):
        label, colour = [*by_class][place], COLOURS[place % len(COLOURS)]
        fpr, sensitivity, precision = curves(
            (test.labels == place).astype(np.int64), test.probability[:, place]
        )
        one = by_class[label]
        axes.plot(
            np.append(0, fpr),
            np.append(0, sensitivity),
            color=colour,
            label=f"{label}, {one['auroc']:.3f}",
        )
        axes.plot(1 - one["specificity"], one["sensitivity"], "o", color=colour)
        other.step(
            sensitivity, precision, color=colour, where="pre", label=f"{label}, {one['auprc']:.3f}"
        )
    axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1)
    axes.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right")
    other.set(title="Precision and recall", xlabel="sensitivity", ylabel="PPV", ylim=(0, 1.02))
    other.legend(loc="lower left")
    which = (
        f" Of {len(by_class)} classes the {MOST_CURVES} that are told apart worst."
        if len(by_class) > MOST_CURVES
        else ""
    )
    return pair(
        plot(
            roc,
            f"ROC of each class against all others on test; the mean AUROC is "
            f"{figures['auroc']:.3f}",
            f"Each class against all others, on test; a dot is the decision.{which}",
        ),
        plot(
            precision_recall,
            "Precision over recall of each class against all others on test",
            "How many of the images are of the class, as more of the class are found.",
        ),
    )


def decisions(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """The confusion matrix of the test split, rows the truth."""
    columns = (*labels, "no label") if any(row[-1] for row in matrix) else tuple(labels)
    if len(labels) > MOST_CELLS:
        return plot(
            _matrix_figure(labels, columns, matrix),
            "Confusion matrix of the test split",
            "The share of each class's images, rows the truth, that were called a class.",
        )
    lines = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(
            f'<td class="{"right" if column == line else "wrong" if row[column] else ""}">'
            f"<b>{row[column]}</b><small>{100 * row[column] / max(1, sum(row)):.1f} %</small></td>"
            for column in range(len(columns))
        )
        + "</tr>"
        for line, (label, row) in enumerate(zip(labels, matrix, strict=True))
    )
    head = "".join(
        f'<th scope="col">{escape(name if name == "no label" else f"called {name}")}</th>'
        for name in columns
    )
    return (
        '<div class="wide"><table class="confusion"><caption>Confusion matrix of the test split; '
        f"shares are of each class's images</caption><tr><th>truth</th>{head}</tr>{lines}</table>"
        "</div>"
    )


def _matrix_figure(
    labels: Sequence[str], columns: Sequence[str], matrix: Sequence[Sequence[int]]
) -> Figure:
    counts = np.array(matrix, dtype=np.float64)[:, : len(columns)]
    side = 1.5 + 0.16 * len(labels)
    figure, axes = new_figure(side, side)
    axes.imshow(counts / np.maximum(1, counts.sum(axis=1, keepdims=True)), cmap="Blues")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=6)
    axes.set_yticks(range(len(labels)), labels, fontsize=6)
    axes.set(xlabel="called", ylabel="truth")
    axes.grid(visible=False)
    return figure


def calibration(test: Answers, temperature: float) -> str:
    """The reliability of the most probable class before and after temperature scaling."""
    figure, axes = new_figure(5.4, 4.8)
    axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1)
    for name, probability, colour, marker in (
        ("before", test.uncalibrated, GREY, "s"),
        ("after", test.probability, POSITIVE, "o"),
    ):
        right = (probability.argmax(axis=1) == test.labels).astype(np.int64)
        surest = probability.max(axis=1)
        curve = np.array(reliability(right, surest))
        label = f"{name} scaling, ECE {calibration_error(right, surest):.3f}"
        axes.plot(curve[:, 0], curve[:, 1], color=colour, marker=marker, ms=4, label=label)
    axes.set(
        title="Reliability, test",
        xlabel="mean probability of the most probable class",
        ylabel="share in which it is the true one",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.legend(loc="upper left")
    return pair(
        plot(
            figure,
            "Reliability curve of the test split before and after temperature scaling",
            "15 bins of equally many images; on the dotted line a probability means what it says.",
        ),
        "<p>ECE, the expected calibration error, is how far a bin lies off the dotted line, on "
        "average. To calibrate, the logits of all classes are divided by one temperature, "
        f"{temperature:.3f}, fitted on validation.</p>",
    )


def operating_point(thresholds: Mapping[str, float], sensitivity: float) -> str:
    """The thresholds of the classes, in a sentence."""
    named = ", ".join(f"{label} {value:.3f}" for label, value in thresholds.items())
    return (
        "A label is the most probable class among those that reach their thresholds: "
        f"{escape(named)}. Each was chosen on <em>validation</em> so that at least "
        f"{sensitivity:.2f} of the class's images reach it, and then locked."
    )
