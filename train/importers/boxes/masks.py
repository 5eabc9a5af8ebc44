"""Masks beside pictures: `scan_mask.png` beside `scan.png`, or `masks/` beside `images/`."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from devices import BadInput, Pixels
from devices.capture.image import read_image
from devices.capture.kinds import Kind
from devices.capture.listing import MASK_FOLDER, MASK_NAME, masks_among
from train.importers.boxes.files import Pictures, part_of_folder
from train.importers.boxes.marking import Corners, Found, Mark, Marking
from train.samples import Dropped

MIN_AREA = 8
"""Pixels of a component; fewer are a speck."""
FEW_LEVELS = 16
"""A mask whose highest value is below holds numbers, of nodules or classes; another holds black and
white, with what a JPEG makes of them."""
HALF = 127


def read_masks(folder: Path, listed: Sequence[Path]) -> Found:
    """The pictures that have masks; `listed` are the files in `folder` and its folders.

    Each connected component of a mask is a nodule; a black mask says that its picture shows none.
    Of several masks, such as `scan_mask.png` and `scan_mask_1.png`, each counts. A picture without
    a mask is dropped, as is a mask without its picture.
    """
    found = Found("masks")
    files = Pictures(folder, listed, (Kind.IMAGE, Kind.DICOM)).all
    masks = find_masks(files, folder)
    pictures = [path for path in files if path not in masks]
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in pictures:
        by_stem[path.stem].append(path)
    masks_of: dict[Path, list[Path]] = defaultdict(list)
    for mask in files:
        if mask not in masks:
            continue
        picture = _picture(mask, by_stem, folder)
        if picture is None:
            found.dropped.append(Dropped(str(mask), "missing"))
        else:
            masks_of[picture].append(mask)
    for picture in pictures:
        if picture not in masks_of:
            found.dropped.append(Dropped(str(picture), "no label"))
        found.markings += [_read(mask, picture, folder) for mask in masks_of[picture]]
    return found


def find_masks(files: Sequence[Path], folder: Path) -> set[Path]:
    """Which of the `files` in `folder` are masks, by their names or any of their folders."""
    inner = {
        path
        for path in files
        if any(MASK_FOLDER.fullmatch(part) for part in path.relative_to(folder).parts[:-1])
    }
    return masks_among(files, folder) | inner


def _picture(mask: Path, by_stem: dict[str, list[Path]], folder: Path) -> Path | None:
    """The picture of a mask: called as it is, or as it is without `_mask`, in the nearest folder.

    None where there is none, and where several are as near.
    """
    match = MASK_NAME.fullmatch(mask.stem)
    stems = [mask.stem, *([match["picture"] or match["other"]] if match else [])]
    found = [path for stem in stems for path in by_stem.get(stem, [])]
    place = _place(mask, folder)
    beside = [path for path in found if path.parent == mask.parent or _place(path, folder) == place]
    nearest = beside or found
    return nearest[0] if len(nearest) == 1 else None


def _place(path: Path, folder: Path) -> tuple[str, ...]:
    """The folders of a file within `folder`, without those that tell pictures from masks."""
    parts = path.relative_to(folder).parts[:-1]
    return tuple(part for part in parts if not (MASK_FOLDER.fullmatch(part) or _IMAGES(part)))


_IMAGES = re.compile("images?|imgs?|pictures?|scans?", re.IGNORECASE).fullmatch


def _read(mask: Path, picture: Path, folder: Path) -> Marking:
    part = part_of_folder(picture, folder)
    try:
        pixels = read_image(mask)
    except BadInput:
        return Marking(picture, (), part=part, fault="unreadable")
    marks = tuple(Mark(corners) for corners in components(pixels))
    return Marking(picture, marks, part=part, size=(pixels.shape[1], pixels.shape[0]))


def components(mask: Pixels) -> list[Corners]:
    """The boxes of the connected components of a mask, uint8 ``H x W`` or ``H x W x 3``.

    In a mask of few levels, each of which is a number, two that touch are two.
    """
    grey = mask if mask.ndim == 2 else mask.max(axis=2)
    highest = int(grey.max())
    if highest < FEW_LEVELS:
        layers = [grey == level for level in np.unique(grey) if level]
    else:
        layers = [grey > HALF]
    boxes = []
    for layer in layers:
        _, _, stats, _ = cv2.connectedComponentsWithStats(layer.astype(np.uint8), connectivity=8)
        for left, top, width, height, area in stats[1:].tolist():  # the first is what is around
            if area >= MIN_AREA:
                boxes.append((float(left), float(top), float(left + width), float(top + height)))
    return boxes
