"""`card.md`: what a model is, what it was made from and how it fares; from run files alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.assessment import Assessment
from convert.edgetpu import Placement
from convert.gpu import GpuComparison
from devices import BadInput
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.gate import Comparison, rows
from edge_runtime.bundle.manifest import ClassifierStage, Variant
from train.cross_validation import SUMMARY, CrossValidation, read_cross_validation
from train.metrics import METRICS, PartialMetrics, Table, shown_in
from train.run import Data, Record, read_record
from train.samples import LEAK

Other = Record | CrossValidation
"""What else a recipe was tested on."""

TEMPLATE = """# {name}, version {version}

**Research use only, not for diagnosis.**

{about}

## Use

- Tells {apart_from}: {task}.
- Preprocessing: `{preprocessing}`. {learnt}
- {decision}; closer than {margin:.2f} to a threshold, no label is given.
- The classes were as common as this in the images that it learnt from and was calibrated on:
  {prevalence}.
  Its probabilities hold where that is so. Elsewhere, `sonolite run --prevalence` shifts them to how
  common the classes are there; labels do not move with it.

## Data

`{data}`: {images} images in {groups} groups; {apart}.
{duplicates} pairs of equal or nearly equal images were pulled into one group each; {dropped} images
could not be used.{leaks}

| split | {labels} |
|---|{rules}|
{counts}

## Figures

The float model, by `sonolite train`; test was used for nothing else. In brackets 95 % intervals by
bootstrap over groups. *Majority* is the accuracy of always naming the commoner class.

{figures_head}
{figures}

{by_class}The labels of the test split, a row for each true class:

{confusion_head}
{confusion}

{subgroups}The variants on the test split ({test} images), by `sonolite convert`, each through
{interpreter}. In brackets 95 % intervals. *Label agreement* is the share of decisions like
float32's, *McNemar's p* tells of the changed ones; largest, 99th percentile and mean difference are
of probabilities. A variant that does not hold its limits is left out of the bundle.

{variants}

{biases}{fine_tuning}Int8 on an Edge TPU, by Coral's documentation: {edgetpu}

On a GPU, against the CPU: {gpu}

{others}## Limits

Patients, hospitals and scanners that are not in the data above were not measured; models of this
kind fall far on them. {scope}

## Origin

{stopped}Recipe `{recipe}`, seed {seed}, {software}. Data sha256 `{data_sha256}`, split sha256
`{split_sha256}`.
"""


OTHERS = """## The recipe on other splits

The same recipe and data, trained anew and tested on other images than above. A scanner is the size
of its images.

{head}
{rows}

"""
WITH_SCOPE = """A picture that is unlike those the model learnt from gets no label. The limit of
the distance keeps 99 % of the validation images{varied}; of the test images the scope keeps:
{shares}. {others} Not every picture of something else lies beyond it."""
SHOWN = (
    "It was fitted with {count} auxiliary pictures of something else ({kinds}), and notices their "
    "like far better than what it was never shown."
)
NONE_SHOWN = "No picture of something else was shown to it."
VARIED = " as they are and as other scanners may show them, together"
LEARNT = {
    "boxes": """The network learnt what people marked with boxes, and a margin
  around each: {boxed} of the {images} images that it learnt from had one. A picture without a box
  is outside what was measured below.""",
    "pictures": """The network learnt whole pictures: {boxed} of the {images}
  images that it learnt from had a box.{cropped}""",
}
CROPPED = """ The string crops to a box where there is one: with a box
  the model is outside what was measured below."""
BINARY = """A picture counts as {positive} from a probability of {threshold:.3f} on, chosen on the
  validation split for a sensitivity of {sensitivity:.2f}"""
OF_CLASSES = """The label is the most probable class among those that reach their thresholds:
  {thresholds}. Where none does, there is no label. Each was chosen on the validation split so that
  at least {sensitivity:.2f} of the class's images reach it"""
SUBGROUPS = """On the test split, by what an image tells besides its label; *scanner* is the size
of its images.
{boxes}A subgroup of few groups says little.

{head}
{rows}

"""
BY_CLASS = """Each class of the test split against all others:

{head}
{rows}

"""
LEAKS = """ The data's own split had near duplicates on two
sides; of these images {count} were dropped for it, from training, or from validation where the
other tests."""
BOXES = "*Box* is the images again, with boxes drawn otherwise than those of the data.\n"
CORRECTED = (
    "The biases of int8 are not those of float32: they take back what rounding its weights adds\n"
    "on average.\n\n"
)
STOPPED = """**The training was stopped after {epochs} epochs**, before what the recipe asks for.
"""
PARTED = "{count} groups have images on both sides, so patients may have, too"
WITHOUT_SCOPE = "The model does not notice a picture that shows something else."


@dataclass(frozen=True)
class Card:
    """What the card of a bundle says."""

    name: str
    version: int
    stage: ClassifierStage
    record: Record
    assessment: Assessment
    withheld: Mapping[Variant, float]
    """The share of the test images beyond the scope of each variant; empty without a scope."""
    others: Sequence[Other]
    """The recipe on other splits."""


def card_text(card: Card) -> str:
    """Returns the card of a bundle, in Markdown."""
    stage, record, assessment = card.stage, card.record, card.assessment
    data, converted = record.data, assessment.converted
    sizes = {variant: len(model) for variant, model in converted.models.items()}
    counts = [
        f"| {part} | " + " | ".join(str(images.get(label, 0)) for label in stage.labels) + " |"
        for part, images in data.counts.items()
    ]
    figures = [
        _cells(
            part, *(_with_interval(metrics, name) for name in shown_in("card", len(stage.labels)))
        )
        for part, metrics in record.metrics.items()
    ]
    subgroups = [
        _cells(
            f"{title}: {name}",
            str(metrics.samples),
            str(metrics.groups),
            *(
                _with_interval(metrics, figure)
                for figure in shown_in("card subgroups", len(stage.labels))
            ),
        )
        for title, groups in record.subgroups.items()
        for name, metrics in groups.items()
    ]
    fine_tuning = converted.fine_tuning
    return TEMPLATE.format(
        name=card.name,
        version=card.version,
        about=record.recipe.about,
        apart_from=(
            f"{stage.labels[0]} from {stage.positive}"
            if stage.is_binary
            else f"{', '.join(stage.labels)} from one another"
        ),
        task=stage.task,
        learnt=_learnt(record),
        decision=_decision(stage),
        prevalence=", ".join(f"{label} {stage.prevalence[label]:.3f}" for label in stage.labels),
        by_class=_by_class(record.metrics["test"]),
        confusion_head=_head("truth", *(f"called {label}" for label in stage.labels), "no label"),
        confusion=_confusion(record.metrics["test"], stage.labels),
        preprocessing=stage.preprocessing,
        margin=stage.decision.margin,
        data=data.name,
        images=sum(sum(counts.values()) for counts in data.counts.values()),
        groups=data.groups,
        apart=(
            PARTED.format(count=record.parted)
            if record.parted
            else "no group stands on two sides of the split"
        ),
        labels=" | ".join(stage.labels),
        rules="---|" * (len(stage.labels) - 1) + "---",
        counts="\n".join(counts),
        duplicates=data.duplicates,
        dropped=sum(data.dropped.values()),
        leaks=LEAKS.format(count=data.dropped[LEAK]) if LEAK in data.dropped else "",
        figures_head=_head("split", *_titles("card", len(stage.labels))),
        figures="\n".join(figures),
        subgroups=_subgroups(record, subgroups),
        biases=CORRECTED if "int8" in sizes else "",
        fine_tuning="" if fine_tuning is None else f"Int8 was fine-tuned: {fine_tuning}.\n\n",
        edgetpu=_edgetpu(assessment.placement),
        gpu="; ".join(map(gpu_line, assessment.gpu)) or "not tried.",
        others=_others(card.others, len(stage.labels)),
        scope=_scope(record, card.withheld),
        test=sum(data.counts["test"].values()),
        interpreter=assessment.interpreter,
        variants=_variants(assessment.comparisons, sizes),
        stopped=STOPPED.format(epochs=len(record.history)) if record.interrupted else "",
        recipe=record.recipe_name,
        seed=record.seed,
        software=", ".join(f"{name} {version}" for name, version in record.software.items()),
        data_sha256=data.sha256,
        split_sha256=data.split_sha256,
    )


def _subgroups(record: Record, rows: Sequence[str]) -> str:
    """The table of the subgroups; nothing where there are none."""
    if not rows:
        return ""
    titles = _titles("card subgroups", len(record.recipe.task.labels))
    return SUBGROUPS.format(
        boxes=BOXES if "box" in record.subgroups else "",
        head=_head("subgroup", "images", "groups", *titles),
        rows="\n".join(rows),
    )


def _learnt(record: Record) -> str:
    """Whether it learnt boxes or whole pictures, and what follows."""
    crops = preprocess.parse(record.recipe.preprocessing).crops
    return LEARNT[record.learnt].format(
        boxed=record.data.boxed["train"],
        images=sum(record.data.counts["train"].values()),
        cropped=CROPPED if crops else "",
    )


def _decision(stage: ClassifierStage) -> str:
    """How probabilities become a label."""
    point = stage.operating_point
    if stage.is_binary:
        return BINARY.format(
            positive=stage.positive,
            threshold=point.thresholds[stage.positive],
            sensitivity=point.sensitivity,
        )
    thresholds = ", ".join(f"{label} {point.thresholds[label]:.3f}" for label in stage.labels)
    return OF_CLASSES.format(thresholds=thresholds, sensitivity=point.sensitivity)


def _by_class(test: PartialMetrics) -> str:
    """Each class against all others; nothing of two."""
    if not test.by_class:
        return ""
    shown = shown_in("classes")
    rows = [
        _cells(label, *(_with_interval(metrics, name) for name in shown))
        for label, metrics in test.by_class.items()
    ]
    head = _head("class", *(metric.title for metric in shown.values()))
    return BY_CLASS.format(head=head, rows="\n".join(rows))


def _confusion(test: PartialMetrics, labels: Sequence[str]) -> str:
    """The confusion matrix, a row for each true class; without a label in the last column."""
    matrix = test.confusion_matrix
    if (counted := test.confusion) is not None:
        matrix = (
            (counted.true_negative, counted.false_positive, 0),
            (counted.false_negative, counted.true_positive, 0),
        )
    rows = zip(labels, matrix, strict=True)
    return "\n".join(_cells(label, *map(str, counts)) for label, counts in rows)


def _variants(comparisons: Sequence[Comparison], sizes: Mapping[Variant, int]) -> str:
    """The gate as a table: a column for each variant, those that could not be measured too."""
    named = {
        "variant": [str(comparison.variant) for comparison in comparisons],
        "---": ["---" for _ in comparisons],
        "bytes": [
            f"{sizes[comparison.variant]:,}" if comparison.variant in sizes else ""
            for comparison in comparisons
        ],
        **rows(comparisons),
    }
    return "\n".join(_cells(name, *map(_on_one_line, cells)) for name, cells in named.items())


def _on_one_line(cell: str) -> str:
    figure, _, between = cell.partition("\n")
    return figure + (f" ({between})" if between else "")


def read_other(folder: Path, record: Record) -> Other:
    """Reads what else the recipe of a run was tested on: a run or a cross-validation.

    Raises BadInput where `folder` holds neither, or one of another recipe, of other data, of the
    same split, or stopped before its end.
    """
    other: Other
    if (folder / SUMMARY).exists():
        other = read_cross_validation(folder)
        records = [read_record(fold) for fold in sorted(folder.glob("fold*")) if fold.is_dir()]
    else:
        other = read_record(folder)
        records = [other]
    for quoted in records:
        if quoted.recipe != record.recipe or not _is_of(quoted, record.data):
            raise BadInput(f"{folder}: of another recipe or other data")
        if quoted.interrupted:
            raise BadInput(f"{folder}: a training that was stopped before its end")
        if quoted.data.split_sha256 == record.data.split_sha256:
            raise BadInput(f"{folder}: of the very split that is converted")
    return other


def _is_of(other: Record, data: Data) -> bool:
    """Whether another run is of a data set, by its name and its images of each class.

    Where a scanner was held out, images of groups that have both sides were left out.
    """
    (other_name, other_images), (name, images) = _images(other.data), _images(data)
    fewer = other.held_out is not None and all(
        count <= images.get(label, 0) for label, count in other_images.items()
    )
    return other_name == name and (other_images == images or fewer)


def _images(data: Data) -> tuple[str, dict[str, int]]:
    """A data set by its name and its images of each class, however they are split."""
    labels = sorted({label for counts in data.counts.values() for label in counts})
    return data.name, {
        label: sum(counts.get(label, 0) for counts in data.counts.values()) for label in labels
    }


def _scope(record: Record, withheld: Mapping[Variant, float]) -> str:
    """What the model notices, and how many of the test images each variant would not judge."""
    if not withheld:
        return WITHOUT_SCOPE
    shares = ", ".join(f"{variant} {1 - share:.1%}" for variant, share in withheld.items())
    return WITH_SCOPE.format(
        varied="" if record.recipe.augmentation is None else VARIED,
        shares=shares,
        others=SHOWN.format(count=sum(record.others.values()), kinds=", ".join(record.others))
        if record.others
        else NONE_SHOWN,
    )


def _edgetpu(placement: Placement | None) -> str:
    """How much of int8 an Edge TPU would run."""
    if placement is None:
        return "there is no int8."
    unplaced = "; ".join(
        f"{operation.name}: {operation.reason}" for operation in placement.unplaced
    )
    return (
        f"{placement.share:.1%} of {len(placement.operators)} operations, "
        f"{placement.parameter_bytes:,} bytes of parameters; "
        + (f"left to the CPU: {unplaced}." if unplaced else "the rest is input and output.")
    )


def gpu_line(comparison: GpuComparison) -> str:
    """How one variant did on a GPU."""
    if comparison.refused is not None:
        return f"{comparison.model} refused ({comparison.refused})"
    return (
        f"{comparison.model} within {comparison.largest_difference:.1e} on {comparison.adapter}, "
        f"{comparison.share:.1%} of the operations, {'held' if comparison.holds else 'not held'}"
    )


def _others(others: Sequence[Other], classes: int) -> str:
    """The recipe on other splits; nothing where there are none."""
    if not others:
        return ""
    head = _head("tested on", "images", *_titles("headline", classes))
    return OTHERS.format(head=head, rows="\n".join(_row(other, classes) for other in others))


def _row(other: Other, classes: int) -> str:
    """One line of the table of other splits. ECE has no interval there."""
    if isinstance(other, CrossValidation):
        tested = f"each group once, in {len(other.folds)} folds"
        images, metrics = sum(fold.samples for fold in other.folds), other.together
    else:
        held_out = other.held_out or "other groups"
        tested = f"all scanners but {held_out[1:]}" if held_out.startswith("!") else held_out
        if other.parted:
            tested += f"; {PARTED.format(count=other.parted)}"
        metrics = other.metrics["test"]
        images = metrics.samples
    figures = {name: _with_interval(metrics, name) for name in shown_in("headline", classes)}
    figures["ece"] = METRICS["ece"].text(metrics.ece)
    if isinstance(other, CrossValidation):
        figures["auroc"] = f"{other.auroc:.3f} ±{other.auroc_deviation:.3f}"
    return _cells(tested, str(images), *figures.values())


def _titles(table: Table, classes: int) -> list[str]:
    return [metric.title for metric in shown_in(table, classes).values()]


def _head(*titles: str) -> str:
    """The head of a table, and the rule below it."""
    return f"{_cells(*titles)}\n|{'---|' * len(titles)}"


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _with_interval(metrics: PartialMetrics, name: str) -> str:
    """A figure with its 95 % interval; a dash where there is none."""
    figure, interval, metric = getattr(metrics, name), metrics.intervals.get(name), METRICS[name]
    if figure is None:
        return "-"
    return metric.text(figure) + (f" ({'-'.join(map(metric.text, interval))})" if interval else "")
