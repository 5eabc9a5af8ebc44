"""The modes that a V4L2 device offers, from the kernel, and the choice of the best one.

The ioctls and their structures are those of linux/videodev2.h, documented at
docs.kernel.org/userspace-api/media/v4l. OpenCV, which reads the frames, cannot ask.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from devices.errors import BadInput, HardwareMissing


class Ioctl(NamedTuple):
    """One request: its number, and the structure that is sent and answered."""

    number: int
    form: Struct


QUERYCAP = Ioctl(0, Struct("=16s 32s 32s 3I 12x"))
"""Driver, card, bus; version, capabilities of the whole, and of this file."""
ENUM_FMT = Ioctl(2, Struct("=3I 32s I 16x"))
"""Index, buffer type, flags, name, format."""
ENUM_FRAMESIZES = Ioctl(74, Struct("=9I 8x"))
"""Index, format, kind; width and height, or the least, most and step of each."""
ENUM_FRAMEINTERVALS = Ioctl(75, Struct("=11I 8x"))
"""Index, format, width, height, kind; an interval, or the least, most and step, each a fraction."""
G_FMT = Ioctl(4, Struct("=I 4x 3I 188x"))
"""Buffer type; width, height and format that are set now."""

CAPTURE = 1
"""The capability and the buffer type."""
DISCRETE = 1
"""The kind of a size or interval that is one; any other is a range."""
PIXEL_FORMATS = {"mjpeg": "MJPG", "yuyv": "YUYV", "uyvy": "UYVY"}
"""The formats that are read, by the word for each."""

MAX_ANSWERS = 256
"""Answers to one question; the limit ends a driver whose answers do not end."""

USUAL_SIZES = ((640, 480), (720, 576), (800, 600), (1024, 768), (1280, 720), (1920, 1080))
USUAL_RATES = (10.0, 15.0, 20.0, 25.0, 30.0, 50.0, 60.0)
"""The sizes and rates to try where the device offers a range."""

MIN_PIXELS, MAX_FULL_RATE_PIXELS = 640 * 480, 1280 * 720
"""Pixels of a screen, unless asked otherwise: a model sees less than 300 a side."""
FLUENT_RATE, USUAL_RATE = 25.0, 30.0
"""Frames a second below which a faster format is better than a finer one; and the usual."""
RATE_SLACK = 0.5
"""Between the rate that is asked for and the one that is offered: 30 is often 29.97."""


class Mode(NamedTuple):
    """A mode in which a device delivers frames; a rate of 0 is unknown."""

    fourcc: str
    width: int
    height: int
    fps: float

    def __str__(self) -> str:
        word = next(
            (name for name in PIXEL_FORMATS if PIXEL_FORMATS[name] == self.fourcc), self.fourcc
        )
        return f"{self.width}x{self.height} at {self.fps:.3g} frames/s, {word}"


class ModeRequest(NamedTuple):
    """The mode that a user asks for; None leaves the choice to `choose_mode`."""

    size: tuple[int, int] | None = None
    fps: float | None = None
    fourcc: str | None = None

    def allows(self, mode: Mode) -> bool:
        """Whether `mode` is a mode that was asked for."""
        return (
            self.size in (None, (mode.width, mode.height))
            and (self.fps is None or abs(self.fps - mode.fps) <= RATE_SLACK)
            and self.fourcc in (None, mode.fourcc)
        )


def choose_mode(modes: Sequence[Mode], request: ModeRequest) -> Mode:
    """Returns the best of the modes that `request` allows. Raises BadInput where it allows none.

    A screen of usual size comes before a small one, a fluent rate before a fine screen, and an
    uncompressed format before JPEG.
    """
    allowed = [mode for mode in modes if request.allows(mode)]
    if not allowed:
        offers = "; ".join(map(str, sorted(modes, key=_merit, reverse=True)[:4]))
        raise BadInput(
            f"it does not offer that; it has {offers or 'none of ' + ', '.join(PIXEL_FORMATS)}"
        )
    return max(allowed, key=_merit)


def _merit(mode: Mode) -> tuple[float, ...]:
    pixels = mode.width * mode.height
    return (
        pixels >= MIN_PIXELS,
        min(mode.fps, FLUENT_RATE),
        pixels if pixels <= MAX_FULL_RATE_PIXELS else -pixels,
        mode.fourcc != PIXEL_FORMATS["mjpeg"],
        -abs(mode.fps - USUAL_RATE),
    )


def offered_modes(path: Path) -> list[Mode]:
    """The modes of the device `path` in readable formats; empty where the driver gives none.

    Raises HardwareMissing for a device that is no capture device, is in use, or may not be opened.
    """
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except FileNotFoundError:
        raise HardwareMissing(
            f"camera {path}: not there; `v4l2-ctl --list-devices` shows what is"
        ) from None
    except (OSError, ValueError) as error:
        hint = "; is this user in the group video?" if isinstance(error, PermissionError) else ""
        reason = getattr(error, "strerror", None) or error
        raise HardwareMissing(f"camera {path}: {reason}{hint}") from None
    try:
        answer = _ask(device, QUERYCAP)
        if answer is None or not answer[-1] & CAPTURE:
            raise HardwareMissing(f"camera {path}: no capture device; its neighbour may be one")
        return list(dict.fromkeys(_modes(device)))
    finally:
        os.close(device)


def _modes(device: int) -> Iterator[Mode]:
    """Every mode; of a range the usual values in it."""
    for _, _, _, _, code in _each(device, ENUM_FMT, CAPTURE):
        fourcc = code.to_bytes(4, "little").decode("latin-1")
        if fourcc not in PIXEL_FORMATS.values():
            continue
        for width, height in _sizes(device, code):
            for fps in _rates(device, code, width, height):
                yield Mode(fourcc, width, height, fps)


def _sizes(device: int, code: int) -> Iterator[tuple[int, int]]:
    """Every size in a format; where the driver gives none, the size that is set."""
    answered = False
    for _, _, kind, *numbers in _each(device, ENUM_FRAMESIZES, code):
        answered = True
        if kind == DISCRETE:
            yield numbers[0], numbers[1]
        else:
            least, most = (numbers[0], numbers[3]), (numbers[1], numbers[4])
            yield most
            for width, height in USUAL_SIZES:
                if least[0] <= width <= most[0] and least[1] <= height <= most[1]:
                    yield width, height
    if not answered and (now := _ask(device, G_FMT, CAPTURE)):
        yield now[1], now[2]


def _rates(device: int, code: int, width: int, height: int) -> Iterator[float]:
    """Every rate in frames a second; 0 where the driver gives none."""
    answered = False
    for *_, kind, least, per_least, most, per_most, _, _ in _each(
        device, ENUM_FRAMEINTERVALS, code, width, height
    ):
        answered = True  # an interval is a fraction of a second, and a rate its reciprocal
        fastest, slowest = per_least / least if least else 0.0, per_most / most if most else 0.0
        yield fastest
        if kind != DISCRETE:
            yield from (fps for fps in USUAL_RATES if slowest <= fps <= fastest)
    if not answered:
        yield 0.0


def _each(device: int, ioctl: Ioctl, *about: int) -> Iterator[tuple[int, ...]]:
    """The answers for index 0, 1 ... until the driver has no more."""
    for index in range(MAX_ANSWERS):
        answer = _ask(device, ioctl, index, *about)
        if answer is None:
            return
        yield answer


def _ask(device: int, ioctl: Ioctl, *question: int) -> tuple[int, ...] | None:
    """The answer to a request that begins with the numbers of `question`; None where the driver
    refuses.
    """
    number, form = ioctl
    buffer = bytearray(form.size)
    for place, value in enumerate(question):
        buffer[4 * place : 4 * place + 4] = value.to_bytes(4, "little")
    # asm-generic/ioctl.h: direction, size, type and number; QUERYCAP alone is read only.
    request = (3 if number else 2) << 30 | form.size << 16 | ord("V") << 8 | number
    try:
        fcntl.ioctl(device, request, buffer)
    except OSError:
        return None
    return form.unpack(buffer)
