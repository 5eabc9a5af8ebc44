"""`sonolite run` and `demo`: a live session from its arguments to its summary."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devices import BadInput
from devices.boards import read_board
from devices.capture import device_opener
from devices.capture.reconnecting import Reconnecting
from devices.capture.registry import examples, on_disk, scheme_of
from edge_runtime.bundle import open_trusted
from edge_runtime.commands.options import (
    DEMO_KEYS,
    SHIPPED,
    BundleArgument,
    JsonOption,
    RoiOption,
    say,
    stopped_by_signals,
    trusted_keys,
)
from edge_runtime.examination import Examination
from edge_runtime.live import BUDGET, run_session
from edge_runtime.manifest import Variant
from edge_runtime.pace import Pace
from edge_runtime.preprocess import parse
from edge_runtime.remembered import remembered_sectors, sectors_file
from edge_runtime.result import NOTICE
from edge_runtime.sector import Region, parse_roi
from edge_runtime.session import State
from edge_runtime.sinks import STILLS, JsonLines, Single, overlay
from edge_runtime.trust import known_versions, read_trusted
from edge_runtime.ways import Ways, parse_wish, usual_threads

if TYPE_CHECKING:
    from edge_runtime.outbox import Sink

EvidenceOption = Annotated[
    bool, typer.Option("--evidence", help="Tint in the video what speaks for which label.")
]
DEMO_SOURCE = "phantom:?frames=240"
DEMO_ROI = "167,190,108,100"
"""Around the phantom's nodule, with room for its way across the picture."""


def run(
    bundle: BundleArgument,
    source: Annotated[
        str,
        typer.Option(help=f"What to classify: {examples()}"),
    ],
    roi: RoiOption = None,
    variant: Annotated[
        Variant | None, typer.Option(help="Which model of the bundle; else the fastest.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="cpu, gpu, edgetpu, or a delegate's LIB.so?key=value. Repeat it in their order."
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(help="Backends, threads and limits of a board; see docs/boards.md."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=64, help="Of the interpreter; else up to four.")
    ] = None,
    budget: Annotated[
        float, typer.Option(min=0.01, max=10, help="Seconds until a live result is stale.")
    ] = BUDGET,
    save: Annotated[
        Path | None,
        typer.Option(help="A video with the overlay, .mp4 or .avi; of a single picture .png."),
    ] = None,
    evidence: EvidenceOption = False,
    any_picture: Annotated[
        bool, typer.Option("--any-picture", help="Label also what the model never learnt to judge.")
    ] = False,
    allow_older: Annotated[
        bool, typer.Option("--allow-older", help="Run an older version than ran here before.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Classify the frames of a capture device or a recording; Ctrl-C ends it.

    The bundle must be signed by a trusted key; see `sonolite keys`.

    Example: sonolite run nodule.sonolite --source sweep.mp4 --roi 220,90,180,150 --save out.mp4
    """
    if save is not None:
        _refuse_source(save, source)
    elif evidence:
        raise BadInput("--evidence is drawn into a video; say with --save into which")
    versions = known_versions()
    opened = open_trusted(bundle, trusted_keys(), None if allow_older else versions)
    its = opened.manifest
    its_board = None if board is None else read_board(board)
    wishes = [parse_wish(word) for word in backend or ()]
    ways = Ways(opened, its.stages[0], wishes, variant, threads, any_picture, its_board)
    signature = opened.signature
    assert signature is not None

    def proven() -> None:
        versions.admit(signature.key, its.name, its.version)

    _run(ways, source, roi, budget, save, evidence, as_json, proven, Pace(its_board))


def demo(
    source: Annotated[str, typer.Argument(help="What to classify.")] = DEMO_SOURCE,
    roi: RoiOption = None,
    save: Annotated[Path, typer.Option(help="Where the video with the overlay goes.")] = Path(
        "demo.mp4"
    ),
    evidence: EvidenceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Classify a simulated neck live with the model in the package, and save what was seen.

    Example: sonolite demo, or: sonolite demo sweep.mp4 --roi 220,90,180,150
    """
    named = scheme_of(source)
    simulated = named is not None and named.simulated
    if source == DEMO_SOURCE and roi is None:
        roi = DEMO_ROI
    _refuse_source(save, source)
    with resources.as_file(SHIPPED) as path, resources.as_file(DEMO_KEYS) as folder:
        bundle = open_trusted(path, read_trusted(folder).keys)
        ways = Ways(bundle, bundle.manifest.stages[0], any_picture=simulated)
        _run(ways, source, roi, BUDGET, save, evidence, as_json)
        if simulated:
            say("note: the model never saw a simulated neck; its labels here mean nothing")


def _refuse_source(save: Path, source: str) -> None:
    """Raises BadInput where the saved video would take the place of what it is made from."""
    if on_disk(source) and Path(source).resolve() in (save.resolve(), save.resolve().parent):
        raise BadInput(f"--save {save}: would overwrite or lie among the source {source}")


def _announce(ways: Ways) -> None:
    """Opens the preferred way; says what was refused before it, and why."""
    classifier = ways.opened()
    for reason in ways.refused:
        say(f"fallback: {reason}")
    if ways.refused:
        say(f"fallback: {classifier.backend.compute.kind} computes {classifier.variant} instead")


def _run(
    ways: Ways,
    source: str,
    roi: str | None,
    budget: float,
    save: Path | None,
    evidence: bool,
    as_json: bool,
    proven: Callable[[], None] = lambda: None,
    pace: Pace | None = None,
) -> None:
    """One session from its arguments to its summary; `proven` is called once the model is open."""
    known = remembered_sectors(sectors_file(), source)
    given = None if roi is None else parse_roi(roi)
    positive = ways.stage.positive
    with ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signals())
        device = stack.enter_context(Reconnecting(device_opener(source)))
        region = Region(given, known, device.region)
        ways.threads = ways.threads or usual_threads(device.live)
        _announce(ways)
        if evidence and not ways.classifier.explains:
            raise BadInput(f"--evidence: {ways.bundle.id} has no evidence map")
        proven()
        single = Single()
        sinks: list[Sink] = [JsonLines(stop)] if as_json else []
        if not device.live:
            sinks.append(single)
        if save is not None:
            if device.live and save.suffix in STILLS:
                raise BadInput(f"--save {save}: a live device gives a video, .mp4 or .avi")
            sinks.append(stack.enter_context(overlay(save, device.fps, positive, evidence)))
        if not as_json or (sys.stderr is not None and sys.stderr.isatty()):
            from edge_runtime.commands.terminal import Terminal, console

            sinks.append(stack.enter_context(Terminal(console, positive)))
        examination = Examination()
        stack.callback(examination.end)

        def beat(state: State) -> None:
            if device.live:
                examination.beat(time.monotonic(), state)

        summary, ended = run_session(
            device, ways, region, sinks, stop, budget, beat=beat, pace=pace
        )
    for line in filter(None, (single.line(positive), *summary.lines(), NOTICE)):
        say(line)
    for note, files in device.notes.items():
        say(f"note: {note}" + (f" ({files} files)" if files > 1 else ""))
    if region.roi is None and parse(ways.stage.preprocessing).crops:
        say("note: without --roi the whole picture was judged; this model learnt nodule crops")
    if save is not None:
        say(f"saved {save}")
    if ended is not None:
        raise ended
