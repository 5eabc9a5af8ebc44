"""What an image tells besides its label, so that results can be given by subgroup."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import Box, Pixels

Size = Literal["small", "medium", "large"]

TERTILES = (0.194, 0.310)
"""Of the nodules of TN5000: the longer side of the box, over the height of the picture."""
SATURATED = 48
"""Of 255, between a pixel's channels: above bluish grey maps and the traces of compression (32)."""
COLOURED = 10
"""Saturated pixels that make a picture coloured."""
MARGIN = 0.06
"""Of the picture's height, around the box: calipers touch the nodule's edge from outside."""
CROSSES = (11, 13, 15, 17)
"""Pixels that a caliper's cross spans, with a rim."""
MIN_CORRELATION = 0.78
"""With a cross, of what counts as one."""
BRIGHT = 60
"""Grey levels by which a caliper is brighter than its surroundings, at least."""
SURROUNDINGS = 21
"""Pixels, odd: larger than a cross, whose own pixels then never are the median."""


@dataclass(frozen=True)
class Traits:
    """Of one image."""

    scanner: str
    """`WIDTHxHEIGHT` of the stored picture, in which scanners and their settings differ."""
    coloured: bool
    """Whether marks or flow are drawn in colour; a tinted grey map is none."""
    calipers: bool | None
    """Whether calipers are burned in around the nodule; None without a box."""
    nodule: Size | None
    """By the box's longer side; None without a box."""


def traits(pixels: Pixels, box: Box | None) -> Traits:
    """The traits of a whole stored picture, uint8 grey or BGR, in which the box lies.

    In TN5000, 91 of 3,993 images are coloured: yellow and green calipers and Doppler's frames (89
    more have a bluish grey map, 106 a few green pixels of a logo in a corner). Calipers are found
    in 1,575: in all of 90 that were looked at among the 1,532 with two marks or more, and in 37 of
    the 43 with one; in 2 of 100 without any they are missed. That is a precision of about .99 and
    a sensitivity of about .97. Missed are crosses with an open centre (818x628), small dim ones
    (439x368), and dotted lines without crosses.
    """
    height = pixels.shape[0]
    return Traits(
        scanner=scanner(pixels),
        coloured=pixels.ndim == 3 and _coloured(pixels),
        calipers=None if box is None else _has_cross(pixels, box),
        nodule=None if box is None else _size(max(box.w, box.h) / height),
    )


def scanner(pixels: Pixels) -> str:
    """The size of the stored picture, in which scanners and their settings differ."""
    height, width = pixels.shape[:2]
    return f"{width}x{height}"


def _coloured(pixels: Pixels) -> bool:
    spread = pixels.max(axis=2) - pixels.min(axis=2)
    return int(np.count_nonzero(spread > SATURATED)) >= COLOURED


def _size(share: float) -> Size:
    small, medium = TERTILES
    return "small" if share < small else "medium" if share < medium else "large"


def _has_cross(pixels: Pixels, box: Box) -> bool:
    """Whether a bright cross, upright or turned by 45 degrees, is in or around the box.

    It must be more like a cross than like a round spot, which a calcification is.
    """
    gray = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    margin = round(MARGIN * gray.shape[0])
    near = gray[
        max(0, box.y - margin) : box.y + box.h + margin,
        max(0, box.x - margin) : box.x + box.w + margin,
    ]
    above = cv2.subtract(near, cv2.medianBlur(near, SURROUNDINGS))
    bright = cv2.dilate(above, np.ones((3, 3), np.uint8)) >= BRIGHT
    needed = np.maximum(_correlation(near, _spot()), MIN_CORRELATION)
    crosses = (_cross(side, turned) for side in CROSSES for turned in (False, True))
    return any(bool((bright & (_correlation(near, cross) > needed)).any()) for cross in crosses)


def _correlation(pixels: Pixels, shape: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of the shape with the pixels around each pixel, from -1 to 1."""
    rim = len(shape) // 2
    framed = cv2.copyMakeBorder(pixels, rim, rim, rim, rim, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.matchTemplate(framed, shape, cv2.TM_CCOEFF_NORMED))


def _cross(side: int, turned: bool) -> NDArray[np.uint8]:
    """A soft bright cross on black, ``[side, side]``, two pixels thick."""
    cross = np.zeros((side, side), np.float32)
    if turned:
        cv2.drawMarker(cross, (side // 2,) * 2, 200, cv2.MARKER_TILTED_CROSS, side - 1, 2)
    else:
        middle = slice(side // 2 - 1, side // 2 + 1)
        cross[middle, 1:-1] = cross[1:-1, middle] = 200
    return np.asarray(cv2.GaussianBlur(cross, (0, 0), 0.6), np.uint8)


def _spot() -> NDArray[np.uint8]:
    """A soft round spot on black, as calcifications are, ``[13, 13]``."""
    profile = cv2.getGaussianKernel(13, 2)
    spot = profile @ profile.T
    return np.asarray(200 * spot / spot.max(), np.uint8)
