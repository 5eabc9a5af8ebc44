"""`sonolite train` and `sonolite evaluate`, shown where the host extra is installed."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from devices import BadInput
from devices.quiet import quiet
from edge_runtime.atomic import refuse_existing
from edge_runtime.result import NOTICE

if TYPE_CHECKING:
    from train.metrics import Metrics

if find_spec("tensorflow") is None:
    raise ModuleNotFoundError("the host extra is not installed: pip install 'sonolite[train]'")

T = TypeVar("T")

DataArgument = Annotated[Path, typer.Argument(help="CSV, Pascal VOC folder or class folders.")]


def register(app: typer.Typer) -> None:
    """Adds this module's commands to the root app."""
    app.command()(train)
    app.command()(evaluate)


def progress_bar() -> Progress:
    """The one progress bar of the host commands, with the time that remains."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def tracked(bar: Progress, name: str) -> Callable[[Iterable[T]], Iterable[T]]:
    """Shows an iteration on a progress bar that is already open."""
    return lambda items: bar.track(items, description=name)


@quiet()
def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="The run's folder; it must not exist yet.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe, or a path.")] = "seed-cnn",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides split and weights.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The record to stdout.")] = False,
) -> None:
    """Train, calibrate and choose the operating point; leave a run's folder.

    Example: sonolite train my-images --recipe seed-cnn --out run
    """
    from edge_runtime import preprocess
    from train.fit import Epoch, fit, predict
    from train.metrics import as_labels, measure
    from train.recipe import read_recipe
    from train.run import SCHEMA, Record, describe_data, software, write_run
    from train.samples import load_pictures, read_samples
    from train.split import PARTS, split_by_group

    console = Console(stderr=True)
    refuse_existing(out)
    plan = read_recipe(recipe)
    samples = read_samples(data, plan.task)
    if len({sample.group for sample in samples}) == len(samples):
        console.print(
            "note: no groups are known, so each image is a group of its own; images of one "
            "patient may stand on two sides of the split, and the figures will flatter",
            soft_wrap=True,
        )
    split = split_by_group(samples, plan.task, seed)
    root = data if data.is_dir() else data.parent
    with progress_bar() as bar:
        pictures = load_pictures(
            split.samples, preprocess.parse(plan.preprocessing), tracked(bar, "images")
        )
        labels = as_labels([sample.label for sample in split.samples], plan.task.labels[-1])
        members = {part: [its == part for its in split.parts] for part in PARTS}
        data_by_part = {part: (pictures[members[part]], labels[members[part]]) for part in PARTS}
        batches = -(-len(data_by_part["train"][0]) // plan.fit.batch)
        learning = bar.add_task("learning", total=batches * plan.fit.epochs)

        def tell(epoch: Epoch) -> None:
            bar.console.print(
                f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, validation loss "
                f"{epoch.validation_loss:.4f}, validation AUROC {epoch.validation_auroc:.4f}"
            )

        fitted = fit(
            plan,
            seed,
            data_by_part["train"],
            data_by_part["validation"],
            on_batch=lambda: bar.advance(learning),
            on_epoch=tell,
        )
    answers = {
        part: (data_by_part[part][1], predict(fitted.model, data_by_part[part][0])[:, 1])
        for part in PARTS
    }
    metrics = {part: measure(*answers[part], fitted.threshold) for part in PARTS}
    record = Record(
        schema=SCHEMA,
        recipe_name=Path(recipe).stem,
        recipe=plan,
        seed=seed,
        software=software(),
        data=describe_data(data.resolve().stem, root.absolute(), split, pictures),
        history=fitted.history,
        best_epoch=fitted.best_epoch,
        temperature=fitted.temperature,
        threshold=fitted.threshold,
        metrics=metrics,
        model_sha256="",  # known once the model is written
    )
    record = write_run(out, record, split, fitted.model, answers)
    if as_json:
        print(json.dumps(asdict(record)))
        return
    Console().print(metrics_table({str(part): its for part, its in metrics.items()}))
    console.print(f"{out}: model.keras, run.json, split.csv, report.html")
    console.print(f"next: sonolite convert {out} --out {out.name}.sonolite")


@quiet()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    data: Annotated[Path, typer.Option(help="CSV, Pascal VOC folder or class folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="The figures to stdout.")] = False,
) -> None:
    """Measure the float model of a run on other data.

    Example: sonolite evaluate run --data other-hospital
    """
    from edge_runtime import preprocess
    from train.fit import predict
    from train.metrics import as_labels, measure
    from train.run import read_run
    from train.samples import load_pictures, read_samples, require_both_classes

    trained = read_run(run)
    task = trained.record.recipe.task
    samples = read_samples(data, task)
    require_both_classes(samples, task, str(data))
    with progress_bar() as bar:
        pictures = load_pictures(
            samples,
            preprocess.parse(trained.record.recipe.preprocessing),
            tracked(bar, "images"),
        )
    labels = as_labels([sample.label for sample in samples], task.labels[-1])
    try:
        metrics = measure(labels, predict(trained.model, pictures)[:, 1], trained.record.threshold)
    except ValueError as error:
        raise BadInput(f"{run}: {error}") from error
    if as_json:
        print(json.dumps(asdict(metrics)))
    else:
        Console().print(metrics_table({data.name: metrics}))


def metrics_table(columns: dict[str, "Metrics"]) -> Table:
    """The figures of one or more sets of images, a column each, with the majority's accuracy."""
    rows = {"images": [str(its.samples) for its in columns.values()]}
    for name in ("accuracy", "majority", "sensitivity", "specificity", "f1", "auroc"):
        rows[name] = [f"{getattr(its, name):.4f}" for its in columns.values()]
    for name in ("true_positive", "false_negative", "true_negative", "false_positive"):
        rows[name] = [str(getattr(its.confusion, name)) for its in columns.values()]
    return figures_table(list(columns), rows)


def figures_table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Table:
    """Figures by name, a column for each thing that was measured; fits a narrow terminal."""
    table = Table("", box=SIMPLE_HEAD, caption=NOTICE)
    for column in columns:
        table.add_column(column, justify="right")
    for name, cells in rows.items():
        table.add_row(name.replace("_", " "), *cells)
    return table
