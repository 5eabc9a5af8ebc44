"""A contact sheet of a data set as it was read, before anything is learnt from it."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from devices import BadInput, Pixels
from edge_runtime.files import refuse_existing, whole_file
from train.samples import Collection, Sample, check, read_pixels

COLUMNS, ROWS = 8, 8
CELL, BAND = 160, 34
"""Pixels: the side of a picture, and the height of the words below it."""
BOX, INK, PAPER = (40, 160, 255), (25, 25, 25), (255, 255, 255)


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
    if path.suffix.lower() != ".png":
        raise BadInput(f"{path}: the sheet is a picture, NAME.png")
    refuse_existing(path)
    chosen = _chosen(collection.samples, labels, seed)
    cells = [_cell(sample) for sample in progress(chosen)]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % COLUMNS)
    rows = [np.hstack(cells[start : start + COLUMNS]) for start in range(0, len(cells), COLUMNS)]
    _, content = cv2.imencode(".png", np.vstack(rows))
    with whole_file(path) as part:
        part.write_bytes(content.tobytes())
    return len(chosen)


def _chosen(samples: Sequence[Sample], labels: Sequence[str], seed: int) -> list[Sample]:
    """At random, of each class as many as of the others where there are so many; by class."""
    rng = np.random.default_rng(seed)
    of_class = [[sample for sample in samples if sample.label == label] for label in labels]
    each = max(1, COLUMNS * ROWS // len(labels))
    return [
        members[place]
        for members in of_class
        for place in sorted(rng.permutation(len(members))[:each])
    ]


def _cell(sample: Sample) -> Pixels:
    """One picture, shrunk to its cell, above its label and name, BGR."""
    cell = np.full((CELL + BAND, CELL, 3), PAPER, np.uint8)
    reason: str | None
    try:
        pixels = read_pixels(sample)
        reason = check(pixels, sample)
    except BadInput:
        reason = "unreadable"
    if reason is None:
        colour = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels
        height, width = colour.shape[:2]
        scale = (CELL - 4) / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        if sample.box is not None:
            x, y, w, h = (round(length * scale) for length in sample.box)
            cv2.rectangle(small, (x, y), (x + w, y + h), BOX, 1)
        cell[2 : 2 + size[1], 2 : 2 + size[0]] = small
    words = (sample.label if reason is None else f"{sample.label}: {reason}", sample.path.name)
    for line, text in enumerate(words):
        drawn = text.encode("ascii", "replace").decode()[:24]
        place = (2, CELL + 12 + 15 * line)
        cv2.putText(cell, drawn, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
    return cell
