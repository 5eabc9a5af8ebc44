"""`sonolite run`, `demo` and `inspect`: what a device can do with nothing but the base install."""

import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from devices import BadInput, HardwareMissing
from devices.capture import Reconnecting, open_device
from edge_runtime.bundle import CARD, SUFFIX, Bundle, open_bundle, open_trusted
from edge_runtime.classify import Classifier
from edge_runtime.doctor import examine
from edge_runtime.gate import Gate, read_gate
from edge_runtime.live import BUDGET, Sink, run_session
from edge_runtime.manifest import NAME, Variant
from edge_runtime.result import NOTICE
from edge_runtime.sector import Region, parse_roi
from edge_runtime.sinks import JsonLines, Terminal, overlay_video
from edge_runtime.trust import (
    SIGNING_KEY,
    configuration,
    fingerprint,
    known_versions,
    new_key,
    read_trusted,
    trusted_folder,
)

console = Console(stderr=True)

SHIPPED = resources.files("edge_runtime") / f"demo{SUFFIX}"
DEMO_KEYS = resources.files("edge_runtime") / "demo_keys"
DEMO_SOURCE = "phantom:?frames=240"
DEMO_ROI = "167,190,108,100"
"""Around the phantom's nodule, with room for its way across the picture."""

keys = typer.Typer(help="The keys that bundles are signed with, and those that are trusted.")
BundleArgument = Annotated[Path, typer.Argument(help="The bundle, NAME.sonolite.")]
RoiOption = Annotated[
    str | None,
    typer.Option(help="x,y,w,h of the nodule on the screen; without it the picture is searched."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Results as JSON lines on stdout.")]


def register(app: typer.Typer) -> None:
    """Adds this module's commands to the root app."""
    for command in (demo, run, inspect, doctor):
        app.command()(command)
    app.add_typer(keys, name="keys")


def run(
    bundle: BundleArgument,
    source: Annotated[
        str,
        typer.Option(
            help="Camera index, v4l2:///dev/video0, rtsp://HOST, igtl://HOST, file, phantom:"
        ),
    ],
    roi: RoiOption = None,
    variant: Annotated[
        Variant | None, typer.Option(help="Which model of the bundle; else the fastest.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=64, help="Of the interpreter; else up to four.")
    ] = None,
    budget: Annotated[
        float, typer.Option(min=0.01, max=10, help="Seconds until a live result is stale.")
    ] = BUDGET,
    save: Annotated[
        Path | None, typer.Option(help="A video with the overlay, .mp4 or .avi.")
    ] = None,
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
    versions = known_versions()
    opened = open_trusted(bundle, read_trusted(trusted_folder()), None if allow_older else versions)
    its = opened.manifest
    classifier = Classifier(opened, its.stages[0], variant, threads, any_picture)
    assert opened.signature is not None
    versions.admit(opened.signature.key, its.name, its.version)
    _run(classifier, source, roi, budget, save, as_json)


def demo(
    source: Annotated[str, typer.Argument(help="What to classify.")] = DEMO_SOURCE,
    roi: RoiOption = None,
    save: Annotated[Path, typer.Option(help="Where the video with the overlay goes.")] = Path(
        "demo.mp4"
    ),
    as_json: JsonOption = False,
) -> None:
    """Classify a simulated neck live with the model in the package, and save what was seen.

    Example: sonolite demo, or: sonolite demo sweep.mp4 --roi 220,90,180,150
    """
    simulated = source.startswith("phantom:")
    if source == DEMO_SOURCE and roi is None:
        roi = DEMO_ROI
    _refuse_source(save, source)
    with resources.as_file(SHIPPED) as path, resources.as_file(DEMO_KEYS) as folder:
        bundle = open_trusted(path, read_trusted(folder))
        classifier = Classifier(bundle, bundle.manifest.stages[0], any_picture=simulated)
        _run(classifier, source, roi, BUDGET, save, as_json)
        if simulated:
            _say("note: the model never saw a simulated neck; its labels here mean nothing")


def _refuse_source(save: Path, source: str) -> None:
    """Raises BadInput where the saved video would take the place of what it is made from."""
    if Path(source).exists() and Path(source).resolve() in (save.resolve(), save.resolve().parent):
        raise BadInput(f"--save {save}: would overwrite or lie among the source {source}")


def _say(line: str) -> None:
    """One line for the person; stdout is kept for results."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _run(
    classifier: Classifier,
    source: str,
    roi: str | None,
    budget: float,
    save: Path | None,
    as_json: bool,
) -> None:
    """One session from its arguments to its summary."""
    region = Region(None if roi is None else parse_roi(roi))
    bundle, stage = classifier.bundle, classifier.stage
    with ExitStack() as stack:
        stop = stack.enter_context(_stopped_by_signals())
        device = stack.enter_context(Reconnecting(lambda: open_device(source)))
        sinks: list[Sink] = [JsonLines(stop)] if as_json else []
        if save is not None:
            sinks.append(stack.enter_context(overlay_video(save, device.fps, stage.positive)))
        if not as_json or console.is_terminal:
            sinks.append(stack.enter_context(Terminal(console, stage.positive)))
        summary, ended = run_session(device, bundle, classifier, region, sinks, stop, budget)
    for line in (*summary.lines(), NOTICE):
        _say(line)
    if region.roi is None and classifier.preprocessing.crops:
        _say("note: without --roi the whole picture was judged; this model learnt nodule crops")
    if save is not None:
        _say(f"saved {save}")
    if ended is not None:
        raise ended


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a session ends with its summary."""
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def printable(text: str) -> str:
    """The text without what would command a terminal; lines stay lines."""
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Check a bundle from end to end, say who signed it, and show its card.

    Example: sonolite inspect nodule.sonolite
    """
    opened = open_bundle(bundle)
    name = _signer(opened)
    gate = read_gate(opened)
    if as_json:
        key = None if opened.signature is None else fingerprint(opened.signature.key)
        signed = {"key": key, "trusted_as": name}
        manifest = asdict(opened.manifest)
        print(json.dumps({"signed": signed, "manifest": manifest, "gate": asdict(gate)}, indent=2))
        return
    out = Console()
    out.print(f"{opened.id}: every size and hash is as the manifest says", highlight=False)
    if opened.signature is None:
        out.print("not signed: no device runs it")
    else:
        trust = f"{name}, which is trusted here" if name else "which is not trusted here"
        out.print(f"signed by the key {fingerprint(opened.signature.key)}, {trust}")
    out.print(_variants(opened, gate))
    out.print(Markdown(printable(opened.read(CARD).decode("utf-8", "replace"))))


def doctor(
    bundle: Annotated[
        Path | None, typer.Argument(help="Whose models are tried; else the one in the package.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings to stdout.")] = False,
) -> None:
    """Say what this machine can capture with and compute on, and why not.

    Example: sonolite doctor nodule.sonolite
    """
    with resources.as_file(SHIPPED) as shipped, resources.as_file(DEMO_KEYS) as folder:
        if bundle is None:
            opened = open_trusted(shipped, read_trusted(folder))
        else:
            opened = open_trusted(bundle, read_trusted(trusted_folder()), known_versions())
        findings = list(examine(opened))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table("", "", "", "", box=SIMPLE_HEAD, show_header=False)
        for its in findings:
            table.add_row(its.part, its.name, "yes" if its.there else "no", _cell(its.says))
        Console().print(table)
    if not any(its.there for its in findings if its.part == "compute"):
        raise HardwareMissing("no model of the bundle runs on this machine")


def _variants(bundle: Bundle, gate: Gate) -> Table:
    """Each variant's size, operations and comparison with float, those left out too."""
    table = Table(box=SIMPLE_HEAD)
    for title in ("variant", "bytes", "operators", "AUROC", "agreement", "gate"):
        table.add_column(title, justify="left" if title in ("variant", "gate") else "right")
    held = bundle.manifest.stages[0].variants
    for its in gate.variants:
        inside = its.variant in held
        size = f"{bundle.manifest.members[held[its.variant]].size:,}" if inside else ""
        operators = len(gate.operators.get(its.variant, {}))
        table.add_row(
            its.variant,
            size,
            f"{operators} kinds" if operators else "",
            f"{its.metrics.auroc:.4f}",
            f"{its.label_agreement:.4f}",
            _cell("left out: " + "; ".join(its.failures))
            if its.failures
            else "held"
            if inside
            else "held, not asked for",
        )
    for lost in gate.not_measured:
        table.add_row(lost.variant, "", "", "", "", _cell("left out: " + "; ".join(lost.failures)))
    return table


def _cell(text: str) -> Text:
    """A table's cell of words that somebody else chose: none of them is a command."""
    return Text(printable(text))


def _signer(bundle: Bundle) -> str | None:
    """What the key that signed a bundle is called here; None where `run` does not trust it."""
    known = read_trusted(trusted_folder())
    return None if bundle.signature is None else known.get(bundle.signature.key)


@keys.command("new")
def new(
    out: Annotated[
        Path | None, typer.Option(help="The signing key's file; else your configuration's.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the key is called where it is trusted.")] = "own",
) -> None:
    """Make a signing key, and trust it on this machine.

    Copy the public file, which is named, into the folder of trusted keys of each device.

    Example: sonolite keys new
    """
    if not re.fullmatch(NAME, name):
        raise BadInput(f"--name {name}: letters, digits, blanks, and _ . - make a key's name")
    private = out or configuration() / SIGNING_KEY
    public = trusted_folder() / f"{name}.pem"
    mark = new_key(private, public)
    _say(f"{private}: the signing key {mark}; keep it to yourself")
    _say(f"{public}: its public half, trusted here; devices need a copy")


@keys.command("list")
def list_keys() -> None:
    """Show the keys that are trusted on this machine.

    Example: sonolite keys list
    """
    folder = trusted_folder()
    for key, name in read_trusted(folder).items():
        print(f"{fingerprint(key)}  {folder / name}.pem")
