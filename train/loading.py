"""One pass over the images of a data set: what is kept of each, and what is dropped and why."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels
from edge_runtime.bundle.preprocess import Gray, Picture, Preprocessing
from train.duplicates import Fingerprint, fingerprint
from train.samples import Collection, Dropped, Sample, check, read_pixels
from train.subgroups import scanner

MARGIN = 1.6
"""How much wider than the window of the preprocessing a patch is, so that a box can be moved."""


@dataclass(frozen=True)
class Patch:
    """The grey surroundings of a nodule, and its box within them."""

    pixels: Pixels
    box: Box | None


@dataclass(frozen=True)
class Loaded:
    """The samples that can be used, in order, with what was read of each; and the rest."""

    samples: tuple[Sample, ...]
    patches: tuple[Patch, ...]
    fingerprints: tuple[Fingerprint, ...]
    scanners: tuple[str, ...]
    """`WIDTHxHEIGHT` of each stored picture; see `train.subgroups`."""
    dropped: tuple[Dropped, ...]

    @property
    def reasons(self) -> dict[str, int]:
        """How many were dropped for which reason."""
        return dict(Counter(entry.reason for entry in self.dropped))


def load(
    found: Collection,
    preprocessing: Preprocessing,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> Loaded:
    """Reads every sample that was found once.

    One that cannot be used is dropped with its reason, not an error, beside those dropped before.
    Raises BadInput where nothing is left.
    """
    kept, patches, prints, scanners, dropped = [], [], [], [], []
    for sample in progress(found.samples):
        try:
            pixels = read_pixels(sample)
        except BadInput as error:
            dropped.append(Dropped(str(sample.path), "unreadable", str(error)))
            continue
        if reason := check(pixels, sample):
            dropped.append(Dropped(str(sample.path), reason))
            continue
        kept.append(sample)
        patches.append(cut(pixels, sample.box, preprocessing))
        prints.append(fingerprint(pixels))
        scanners.append(scanner(pixels))
    if not kept:
        first = dropped[0]
        raise BadInput(
            f"none of the {len(found.samples)} images can be used: {first.reason}: "
            f"{first.why or first.path}"
        )
    return Loaded(
        tuple(kept), tuple(patches), tuple(prints), tuple(scanners), (*found.dropped, *dropped)
    )


def cut(pixels: Pixels, box: Box | None, preprocessing: Preprocessing) -> Patch:
    """Keeps of a picture what the preprocessing, or one with a moved box, can see of it.

    Whatever the preprocessing makes of the patch is what it makes of the whole picture.
    """
    grey = Gray()(Picture(pixels, box)).pixels
    crop = preprocessing.crop
    if box is None or crop is None:
        return Patch(grey, box)
    x, y, w, h = box
    reach = int(np.ceil(MARGIN * crop.context * max(w, h) / 2)) + 1
    left, top = max(0, x + w // 2 - reach), max(0, y + h // 2 - reach)
    right, bottom = x + w // 2 + reach, y + h // 2 + reach
    return Patch(grey[top:bottom, left:right].copy(), Box(x - left, y - top, w, h))


def prepare(patches: Sequence[Patch], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Returns uint8 ``[N, side, side, 1]``: each patch as the device would prepare it."""
    return np.concatenate([preprocessing(patch.pixels, patch.box) for patch in patches])
