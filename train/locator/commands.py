"""What `sonolite train` and `evaluate` do for a locator."""

import json
from pathlib import Path

from rich.console import Console

from edge_runtime.files import whole_file
from train.locator.metrics import ClipFigures, Figure
from train.terminal import figures_table, progress_bar, tracked


def train_on_terminal(
    folders: list[Path],
    recipe: str,
    out: Path,
    seed: int,
    other: Path | None,
    start_from: Path | None,
    resume: bool,
    as_json: bool,
) -> bool:
    """Trains with a progress bar, and shows the figures; whether it was interrupted."""
    from devices.schema_io import plain
    from train.locator.run import Step
    from train.locator.training import LocatorCallbacks, train_locator

    with progress_bar() as bar:
        console = bar.console
        task = bar.add_task("learning", total=None, visible=False)

        def tell(step: Step) -> None:
            console.print(
                f"step {step.step}: loss of scores {step.score_loss:.4f}, of sides "
                f"{step.sides_loss:.4f}, {step.seconds:.0f} s",
                soft_wrap=True,
            )

        record = train_locator(
            folders,
            recipe,
            out,
            seed,
            other,
            start_from,
            resume,
            LocatorCallbacks(
                pictures=tracked(bar, "pictures"),
                begin=lambda steps: bar.update(task, total=steps, visible=True),
                steps=lambda number: bar.update(task, completed=number),
                line=tell,
                note=lambda text: console.print(f"note: {text}", markup=False, soft_wrap=True),
                scores=tracked(bar, "choosing the scores"),
            ),
        )
    if as_json:
        print(json.dumps(plain(record)))
    else:
        show(
            {str(part): figures for part, figures in record.metrics.items()},
            {str(part): figures for part, figures in record.clips.items()},
        )
    console.print(f"{out}: open report.html; all else is beside it", markup=False, soft_wrap=True)
    line = f"next: sonolite convert {out} --classifier nodule.sonolite --out {out.name}.sonolite"
    if record.interrupted:
        line = "stopped early; --resume goes on"
    console.print(line, markup=False, soft_wrap=True)
    return record.interrupted


def evaluate_on_terminal(
    run: Path,
    data: Path,
    images: Path | None,
    allow_seen: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Measures with a progress bar, and shows the figures."""
    from devices.schema_io import plain
    from train.locator.evaluation import evaluate_locator
    from train.locator.report import evaluation_page
    from train.locator.run import read_locator_run

    trained = read_locator_run(run, images)
    with progress_bar() as bar:
        console = bar.console
        evaluation, judged = evaluate_locator(
            trained,
            data,
            allow_seen,
            lambda line: console.print(f"note: {line}", markup=False, soft_wrap=True),
            tracked(bar, "pictures"),
        )
    if as_json:
        print(json.dumps(plain(evaluation)))
    else:
        clips = {data.name: evaluation.clips} if evaluation.clips else {}
        show({data.name: evaluation.metrics}, clips)
    if report is not None:
        page = evaluation_page(data.name, trained.record, evaluation, judged)
        with whole_file(report) as part:
            part.write_text(page)
        console.print(f"{report}: curves, clips and mistakes", markup=False, soft_wrap=True)


def show(alone: dict[str, dict[str, Figure]], clips: dict[str, ClipFigures]) -> None:
    """The figures of the pictures and of the clips, as tables."""
    names = list(next(iter(alone.values())))
    table = {
        name: [
            f"{found[name].value:.4f}\n{found[name].low:.3f}…{found[name].high:.3f}"
            if name in found
            else ""
            for found in alone.values()
        ]
        for name in names
    }
    Console().print(figures_table(list(alone), table))
    if clips:
        words = {
            "frames": "frames",
            "marked": "with a nodule",
            "found": "of these with a box",
            "false": "empty with a box",
            "false_far": "the same, far from a nodule",
            "delay": "seconds to the box",
            "false_tracks": "false tracks a minute",
            "iou": "IoU",
        }
        shown = {
            text: [_cell(getattr(figures, name)) for figures in clips.values()]
            for name, text in words.items()
        }
        Console().print(figures_table([str(part) for part in clips], shown))


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"
