"""`sonolite bench`: speed, side by side with the bare interpreter and other software."""

from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Annotated

import cv2
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from devices import BadInput
from edge_runtime.bench.measure import PEER_WORKLOADS, measure, write_bench
from edge_runtime.bench.report import bench_rows, draw_histograms, ratios
from edge_runtime.bundle.archive import open_trusted
from edge_runtime.bundle.manifest import Variant
from edge_runtime.bundle.shipped import DEMO_KEYS, open_shipped
from edge_runtime.bundle.trust import TRUST_VARIABLE, admitted_versions
from edge_runtime.commands.options import RoiOption, trusted_keys
from edge_runtime.files import refuse_unwritable, whole_file
from edge_runtime.screen.region import parse_roi
from edge_runtime.text import say, table_cell


def bench(
    source: Annotated[str, typer.Option(help="A recording: a video, a DICOM file, a folder.")],
    bundle: Annotated[
        Path | None, typer.Argument(help="Whose model runs; else the one in the package.")
    ] = None,
    roi: RoiOption = None,
    against: Annotated[
        str, typer.Option(help=f"Others on the same model and frames: {', '.join(PEER_WORKLOADS)}.")
    ] = "",
    frames: Annotated[
        int, typer.Option(min=20, help="Of each contender; the recording is repeated.")
    ] = 3000,
    rounds: Annotated[int, typer.Option(min=1, max=99, help="Their median is told.")] = 5,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Of each interpreter.")] = 1,
    variant: Annotated[Variant | None, typer.Option(help="Which model; else int8.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the figures, NAME.json.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the latencies, NAME.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures to stdout.")] = False,
) -> None:
    """Measure this machine: bare decoding, bare inference, and the whole way in between.

    Every contender runs in a process of its own, all of them once in each round.

    Example: sonolite bench --source sweep.mp4 --roi 220,90,180,150 --against loop --plot bench.png
    """
    peers = [word for word in against.split(",") if word]
    if strange := [word for word in peers if word not in PEER_WORKLOADS]:
        raise BadInput(f"--against {strange[0]}: there are {', '.join(PEER_WORKLOADS)}")
    if roi is not None:
        parse_roi(roi)
    for path in (path for path in (out, plot) if path is not None):
        refuse_unwritable(path)
    with ExitStack() as stack:
        environment = {}
        if bundle is None:
            opened = stack.enter_context(open_shipped())
            folder = stack.enter_context(resources.as_file(DEMO_KEYS))
            environment[TRUST_VARIABLE] = str(folder)
        else:
            opened = open_trusted(bundle, trusted_keys(), admitted_versions())
        status = stack.enter_context(Console(stderr=True).status("starting"))
        figures = measure(
            opened.path,
            opened.id,
            source,
            roi,
            frames,
            threads,
            rounds,
            peers,
            variant,
            environment,
            status.update,
        )
    if out is not None:
        with whole_file(out) as part:
            part.write_bytes(write_bench(figures))
    if plot is not None:
        with whole_file(plot) as part:
            cv2.imwrite(str(part), draw_histograms(figures))
    if as_json:
        print(write_bench(figures).decode(), end="")
        return
    head, *body = bench_rows(figures)
    table = Table(box=SIMPLE_HEAD)
    for number, title in enumerate(head):
        table.add_column(title, justify="right" if number else "left")
    for row in body:
        table.add_row(*map(table_cell, row))
    screen = Console()
    screen.print(table)
    for name, value in ratios(figures):
        screen.print(f"{value:8.2f}  {name}", highlight=False, markup=False)
    for path in (path for path in (out, plot) if path is not None):
        say(f"saved {path}")
