"""The region of a screen to classify: around the picture are menus, scales and text."""

from collections.abc import Mapping
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels
from edge_runtime.screen.flaws import MIN_PICTURE_SIDE, Flaw, find_flaw, is_dark
from edge_runtime.screen.outline import (
    Outline,
    Shape,
    find_bright,
    find_moving,
    rectangle_outline,
    shrink_for_search,
)
from edge_runtime.screen.saved_regions import MIN_REGION_SIDE, SavedRegion, ScreenSize
from edge_runtime.screen.stillness import cell_means

SEARCH_FRAMES = 15
"""Frames in which the search looks for movement."""
SEARCH_STRIDE, SETTLED_STRIDE = 2, 32
"""The search takes every second frame until it has found the picture, in a second at 30 frames/s.
After that it takes few frames, because a probe that leaves the air shows more of its picture."""
MIN_GROWTH, MIN_OVERLAP = 1.05, 0.97
"""A later outline must be larger by this factor, and hold this share of the outline before."""


class Misplaced(StrEnum):
    """Why a region of interest cannot be taken."""

    NO_PICTURE = "there is no picture yet"
    OTHER_SIZE = "the picture has another size now: draw the region again"
    OUTSIDE = "the region lies outside the picture"
    NO_LOCATOR = "the model has no locator, so that a box cannot follow the nodule"
    TOO_SMALL = f"a side of the region is shorter than {MIN_REGION_SIDE} pixels"


class OutlinedBox:
    """The pixels inside an outline: for the model, and for the check that the picture moves."""

    def __init__(self, outline: Outline) -> None:
        self.box = outline.box
        self._mask = outline.mask(self.box)
        self._whole = cell_means(self._mask, Box(0, 0, self.box.w, self.box.h)) == 255
        self._cut_out = np.zeros((0, 0), np.uint8)

    def cut(self, pixels: Pixels) -> Pixels:
        """The pixels of the box, black outside the outline; the next call overwrites the array."""
        x, y, w, h = self.box
        inside = pixels[y : y + h, x : x + w]
        if self._cut_out.shape != inside.shape:
            self._cut_out = np.zeros(inside.shape, np.uint8)
        cv2.copyTo(inside, self._mask, self._cut_out)
        return self._cut_out

    def cell_means(self, pixels: Pixels) -> NDArray[np.int16]:
        """The mean grey of each cell; a cell that is not wholly inside the outline has 0."""
        summary = cell_means(pixels, self.box)
        summary[~self._whole] = 0
        return summary


class Region:
    """The part of the screen that is classified.

    The user's region comes first, then a region that was saved for a screen of this size, then the
    region that the device names, then the picture that the search finds. `mark` replaces the user's
    region while frames come.

    The search begins with the bright area of one frame. After SEARCH_FRAMES frames with movement it
    takes the area that moves. That area stays until the screen changes its size, so that the box
    does not flutter; later it only grows.
    """

    def __init__(
        self,
        roi: Box | None = None,
        saved: Mapping[ScreenSize, SavedRegion] | None = None,
        device_region: Box | None = None,
        whole: bool = True,
        follow: bool = False,
    ) -> None:
        """`device_region` is where the device itself says its picture lies, as DICOM files do.

        With `whole` the whole picture is classified where there is no region of interest. With
        `follow` the region of interest is where a nodule was marked that is followed from there:
        the whole picture is examined.
        """
        self.whole, self.follow = whole, follow
        self.may_follow = follow
        """Whether a box may follow: whether there is a locator."""
        self.roi = roi
        """The part of the picture to classify; None classifies the whole picture."""
        self.outline: Outline | None = None
        """The outline of the picture on the screen; None while there is no picture."""
        self.changes = 0
        """How often another region of interest was marked, or another recording began."""
        self.screen: ScreenSize = (0, 0)
        """Width and height of the last screen; 0 before the first."""
        self._given = roi
        self._asked: tuple[ScreenSize, Box | None, bool] | None = None
        """The arguments of the last `mark`, which may come from any thread."""
        self._marked: tuple[ScreenSize, Box | None, bool] | None = None
        """The same, once a frame was located with it."""
        self._saved, self._device_region = saved or {}, device_region
        self._fixed = self._settled = self._is_still = False
        self._count = 0
        self._frames: list[Pixels] = []
        self._window: OutlinedBox | None = None

    def mark(self, roi: Box | None, screen: ScreenSize, follow: bool | None = None) -> None:
        """Takes another region of interest, or none, from the next frame on; for any thread.

        `screen` is the size of the screen on which `roi` was drawn: the region holds for such
        screens alone. `follow` as for a new region; None leaves that as it is. Raises BadInput with
        a `Misplaced` where the region cannot be taken.
        """
        if self.screen == (0, 0):
            raise BadInput(Misplaced.NO_PICTURE)
        if self.screen != screen:
            raise BadInput(Misplaced.OTHER_SIZE)
        follow = self.next_follow if follow is None else follow
        if follow and not self.may_follow:
            raise BadInput(Misplaced.NO_LOCATOR)
        if roi is not None:
            if min(roi.w, roi.h) < MIN_REGION_SIDE:
                raise BadInput(Misplaced.TOO_SMALL)
            if min(roi) < 0 or roi.x + roi.w > screen[0] or roi.y + roi.h > screen[1]:
                raise BadInput(Misplaced.OUTSIDE)
        self._asked = screen, roi, follow

    @property
    def next_roi(self) -> Box | None:
        """The region of interest of the next frame, if its screen has the size of the last."""
        asked = self._asked
        return self.roi if asked is None or asked[0] != self.screen else asked[1]

    @property
    def next_follow(self) -> bool:
        """Whether the box of the next frame follows its nodule."""
        return self.follow if self._asked is None else self._asked[2]

    @property
    def fixed_roi(self) -> Box | None:
        """The region of interest, where it stays in its place: always in a still."""
        return None if self.follow and not self._is_still else self.roi

    def forget(self) -> None:
        """Begins the search again, as for another device."""
        self.roi = self._region_of_interest()
        saved = self._saved.get(self.screen)
        self.outline = None if saved is None else saved.outline
        if self.outline is None:
            self.outline = self._device_outline()
        self._window = None
        self._fixed, self._settled = self.outline is not None, False
        self._count, self._frames = 0, []

    def begin_recording(self, device_region: Box | None) -> None:
        """Begins again with another recording; `device_region` as for a new region."""
        self._device_region = device_region
        self.changes += 1
        self.forget()

    def locate(self, pixels: Pixels, keep: bool = True) -> Box | None:
        """Returns the box to classify in `pixels`, or None where there is no picture.

        `keep=False` begins the search again, for stills that do not belong together.
        Raises BadInput where the user's region does not lie on the screen.
        """
        height, width = pixels.shape[:2]
        self._is_still = not keep
        if self.screen != (width, height) or not keep:
            self.screen = (width, height)
            self.forget()
        if self._marked is not self._asked:
            self._marked = self._asked
            before = self.roi, self.follow
            self.roi, self.follow = self._region_of_interest(), self.next_follow
            again = self.follow and self.roi is not None  # at that place, wherever the box went
            self.changes += again or (self.roi, self.follow) != before
        if self.roi is not None:
            x, y, w, h = self.roi
            if x + w > width or y + h > height:
                raise BadInput(f"--roi {x},{y},{w},{h} lies outside the {width} x {height} screen")
        if self.fixed_roi is not None:
            return None if is_dark(pixels, self.fixed_roi) else self.fixed_roi
        if not self._fixed:
            self._search(pixels)
        box = None if self.outline is None else self.outline.box
        return None if box is None or is_dark(pixels, box) else box

    def cut(self, pixels: Pixels, box: Box) -> Pixels:
        """The pixels of the box of `locate`, black outside an outline that is no rectangle.

        Returns a view of `pixels`, or an array that the next call overwrites.
        """
        window = self._window_of(box)
        x, y, w, h = box
        return pixels[y : y + h, x : x + w] if window is None else window.cut(pixels)

    def cell_means(self, pixels: Pixels, box: Box) -> NDArray[np.int16]:
        """The means of the cells in the box of `locate`, 0 outside the outline."""
        window = self._window_of(box)
        return cell_means(pixels, box) if window is None else window.cell_means(pixels)

    def flaw(self, pixels: Pixels, box: Box | None) -> Flaw | None:
        """The flaw of the picture in the box of `locate`; of the whole screen where `box` is None.

        A small region of the user is enlarged for the check, because a nodule may be small.
        """
        height, width = pixels.shape[:2]
        if box is None:
            return find_flaw(pixels, Box(0, 0, width, height))
        if self.fixed_roi is not None:
            w, h = max(box.w, MIN_PICTURE_SIDE), max(box.h, MIN_PICTURE_SIDE)
            x = max(0, min(box.x + (box.w - w) // 2, width - w))
            y = max(0, min(box.y + (box.h - h) // 2, height - h))
            box = Box(x, y, w, h)
        return find_flaw(pixels, box)

    def _region_of_interest(self) -> Box | None:
        """The region of interest on the current screen: what was marked, given or saved."""
        if self._marked is not None and self._marked[0] == self.screen:
            return self._marked[1]
        saved = self._saved.get(self.screen)
        given = self._given if self._marked is None else None
        return given or (None if saved is None else saved.roi)

    def _device_outline(self) -> Outline | None:
        """The outline of the region that the source names, where it lies on the screen."""
        if self._device_region is None:
            return None
        x, y, w, h = self._device_region
        fits = x + w <= self.screen[0] and y + h <= self.screen[1] and min(w, h) >= MIN_PICTURE_SIDE
        return rectangle_outline(self._device_region) if fits else None

    def _search(self, pixels: Pixels) -> None:
        """Gathers some of the frames, and finds the outline in them."""
        count, self._count = self._count, self._count + 1
        stride = SETTLED_STRIDE if self._settled else SEARCH_STRIDE
        if self.outline is not None and count % stride:
            return
        whole = Box(0, 0, *self.screen)
        if find_flaw(pixels, whole) in (Flaw.BLACK, Flaw.NO_SIGNAL):
            return
        self._frames.append(shrink_for_search(pixels))
        if self.outline is None:
            self.outline = find_bright(self._frames[-1], self.screen)
        if len(self._frames) < SEARCH_FRAMES:
            return
        movement = find_moving(self._frames, self.screen)
        if not self._settled:
            self._settled = movement is not None
            self._set_outline(movement or find_bright(self._frames[-1], self.screen))
        elif movement is not None and self.outline is not None and is_grown(self.outline, movement):
            self._set_outline(movement)
        self._frames = []

    def _set_outline(self, outline: Outline | None) -> None:
        self.outline, self._window = outline, None

    def _window_of(self, box: Box) -> OutlinedBox | None:
        """The outlined box; None where the outline is the whole box."""
        outline = self.outline
        if self.fixed_roi is not None or outline is None or outline.kind is Shape.RECTANGLE:
            return None
        if self._window is None:
            self._window = OutlinedBox(outline)
        return self._window if self._window.box == box else None


def is_grown(outline: Outline, later: Outline) -> bool:
    """Whether `later` holds the outline and more, and is not a part of it or beside it."""
    both = np.count_nonzero(outline.mask(outline.box) & later.mask(outline.box))
    return later.area > MIN_GROWTH * outline.area and bool(both >= MIN_OVERLAP * outline.area)


def parse_roi(text: str) -> Box:
    """Reads `x,y,w,h` in pixels of the screen. Raises BadInput for other text."""
    return parse_box(text, "--roi")


def parse_box(text: str, option: str) -> Box:
    """Reads the value of an option as `x,y,w,h`. Raises BadInput, naming the option."""
    try:
        box = Box(*(int(word) for word in text.split(",")))
    except (TypeError, ValueError) as error:
        raise BadInput(f"{option} {text}: four whole numbers x,y,w,h are needed") from error
    if min(box) < 0 or min(box.w, box.h) < MIN_REGION_SIDE:
        raise BadInput(f"{option} {text}: x and y from 0, w and h from {MIN_REGION_SIDE} pixels")
    return box
