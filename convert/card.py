"""`card.md`: what a model is, what it was made from and how it fares; from run files alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from convert.aware import FineTuning
from convert.edgetpu import Placement
from convert.gpu import GpuComparison
from devices import BadInput
from edge_runtime.gate import Comparison, rows
from edge_runtime.manifest import Stage, Variant
from train.cross_validation import SUMMARY, CrossValidation, read_cross_validation
from train.metrics import PartialMetrics
from train.run import Data, Record, read_record

Other = Record | CrossValidation
"""What else a recipe was tested on."""

TEMPLATE = """# {name}, version {version}

**Research use only, not for diagnosis.**

{about}

## Use

- Tells {negative} from {positive}: {task}.
- Preprocessing: `{preprocessing}`. The network was trained on what this string makes of an image
  and its box. Where the string crops, a picture without a box is outside what was measured below.
- A picture counts as {positive} from a probability of {threshold:.3f} on, chosen on the validation
  split for a sensitivity of {sensitivity:.2f}; closer than {margin:.2f} to it, no label is given.

## Data

`{data}`: {images} images in {groups} groups; {apart}.
{duplicates} pairs of equal or nearly equal images were pulled into one group each; {dropped} images
could not be used.

| split | {labels} |
|---|{rules}|
{counts}

## Figures

The float model, by `sonolite train`; test was used for nothing else. In brackets 95 % intervals by
bootstrap over groups. *Majority* is the accuracy of always naming the commoner class.

| split | majority | accuracy | sensitivity | specificity | AUROC | AUPRC | ECE |
|---|---|---|---|---|---|---|---|
{figures}

On the test split, by what an image tells besides its label; *scanner* is the size of its images.
{boxes}A subgroup of few groups says little.

| subgroup | images | groups | AUROC | sensitivity | specificity |
|---|---|---|---|---|---|
{subgroups}

The variants on the test split ({test} images), by `sonolite convert`, each through
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

| tested on | images | AUROC | sensitivity | specificity | ECE |
|---|---|---|---|---|---|
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
BOXES = "*Box* is the images again, with boxes drawn otherwise than those of the data.\n"
CORRECTED = (
    "The biases of int8 are not those of float32: they take back what rounding its weights adds\n"
    "on average.\n\n"
)
STOPPED = """**The training was stopped after {epochs} epochs**, before what the recipe asks for.
"""
PARTED = "{count} groups have images on both sides, so patients may have, too"
WITHOUT_SCOPE = "The model does not notice a picture that shows something else."


def write_card(
    name: str,
    version: int,
    stage: Stage,
    record: Record,
    comparisons: Sequence[Comparison],
    sizes: Mapping[Variant, int],
    withheld: Mapping[Variant, float],
    interpreter: str,
    fine_tuning: FineTuning | None,
    placement: Placement | None,
    gpu: Sequence[GpuComparison],
    others: Sequence[Other],
) -> str:
    """Returns the card of a bundle.

    `sizes` are the variants' bytes, `withheld` the shares of the test images beyond the scope of
    each, empty of a model without a scope.
    """
    data = record.data
    counts = [
        f"| {part} | " + " | ".join(str(its.get(label, 0)) for label in stage.labels) + " |"
        for part, its in data.counts.items()
    ]
    names = ("accuracy", "sensitivity", "specificity", "auroc", "auprc", "ece")
    figures = [
        f"| {part} | {its.majority:.3f} | "
        + " | ".join(_with_interval(its, name) for name in names)
        + " |"
        for part, its in record.metrics.items()
    ]
    subgroups = [
        f"| {title}: {name} | {its.samples} | {its.groups} | "
        + " | ".join(_with_interval(its, figure) for figure in ("auroc", *names[1:3]))
        + " |"
        for title, groups in record.subgroups.items()
        for name, its in groups.items()
    ]
    return TEMPLATE.format(
        name=name,
        version=version,
        about=record.recipe.about,
        negative=stage.labels[0],
        positive=stage.positive,
        task=stage.task,
        preprocessing=stage.preprocessing,
        threshold=stage.operating_point.threshold,
        sensitivity=stage.operating_point.sensitivity,
        margin=stage.decision.margin,
        data=data.name,
        images=sum(sum(its.values()) for its in data.counts.values()),
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
        figures="\n".join(figures),
        subgroups="\n".join(subgroups),
        boxes=BOXES if "box" in record.subgroups else "",
        biases=CORRECTED if "int8" in sizes else "",
        fine_tuning="" if fine_tuning is None else f"Int8 was fine-tuned: {fine_tuning}.\n\n",
        edgetpu=_edgetpu(placement),
        gpu="; ".join(map(_gpu, gpu)) or "not tried.",
        others=OTHERS.format(rows="\n".join(map(_row, others))) if others else "",
        scope=_scope(record, withheld),
        test=sum(data.counts["test"].values()),
        interpreter=interpreter,
        variants=_variants(comparisons, sizes),
        stopped=STOPPED.format(epochs=len(record.history)) if record.interrupted else "",
        recipe=record.recipe_name,
        seed=record.seed,
        software=", ".join(f"{name} {its}" for name, its in record.software.items()),
        data_sha256=data.sha256,
        split_sha256=data.split_sha256,
    )


def _variants(comparisons: Sequence[Comparison], sizes: Mapping[Variant, int]) -> str:
    """The gate as a table: a column for each variant, those that could not be measured too."""
    named = {
        "variant": [str(its.variant) for its in comparisons],
        "---": ["---" for _ in comparisons],
        "bytes": [f"{sizes[its.variant]:,}" if its.variant in sizes else "" for its in comparisons],
        **rows(comparisons),
    }
    return "\n".join(
        f"| {' | '.join([name, *map(_on_one_line, cells)])} |" for name, cells in named.items()
    )


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
        records = [read_record(its) for its in sorted(folder.glob("fold*")) if its.is_dir()]
    else:
        other = read_record(folder)
        records = [other]
    for its in records:
        if its.recipe != record.recipe or not _is_of(its, record.data):
            raise BadInput(f"{folder}: of another recipe or other data")
        if its.interrupted:
            raise BadInput(f"{folder}: a training that was stopped before its end")
        if its.data.split_sha256 == record.data.split_sha256:
            raise BadInput(f"{folder}: of the very split that is converted")
    return other


def _is_of(other: Record, data: Data) -> bool:
    """Whether another run is of a data set, by its name and its images of each class.

    Where a scanner was held out, images of groups that have both sides were left out.
    """
    (name, theirs), (its_name, its) = _images(other.data), _images(data)
    fewer = other.held_out is not None and all(
        count <= its.get(label, 0) for label, count in theirs.items()
    )
    return name == its_name and (theirs == its or fewer)


def _images(data: Data) -> tuple[str, dict[str, int]]:
    """A data set by its name and its images of each class, however they are split."""
    labels = sorted({label for its in data.counts.values() for label in its})
    return data.name, {
        label: sum(its.get(label, 0) for its in data.counts.values()) for label in labels
    }


def _scope(record: Record, withheld: Mapping[Variant, float]) -> str:
    """What the model notices, and how many of the test images each variant would not judge."""
    if not withheld:
        return WITHOUT_SCOPE
    shares = ", ".join(f"{variant} {1 - its:.1%}" for variant, its in withheld.items())
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
    unplaced = "; ".join(f"{its.name}: {its.reason}" for its in placement.unplaced)
    return (
        f"{placement.share:.1%} of {len(placement.operators)} operations, "
        f"{placement.parameter_bytes:,} bytes of parameters; "
        + (f"left to the CPU: {unplaced}." if unplaced else "the rest is input and output.")
    )


def _gpu(its: GpuComparison) -> str:
    """How one variant did on a GPU."""
    if its.refused is not None:
        return f"{its.model} refused ({its.refused})"
    return (
        f"{its.model} within {its.largest_difference:.1e} on {its.adapter}, {its.share:.1%} of the "
        f"operations, {'held' if its.holds else 'not held'}"
    )


def _row(its: Other) -> str:
    """One line of the table of other splits."""
    if isinstance(its, CrossValidation):
        images = sum(fold.samples for fold in its.folds)
        return (
            f"| each group once, in {len(its.folds)} folds | {images} "
            f"| {its.auroc:.3f} ±{its.auroc_deviation:.3f} "
            f"| {_with_interval(its.together, 'sensitivity')} "
            f"| {_with_interval(its.together, 'specificity')} | {its.together.ece:.3f} |"
        )
    test, held_out = its.metrics["test"], its.held_out or "other groups"
    what = f"all scanners but {held_out[1:]}" if held_out.startswith("!") else held_out
    if its.parted:
        what += f"; {PARTED.format(count=its.parted)}"
    figures = (_with_interval(test, name) for name in ("auroc", "sensitivity", "specificity"))
    return f"| {what} | {test.samples} | {' | '.join(figures)} | {test.ece:.3f} |"


def _with_interval(its: PartialMetrics, name: str) -> str:
    """A figure with its 95 % interval; a dash where there is none."""
    figure, interval = getattr(its, name), its.intervals.get(name)
    if figure is None:
        return "-"
    return f"{figure:.3f}" + (f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else "")
