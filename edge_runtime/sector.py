"""Where to look on a screen: a grabber delivers menus, scales and text around the picture."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels

DARK = 12
"""Grey levels up to this are the screen's background; compression leaves some of it."""
LEAST_SHARE = 0.05
"""Of the screen; anything smaller is a logo or a scale."""
CELLS, CELL_PIXELS = 32, 64
"""At most so many cells a side, of at least so many pixels each: noise of a deviation of 5 grey
levels moves a mean over 64 pixels by less than 3."""
SAME = 6
"""Grey levels that no cell of a still picture moves by. In eleven real sweeps, of necks, lungs and
eyes, nothing stayed within it for longer than 0.24 s."""
LONG_SIDE = 320
"""The search runs on a picture of this size: it need not be finer than a few pixels."""


def find_picture(pixels: Pixels) -> Box | None:
    """Returns the box of the largest connected bright area, or None where there is none.

    Gaps inside the picture (vessels, shadows) are closed and thin marks (text, ticks) opened away
    before the areas are compared.
    """
    gray = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    height, width = gray.shape
    scale = max(1.0, max(height, width) / LONG_SIDE)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    mask = (small > DARK).astype(np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)))
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8)))
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    largest = stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))]
    if largest[cv2.CC_STAT_AREA] < LEAST_SHARE * mask.size:
        return None
    x, y, w, h = (round(int(value) * scale) for value in largest[:4])
    return Box(x, y, min(w, width - x), min(h, height - y))


class Region:
    """The part of the screen that is judged: as the user said, else the picture that was found.

    What was found is kept until the screen changes its size, so that the box does not flutter.
    """

    def __init__(self, roi: Box | None = None) -> None:
        self.roi = roi
        self._found: Box | None = None
        self._screen: tuple[int, ...] = ()

    def forget(self) -> None:
        """What was found is searched anew, as on another device."""
        self._found = None

    def locate(self, pixels: Pixels, keep: bool = True) -> Box | None:
        """Returns the box to judge in `pixels`, or None where there is no picture in it.

        `keep=False` searches anew, for stills that have nothing to do with each other.
        Raises BadInput where the user's region does not lie on the screen.
        """
        height, width = pixels.shape[:2]
        if self.roi is not None:
            x, y, w, h = self.roi
            if x + w > width or y + h > height:
                raise BadInput(f"--roi {x},{y},{w},{h} lies outside the {width} x {height} screen")
            box: Box | None = self.roi
        else:
            if self._screen != (height, width) or not keep:
                self._screen, self._found = (height, width), None
            self._found = self._found or find_picture(pixels)
            box = self._found
        return None if box is None or is_dark(pixels, box) else box


def is_dark(pixels: Pixels, box: Box) -> bool:
    """Whether less than a hundredth of the box shows anything, as after a lost signal."""
    x, y, w, h = box
    inside = pixels[y : y + h, x : x + w]
    channel = inside if inside.ndim == 2 else inside[..., 1]  # green carries most of the luma
    return 100 * int(np.count_nonzero(channel > DARK)) < channel.size


def summarise(pixels: Pixels, box: Box) -> NDArray[np.int16]:
    """The mean grey of each cell of the box, int16 ``[n, n]``: what noise hardly moves."""
    x, y, w, h = box
    inside = pixels[y : y + h, x : x + w]
    channel = inside if inside.ndim == 2 else inside[..., 1]
    side = max(2, min(CELLS, math.isqrt(w * h // CELL_PIXELS)))
    small = cv2.resize(np.ascontiguousarray(channel), (side, side), interpolation=cv2.INTER_AREA)
    return small.astype(np.int16)


def differs(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    """Whether two summaries are of different pictures, not of one with other noise."""
    return one.shape != other.shape or int(np.abs(one - other).max()) > SAME


def parse_roi(text: str) -> Box:
    """Reads `x,y,w,h` in pixels of the screen. Raises BadInput where it is not that."""
    try:
        box = Box(*(int(word) for word in text.split(",")))
    except (TypeError, ValueError) as error:
        raise BadInput(f"--roi {text}: four whole numbers x,y,w,h are needed") from error
    if min(box) < 0 or min(box.w, box.h) < 8:
        raise BadInput(f"--roi {text}: x and y from 0, w and h from 8 pixels")
    return box
