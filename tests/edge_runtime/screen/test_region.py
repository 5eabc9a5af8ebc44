"""Where to look on the screen, and what is seen there."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from devices import BadInput, Box, Pixels
from devices.capture.phantom import Phantom
from edge_runtime.screen.flaws import Flaw
from edge_runtime.screen.outline import Outline, Shape
from edge_runtime.screen.region import SEARCH_FRAMES, SETTLED_STRIDE, Misplaced, Region, parse_roi
from edge_runtime.screen.saved_regions import SavedRegion
from edge_runtime.screen.stillness import is_other_picture
from tests.edge_runtime.screen.test_outline import TRAPEZOID, filled, overlap, speckled

SETTLED = 2 * SEARCH_FRAMES
"""Frames, of which every second is looked at."""


def settled(frames: list[Pixels]) -> Region:
    region = Region()
    for number in range(SETTLED):
        region.locate(frames[number % len(frames)])
    return region


def speckle(width: int, height: int) -> Pixels:
    """A screen that is all picture."""
    return np.random.default_rng(1).integers(20, 180, (height, width), np.uint8)


def with_menu(frames: list[Pixels]) -> list[Pixels]:
    """A bright still menu beside the picture, larger than it."""
    return [
        cv2.copyMakeBorder(its, 0, 0, 0, 700, 0, value=(150,)).astype(np.uint8) for its in frames
    ]


def test_movement_tells_the_picture_from_a_larger_menu() -> None:
    frames = with_menu(speckled(filled(TRAPEZOID)))
    region = Region()
    first = region.locate(frames[0])
    assert first is not None
    assert first.x > 600  # one frame shows no more than what is bright
    for number in range(1, SETTLED):
        region.locate(frames[number % len(frames)])
    assert region.outline is not None
    assert overlap(region.outline, TRAPEZOID) > 0.94


def test_a_screen_that_stands_still_is_looked_at_until_something_moves() -> None:
    frames = speckled(filled(TRAPEZOID))
    worklist = speckle(640, 480)
    region = settled([worklist])
    assert region.outline is not None
    assert region.outline.kind is Shape.RECTANGLE
    for number in range(SETTLED):
        region.locate(frames[number % len(frames)])
    assert overlap(region.outline, TRAPEZOID) > 0.94


def test_a_picture_that_shows_more_later_grows() -> None:
    mask = filled(TRAPEZOID)
    air = mask.copy()
    air[150:] = 0
    region = settled(speckled(air))
    assert region.outline is not None
    small = region.outline
    frames = speckled(mask)
    for number in range(2 * SEARCH_FRAMES * SETTLED_STRIDE):
        region.locate(frames[number % len(frames)])
    assert region.outline.area > 3 * small.area
    assert overlap(region.outline, TRAPEZOID) > 0.94


def test_a_picture_that_shows_less_later_does_not_shrink() -> None:
    mask = filled(TRAPEZOID)
    region = settled(speckled(mask))
    before = region.outline
    mask[150:] = 0
    frames = speckled(mask)
    for number in range(2 * SEARCH_FRAMES * SETTLED_STRIDE):
        region.locate(frames[number % len(frames)])
    assert region.outline == before


def test_a_blue_screen_is_not_taken_for_the_picture() -> None:
    region = Region()
    blue = np.full((480, 640, 3), (200, 0, 0), np.uint8)
    assert region.locate(blue) is None
    assert region.outline is None


def test_beyond_a_trapezoid_the_model_sees_black() -> None:
    frames = speckled(filled(TRAPEZOID))
    region = settled(frames)
    screen = np.maximum(frames[0], 200)
    box = region.locate(screen)
    assert box is not None
    assert region.outline is not None
    seen = region.cut(screen, box)
    inside = region.outline.mask(box) > 0
    assert np.array_equal(
        seen[inside], screen[box.y : box.y + box.h, box.x : box.x + box.w][inside]
    )
    assert not seen[~inside].any()


def test_the_buffer_is_made_once_for_a_kind_of_pixels() -> None:
    frames = speckled(filled(TRAPEZOID))
    region = settled(frames)
    box = region.locate(frames[0])
    assert box is not None
    assert region.cut(frames[0], box) is region.cut(frames[1], box)
    coloured = np.repeat(frames[0][..., None], 3, axis=2)
    assert region.cut(coloured, box).shape == (box.h, box.w, 3)


def test_a_rectangle_is_cut_out_without_a_copy() -> None:
    screen = Phantom(width=640, height=480).render(0)
    region = Region()
    box = region.locate(screen)
    assert box is not None
    assert np.shares_memory(region.cut(screen, box), screen)


def test_a_clock_beside_a_trapezoid_does_not_hide_that_it_froze() -> None:
    frames = speckled(filled(TRAPEZOID))
    region = settled(frames)
    frozen, later = frames[0].copy(), frames[0].copy()
    cv2.putText(frozen, "12:59", (45, 100), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 3)
    cv2.putText(later, "13:00", (45, 100), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 3)
    box = region.locate(frozen)
    assert box is not None
    assert not is_other_picture(region.cell_means(frozen, box), region.cell_means(later, box))
    assert is_other_picture(region.cell_means(frozen, box), region.cell_means(frames[1], box))


REMEMBERED = SavedRegion("phantom:", (640, 480), polygon=TRAPEZOID.polygon)


def test_what_is_remembered_for_the_size_is_taken_at_once() -> None:
    region = Region(saved={(640, 480): REMEMBERED})
    assert region.locate(speckle(640, 480)) == TRAPEZOID.box
    assert region.outline == Outline(TRAPEZOID.polygon)
    region.forget()
    assert region.locate(speckle(640, 480)) == TRAPEZOID.box


def test_what_is_remembered_for_another_size_is_not() -> None:
    region = Region(saved={(640, 480): REMEMBERED})
    assert region.locate(speckle(320, 240)) == Box(0, 0, 320, 240)


def test_a_remembered_region_is_judged_and_the_users_own_goes_before_it() -> None:
    roi, own = Box(300, 200, 100, 100), Box(10, 10, 50, 50)
    known = {(640, 480): SavedRegion("x", (640, 480), polygon=TRAPEZOID.polygon, roi=roi)}
    screen = speckle(640, 480)
    region = Region(saved=known)
    assert region.locate(screen) == region.roi == roi
    assert Region(own, known).locate(screen) == own
    region.locate(speckle(320, 240))
    assert region.roi is None


@pytest.mark.parametrize("roi", [Box(300, 200, 20, 30), Box(0, 0, 8, 8), Box(632, 472, 8, 8)])
def test_a_small_region_of_the_users_is_not_too_small(roi: Box) -> None:
    screen = speckle(640, 480)
    assert Region(roi).flaw(screen, roi) is None
    assert Region(roi).flaw(0 * screen, roi) is Flaw.BLACK


def test_a_picture_that_is_found_may_be_too_small() -> None:
    screen = speckle(60, 60)
    region = Region()
    assert region.flaw(screen, region.locate(screen)) is Flaw.TOO_SMALL


def test_where_there_is_no_picture_the_screen_tells_why() -> None:
    region = Region()
    blue = np.full((480, 640, 3), (200, 0, 0), np.uint8)
    assert region.flaw(blue, region.locate(blue)) is Flaw.NO_SIGNAL
    assert region.flaw(0 * blue, region.locate(0 * blue)) is Flaw.BLACK


@given(
    pixels=arrays.arrays(
        np.uint8,
        st.one_of(
            st.tuples(st.integers(1, 90), st.integers(1, 90)),
            st.tuples(st.integers(1, 90), st.integers(1, 90), st.just(3)),
        ),
    )
)
def test_no_screen_makes_it_raise(pixels: Pixels) -> None:
    region = Region()
    for number in range(SETTLED):
        box = region.locate(np.roll(pixels, 7 * number))
        assert region.flaw(pixels, box) in (None, *Flaw)
        if box is not None:
            assert region.cut(pixels, box).shape[:2] == (box.h, box.w)
            region.cell_means(pixels, box)


def test_what_was_found_is_kept_until_the_size_changes() -> None:
    region = Region()
    first = region.locate(Phantom(width=320, height=240).render(0))
    brighter = Phantom(width=320, height=240).render(0)
    brighter[:, :] = np.maximum(brighter, 60)
    assert region.locate(brighter) == first
    assert region.locate(Phantom(width=640, height=480).render(0)) != first


def test_stills_are_searched_anew() -> None:
    region = Region()
    region.locate(speckle(320, 240), keep=False)
    found = region.locate(Phantom(width=320, height=240).render(0), keep=False)
    assert found is not None
    assert found.w < 300


def test_a_picture_that_went_dark_is_no_picture() -> None:
    region = Region()
    assert region.locate(speckle(320, 240)) is not None
    assert region.locate(np.zeros((240, 320), np.uint8)) is None


def test_the_users_region_is_taken_as_it_is() -> None:
    roi = Box(10, 20, 100, 80)
    assert Region(roi).locate(speckle(320, 240)) == roi
    assert Region(roi).locate(np.zeros((240, 320), np.uint8)) is None


def test_a_region_outside_the_screen_is_refused() -> None:
    with pytest.raises(BadInput, match="outside the 320 x 240 screen"):
        Region(Box(300, 0, 100, 80)).locate(speckle(320, 240))


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "1,2,3,4,5", "-1,0,50,50", "0,0,0,50"])
def test_an_ill_formed_region_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--roi"):
        parse_roi(text)


def test_a_region_is_read(tmp_path: Path) -> None:
    assert parse_roi("1, 2,30,40") == Box(1, 2, 30, 40)


def test_where_a_source_says_its_picture_lies_is_not_searched() -> None:
    speckle = np.random.default_rng(0).integers(20, 180, (240, 320), np.uint8)
    told = Box(40, 30, 200, 180)
    assert Region(device_region=told).locate(speckle) == told
    assert Region(device_region=Box(200, 30, 200, 180)).locate(speckle) != Box(200, 30, 200, 180)


def test_a_region_that_is_marked_holds_from_the_next_frame_on_and_is_cleared() -> None:
    screen, roi = speckle(640, 480), Box(300, 200, 100, 100)
    region = Region(Box(10, 10, 50, 50))
    region.locate(screen)
    region.mark(roi, (640, 480))
    assert (region.locate(screen), region.changes) == (roi, 1)
    region.mark(None, (640, 480))
    assert (region.locate(screen), region.roi) == (Box(0, 0, 640, 480), None)
    assert region.changes == 2


def test_a_region_that_follows_leaves_the_search_to_the_picture() -> None:
    screen, roi = speckle(640, 480), Box(300, 200, 100, 100)
    region = Region(roi, follow=True)
    assert region.locate(screen) == Box(0, 0, 640, 480)
    assert (region.roi, region.fixed_roi) == (roi, None)
    region.mark(roi, (640, 480), follow=False)
    assert (region.locate(screen), region.fixed_roi, region.changes) == (roi, roi, 1)
    region.mark(Box(9, 9, 50, 50), (640, 480))
    assert region.locate(screen) == Box(9, 9, 50, 50)


def test_a_still_is_judged_where_it_was_marked() -> None:
    """There is nothing to follow."""
    roi = Box(300, 200, 100, 100)
    region = Region(roi, follow=True)
    assert region.locate(speckle(640, 480), keep=False) == roi
    assert region.fixed_roi == roi


def test_a_box_that_follows_may_be_marked_again_where_it_was() -> None:
    screen, roi = speckle(640, 480), Box(300, 200, 100, 100)
    region = Region(roi, follow=True)
    region.locate(screen)
    region.mark(roi, (640, 480))
    region.locate(screen)
    assert region.changes == 1


def test_without_a_locator_no_region_follows() -> None:
    region, roi = Region(), Box(300, 200, 100, 100)
    region.locate(speckle(640, 480))
    with pytest.raises(BadInput, match=Misplaced.NO_LOCATOR):
        region.mark(roi, (640, 480), follow=True)
    assert region.next_roi is None


def test_the_same_region_again_changes_nothing() -> None:
    screen, roi = speckle(640, 480), Box(300, 200, 100, 100)
    region = Region(roi)
    region.locate(screen)
    region.mark(roi, (640, 480))
    assert (region.locate(screen), region.changes) == (roi, 0)


def test_a_marked_region_outlives_the_device_but_no_other_size_of_the_screen() -> None:
    screen, roi, given = speckle(640, 480), Box(300, 200, 100, 100), Box(10, 10, 50, 50)
    region = Region(given)
    region.locate(screen)
    region.mark(roi, (640, 480))
    region.locate(screen)
    region.forget()
    assert region.locate(screen) == roi
    region.locate(speckle(320, 240))
    assert region.roi is None


@pytest.mark.parametrize(
    ("roi", "why"),
    [
        (Box(600, 0, 41, 50), Misplaced.OUTSIDE),
        (Box(0, 431, 50, 50), Misplaced.OUTSIDE),
        (Box(-1, 0, 50, 50), Misplaced.OUTSIDE),
        (Box(0, 0, 0, 50), Misplaced.TOO_SMALL),
        (Box(0, 0, 50, -50), Misplaced.TOO_SMALL),
    ],
)
def test_a_region_that_cannot_be_marked_is_refused_and_the_old_stays(
    roi: Box, why: Misplaced
) -> None:
    given = Box(10, 10, 50, 50)
    region = Region(given)
    region.locate(speckle(640, 480))
    with pytest.raises(BadInput, match=why):
        region.mark(roi, (640, 480))
    assert region.locate(speckle(640, 480)) == given


def test_a_region_on_a_picture_that_is_not_there_is_refused() -> None:
    region, roi = Region(), Box(10, 10, 50, 50)
    with pytest.raises(BadInput, match=Misplaced.NO_PICTURE):
        region.mark(roi, (640, 480))
    region.locate(speckle(320, 240))
    with pytest.raises(BadInput, match=Misplaced.OTHER_SIZE):
        region.mark(roi, (640, 480))


def test_a_region_of_interest_that_is_saved_alone_leaves_the_search_to_the_picture() -> None:
    roi = Box(300, 200, 100, 100)
    region = Region(saved={(640, 480): SavedRegion("x", (640, 480), roi=roi)})
    assert region.locate(speckle(640, 480)) == roi
    region.mark(None, (640, 480))
    assert region.locate(speckle(640, 480)) == Box(0, 0, 640, 480)
