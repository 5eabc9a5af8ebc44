"""The outline of the ultrasound picture on a screen: the area that is bright and that moves."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import Box, Pixels
from edge_runtime.screen.flaws import DARK_LEVEL

Corner = tuple[int, int]
Mask = NDArray[np.uint8]
"""``H x W``, 0 outside the outline."""

MIN_OUTLINE_SHARE = 0.05
"""Share of the screen; a smaller area is a logo or a scale."""
SEARCH_SIDE = 320
"""Pixels of the longer side of a searched picture: a few pixels are fine enough."""
MIN_MOVING_FRAMES = 8
"""Frames from which on movement can be told from the pulses of compression."""
MIN_CHANGE_SHARE = 0.1
"""Share of frame pairs in which a place of the picture changes. Speckle changes in most pairs, its
darkest parts in a fifth; text and scales change with key frames only, in 0.08 at most."""
MARK_WIDTH = 9
"""Pixels of the searched picture; a thinner area is text, a tick, or an arm of a body mark."""
MIN_ROW_WIDTH = 0.15
"""Share of the width of the picture that each row has at least; the narrowest apex had 0.4."""
RECTANGLE_FILL = 0.98
"""Share of the box that a rectangle fills at least; the steepest trapezoid filled 0.965."""
MIN_CURVATURE = 0.05
"""Share of the width by which the lower edge of a sector bends at least."""


class Shape(StrEnum):
    """The shapes that probes make: linear, linear with steered lines, curved or phased."""

    RECTANGLE = "rectangle"
    TRAPEZOID = "trapezoid"
    SECTOR = "sector"


@dataclass(frozen=True)
class Outline:
    """A convex polygon on the screen, in pixels; each corner is a pixel of the picture."""

    polygon: tuple[Corner, ...]

    @cached_property
    def box(self) -> Box:
        """The smallest box around the polygon."""
        return Box(*map(int, cv2.boundingRect(self._corners)))

    @cached_property
    def area(self) -> int:
        """Pixels inside."""
        return int(np.count_nonzero(self.mask(self.box)))

    @cached_property
    def kind(self) -> Shape:
        """The shape, from the filled share of the box and the bend of the lower edge."""
        _, _, w, h = self.box
        inside = self.mask(self.box)
        if self.area >= RECTANGLE_FILL * w * h:
            return Shape.RECTANGLE
        # The lowest point lies this far below the lower end of a side: 0 for a straight edge.
        bottoms = [h - 1 - int(np.argmax(inside[::-1, side])) for side in (0, w - 1)]
        return Shape.SECTOR if h - 1 - max(bottoms) >= MIN_CURVATURE * w else Shape.TRAPEZOID

    def mask(self, box: Box) -> Mask:
        """255 inside the polygon, for the pixels of `box`."""
        mask = np.zeros((box.h, box.w), np.uint8)
        cv2.fillConvexPoly(mask, self._corners - np.array([box.x, box.y], np.int32), 255)
        return mask

    @property
    def _corners(self) -> NDArray[np.int32]:
        return np.array(self.polygon, np.int32)


def rectangle_outline(box: Box) -> Outline:
    """The outline of a rectangular picture."""
    x, y, w, h = box
    return Outline(((x, y), (x + w - 1, y), (x + w - 1, y + h - 1), (x, y + h - 1)))


def shrink_for_search(pixels: Pixels) -> Pixels:
    """The grey picture for the search; the longer side has SEARCH_SIDE pixels or fewer."""
    height, width = pixels.shape[:2]
    scale = max(1.0, max(height, width) / SEARCH_SIDE)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    gray = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return np.asarray(gray, np.uint8)


def find_moving(shrunk: Sequence[Pixels], screen: tuple[int, int]) -> Outline | None:
    """The outline of the largest area that keeps changing on a screen of `(width, height)`.

    Scales, text, logos and calipers do not change.

    The frames went through `shrink_for_search`. Returns None where hardly anything moves, or for
    fewer than MIN_MOVING_FRAMES frames.
    """
    if len(shrunk) < MIN_MOVING_FRAMES:
        return None
    pairs = itertools.pairwise(shrunk)
    changes = np.stack([np.asarray(cv2.absdiff(*pair), np.uint8) for pair in pairs])
    moved = changes > _background_noise(shrunk, changes)
    often = cv2.blur(np.asarray(moved.mean(axis=0, dtype=np.float32)), (3, 3))
    changing = cv2.erode((often >= MIN_CHANGE_SHARE).astype(np.uint8), np.ones((3, 3), np.uint8))
    return _largest(np.asarray(changing, np.uint8), screen)  # eroded by as much as blur reached


def find_bright(shrunk: Pixels, screen: tuple[int, int]) -> Outline | None:
    """The outline of the largest bright area of one frame; None where there is no such area."""
    return _largest((shrunk > DARK_LEVEL).astype(np.uint8), screen)


def _background_noise(shrunk: Sequence[Pixels], changes: Pixels) -> int:
    """Grey levels by which the noise of a grabber changes the background of the screen."""
    mean = np.mean([pixels[::2, ::2] for pixels in shrunk], axis=0, dtype=np.float32)
    darkest = mean <= np.percentile(mean, 1) + 0.5
    return int(np.percentile(changes[:, ::2, ::2][:, darkest], 97))


def _largest(mask: Mask, screen: tuple[int, int]) -> Outline | None:
    """The convex outline of the largest connected part of a mask, in pixels of the screen.

    First, closing fills gaps inside the picture (vessels, shadows), and opening removes thin marks
    (text, ticks).
    """
    square = np.ones((MARK_WIDTH, MARK_WIDTH), np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, square), np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, square), np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    largest = np.asarray(max(contours, key=cv2.contourArea), np.int32)
    if cv2.contourArea(largest) < MIN_OUTLINE_SHARE * mask.size:
        return None
    return _hull(_without_narrow_ends(largest), mask.shape[::-1], screen)


def _without_narrow_ends(contour: NDArray[np.int32]) -> NDArray[np.int32]:
    """The contour without a line of text that touches it from above or below."""
    x, y = contour[:, 0, 0], contour[:, 0, 1] - contour[:, 0, 1].min()
    left, right = np.full(y.max() + 1, x.max()), np.full(y.max() + 1, x.min())
    np.minimum.at(left, y, x)
    np.maximum.at(right, y, x)
    rows = np.flatnonzero(right - left >= MIN_ROW_WIDTH * (x.max() - x.min()))
    return contour[(y >= rows[0]) & (y <= rows[-1])] if len(rows) else contour


def _hull(
    contour: NDArray[np.int32], searched: tuple[int, ...], screen: tuple[int, int]
) -> Outline:
    """The convex polygon around a contour, simplified, and scaled up to the screen."""
    x, y, w, h = cv2.boundingRect(contour)
    hull = cv2.convexHull(contour)
    scale = np.array(screen) / searched
    if cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 >= RECTANGLE_FILL * w * h:
        left, top = np.floor(scale * (x, y)).astype(int)
        right, bottom = np.minimum(np.ceil(scale * (x + w, y + h)).astype(int), screen)
        return rectangle_outline(Box(int(left), int(top), int(right - left), int(bottom - top)))
    few = cv2.approxPolyDP(hull, 1.0, True).reshape(-1, 2)
    # The middle of a pixel of the search is the middle of the screen pixels that it stands for.
    corners = np.clip(np.round((few + 0.5) * scale - 0.5), 0, np.array(screen) - 1)
    convex = cv2.convexHull(corners.astype(np.int32)).reshape(-1, 2)  # rounding may break convexity
    return Outline(tuple((int(x), int(y)) for x, y in convex))
