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
from devices.schema_io import plain
from train.recipe_commands import recipes
from train.terminal import figures_table, progress_bar, tracked

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from train.cross_validation import CrossValidation
    from train.fit import Callbacks
    from train.learner import Epoch
    from train.metrics import Metrics, PartialMetrics
    from train.plan import Changes

if find_spec("tensorflow") is None:
    raise ModuleNotFoundError("the host extra is not installed: pip install 'sonolite[train]'")

TIRADS_HELP = "Grades to classes, as 2=benign,3=benign,5=malignant."
MAX_CLASSES = 10
"""Of more a terminal shows the means alone; `report.html` has all."""
NO_OUT = "--out FOLDER: where the run is written; --preview FILE.png only looks"
DATA_HELP = "CSV, Pascal VOC, DDTI or class folders, of images or DICOM files."


def register(app: typer.Typer) -> None:
    """Adds this module's commands to the root app."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(compare)
    app.add_typer(recipes, name="recipe")


@quiet()
def train(
    data: Annotated[Path, typer.Argument(help=DATA_HELP)],
    out: Annotated[
        Path | None, typer.Option(help="The new folder of the run, such as run.")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="A shipped recipe, or a file, such as mine.toml.")
    ] = "efficientnet-lite0",
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the split and of the first weights.")
    ] = 0,
    folds: Annotated[
        int | None,
        typer.Option(min=2, max=100, help="Cross-validate with a run for each fold, such as 5."),
    ] = None,
    hold_out: Annotated[
        str | None,
        typer.Option(
            help="Test on the images of one size, such as 718x500, or on all others: !718x500."
        ),
    ] = None,
    part_groups: Annotated[
        bool,
        typer.Option(
            "--part-groups",
            help="With --hold-out: divide a group by scanner; without it the rest of a tested "
            "group is left out.",
        ),
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(
            help="The classes, such as benign,malignant; the positive one of two comes last. "
            "Without it those of the data."
        ),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(help="The positive one of two classes: its sensitivity is promised."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help='What the classes tell apart, such as "breast mass"; card and results name it.'
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Epochs of each network, such as 12.")
    ] = None,
    no_distillation: Annotated[
        bool,
        typer.Option(
            "--no-distillation", help="One network, without teachers: a fifth of the time."
        ),
    ] = False,
    tirads: Annotated[str | None, typer.Option(help=TIRADS_HELP)] = None,
    drop_leaks: Annotated[
        bool,
        typer.Option(
            "--drop-leaks",
            help="Where the split of the data has near duplicates on two sides, drop the training "
            "image, or the validation image where the other one tests.",
        ),
    ] = False,
    other: Annotated[
        Path | None,
        typer.Option(
            help="Images and videos of something else, such as other organs: the model learns to "
            "give pictures like them no label."
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="More marked pictures or clips, for the recipe of a locator."),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Begin with the weights of this run of a locator."),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            help="Train nothing: draw what was read, with boxes and labels, such as sheet.png."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was broken off.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record to stdout as JSON.")
    ] = False,
) -> None:
    """Train a model on labelled images, calibrate it, and choose the operating point.

    If the data have other classes than a shipped recipe, the classes of the data count.
    Ctrl-C ends the training after the last whole epoch, or for a locator after the last whole
    fifty steps. --resume goes on from there.

    Examples: sonolite train my-images --out run

    sonolite train my-images --preview sheet.png

    sonolite train my-images --no-distillation --epochs 12 --out quick

    sonolite train my-images --folds 5 --out folds

    sonolite train my-images --hold-out 718x500 --out other-scanner

    sonolite train my-images --other breasts-and-lungs --out run

    sonolite train my-images --also my-clips --recipe nodule-locator --out locator

    sonolite train my-images --recipe nodule-locator --preview sheet.png

    On several machines: the same command on each, with TensorFlow's TF_CONFIG.
    """
    from train.arguments import check_training
    from train.importers.ddti import parse_grades
    from train.locator.recipe import is_locator
    from train.plan import Changes

    if is_locator(recipe):
        changed = (
            part_groups or no_distillation or drop_leaks or labels or positive or task or tirads
        )
        if folds or hold_out or epochs or changed:
            raise BadInput(
                f"--recipe {recipe}: a locator takes --out, --also, --other, --start-from, --seed, "
                "--preview, --resume, --json alone"
            )
        folders = [data, *(also or ())]
        if preview is not None:
            _draw_marked_preview(preview, folders, seed)
            return
        if out is None:
            raise BadInput(NO_OUT)
        from train.locator.commands import train_on_terminal

        if train_on_terminal(folders, recipe, out, seed, other, start_from, resume, as_json):
            raise typer.Exit(130)
        return
    for option, given in (("--also", also), ("--start-from", start_from)):
        if given:
            raise BadInput(f"{option}: goes with the recipe of a locator, which {recipe} is not")
    if folds and hold_out:
        raise BadInput("--folds and --hold-out: one of them")
    if part_groups and not hold_out:
        raise BadInput("--part-groups goes with --hold-out")
    changes = Changes(
        labels=tuple(word.strip() for word in labels.split(",")) if labels else (),
        positive=positive,
        task=task,
        epochs=epochs,
        distillation=not no_distillation,
        tirads=parse_grades(tirads) if tirads else None,
    )
    if preview is not None:
        _draw_preview(preview, data, recipe, changes, seed)
        return
    if out is None:
        raise BadInput(NO_OUT)
    check_training(data, recipe, out, resume, folds is not None, changes, other)

    from train.cluster import read_cluster
    from train.cross_validation import cross_validate
    from train.fit import Callbacks
    from train.training import train_run

    if folds and read_cluster(os.environ)[0]:
        raise BadInput("--folds: not on several machines; unset TF_CONFIG")
    with progress_bar() as bar:
        console = bar.console
        callbacks = training_callbacks(bar, Callbacks)
        if folds:
            summary = cross_validate(
                data, recipe, out, seed, folds, resume, callbacks, changes, other
            )
        else:
            record = train_run(
                data,
                recipe,
                out,
                seed,
                hold_out,
                resume,
                callbacks,
                part_groups,
                changes,
                drop_leaks,
                other,
            )
    if folds:
        print(json.dumps(plain(summary))) if as_json else Console().print(folds_table(summary))
    elif record is None:
        console.print("done; the chief writes the run", soft_wrap=True)
    elif as_json:
        print(json.dumps(plain(record)))
    else:
        Console().print(
            metrics_table({str(part): metrics for part, metrics in record.metrics.items()})
        )
        line = f"{out}: open report.html; all else is beside it"
        console.print(line, markup=False, soft_wrap=True)
        if not record.interrupted:
            line = f"next: sonolite convert {out} --out {out.name}.sonolite"
            console.print(line, markup=False, soft_wrap=True)
    if not folds and record is not None and record.interrupted:
        console.print("stopped early; --resume goes on", soft_wrap=True)
        raise typer.Exit(130)


def _draw_preview(path: Path, data: Path, recipe: str, changes: "Changes", seed: int) -> None:
    """Shows what would be learnt from, and says how it was read."""
    from train.plan import make_plan
    from train.preview import write_preview
    from train.samples import tell_dropped

    plan = make_plan(data, recipe, changes)
    with progress_bar() as bar:
        read = plan.collection
        for line in (
            f"data: {read.summary}",
            plan.assumed,
            *read.notes,
            *tell_dropped(read.dropped),
        ):
            bar.console.print(f"note: {line}", markup=False, soft_wrap=True)
        labels = plan.recipe.task.labels
        drawn = write_preview(path, plan.collection, labels, seed, tracked(bar, "images"))
        line = f"{path}: {drawn} of {len(plan.collection.samples)} images"
        bar.console.print(line, markup=False, soft_wrap=True)


def _draw_marked_preview(path: Path, folders: list[Path], seed: int) -> None:
    """Shows what a locator would learn from, and says how it was read."""
    from train.importers.boxes import read_marked
    from train.preview import write_marked_preview
    from train.samples import tell_dropped

    collections = [read_marked(folder) for folder in folders]
    with progress_bar() as bar:
        for collection in collections:
            lines = (*collection.notes, *tell_dropped(collection.dropped))
            for line in (f"data: {collection.summary}", *lines):
                bar.console.print(f"note: {line}", markup=False, soft_wrap=True)
        drawn = write_marked_preview(path, collections, seed, tracked(bar, "pictures"))
        every = sum(len(collection.pictures) for collection in collections)
        line = f"{path}: {drawn} of {every} pictures"
        bar.console.print(line, markup=False, soft_wrap=True)


def training_callbacks(bar: "Progress", kind: "type[Callbacks]") -> "Callbacks":
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
        typer.Option(
            help="Images and videos of something else: how well does the model tell them apart?"
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Where the images of the run lie now, if they were moved."),
    ] = None,
    tirads: Annotated[str | None, typer.Option(help=TIRADS_HELP)] = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Also measure images that the model learnt from.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Of a locator: write a page with curves, clips and the worst mistakes."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures to stdout as JSON.")
    ] = False,
) -> None:
    """Measure the float model of a run on other data.

    It refuses images that the run trained or validated on, near duplicates of them, and other
    images of their groups that lie beside them.

    Examples: sonolite evaluate run --data other-hospital --out-of-scope lungs

    sonolite evaluate locator --data other-clips --report clips.html
    """
    from train.arguments import check_evaluation
    from train.importers.ddti import parse_grades
    from train.locator.recipe import is_locator_run

    if is_locator_run(run):
        if out_of_scope or tirads:
            raise BadInput("a locator takes --data, --images, --allow-seen, --report, --json alone")
        from train.locator.commands import evaluate_on_terminal

        evaluate_on_terminal(run, data, images, allow_seen, report, as_json)
        return
    if report is not None:
        raise BadInput(f"--report: goes with a locator, which {run} is not; it has a report.html")

    grades = parse_grades(tirads) if tirads else None
    check_evaluation(run, data, out_of_scope, grades)

    from train.evaluation import evaluate_run
    from train.run import read_run

    trained = read_run(run, images)
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
    if evaluation.withheld is not None:
        Console().print(
            f"{evaluation.withheld:.1%} of the images lie beyond the scope of the float model"
        )
    if evaluation.out_of_scope is not None:
        others = evaluation.out_of_scope
        Console().print(
            f"out of scope: AUROC {others.auroc:.4f} over {others.pictures} pictures; "
            f"{others.noticed:.1%} of them are noticed"
        )
        for kind, share in others.by_kind.items() if len(others.by_kind) > 1 else ():
            Console().print(f"  {kind}: {share:.1%}", markup=False, highlight=False)


@quiet()
def compare(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    data: Annotated[
        Path | None, typer.Option(help="Where the images of the run lie now, if they were moved.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures to stdout as JSON.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the figures as a Markdown table.")
    ] = False,
) -> None:
    """Compare the network of a run with classical methods on the same split.

    The methods are support vectors and boosted trees on texture and gradient features. It takes
    minutes.

    Example: sonolite compare run
    """
    from train.arguments import require_run
    from train.locator.recipe import is_locator_run

    if is_locator_run(run):
        raise BadInput(f"{run}: the run of a locator; compare takes the run of a classifier")
    require_run(run)

    from train.compare import compare as compare_methods
    from train.compare import comparison_table, markdown_table
    from train.run import read_run

    trained = read_run(run, data)
    with progress_bar() as bar:
        comparison = compare_methods(
            trained, lambda name, items: bar.track(items, description=name)
        )
    if as_json:
        print(json.dumps(plain(comparison)))
    elif markdown:
        print(markdown_table(comparison))
    else:
        Console().print(comparison_table(comparison))


def folds_table(summary: "CrossValidation") -> Table:
    """The figures of each fold, and of all folds together."""
    from train.metrics import shown_in

    columns = [str(number) for number in range(1, len(summary.folds) + 1)]
    rows: dict[str, list[str]] = {}
    for name, metric in shown_in("folds", max(2, len(summary.together.by_class))).items():
        together = _with_interval(summary.together, name)
        if name == "auroc":
            together = f"{summary.auroc:.4f} ±{summary.auroc_deviation:.4f}"
        folds = [metric.text(getattr(fold, name), more=1) for fold in summary.folds]
        rows[name] = [*folds, together]
    return figures_table([*columns, "together"], rows)


def metrics_table(columns: dict[str, "Metrics"]) -> Table:
    """The figures of one or more sets of images, a column each."""
    from train.metrics import metrics_of, shown_in

    labels = [*next(iter(columns.values())).by_class]
    rows = {"images": [str(metrics.samples) for metrics in columns.values()]}
    for name in metrics_of(max(2, len(labels))):
        rows[name] = [_with_interval(metrics, name) for metrics in columns.values()]
    for label in labels[:MAX_CLASSES]:
        for name, metric in shown_in("classes").items():
            rows[f"{metric.column}, {label}"] = [
                _with_interval(metrics.by_class[label], name) for metrics in columns.values()
            ]
    if not labels:
        for name in ("true_positive", "false_negative", "true_negative", "false_positive"):
            rows[name] = [str(getattr(metrics.confusion, name)) for metrics in columns.values()]
    return figures_table(list(columns), rows)


def _with_interval(metrics: "PartialMetrics", name: str) -> str:
    """A figure, and beneath it its 95 % interval."""
    from train.metrics import METRICS

    figure, interval, metric = getattr(metrics, name), metrics.intervals.get(name), METRICS[name]
    if figure is None:
        return "-"
    between = "" if interval is None else "\n" + "-".join(map(metric.text, interval))
    return metric.text(figure, more=1) + between
