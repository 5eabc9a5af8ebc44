"""`sonolite train` and `sonolite evaluate`, shown where the host extra is installed."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from devices import BadInput
from devices.quiet import quiet
from devices.records import plain
from train.terminal import figures_table, progress_bar, tracked

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from train.cross_validation import CrossValidation
    from train.fit import Watch
    from train.learner import Epoch
    from train.metrics import Metrics

if find_spec("tensorflow") is None:
    raise ModuleNotFoundError("the host extra is not installed: pip install 'sonolite[train]'")

FIGURES = (
    *("accuracy", "majority", "sensitivity", "specificity", "ppv", "npv", "f1"),
    *("auroc", "auprc", "ece"),
)
TIRADS_HELP = "Grades to classes, as 2=benign,3=benign,5=malignant."
DATA_HELP = "CSV, Pascal VOC, DDTI or class folders, of images or DICOM files."


def register(app: typer.Typer) -> None:
    """Adds this module's commands to the root app."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(compare)


@quiet()
def train(
    data: Annotated[Path, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path, typer.Option(help="The run's folder; it must not exist yet.")],
    recipe: Annotated[
        str, typer.Option(help="A shipped recipe, or a path.")
    ] = "efficientnet-lite0",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides split and weights.")] = 0,
    folds: Annotated[
        int | None, typer.Option(min=2, max=100, help="Cross-validate: a run for each fold.")
    ] = None,
    hold_out: Annotated[
        str | None,
        typer.Option(help="Test on one scanner's images, WIDTHxHEIGHT, or on all others, !WxH."),
    ] = None,
    part_groups: Annotated[
        bool,
        typer.Option(
            "--part-groups",
            help="With --hold-out: part groups of several scanners; else what is left is left out.",
        ),
    ] = False,
    tirads: Annotated[str | None, typer.Option(help=TIRADS_HELP)] = None,
    other: Annotated[
        Path | None,
        typer.Option(help="Images and videos of what is out of scope, to notice their like by."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was broken off.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The record to stdout.")] = False,
) -> None:
    """Train, calibrate and choose the operating point; leave a run's folder.

    Ctrl-C ends it with the last whole epoch; --resume goes on from there.

    Examples: sonolite train my-images --out run

    sonolite train my-images --folds 5 --out folds

    sonolite train my-images --hold-out 718x500 --out other-scanner

    sonolite train my-images --other breasts-and-lungs --out run

    On several machines: the same command on each, with TensorFlow's TF_CONFIG.
    """
    from train.cluster import read_cluster
    from train.cross_validation import cross_validate
    from train.fit import Watch
    from train.importers.ddti import parse_grades
    from train.training import train_run

    if folds and hold_out:
        raise BadInput("--folds and --hold-out: one of them")
    if part_groups and not hold_out:
        raise BadInput("--part-groups goes with --hold-out")
    if folds and read_cluster(os.environ)[0]:
        raise BadInput("--folds: not on several machines; unset TF_CONFIG")
    with progress_bar() as bar:
        console = bar.console
        watch = watching(bar, Watch)
        grades = parse_grades(tirads) if tirads else None
        if folds:
            summary = cross_validate(data, recipe, out, seed, folds, resume, watch, grades, other)
        else:
            record = train_run(
                data, recipe, out, seed, hold_out, resume, watch, part_groups, grades, other
            )
    if folds:
        print(json.dumps(plain(summary))) if as_json else Console().print(folds_table(summary))
    elif record is None:
        console.print("done; the chief writes the run", soft_wrap=True)
    elif as_json:
        print(json.dumps(plain(record)))
    else:
        Console().print(metrics_table({str(part): its for part, its in record.metrics.items()}))
        line = f"{out}: open report.html; all else is beside it"
        console.print(line, markup=False, soft_wrap=True)
        if not record.interrupted:
            line = f"next: sonolite convert {out} --out {out.name}.sonolite"
            console.print(line, markup=False, soft_wrap=True)
    if not folds and record is not None and record.interrupted:
        console.print("stopped early; --resume goes on", soft_wrap=True)
        raise typer.Exit(130)


def watching(bar: "Progress", kind: "type[Watch]") -> "Watch":
    """Shows a training on a progress bar, and each epoch as a line."""
    learning: list[TaskID] = []

    def begin(batches: int) -> None:
        for done in learning:
            bar.remove_task(done)
        learning[:] = [bar.add_task("learning", total=batches)]

    def tell(epoch: "Epoch") -> None:
        bar.console.print(
            f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, validation loss "
            f"{epoch.validation_loss:.4f}, validation AUROC {epoch.validation_auroc:.4f}, "
            f"{epoch.seconds:.0f} s",
            soft_wrap=True,
        )

    return kind(
        images=tracked(bar, "images"),
        varying=tracked(bar, "as other scanners show them"),
        others=tracked(bar, "other pictures"),
        begin=begin,
        batch=lambda: bar.advance(learning[0]),
        epoch=tell,
        note=lambda line: bar.console.print(f"note: {line}", markup=False, soft_wrap=True),
    )


@quiet()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    data: Annotated[Path, typer.Option(help=DATA_HELP)],
    out_of_scope: Annotated[
        Path | None,
        typer.Option(help="Images and videos of what must not be judged; told apart how well?"),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Where the images of the run lie now, if they were moved."),
    ] = None,
    tirads: Annotated[str | None, typer.Option(help=TIRADS_HELP)] = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Measure images that the model learnt from, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The figures to stdout.")] = False,
) -> None:
    """Measure the float model of a run on other data.

    Images that the run trained or validated on, near duplicates of them, and other images of their
    groups that lie beside them are refused.

    Example: sonolite evaluate run --data other-hospital --out-of-scope lungs
    """
    from train.evaluation import evaluate_run
    from train.importers.ddti import parse_grades
    from train.run import read_run

    trained = read_run(run, images)
    grades = parse_grades(tirads) if tirads else None
    with progress_bar() as bar:
        evaluation = evaluate_run(
            trained,
            data,
            out_of_scope,
            grades,
            allow_seen,
            lambda line: bar.console.print(f"note: {line}", markup=False, soft_wrap=True),
            tracked(bar, "images"),
        )
    if as_json:
        print(json.dumps(plain(evaluation)))
        return
    Console().print(metrics_table({data.name: evaluation.metrics}))
    for reason, count in evaluation.dropped.items():
        Console().print(f"{count} dropped: {reason}")
    if evaluation.withheld is not None:
        Console().print(
            f"{evaluation.withheld:.1%} of the images lie beyond the scope of the float model"
        )
    if evaluation.out_of_scope is not None:
        its = evaluation.out_of_scope
        Console().print(
            f"out of scope: AUROC {its.auroc:.4f} over {its.pictures} pictures; {its.noticed:.1%} "
            "of them are noticed"
        )
        for kind, share in its.by_kind.items() if len(its.by_kind) > 1 else ():
            Console().print(f"  {kind}: {share:.1%}", markup=False, highlight=False)


@quiet()
def compare(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    data: Annotated[
        Path | None, typer.Option(help="Where its images lie now, if they were moved.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures to stdout.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table for a page.")] = False,
) -> None:
    """Hold a run's network against classical methods on the same split.

    Texture and gradient features with support vectors and boosted trees; minutes, not hours.

    Example: sonolite compare run
    """
    from train.compare import compare as hold_against
    from train.compare import comparison_table, markdown_table
    from train.run import read_run

    trained = read_run(run, data)
    with progress_bar() as bar:
        comparison = hold_against(trained, lambda name, items: bar.track(items, description=name))
    if as_json:
        print(json.dumps(plain(comparison)))
    elif markdown:
        print(markdown_table(comparison))
    else:
        Console().print(comparison_table(comparison))


def folds_table(its: "CrossValidation") -> Table:
    """The figures of each fold, and what they come to."""
    columns = [str(number) for number in range(1, len(its.folds) + 1)]
    rows = {
        name: [f"{getattr(fold, name):.4f}" for fold in its.folds] + [together]
        for name, together in (
            ("auroc", f"{its.auroc:.4f} ±{its.auroc_deviation:.4f}"),
            *(
                (name, _with_interval(its.together, name))
                for name in ("accuracy", "sensitivity", "specificity", "ece")
            ),
        )
    }
    return figures_table([*columns, "together"], rows)


def metrics_table(columns: dict[str, "Metrics"]) -> Table:
    """The figures of one or more sets of images, a column each, with the majority's accuracy."""
    rows = {"images": [str(its.samples) for its in columns.values()]}
    for name in FIGURES:
        rows[name] = [_with_interval(its, name) for its in columns.values()]
    for name in ("true_positive", "false_negative", "true_negative", "false_positive"):
        rows[name] = [str(getattr(its.confusion, name)) for its in columns.values()]
    return figures_table(list(columns), rows)


def _with_interval(its: "Metrics", name: str) -> str:
    """A figure, and beneath it its 95 % interval."""
    figure, interval = getattr(its, name), its.intervals.get(name)
    if figure is None:
        return "-"
    return f"{figure:.4f}" + (f"\n{interval[0]:.3f}-{interval[1]:.3f}" if interval else "")
