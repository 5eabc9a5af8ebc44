"""LabelMe: a JSON file for each picture, with shapes (github.com/wkentaro/labelme)."""

from collections.abc import Sequence
from math import hypot
from pathlib import Path
from typing import Any

import msgspec

from train.importers.boxes.files import Pictures, expected, part_of_folder, read_entries
from train.importers.boxes.marking import (
    Corners,
    Found,
    Mark,
    Marking,
    around,
    numbers,
    told_unboxed,
)
from train.samples import Dropped, size_of

UNBOXED = frozenset({"point", "points", "line", "linestrip"})
"""Shapes that enclose nothing, such as a caliper."""


class LabelMe(msgspec.Struct, rename="camel"):
    """A file, as far as it is looked at: not the picture that may be in there."""

    shapes: list[Any]
    image_path: Any = None
    image_width: Any = None
    image_height: Any = None


def read_labelme(files: Sequence[Path], root: Path, listed: Sequence[Path]) -> Found:
    """The pictures of LabelMe files, each with a box around each of its shapes.

    A file without a shape says that its picture shows no nodule; a picture without a file is
    dropped. Points and lines count for nothing.
    """
    pictures = Pictures(root, listed)
    found = Found("LabelMe")
    unboxed = 0
    for file in files:
        entries = read_entries(file, LabelMe)
        if entries is None:
            found.dropped.append(Dropped(str(file), "unreadable"))
            continue
        name = entries.image_path if isinstance(entries.image_path, str) else ""
        own = pictures.named_as(file)
        path = pictures.find(name, file, file.parent) or own or expected(name, file.parent)
        shapes = [shape if isinstance(shape, dict) else {} for shape in entries.shapes]
        boxed = [shape for shape in shapes if shape.get("shape_type") not in UNBOXED]
        unboxed += len(shapes) - len(boxed)
        sides = (entries.image_width, entries.image_height)
        size = size_of(*("" if side is None else str(side) for side in sides))
        marks = tuple(Mark(_corners(shape), str(shape.get("label") or "")) for shape in boxed)
        found.markings.append(Marking(path, marks, part=part_of_folder(path, root), size=size))
    if unboxed:
        found.notes.append(told_unboxed(unboxed))
    annotated = {marking.path for marking in found.markings}
    found.dropped += [
        Dropped(str(path), "no label") for path in pictures.all if path not in annotated
    ]
    return found


def _corners(shape: dict[str, Any]) -> Corners | None:
    """The box around a shape; None where it is none."""
    listed = shape.get("points")
    points = [numbers(point, 2) for point in listed] if isinstance(listed, list) else []
    known = [point for point in points if point is not None]
    if len(known) < len(points):
        return None
    kind = shape.get("shape_type") or "polygon"
    if kind == "circle" and len(known) == 2:
        (x, y), edge = known[0], known[1]
        radius = hypot(edge[0] - x, edge[1] - y)
        return (x - radius, y - radius, x + radius, y + radius)
    if kind in ("rectangle", "mask") and len(known) == 2:
        return around(known)
    return around(known) if len(known) >= 3 else None
