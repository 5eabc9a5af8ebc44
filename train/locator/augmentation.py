"""How a whole picture is varied with its boxes: moved, scaled, mirrored, then as scanners vary."""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from train.augmentation import Augmentation, vary
from train.locator.targets import Boxes

VISIBLE = 0.6
"""The share of a box that must be left in the picture. A box with less is ignored: it is neither to
be found nor a false one."""
GONE = 0.15
"""A box with a smaller share left counts as not there."""


class Square(NamedTuple):
    """A whole picture as a square, black beyond it, and its boxes as shares of the side."""

    pixels: NDArray[np.uint8]
    boxes: Boxes


class Varied(NamedTuple):
    """A square picture as the network sees it once."""

    pixels: NDArray[np.uint8]
    boxes: Boxes
    ignored: Boxes
    """Boxes that the edge cuts off: neither to be found nor false; see `VISIBLE` and `GONE`."""


def vary_square(
    square: Square, side: int, augmentation: Augmentation, rng: np.random.Generator
) -> Varied:
    """The picture elsewhere, of another size, and as another scanner might have shown it.

    The centres of calipers are the centre of a nodule's crop; of a whole picture none are painted.
    """
    held = square.pixels.shape[0]
    zoom = float(np.exp(np.clip(rng.normal(0.0, 2.5 * augmentation.scale), -0.5, 0.6)))
    stretch = float(np.exp(rng.normal(0, augmentation.scale)))
    across, down = zoom * stretch, zoom / stretch
    mirrored = rng.random() < augmentation.mirror
    reach = 2.5 * augmentation.shift
    shift = rng.normal(0, reach, 2)
    factor = np.array([-across if mirrored else across, down])
    offset = 0.5 - 0.5 * factor + shift
    matrix = np.array(
        [
            [factor[0] * side / held, 0, offset[0] * side],
            [0, factor[1] * side / held, offset[1] * side],
        ]
    )
    matrix[:, 2] += 0.5 * (matrix[:, 0] + matrix[:, 1]) - 0.5  # pixels count from their middle
    moved = cv2.warpAffine(square.pixels, matrix, (side, side), flags=cv2.INTER_AREA)
    corners = square.boxes.reshape(-1, 2, 2) * factor + offset
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    inside = np.clip(boxes, 0, 1)
    whole, left = _areas(boxes), _areas(inside)
    seen = left >= VISIBLE * whole
    part = ~seen & (left >= GONE * whole)
    chain = replace(augmentation, mirror=0.0, calipers=0.0, erase=0.0)
    return Varied(
        vary(np.asarray(moved, np.uint8), chain, rng),
        inside[seen].astype(np.float32),
        inside[part].astype(np.float32),
    )


def match_histogram(square: Square, other: Square) -> Square:
    """The picture and its boxes, with the distribution of grey levels of another picture.

    This is histogram matching (Gonzalez and Woods, "Digital Image Processing", 3.3.2). Black, which
    is beyond the sector, stays black. So the nodules of stills are learnt with the grey levels of
    clips, and the other way round.
    """
    own, wanted = (
        np.bincount(each.pixels.ravel(), minlength=256)[1:].cumsum() for each in (square, other)
    )
    if not own[-1] or not wanted[-1]:
        return square
    levels = np.zeros(256, np.uint8)
    levels[1:] = 1 + np.minimum(254, np.searchsorted(wanted / wanted[-1], own / own[-1]))
    return square._replace(pixels=levels[square.pixels])


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1), np.float64)
