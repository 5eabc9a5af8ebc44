"""A contact sheet of a data set as it was read, before anything is learnt from it."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from devices import BadInput, Box, Pixels
from edge_runtime.files import refuse_existing, whole_file
from train.marked import MarkedCollection, MarkedPicture, marked_pixels
from train.samples import Collection, Dropped, Sample, check, frame_name, read_pixels

COLUMNS, ROWS = 8, 8
CELL, BAND = 160, 34
"""Pixels: the side of a picture, and the height of the words below it."""
BOX, INK, PAPER = (40, 160, 255), (25, 25, 25), (255, 255, 255)

T = TypeVar("T")


def write_preview(
    path: Path,
    collection: Collection,
    labels: Sequence[str],
    seed: int,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> int:
    """Draws pictures of each class in turn with label, box and file's name; returns how many.

    A picture that cannot be used is drawn as its reason. Raises BadInput where `path` exists or is
    no .png.
    """
    _require_new(path)
    of_class = [
        [sample for sample in collection.samples if sample.label == label] for label in labels
    ]
    chosen = _chosen(of_class, seed)
    _write_sheet(path, [_cell_of(sample) for sample in progress(chosen)])
    return len(chosen)


def write_marked_preview(
    path: Path,
    collections: Sequence[MarkedCollection],
    seed: int,
    progress: Callable[[Iterable[MarkedPicture]], Iterable[MarkedPicture]] = iter,
) -> int:
    """Draws of each data set pictures with all their boxes, and pictures that show no nodule.

    Otherwise as `write_preview`.
    """
    _require_new(path)
    kinds = [
        [picture for picture in collection.pictures if bool(picture.boxes) is marked]
        for collection in collections
        for marked in (True, False)
    ]
    chosen = _chosen([kind for kind in kinds if kind], seed)
    cells: dict[str, Pixels] = {}

    def drop(dropped: Dropped) -> None:
        cells[dropped.path] = _cell(None, (), dropped.reason, Path(dropped.path).name)

    for picture, pixels in marked_pixels(chosen, progress, drop):
        count = len(picture.boxes)
        words = f"{count} box{'es' if count > 1 else ''}" if count else "no nodule"
        name = frame_name(picture.path, picture.frame)
        cells[name] = _cell(pixels, picture.boxes, words, Path(name).name)
    _write_sheet(path, [cells[frame_name(picture.path, picture.frame)] for picture in chosen])
    return len(chosen)


def _require_new(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise BadInput(f"{path}: the sheet is a picture, NAME.png")
    refuse_existing(path)


def _write_sheet(path: Path, cells: list[Pixels]) -> None:
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    rows = [np.hstack(cells[start : start + COLUMNS]) for start in range(0, len(cells), COLUMNS)]
    _, content = cv2.imencode(".png", np.vstack(rows))
    with whole_file(path) as part:
        part.write_bytes(content.tobytes())


def _chosen(kinds: Sequence[Sequence[T]], seed: int) -> list[T]:
    """At random, of each kind as many as of the others where there are so many; by kind."""
    rng = np.random.default_rng(seed)
    each = max(1, COLUMNS * ROWS // len(kinds))
    return [
        members[place]
        for members in kinds
        for place in sorted(rng.permutation(len(members))[:each])
    ]


def _cell_of(sample: Sample) -> Pixels:
    """One labelled picture; one that cannot be used as its reason."""
    reason: str | None
    try:
        pixels = read_pixels(sample)
        reason = check(pixels, sample)
    except BadInput:
        reason = "unreadable"
    if reason is not None:
        return _cell(None, (), f"{sample.label}: {reason}", sample.path.name)
    boxes = () if sample.box is None else (sample.box,)
    return _cell(pixels, boxes, sample.label, sample.path.name)


def _cell(pixels: Pixels | None, boxes: Sequence[Box], *words: str) -> Pixels:
    """One picture, shrunk to its cell, above two lines of words, BGR."""
    cell = np.full((CELL + BAND, CELL, 3), PAPER, np.uint8)
    if pixels is not None:
        colour = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels
        height, width = colour.shape[:2]
        scale = (CELL - 4) / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        for box in boxes:
            x, y, w, h = (round(length * scale) for length in box)
            cv2.rectangle(small, (x, y), (x + w, y + h), BOX, 1)
        cell[2 : 2 + size[1], 2 : 2 + size[0]] = small
    for line, text in enumerate(words):
        drawn = text.encode("ascii", "replace").decode()[:24]
        place = (2, CELL + 12 + 15 * line)
        cv2.putText(cell, drawn, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
    return cell
