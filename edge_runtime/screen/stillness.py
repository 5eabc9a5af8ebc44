"""Whether the picture on the screen moves; a picture that does not is FROZEN."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import Box, Pixels

FROZEN_AFTER = 1.0
"""Seconds of the same picture after which it counts as frozen."""

MAX_CELLS, MIN_CELL_PIXELS = 32, 64
"""Cells a side at most, and pixels of a cell at least. Noise with a deviation of 5 grey levels
moves a mean over 64 pixels by less than 3."""
SAME_LEVELS = 6
"""Grey levels by which the mean of a cell may change in a still picture. In eleven real sweeps, of
necks, lungs and eyes, the changes stayed within this limit for 0.28 s at most."""


class Stillness:
    """Compares the cell means of the pictures of one device."""

    def __init__(self) -> None:
        self._last: NDArray[np.int16] | None = None
        self._changed_at = 0.0

    def is_frozen(self, summary: NDArray[np.int16], at: float, elsewhere: bool = False) -> bool:
        """Whether the picture with these cell means, captured at `at` seconds, is FROZEN.

        `elsewhere` says that the cells are of another place than before: that is no movement.
        """
        if self._last is not None and elsewhere:
            self._last = summary
        elif self._last is None or is_other_picture(self._last, summary):
            self._last, self._changed_at = summary, at
        return at - self._changed_at >= FROZEN_AFTER


def cell_means(pixels: Pixels, box: Box) -> NDArray[np.int16]:
    """The mean grey of each cell of the box, int16 ``[n, n]``; noise hardly changes it.

    A cell has whole pixels, because their mean is computed four times as fast as one of parts. The
    rest at the right and lower edge, less than a pixel a cell, is left out.
    """
    side = _cells(box)
    x, y, w, h = box
    inside = pixels[y : y + h // side * side, x : x + w // side * side]
    channel = inside if inside.ndim == 2 else cv2.extractChannel(inside, 1)
    small = cv2.resize(channel, (side, side), interpolation=cv2.INTER_AREA)
    return small.astype(np.int16)


def _cells(box: Box) -> int:
    """How many cells lie side by side, and one below the other."""
    return max(
        2, min(MAX_CELLS, box.w // 2, box.h // 2, math.isqrt(box.w * box.h // MIN_CELL_PIXELS))
    )


def is_other_picture(previous: NDArray[np.int16], current: NDArray[np.int16]) -> bool:
    """Whether the cell means differ by more than the noise of one picture."""
    return previous.shape != current.shape or int(np.abs(previous - current).max()) > SAME_LEVELS
