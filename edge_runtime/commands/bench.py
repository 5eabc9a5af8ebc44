"""`sonolite bench`: the speed of this machine, compared with the bare interpreter."""

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
from edge_runtime.sinks.still import STILL_SUFFIXES
from edge_runtime.text import say, table_cell


def bench(
    source: Annotated[
        str,
        typer.Option(
            help="The recording to read: a video, a DICOM file or a folder, such as sweep.mp4."
        ),
    ],
    bundle: Annotated[
        Path | None,
        typer.Argument(
            help="The bundle to measure, NAME.sonolite; without it the bundle in the package."
        ),
    ] = None,
    roi: RoiOption = None,
    against: Annotated[
        str,
        typer.Option(
            help=f"Other software to measure: {', '.join(PEER_WORKLOADS)}, or both, with a comma."
        ),
    ] = "",
    frames: Annotated[
        int,
        typer.Option(
            min=20, help="Frames of each workload, such as 3000; a shorter recording is repeated."
        ),
    ] = 3000,
    rounds: Annotated[
        int,
        typer.Option(
            min=1,
            max=99,
            help="How often each workload runs, such as 5; the table shows the median.",
        ),
    ] = 5,
    threads: Annotated[
        int, typer.Option(min=1, max=64, help="Threads of each interpreter, such as 1.")
    ] = 1,
    variant: Annotated[
        Variant | None,
        typer.Option(help="The variant to measure, such as float32; without it int8."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Save the figures to a file, such as bench.json.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the latencies into a picture, such as bench.png.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures to stdout as JSON.")
    ] = False,
) -> None:
    """Measure this machine: decoding alone, inference alone, and the whole session.

    Each workload runs in its own process, once in each round. Without --roi the locator of the
    bundle finds the nodules.

    Example: sonolite bench --source sweep.mp4 --roi 220,90,180,150 --against loop --plot bench.png
    """
    peers = [word for word in against.split(",") if word]
    if unknown := [word for word in peers if word not in PEER_WORKLOADS]:
        raise BadInput(f"--against {unknown[0]}: there are {', '.join(PEER_WORKLOADS)}")
    if roi is not None:
        parse_roi(roi)
    if plot is not None and plot.suffix not in STILL_SUFFIXES:
        raise BadInput(f"--plot {plot}: the name must end in {' or '.join(STILL_SUFFIXES)}")
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
            roi is None and opened.manifest.locator is not None,
            environment,
            status.update,
        )
    if out is not None:
        with whole_file(out) as part:
            part.write_bytes(write_bench(figures))
    if plot is not None:
        with whole_file(plot) as part:
            part.write_bytes(cv2.imencode(plot.suffix, draw_histograms(figures))[1].tobytes())
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
