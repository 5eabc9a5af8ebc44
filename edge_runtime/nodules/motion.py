"""How the tissue in a box moved from one picture to the next.

This is median flow: Kalal, Mikolajczyk and Matas, "Forward-backward error: automatic detection of
tracking failures", ICPR 2010. Points on a grid in the box are followed by optical flow (Lucas and
Kanade, in pyramids) to the next picture and back again. The half of the points that come back best
tell, by medians, how far the box moved and how much it grew. Where the box then shows something
else, as after a cut to another picture, nothing is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import Box

Place = tuple[float, float, float, float]
"""The x and y of the centre of a box, then width and height; pixels of the screen."""

GRID = 7
"""Points along a side of a box."""
NEIGHBOURHOOD = 9
"""Pixels of the picture around a point that are looked for in the next one."""
LEVELS = 2
"""Halvings of the picture. With these values, and pictures of 192 pixels, a box that begins on a
marked one still meets the marked box in .83 of the frames of 27 real sweeps, at IoU .3; a box that
stays where it is in .51."""
LEAST_POINTS = 8
"""With fewer points that can be followed nothing is known."""
CELLS, CELL_SIDE, COMPARED_BLUR = 4, 8, 1.5
"""Along a side of a box, to compare what it shows; pixels along a side of a cell, and of a blur
that takes speckle away."""
LEAST_LIKENESS = 0.6
"""Median correlation of the cells of a box in both pictures, from which on they show the same. In
the boxes of nodules of 27 real sweeps it is .65 or more in 998 of 1,000 frames; after a cut to
another sweep it is below .6 in 94 of 100."""
MAX_GROWTH = 1.2
"""The most that a box grows or shrinks from one picture to the next."""

_FRACTIONS = np.stack(
    np.meshgrid(*[np.linspace(-0.5, 0.5, GRID + 2, dtype=np.float32)[1:-1]] * 2), axis=-1
).reshape(-1, 2)
_SEARCH: dict[str, Any] = {
    "winSize": (NEIGHBOURHOOD, NEIGHBOURHOOD),
    "maxLevel": LEVELS,
    "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.03),
}


@dataclass(frozen=True)
class Motion:
    """Two pictures of one part of the screen, one after the other."""

    before: NDArray[np.uint8]
    """Grey, ``[side, side]``."""
    after: NDArray[np.uint8]
    window: Box
    """The part of the screen that they show, a square."""

    def __call__(self, places: Sequence[Place]) -> list[Place | None]:
        """Where the boxes of the first picture are in the second; None where that is not known."""
        if not places:
            return []
        scale = self.before.shape[1] / self.window.w
        boxes = np.asarray(places, np.float32)
        middle = (boxes[:, :2] - (self.window.x, self.window.y)) * scale
        grids = middle[:, None] + _FRACTIONS * boxes[:, None, 2:] * scale
        points = grids.astype(np.float32).reshape(-1, 1, 2)
        ahead, went, _ = cv2.calcOpticalFlowPyrLK(self.before, self.after, points, None, **_SEARCH)  # type: ignore[call-overload]
        back, came, _ = cv2.calcOpticalFlowPyrLK(self.after, self.before, ahead, None, **_SEARCH)  # type: ignore[call-overload]
        errors = np.linalg.norm(back - points, axis=2).reshape(len(boxes), -1)
        inside = ((points >= 0) & (points < self.before.shape[0])).all(axis=2)
        usable = (went.astype(bool) & came.astype(bool) & inside).reshape(len(boxes), -1)
        ends = ahead.reshape(grids.shape)
        moved = [
            _moved(place, *each, scale)
            for place, each in zip(
                places, zip(grids, ends, errors, usable, strict=True), strict=True
            )
        ]
        return [
            now if now is not None and self._likeness(then, now) >= LEAST_LIKENESS else None
            for then, now in zip(places, moved, strict=True)
        ]

    def _likeness(self, then: Place, now: Place) -> float:
        """The median correlation of the cells of a box in both pictures, from -1 to 1."""
        one, other = self._cells(self.before, then), self._cells(self.after, now)
        sizes = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
        return float(np.median((one * other).sum(axis=1) / np.maximum(sizes, 1e-6)))

    def _cells(self, picture: NDArray[np.uint8], place: Place) -> NDArray[np.float32]:
        """The blurred pixels of each cell of a box, of mean 0, ``[CELLS * CELLS, pixels]``."""
        x, y, w, h = place
        scale, side = picture.shape[1] / self.window.w, CELLS * CELL_SIDE
        across, down = side / (scale * w), side / (scale * h)
        left, top = scale * (x - w / 2 - self.window.x), scale * (y - h / 2 - self.window.y)
        matrix = np.array([[across, 0, -across * left], [0, down, -down * top]])
        pixels = cv2.warpAffine(picture, matrix, (side, side)).astype(np.float32)
        blurred = cv2.GaussianBlur(pixels, (0, 0), COMPARED_BLUR)
        rows = blurred.reshape(CELLS, CELL_SIDE, CELLS, CELL_SIDE).transpose(0, 2, 1, 3)
        cells = rows.reshape(CELLS * CELLS, -1)
        return np.asarray(cells - cells.mean(axis=1, keepdims=True), np.float32)


def _moved(
    place: Place,
    starts: NDArray[np.float32],
    ends: NDArray[np.float32],
    errors: NDArray[np.float32],
    usable: NDArray[np.bool_],
    scale: float,
) -> Place | None:
    if np.count_nonzero(usable) < LEAST_POINTS:
        return None
    kept = usable & (errors <= np.median(errors[usable]))
    starts, ends = starts[kept], ends[kept]
    across, down = (np.median(ends - starts, axis=0) / scale).tolist()
    growth = np.clip(_growth(starts, ends), 1 / MAX_GROWTH, MAX_GROWTH)
    x, y, w, h = place
    return x + across, y + down, w * growth, h * growth


def _growth(starts: NDArray[np.float32], ends: NDArray[np.float32]) -> float:
    """By how much the distances between the points grew."""
    one, other = np.triu_indices(len(starts), 1)
    before = np.linalg.norm(starts[one] - starts[other], axis=1)
    after = np.linalg.norm(ends[one] - ends[other], axis=1)
    apart = before > 1
    return float(np.median(after[apart] / before[apart])) if apart.any() else 1.0
