"""The boxes of a varied picture are where its pixels went."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from train.augmentation import OFF, Augmentation
from train.locator.augmentation import GONE, VISIBLE, Square, Varied, match_histogram, vary_square

HELD, SIDE = 160, 128
MOVING = replace(OFF, shift=0.04, scale=0.12)
MIRRORED = replace(MOVING, mirror=1.0)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def bright(left: int, top: int, right: int, bottom: int) -> Square:
    """A black square with one bright rectangle, which is its box."""
    pixels = np.zeros((HELD, HELD), np.uint8)
    pixels[top:bottom, left:right] = 255
    return Square(pixels, np.array([[left, top, right, bottom]], np.float32) / np.float32(HELD))


def bounds(pixels: NDArray[np.uint8]) -> list[int]:
    """Left, top, right, bottom of what is bright."""
    rows, columns = np.nonzero(pixels > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def varied(square: Square, augmentation: Augmentation, seed: int) -> Varied:
    return vary_square(square, SIDE, augmentation, rng(seed))


def test_off_the_picture_and_its_box_stay() -> None:
    done = varied(bright(40, 30, 100, 80), OFF, 0)
    assert done.pixels.shape == (SIDE, SIDE)
    assert done.boxes[0].tolist() == pytest.approx([0.25, 0.1875, 0.625, 0.5])
    assert len(done.ignored) == 0
    assert bounds(done.pixels) == pytest.approx((done.boxes[0] * SIDE).tolist(), abs=1)


@pytest.mark.parametrize("augmentation", [MOVING, MIRRORED], ids=["moved", "mirrored"])
def test_the_box_follows_the_pixels(augmentation: Augmentation) -> None:
    # Off the middle and not square, so that an exchange of sides or axes is noticed.
    square = bright(30, 60, 80, 90)
    places = set()
    for seed in range(40):
        done = varied(square, augmentation, seed)
        if len(done.boxes):
            places.add(round(float(done.boxes[0, 0]), 3))
            box = (done.boxes[0] * SIDE).tolist()
            assert bounds(done.pixels) == pytest.approx(box, abs=2), seed
    assert len(places) > 20


def test_mirrored_left_is_right() -> None:
    done = varied(bright(0, 60, 40, 90), replace(OFF, mirror=1.0), 0)
    assert done.boxes[0].tolist() == pytest.approx([0.75, 0.375, 1.0, 0.5625])
    assert bounds(done.pixels)[0] == pytest.approx(96, abs=1)


def test_several_boxes_keep_their_order() -> None:
    pixels = np.zeros((HELD, HELD), np.uint8)
    boxes = np.array([[0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.9, 0.8]], np.float32)
    done = vary_square(Square(pixels, boxes), SIDE, OFF, rng(0))
    assert np.allclose(done.boxes, boxes)


def test_a_picture_without_a_box_has_none() -> None:
    done = varied(Square(bright(40, 30, 100, 80).pixels, np.zeros((0, 4), np.float32)), MOVING, 0)
    assert done.boxes.shape == done.ignored.shape == (0, 4)


def test_a_box_that_is_mostly_outside_is_ignored_and_not_missed() -> None:
    square = bright(0, 60, 60, 120)
    kinds = set()
    for seed in range(200):
        done = varied(square, replace(OFF, shift=0.1), seed)
        assert len(done.boxes) + len(done.ignored) <= 1
        # What is bright in the picture, as a share of the whole rectangle.
        left = np.count_nonzero(done.pixels > 127) / (60 * SIDE / HELD) ** 2
        if left > VISIBLE + 0.05:
            kinds.add("box")
            assert len(done.boxes) == 1, seed
        elif GONE + 0.05 < left < VISIBLE - 0.05:
            kinds.add("ignored")
            assert len(done.ignored) == 1, seed
        elif left < GONE - 0.05:
            kinds.add("gone")
            assert len(done.boxes) == len(done.ignored) == 0, seed
    assert kinds == {"box", "ignored", "gone"}


def test_no_box_leaves_the_picture() -> None:
    for seed in range(60):
        done = varied(bright(0, 100, 60, 160), MIRRORED, seed)
        for boxes in (done.boxes, done.ignored):
            assert ((boxes >= 0) & (boxes <= 1)).all()


def test_the_same_numbers_give_the_same_picture() -> None:
    square = bright(40, 30, 100, 80)
    one, same, other = (varied(square, Augmentation(), seed) for seed in (1, 1, 2))
    assert np.array_equal(one.pixels, same.pixels)
    assert np.array_equal(one.boxes, same.boxes)
    assert not np.array_equal(one.pixels, other.pixels)


def test_the_square_that_is_kept_does_not_change() -> None:
    square = bright(40, 30, 100, 80)
    pixels, boxes = square.pixels.copy(), square.boxes.copy()
    varied(square, Augmentation(), 3)
    assert np.array_equal(square.pixels, pixels)
    assert np.array_equal(square.boxes, boxes)


def test_scanners_change_the_pixels_and_no_box() -> None:
    square = bright(40, 30, 100, 80)
    # Black and white stay what they are.
    square = Square(square.pixels // 2 + 50, square.boxes)
    plain = varied(square, OFF, 5)
    other = varied(square, replace(Augmentation(), shift=0.0, scale=0.0, mirror=0.0), 5)
    assert not np.array_equal(plain.pixels, other.pixels)
    assert np.array_equal(plain.boxes, other.boxes)


def test_borrowed_tones_are_those_of_the_other_picture() -> None:
    dark = Square(rng(0).integers(0, 80, (HELD, HELD), np.uint8), bright(40, 30, 100, 80).boxes)
    light = Square(rng(1).integers(120, 256, (HELD, HELD), np.uint8), np.zeros((0, 4), np.float32))
    done = match_histogram(dark, light)
    assert abs(float(np.median(done.pixels)) - float(np.median(light.pixels))) < 3
    assert np.array_equal(done.boxes, dark.boxes)
    # What is darker stays darker, and black stays black.
    order = np.argsort(dark.pixels, axis=None, kind="stable")
    assert (np.diff(done.pixels.ravel()[order].astype(int)) >= 0).all()
    assert np.array_equal(done.pixels == 0, dark.pixels == 0)


def test_a_black_picture_lends_and_borrows_no_tones() -> None:
    square = bright(40, 30, 100, 80)
    black = Square(np.zeros((HELD, HELD), np.uint8), square.boxes)
    assert match_histogram(square, black) is square
    assert match_histogram(black, square) is black
