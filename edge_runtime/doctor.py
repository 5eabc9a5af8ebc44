"""The sources and backends of this machine, and why others do not work."""

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices import SonoliteError
from devices.boards import Board, Sensors
from devices.capture.camera import Camera
from devices.capture.registry import LIBRARIES
from devices.compute import Backend, GpuBackend
from devices.compute.interpreter import first_line
from devices.health import LOW_DISK, LOW_MEMORY, read_health
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.golden import golden_tensors, read_golden
from edge_runtime.models.backends import NAMED_BACKENDS, find_candidates, required_member
from edge_runtime.models.classifier import Classifier
from edge_runtime.models.locator import Locator

TIMED_RUNS = 30
"""Inferences that are timed, after the same number without a clock."""


@dataclass(frozen=True)
class Finding:
    """A finding about one part of the machine."""

    part: str
    """`machine`, `board`, `packages`, `health`, `capture`, `compute` or `locator`."""
    name: str
    there: bool
    says: str
    """A description; or why the part cannot be used, and how to get it."""


def examine_machine(
    bundle: Bundle, board: Board | None, root: Path = Path("/")
) -> Iterator[Finding]:
    """Checks the machine, the sources of frames, and each model of `bundle` on each backend.

    `board` is the board, None for an unknown one. The files of the system are under `root`.
    """
    cores = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    yield Finding("machine", platform.system(), True, cores)
    if board is None:
        yield Finding(
            "board", "unknown", False, "`--board NAME` says what it is; see docs/boards.md"
        )
    else:
        yield from _board(board)
        yield from _packages(board, root / "var/lib/dpkg/status")
    yield from _health(board, root)
    yield from _sources(root / "dev")
    yield from _backends(bundle)
    yield from _locator(bundle)


def _board(board: Board) -> Iterator[Finding]:
    """The board, whether this machine can be one, and its published latencies."""
    glibc = platform.libc_ver()[1] or None
    unfit = board.unfit(platform.machine(), platform.python_version(), glibc)
    about = board.about if unfit is None else f"{board.about}; {unfit}"
    yield Finding("board", board.name, unfit is None, about)
    if board.note:
        yield Finding("board", "note", True, board.note)
    order = f"{', '.join(board.backends)}; models {', '.join(board.variants)}"
    yield Finding("board", "first to last", True, order)
    for figure in board.latency:
        says = f"{figure.milliseconds:g} ms, {figure.backend}, {figure.model} ({figure.source})"
        yield Finding("board", "published", True, says)


def _packages(board: Board, status: Path) -> Iterator[Finding]:
    """The needed system packages, by their purpose; read from dpkg (deb822, dpkg-query(1))."""
    if not status.is_file():
        return
    installed = set[str]()
    for entry in status.read_text(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line)
        if fields.get("Status", "").endswith(" ok installed"):  # also one that is held
            provided = fields.get("Provides", "").split(", ")
            installed |= {fields.get("Package", ""), *(name.split(" ")[0] for name in provided)}
    for purpose, names in board.packages.items():
        missing = [name for name in names if name not in installed]
        says = f"sudo apt install {' '.join(missing)}" if missing else ", ".join(names)
        yield Finding("packages", f"for {purpose}", not missing, says)


def _health(board: Board | None, root: Path) -> Iterator[Finding]:
    """The health of the machine; the last line names the values that it does not give."""
    health = read_health(board.sensors if board else Sensors(), Path(sys.prefix), root)
    silent = []
    if health.celsius is None:
        silent.append("temperature")
    else:
        limit = f", fewer frames from {board.thermal.half:g} on" if board else ""
        fine = board is None or health.celsius < board.thermal.half
        yield Finding("health", "temperature", fine, f"{health.celsius:.1f} °C{limit}")
    if health.throttled is None and health.was_throttled is None:
        silent.append("throttling")
    else:
        was = "was throttled since the start" if health.was_throttled else "full speed"
        says = "throttled now" if health.throttled else was
        yield Finding("health", "speed", not health.throttled, says)
    if health.megahertz is not None:
        yield Finding("health", "processor", True, f"{health.megahertz:.0f} MHz")
    if health.undervoltage is None:
        silent.append("under-voltage")
    else:
        supply = "the power supply or its cable"
        was = f"{supply} was too weak since the start" if health.was_undervoltage else "in order"
        says = f"{supply} is too weak" if health.undervoltage else was
        yield Finding("health", "power", not health.undervoltage, says)
    for name, free, least in (
        ("disk", health.disk_free, LOW_DISK),
        ("memory", health.memory_free, LOW_MEMORY),
    ):
        if free is None:
            silent.append(name)
        else:
            yield Finding("health", name, free >= least, f"{free / 1e9:.1f} GB free")
    if health.clock_synchronised is None:
        silent.append("clock")
    else:
        says = "synchronised" if health.clock_synchronised else "not synchronised; see timedatectl"
        yield Finding("health", "clock", health.clock_synchronised, says)
    if silent:
        yield Finding("health", "not told", False, ", ".join(silent))


def _sources(devices: Path) -> Iterator[Finding]:
    """Every camera, and the library of each other kind of source."""
    cameras = sorted(devices.glob("video*"))
    if not cameras:
        yield Finding("capture", "cameras", False, f"no {devices}/video*; is a grabber plugged in?")
    for path in cameras:
        try:
            with Camera(str(path)) as camera:
                yield Finding("capture", str(path), True, str(camera.mode))
        except SonoliteError as error:
            yield Finding("capture", str(path), False, str(error))
    for library in LIBRARIES:
        if (module := library.missing()) is not None:
            says = f"{module} is missing: {library.cure}"
            yield Finding("capture", library.about, False, says)
            continue
        try:
            says = f"{library.distribution} {version(library.distribution)}"
        except PackageNotFoundError:  # another distribution of the same modules
            says = f"{', '.join(library.modules)} installed"
        yield Finding("capture", library.about, True, says)


def _backends(bundle: Bundle) -> Iterator[Finding]:
    """Each model of the classifier on each backend that could compute it.

    A model with `there` set has answered the golden frames as the float model does.
    """
    stage = bundle.manifest.classifier
    golden = read_golden(bundle)
    for kind, request in NAMED_BACKENDS.items():
        chain = list(find_candidates(bundle, stage, [request]))
        if not chain:
            yield Finding(
                "compute", kind, False, f"the bundle holds no model for it: {required_member(kind)}"
            )
        for candidate in chain:
            name = f"{kind} {candidate.variant}"
            try:
                classifier = Classifier(bundle, stage, candidate.variant, request=request)
                tensors = golden_tensors(golden.frames, golden.box, classifier.preprocessing)
                milliseconds = _milliseconds(classifier.backend, tensors)
            except (SonoliteError, RuntimeError) as error:
                yield Finding("compute", name, False, first_line(error))
                continue
            compute = classifier.backend.compute
            share = "" if compute.share == 1 else f", {compute.share:.0%} of the operators there"
            says = f"{compute.interpreter}, {milliseconds:.1f} ms a picture"
            if kind == "cpu":
                says += f", {compute.threads} threads"
            if isinstance(classifier.backend, GpuBackend):
                says += f", {classifier.backend.adapter}"
            yield Finding("compute", name, True, says + share)


def _locator(bundle: Bundle) -> Iterator[Finding]:
    """Each model of the locator on the CPU; none for a bundle without a locator."""
    stage = bundle.manifest.locator
    if stage is None:
        return
    for variant in stage.variants:
        name = f"cpu {variant}"
        try:
            Locator(bundle, stage, variant)
        except SonoliteError as error:
            yield Finding("locator", name, False, str(error))
        else:
            yield Finding("locator", name, True, "answers the golden frames")


def _milliseconds(backend: Backend, tensors: NDArray[np.uint8]) -> float:
    """The median time of one inference."""
    times = []
    for number in range(2 * TIMED_RUNS):
        began = time.perf_counter()
        backend.run(tensors[number % len(tensors)][np.newaxis])
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times[TIMED_RUNS:]))
