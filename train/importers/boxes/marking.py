"""What an annotation says of a picture, before anything of the picture is known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TypeAlias

from devices import Box
from train.samples import Dropped, Part, Reason

MAX_COORDINATE = 1e6
"""Pixels; no picture is as wide."""

Corners: TypeAlias = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax, in pixels of the picture."""


@dataclass(frozen=True)
class Mark:
    """One thing that is marked in a picture."""

    corners: Corners | None
    """None for what is no box: its numbers are none, or too large."""
    name: str = ""
    """The class, where the layout has classes."""


@dataclass(frozen=True)
class Marking:
    """One picture, or frame, with all that an annotation marks in it."""

    path: Path
    marks: tuple[Mark, ...]
    group: str | None = None
    """None where the layout knows no patients, cases or clips."""
    frame: int = 0
    part: Part | None = None
    size: tuple[int, int] | None = None
    """Of the picture that was annotated, where the annotation says so."""
    fault: Reason | None = None
    """Why the annotation as a whole cannot be used."""


@dataclass
class Found:
    """What an importer has found, in the order of the files."""

    layout: str
    markings: list[Marking] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def number(value: object) -> float | None:
    """A finite number of at most `MAX_COORDINATE`; None for anything else, such as a NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        parsed = float(value)
    except (ValueError, OverflowError):
        return None
    return parsed if isfinite(parsed) and abs(parsed) <= MAX_COORDINATE else None


def numbers(values: object, count: int | None = None) -> tuple[float, ...] | None:
    """All of `values` as numbers; None where one is none, or where there are not `count`."""
    if not isinstance(values, list | tuple) or count not in (None, len(values)):
        return None
    parsed = [number(value) for value in values]
    known = tuple(value for value in parsed if value is not None)
    return known if len(known) == len(parsed) else None


def corners_of(values: object) -> Corners | None:
    """The box of four numbers `xmin, ymin, xmax, ymax`."""
    parsed = numbers(values, 4)
    return None if parsed is None else (parsed[0], parsed[1], parsed[2], parsed[3])


def corners_of_sides(values: object) -> Corners | None:
    """The box of four numbers `x, y, width, height`."""
    parsed = numbers(values, 4)
    if parsed is None:
        return None
    x, y, width, height = parsed
    return x, y, x + width, y + height


def around(points: Iterable[Sequence[float]]) -> Corners | None:
    """The box around points; None where there is none."""
    listed = [*points]
    if not listed:
        return None
    across, down = [point[0] for point in listed], [point[1] for point in listed]
    return min(across), min(down), max(across), max(down)


def around_flat(values: Sequence[float]) -> Corners | None:
    """The box around an outline `x1, y1, x2, y2, ...`; None of fewer than three points."""
    if len(values) < 6 or len(values) % 2:
        return None
    return around([*zip(values[::2], values[1::2], strict=True)])


def box_of(corners: Corners) -> Box:
    """The same in whole pixels."""
    left, top, right, bottom = (round(corner) for corner in corners)
    return Box(left, top, right - left, bottom - top)


def told_unboxed(count: int) -> str:
    """What a user should know of points and lines, which give no box."""
    return f"{count} points and lines count for nothing: they enclose nothing"
