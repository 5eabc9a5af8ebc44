"""Boards: one short TOML file describes each small device; docs/boards.md explains the format."""

import platform
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from devices.compute.backend import BackendKind, Variant
from devices.errors import BadInput
from devices.regular_file import read_regular
from devices.schema_io import read_toml

Architecture = Literal["aarch64", "x86_64"]
Purpose = Literal["setup", "run", "cameras", "gpu", "edgetpu"]
VersionNumber = Annotated[str, Meta(pattern=r"\A\d{1,2}\.\d{1,3}\Z")]
"""Two numbers, such as `3.11` for Python."""
KernelFile = Annotated[str, Meta(pattern=r"\A/(sys|proc)/.+\Z")]
DebianPackage = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9+.-]+\Z")]
Celsius = Annotated[float, Meta(ge=0, le=125)]
Citation = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Sensors:
    """The files of the kernel with the health of the board; `*` matches any name."""

    temperature: tuple[KernelFile, ...] = ("/sys/class/thermal/thermal_zone*/temp",)
    """Thousandths of a degree Celsius; the hottest counts."""
    firmware: KernelFile | None = None
    """The flags of the Raspberry Pi firmware, hexadecimal; see `devices.health`."""
    undervoltage: tuple[KernelFile, ...] = ()
    """1 while the supply is too weak."""
    cooling: tuple[str, ...] = ()
    """Types of `/sys/class/thermal/cooling_device*` that slow a processor when above 0; no fans."""
    throttle_counts: tuple[KernelFile, ...] = ()
    """How often a processor was throttled since the machine was started."""
    frequency: tuple[KernelFile, ...] = (
        "/sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq",
    )
    """kHz; the fastest counts. A Raspberry Pi gives the requested frequency, not the lower one of a
    throttled firmware (github.com/raspberrypi/linux/issues/2986)."""


@dataclass(frozen=True, slots=True)
class Thermal:
    """The temperatures from which on fewer frames are classified."""

    half: Celsius
    """Every second frame."""
    quarter: Celsius
    """Every fourth frame."""
    single: Celsius
    """One frame a second."""
    withheld: Celsius
    """No frame."""
    hysteresis: Annotated[float, Meta(gt=0, le=30)]
    """Degrees below the limit that count as cool again."""
    source: Citation

    def __post_init__(self) -> None:
        if not self.half < self.quarter < self.single < self.withheld:
            raise ValueError("half, quarter, single and withheld must rise")


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """The best mode of a V4L2 grabber on this board, for the address of the source."""

    format: Literal["YUYV", "MJPG"]
    width: Annotated[int, Meta(ge=160, le=3840)]
    height: Annotated[int, Meta(ge=120, le=2160)]
    rate: Annotated[int, Meta(ge=1, le=240)]
    """Frames a second."""


@dataclass(frozen=True, slots=True)
class PublishedLatency:
    """A published latency of a model on this board."""

    model: str
    backend: BackendKind
    milliseconds: Annotated[float, Meta(gt=0)]
    source: Citation


@dataclass(frozen=True, slots=True)
class Board:
    """One kind of device: its hardware, its needs, and its best settings."""

    name: Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,40}\Z")]
    about: str
    architectures: Annotated[tuple[Architecture, ...], Meta(min_length=1)]
    python: tuple[VersionNumber, VersionNumber]
    """The oldest and the newest version that work."""
    glibc: VersionNumber
    """The oldest version that works; no wheel that needs a newer one is taken."""
    interpreter: Literal["ai-edge-litert", "tflite-runtime"]
    backends: Annotated[tuple[BackendKind, ...], Meta(min_length=1)]
    """In order of preference."""
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1)]
    """In order of preference, among those that a backend can run."""
    threads: Annotated[int, Meta(ge=1, le=64)]
    thermal: Thermal
    capture: CaptureSettings
    packages: dict[Purpose, tuple[DebianPackage, ...]]
    """Debian packages, by their purpose."""
    sensors: Sensors = field(default_factory=Sensors)
    models: tuple[str, ...] = ()
    """The beginning of `/proc/device-tree/model` on this board."""
    usb: tuple[Annotated[str, Meta(pattern=r"\A[0-9a-f]{4}:[0-9a-f]{4}\Z")], ...] = ()
    """Vendor and product of a USB device that makes a machine this board."""
    note: str | None = None
    """A note for the user to read first."""
    latency: tuple[PublishedLatency, ...] = ()

    def __post_init__(self) -> None:
        if _numbers(self.python[0]) > _numbers(self.python[1]):
            raise ValueError("python: the oldest comes first")

    def platforms(self, architecture: Architecture) -> tuple[str, ...]:
        """The platform tags of wheels that run here, newest first (PEP 600)."""
        newest = _numbers(self.glibc)[1]
        tags = [f"manylinux_2_{minor}" for minor in range(newest, 16, -1)]
        return tuple(f"{tag}_{architecture}" for tag in (*tags, "manylinux2014"))

    def unfit(self, architecture: str, python: str, glibc: str | None) -> str | None:
        """Why a machine is not this board, or is too old; None where it works.

        `python` and `glibc` are versions such as `3.11.2` and `2.36`; None is another C library.
        """
        if architecture not in self.architectures:
            return f"its processor is {architecture}, not {' or '.join(self.architectures)}"
        oldest, newest = self.python
        if not _numbers(oldest) <= _numbers(python) <= _numbers(newest):
            return f"its Python is {python}; needed is {oldest} to {newest}"
        if glibc is None or _numbers(glibc) < _numbers(self.glibc):
            return f"its C library is {glibc or 'not glibc'}; needed is glibc {self.glibc} or newer"
        return None


def _numbers(version: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def board_names() -> list[str]:
    """The names of the boards in the package."""
    folder = resources.files(__name__)
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".toml"))


def read_board(name: str) -> Board:
    """Reads a board of the package by its name, or a board file by its path.

    Raises BadInput where there is none, or naming the file and the first entry that is wrong.
    """
    if name in board_names():
        content = (resources.files(__name__) / f"{name}.toml").read_bytes()
    elif name.endswith(".toml") and Path(name).is_file():
        content = read_regular(Path(name))
    else:
        raise BadInput(
            f"no board {name!r}; there are {', '.join(board_names())}, or give the path of a .toml"
        )
    board = read_toml(content, Board, f"board {name}")
    if board.name != Path(name).name.removesuffix(".toml"):
        raise BadInput(f"board {name}: name: is {board.name!r}, unlike the name of the file")
    return board


def detect_board(root: Path = Path("/"), architecture: str | None = None) -> Board | None:
    """The board of the package that fits the machine under `root`; None where none fits.

    A board whose USB device is plugged in comes first, then a board whose model is in the device
    tree. A board with neither fits any machine of its architecture without a device tree: a PC.
    """
    model, plugged = _model(root), _plugged(root)
    known = [read_board(name) for name in board_names()]
    fitting = [
        board for board in known if (architecture or platform.machine()) in board.architectures
    ]
    ranked = [
        *(board for board in fitting if plugged & set(board.usb)),
        *(board for board in fitting if model.startswith(board.models)),
        *(board for board in fitting if not (model or board.models or board.usb)),
    ]
    return ranked[0] if ranked else None


def _model(root: Path) -> str:
    """The model in the device tree, empty on a PC."""
    try:
        return (root / "proc/device-tree/model").read_text(errors="replace").strip("\0\n")
    except OSError:
        return ""


def _plugged(root: Path) -> set[str]:
    """`vendor:product` of every USB device."""
    usb_ids = set()
    for vendor in root.glob("sys/bus/usb/devices/*/idVendor"):
        try:
            product = vendor.with_name("idProduct").read_text().strip()
            usb_ids.add(f"{vendor.read_text().strip()}:{product}")
        except OSError:
            continue  # unplugged meanwhile
    return usb_ids
