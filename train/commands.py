"""`sonolite train` and `sonolite evaluate`, shown where the host extra is installed."""

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from devices import BadInput
from devices.quiet import quiet
from train.terminal import figures_table, progress_bar, tracked

if TYPE_CHECKING:
    from rich.progress import TaskID

    from train.fit import Epoch
    from train.metrics import Metrics

if find_spec("tensorflow") is None:
    raise ModuleNotFoundError("the host extra is not installed: pip install 'sonolite[train]'")

DATA_HELP = "CSV, Pascal VOC folder or class folders."


def register(app: typer.Typer) -> None:
    """Adds this module's commands to the root app."""
    app.command()(train)
    app.command()(evaluate)


@quiet()
def train(
    data: Annotated[Path, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path, typer.Option(help="The run's folder; it must not exist yet.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe, or a path.")] = "seed-cnn",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides split and weights.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The record to stdout.")] = False,
) -> None:
    """Train, calibrate and choose the operating point; leave a run's folder.

    Example: sonolite train my-images --recipe seed-cnn --out run
    """
    from train.training import Watch, train_run

    console = Console(stderr=True)

    def tell(epoch: "Epoch") -> None:
        console.print(
            f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, validation loss "
            f"{epoch.validation_loss:.4f}, validation AUROC {epoch.validation_auroc:.4f}"
        )

    with progress_bar() as bar:
        console = bar.console
        learning: list[TaskID] = []
        watch = Watch(
            images=tracked(bar, "images"),
            begin=lambda batches: learning.append(bar.add_task("learning", total=batches)),
            batch=lambda: bar.advance(learning[0]),
            epoch=tell,
            note=lambda line: console.print(f"note: {line}", soft_wrap=True),
        )
        record = train_run(data, recipe, out, seed, watch)
    if as_json:
        print(json.dumps(asdict(record)))
        return
    Console().print(metrics_table({str(part): its for part, its in record.metrics.items()}))
    console.print(f"{out}: model.keras, run.json, split.csv, report.html", soft_wrap=True)
    console.print(f"next: sonolite convert {out} --out {out.name}.sonolite", soft_wrap=True)


@quiet()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    data: Annotated[Path, typer.Option(help=DATA_HELP)],
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
