"""`NAME.html` beside a bundle: the gate's figures with its plots, in one file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from convert.assessment import Assessment
from convert.edgetpu import Placement
from convert.gpu import GpuComparison
from convert.layer_errors import LayerError, plot_layers
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.gate import Comparison, rows
from edge_runtime.bundle.manifest import REFERENCE, Variant
from edge_runtime.files import whole_file
from train.decision_rule import DecisionRule
from train.html_page import (
    GREY,
    NEGATIVE,
    POSITIVE,
    STYLE,
    html_page,
    new_figure,
    plot,
    table,
)
from train.run import Record


def write_gate_report(path: Path, bundle: Bundle, record: Record, assessment: Assessment) -> None:
    """Writes the page from what the gate measured on the test split."""
    fine_tuning = assessment.converted.fine_tuning
    stage = bundle.manifest.classifier
    with mpl.rc_context(STYLE):
        sections = {
            "Gate": _gate(assessment.comparisons, stage.variants)
            + ("" if fine_tuning is None else f"<p>Int8 was fine-tuned: {fine_tuning}.</p>"),
            "Answers": _answers(assessment.converted.answers, record.rule),
            "Layers": _layers(assessment.layers),
            "Edge TPU": _edgetpu(assessment.placement),
            "GPU": _gpu(assessment.gpu),
        }
    about = (
        f"{record.recipe.about} What the converter made of the run, against float32, on the "
        f"{sum(record.data.counts['test'].values())} images of the test split."
    )
    with whole_file(path) as part:
        part.write_text(html_page(f"{bundle.id}: the release gate", about, sections), "utf-8")


def _gate(comparisons: Sequence[Comparison], passed: Mapping[Variant, str]) -> str:
    """Each variant's figures, and whether it is in the bundle."""
    inside = ["yes" if comparison.variant in passed else "no" for comparison in comparisons]
    named = [[name, *cells] for name, cells in rows(comparisons).items()]
    return (
        table(
            ["variant", *(comparison.variant for comparison in comparisons)],
            [*named, ["in the bundle", *inside]],
        )
        + "<p>In small print 95 % intervals by bootstrap over groups, of the AUROC's difference "
        "by the same groups for both. Largest, 99th percentile and mean difference are of the "
        "probability. McNemar's p tells how likely so uneven a split of the changed decisions into "
        "right and wrong would be by chance.</p>"
    )


def _answers(answers: Mapping[Variant, NDArray[np.float32]], rule: DecisionRule) -> str:
    """Each variant's probability over that of float32, picture by picture.

    Of two classes the positive one's, of more that of the class which float32 holds likeliest.
    """
    floats = answers[REFERENCE]
    judged = np.full(len(floats), 1) if rule.is_binary else floats.argmax(axis=1)
    pictures = np.arange(len(floats))
    reference = floats[pictures, judged]
    others = {variant: answered for variant, answered in answers.items() if variant != REFERENCE}
    if not others:
        return ""
    figure, panels = new_figure(4 * len(others) + 0.4, 4, columns=len(others))
    for axes, (variant, answered) in zip(np.atleast_1d(panels), others.items(), strict=True):
        scores = answered[pictures, judged]
        same = rule.called(answered) == rule.called(floats)
        axes.plot([0, 1], [0, 1], color=GREY, lw=1)
        if rule.is_binary:
            threshold = rule.thresholds[rule.classes[-1]]
            axes.axvline(threshold, color=GREY, ls="--", lw=1)
            axes.axhline(threshold, color=GREY, ls="--", lw=1)
        axes.plot(reference[same], scores[same], ".", color=NEGATIVE, ms=4, label="same label")
        axes.plot(reference[~same], scores[~same], "o", color=POSITIVE, ms=5, label="other label")
        axes.set(title=variant, xlabel=REFERENCE, xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.legend(loc="upper left")
    of = rule.classes[1] if rule.is_binary else "the class that float32 holds likeliest"
    dashed = "; dashed: the operating point" if rule.is_binary else ""
    return plot(
        figure,
        f"Probability of {of} by each variant over that by float32",
        f"Probability of {of}, a point for each test image{dashed}.",
    )


def _layers(layers: Mapping[Variant, Sequence[LayerError]]) -> str:
    """Where the error of the quantised variants arises."""
    return "".join(
        plot(
            plot_layers(errors),
            f"{variant}: signal-to-noise ratio by layer",
            f"{variant} against float32, tensor by tensor.",
        )
        for variant, errors in layers.items()
    )


def _edgetpu(placement: Placement | None) -> str:
    """What an Edge TPU would run, and why not the rest."""
    if placement is None:
        return ""
    rest = [
        [f"{operation.index} {operation.name}", operation.reason]
        for operation in placement.operators
        if operation.reason
    ]
    return (
        f"<p>By Coral's documentation {placement.share:.1%} of the {len(placement.operators)} "
        f"operations of int8 run on it, with {placement.parameter_bytes:,} bytes of parameters, "
        f"{placement.streamed_bytes:,} of them beyond its memory. Only the log of its compiler "
        "proves it.</p>" + (table(["on the CPU", "why"], rest) if rest else "")
    )


def _gpu(gpu: Sequence[GpuComparison]) -> str:
    """Each variant on a GPU against the CPU, or why it was not run there."""
    rows = [
        [
            comparison.model,
            comparison.refused
            or f"{comparison.share:.1%} of the operations on {comparison.adapter}; the largest "
            f"difference to the CPU is {comparison.largest_difference:.1e} over "
            f"{comparison.images} images: "
            + ("held" if comparison.holds else "not held"),
        ]
        for comparison in gpu
    ]
    return table(["variant", "on the GPU"], rows) if rows else ""
