"""Whether the picture on the screen moves: the same picture again and again is FROZEN."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import Box, Pixels

FROZEN_AFTER = 1.0
"""Seconds of one and the same picture after which it counts as frozen."""

MAX_CELLS, MIN_CELL_PIXELS = 32, 64
"""At most so many cells a side, of at least so many pixels each: noise of a deviation of 5 grey
levels moves a mean over 64 pixels by less than 3."""


SAME_LEVELS = 6
"""Grey levels that no cell of a still picture moves by. In eleven real sweeps, of necks, lungs and
eyes, nothing stayed within it for longer than 0.28 s."""


class Stillness:
    """Watches the summaries of one device's pictures for a change."""

    def __init__(self) -> None:
        self._last: NDArray[np.int16] | None = None
        self._changed_at = 0.0

    def is_frozen(self, summary: NDArray[np.int16], at: float) -> bool:
        """Whether the picture of `summary`, captured at `at` seconds, is FROZEN."""
        if self._last is None or is_other_picture(self._last, summary):
            self._last, self._changed_at = summary, at
        return at - self._changed_at >= FROZEN_AFTER


def cell_means(pixels: Pixels, box: Box) -> NDArray[np.int16]:
    """The mean grey of each cell of the box, int16 ``[n, n]``: what noise hardly moves.

    Cells are whole pixels, which are averaged four times as fast as parts of them; what is left
    over at the right and lower edge, less than a pixel a cell, is not looked at.
    """
    side = _cells(box)
    x, y, w, h = box
    inside = pixels[y : y + h // side * side, x : x + w // side * side]
    channel = inside if inside.ndim == 2 else cv2.extractChannel(inside, 1)
    small = cv2.resize(channel, (side, side), interpolation=cv2.INTER_AREA)
    return small.astype(np.int16)


def _cells(box: Box) -> int:
    """How many cells across, and down."""
    return max(
        2, min(MAX_CELLS, box.w // 2, box.h // 2, math.isqrt(box.w * box.h // MIN_CELL_PIXELS))
    )


def is_other_picture(previous: NDArray[np.int16], current: NDArray[np.int16]) -> bool:
    """Whether two summaries are of different pictures, not of one with other noise."""
    return previous.shape != current.shape or int(np.abs(previous - current).max()) > SAME_LEVELS
