"""Auxiliary pictures that are out of scope: what a scope is fitted with besides what is in it.

As in outlier exposure (Hendrycks et al., ICLR 2019), but the network learns nothing of them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, EndOfRecording, Pixels
from devices.capture import open_device
from edge_runtime.preprocess import Preprocessing
from train.samples import Sample, read_pixels

EVERY_SECONDS = 1.0
"""Of a video, one frame a second is looked at: neighbours show the same."""
MIDDLES = (0.3, 0.45)
"""Sides of the boxes in the middle of an auxiliary picture, over the picture's shorter side: a
device sees what a user marks, and not the whole picture alone."""
ATTEMPTS = 20
"""To find a place beside the nodule; large nodules leave none."""
MOST = 1500
"""Pictures of a kind that a scope is fitted with, whatever there is."""


class Others(NamedTuple):
    """Pictures of something else."""

    pictures: NDArray[np.uint8]
    """``[N, side, side, 1]``."""
    kinds: tuple[str, ...]
    """``[N]``: the folder that each came from, next below the one that was given."""


def read_others(
    path: Path,
    preprocessing: Preprocessing,
    progress: Callable[[Iterable[tuple[str, Pixels]]], Iterable[tuple[str, Pixels]]] = iter,
    middles: Sequence[float] = (),
) -> Others:
    """The pictures of `look_around`, each whole, and each as if a box of `middles` were marked.

    Raises BadInput where there is none.
    """
    pictures, kinds = [], []
    for kind, pixels in progress(look_around(path)):
        height, width = pixels.shape[:2]
        sides = [max(1, round(share * min(height, width))) for share in middles]
        boxes = [Box((width - side) // 2, (height - side) // 2, side, side) for side in sides]
        for box in (None, *(boxes if preprocessing.crops else ())):
            pictures.append(preprocessing(pixels, box))
            kinds.append(kind)
    return Others(np.concatenate(pictures), tuple(kinds))


def look_around(path: Path) -> Iterator[tuple[str, Pixels]]:
    """The pictures of a file, or of all files in a folder: images, and a frame a second of videos.

    Each with its kind, the name of the folder next below `path` that it lies in, or of `path`.
    Files that are neither are passed over. Raises BadInput where there is no picture at all.
    """
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder")
    files = sorted(its for its in path.rglob("*") if its.is_file()) if path.is_dir() else [path]
    empty = True
    for file in files:
        try:
            device = open_device(str(file))
        except BadInput:
            continue
        folders = file.relative_to(path).parts[:-1]
        kind = folders[0] if folders else path.resolve().name
        with device, suppress(EndOfRecording, BadInput):
            last = -np.inf
            while True:
                frame = device.read(timeout=1.0)
                at = np.inf if frame.timestamp is None else frame.timestamp
                if at - last >= EVERY_SECONDS:
                    empty, last = False, at
                    yield kind, frame.pixels
    if empty:
        raise BadInput(f"{path}: no image and no video")


def read_auxiliary(
    path: Path,
    preprocessing: Preprocessing,
    seed: int,
    progress: Callable[[Iterable[tuple[str, Pixels]]], Iterable[tuple[str, Pixels]]] = iter,
) -> Others:
    """Pictures to fit a scope with, whole and their middles; `MOST` are drawn where there are more.

    Raises BadInput where there is none.
    """
    found = read_others(path, preprocessing, progress, MIDDLES)
    count = len(found.kinds)
    drawn = sorted(
        np.random.default_rng(seed).choice(count, size=min(MOST, count), replace=False).tolist()
    )
    return Others(found.pictures[drawn], tuple(found.kinds[index] for index in drawn))


def beside(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    seed: int,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> NDArray[np.uint8]:
    """Of each picture a place beside what was marked, uint8 ``[N, side, side, 1]``.

    A square box as large as the sample's own that touches no box of the same picture. There is none
    without boxes, or where the preprocessing crops nothing, and at most `MOST`. The same `seed`
    gives the same.
    """
    marked: dict[tuple[Path, int], list[Box]] = defaultdict(list)
    for sample in samples:
        if sample.box is not None:
            marked[sample.path, sample.frame].append(sample.box)
    pictures = list(_beside(samples, marked, preprocessing, seed, progress))
    side = preprocessing.side
    return np.concatenate([np.zeros((0, side, side, 1), np.uint8), *pictures[:MOST]])


def _beside(
    samples: Sequence[Sample],
    marked: dict[tuple[Path, int], list[Box]],
    preprocessing: Preprocessing,
    seed: int,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]],
) -> Iterator[NDArray[np.uint8]]:
    if not preprocessing.crops:
        return
    dice = np.random.default_rng(seed)
    boxed = [sample for sample in samples if sample.box is not None]
    kept = np.sort(dice.choice(len(boxed), size=min(MOST, len(boxed)), replace=False))
    for sample in progress([boxed[index] for index in kept]):
        assert sample.box is not None
        pixels = read_pixels(sample)
        height, width = pixels.shape[:2]
        size = max(sample.box.w, sample.box.h)
        if size >= min(height, width):
            continue
        for _ in range(ATTEMPTS):
            left, top = (int(dice.integers(0, room - size)) for room in (width, height))
            place = Box(left, top, size, size)
            if not any(_touch(place, box) for box in marked[sample.path, sample.frame]):
                yield preprocessing(pixels, place)
                break


def _touch(first: Box, second: Box) -> bool:
    return (
        first.x < second.x + second.w
        and second.x < first.x + first.w
        and first.y < second.y + second.h
        and second.y < first.y + first.h
    )
