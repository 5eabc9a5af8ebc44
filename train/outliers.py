"""Pictures that are out of scope: of folders, and of places beside the nodules.

A scope is fitted with them besides the training pictures, as in outlier exposure (Hendrycks et al.,
"Deep Anomaly Detection with Outlier Exposure", ICLR 2019). The network learns nothing of them.
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
from devices.capture.listing import list_files, masks_among
from edge_runtime.bundle.preprocess import Preprocessing
from train.recipe import Recipe
from train.samples import Sample, read_pixels

EVERY_SECONDS = 1.0
"""Of a video, one frame a second is looked at: neighbours show the same."""
MIDDLES = (0.3, 0.45)
"""Sides of the boxes in the middle of an auxiliary picture, over the picture's shorter side. A
device sees the box that a user draws, and not the whole picture alone."""
ATTEMPTS = 20
"""Attempts to find a place beside a nodule. Large nodules leave none."""
MOST = 1500
"""The most pictures of `read_auxiliary`, and of `places_beside`."""


Pictures = Iterable[tuple[str, Pixels]]
"""Pictures, each with its kind; see `pictures_under`."""


class Outliers(NamedTuple):
    """Pictures that are out of scope, prepared for the network."""

    pictures: NDArray[np.uint8]
    """``[N, side, side, 1]``."""
    kinds: tuple[str, ...]
    """``[N]``: the folder that each picture came from; see `pictures_under`."""


def read_pictures_under(
    path: Path,
    preprocessing: Preprocessing,
    progress: Callable[[Pictures], Pictures] = iter,
    middles: Sequence[float] = (),
) -> Outliers:
    """The pictures under `path`, each prepared whole, and once for each box in its middle.

    `middles` are the sides of the boxes, over the picture's shorter side. Without a crop in the
    preprocessing there are no boxes. Raises BadInput as `pictures_under` does.
    """
    pictures, kinds = [], []
    for kind, pixels in progress(pictures_under(path)):
        height, width = pixels.shape[:2]
        sides = [max(1, round(share * min(height, width))) for share in middles]
        boxes = [Box((width - side) // 2, (height - side) // 2, side, side) for side in sides]
        for box in (None, *(boxes if preprocessing.crops else ())):
            pictures.append(preprocessing(pixels, box))
            kinds.append(kind)
    return Outliers(np.concatenate(pictures), tuple(kinds))


def pictures_under(path: Path) -> Iterator[tuple[str, Pixels]]:
    """The pictures of a file, or of all files in a folder: images, and a frame a second of videos.

    The kind of a picture is the name of the folder next below `path` that holds it, or else the
    name of `path`. Folders are read as `devices.capture.listing` says. Masks beside pictures are
    left out, and files that are neither are passed over. Raises BadInput where there is no picture
    at all.
    """
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder")
    files = list_files(path, recursive=True) if path.is_dir() else [path]
    masks = masks_among(files, path)
    empty = True
    for file in files:
        if file in masks:
            continue
        try:
            device = open_device(str(file.absolute()))  # or a name may be taken for a URI
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


def refuse_unusable(other: Path, recipe: Recipe) -> None:
    """Raises BadInput where `other` is not there, or where `recipe` has no scope to fit with it."""
    if "embedding" not in getattr(recipe.network, "outputs", ()):
        raise BadInput(f"--other {other}: the recipe asks for no embedding, so there is no scope")
    if not other.exists():
        raise BadInput(f"{other}: no such file or folder")


def read_auxiliary(
    path: Path,
    preprocessing: Preprocessing,
    seed: int,
    progress: Callable[[Pictures], Pictures] = iter,
) -> Outliers:
    """The pictures under `path` to fit a scope with: each whole, and its `MIDDLES`.

    Where there are more than `MOST`, `seed` draws so many. Raises BadInput as `pictures_under`
    does.
    """
    outliers = read_pictures_under(path, preprocessing, progress, MIDDLES)
    count = len(outliers.kinds)
    drawn = sorted(
        np.random.default_rng(seed).choice(count, size=min(MOST, count), replace=False).tolist()
    )
    return Outliers(outliers.pictures[drawn], tuple(outliers.kinds[index] for index in drawn))


def places_beside(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    seed: int,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> NDArray[np.uint8]:
    """For each sample a place beside the nodule, uint8 ``[N, side, side, 1]``.

    A place is a square as large as the sample's box that touches no box of the same image. There is
    none for samples without boxes, or where the preprocessing crops nothing. There are at most
    `MOST`. The same `seed` gives the same places.
    """
    marked: dict[tuple[Path, int], list[Box]] = defaultdict(list)
    for sample in samples:
        if sample.box is not None:
            marked[sample.path, sample.frame].append(sample.box)
    pictures = list(_places_beside(samples, marked, preprocessing, seed, progress))
    side = preprocessing.side
    return np.concatenate([np.zeros((0, side, side, 1), np.uint8), *pictures[:MOST]])


def _places_beside(
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
