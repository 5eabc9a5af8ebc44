"""How a box moves with the picture under it."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import Box
from edge_runtime.nodules.motion import MAX_GROWTH, Motion

SIDE = 192
WINDOW = Box(100, -50, 384, 384)
"""Two pixels of the screen are one of the picture."""
MIDDLE = (292.0, 142.0, 80.0, 60.0)


def speckle(seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2).astype(np.uint8)


def moved(picture: NDArray[np.uint8], x: float, y: float, growth: float = 1) -> NDArray[np.uint8]:
    """The picture, moved by so many of its pixels, and grown about its middle."""
    shift = (1 - growth) * (SIDE - 1) / 2
    matrix = np.array([[growth, 0, shift + x], [0, growth, shift + y]])
    return cv2.warpAffine(picture, matrix, (SIDE, SIDE)).astype(np.uint8)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, -2), (-6.5, 4), (9, 9)])
def test_a_box_moves_with_the_picture(x: float, y: float) -> None:
    before = speckle()
    (place,) = Motion(before, moved(before, x, y), WINDOW)([MIDDLE])
    assert place == pytest.approx((292 + 2 * x, 142 + 2 * y, 80, 60), abs=0.5)


@pytest.mark.parametrize("growth", [0.95, 1.06])
def test_a_box_grows_with_the_picture(growth: float) -> None:
    before = speckle()
    (place,) = Motion(before, moved(before, 0, 0, growth), WINDOW)([MIDDLE])
    assert place is not None
    assert place[2:] == pytest.approx((80 * growth, 60 * growth), rel=0.01)


def test_each_box_moves_with_its_own_part() -> None:
    before = speckle()
    after = before.copy()
    after[:, 96:] = moved(before, 4, 0)[:, 96:]
    left, right = (180.0, 142.0, 60.0, 60.0), (400.0, 142.0, 60.0, 60.0)
    still, went = Motion(before, after, WINDOW)([left, right])
    assert still == pytest.approx(left, abs=0.5)
    assert went == pytest.approx((408, 142, 60, 60), abs=0.5)


def test_a_box_follows_the_part_that_can_be_followed() -> None:
    """A shadow hides the rest."""
    before = speckle()
    after = moved(before, 3, 1)
    after[60:100, 104:] = 0
    (place,) = Motion(before, after, WINDOW)([MIDDLE])
    assert place is not None
    assert place[:2] == pytest.approx((298, 144), abs=3)


@pytest.mark.parametrize("seed", range(1, 6))
def test_nothing_is_known_after_a_cut(seed: int) -> None:
    assert Motion(speckle(), speckle(seed), WINDOW)([MIDDLE]) == [None]


def test_nothing_is_known_of_an_even_picture() -> None:
    even = np.full((SIDE, SIDE), 60, np.uint8)
    assert Motion(even, even, WINDOW)([MIDDLE]) == [None]


def test_nothing_is_known_of_a_box_outside_the_picture() -> None:
    before = speckle()
    assert Motion(before, before, WINDOW)([(20.0, 142.0, 80.0, 60.0), MIDDLE])[0] is None


def test_without_boxes_nothing_is_asked() -> None:
    before = speckle()
    assert Motion(before, before, WINDOW)([]) == []


PLACES = st.tuples(
    st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.floats(1e-3, 1e4)
)


@settings(deadline=None)
@given(places=st.lists(PLACES, max_size=5), seed=st.integers(0, 3))
def test_a_place_is_finite_and_grows_within_its_bounds(
    places: list[tuple[float, float, float, float]], seed: int
) -> None:
    answers = Motion(speckle(seed), speckle(seed + 1), WINDOW)(places)
    assert len(answers) == len(places)
    for place, answer in zip(places, answers, strict=True):
        if answer is not None:
            assert all(map(math.isfinite, answer))
            assert 1 / MAX_GROWTH - 1e-6 <= answer[2] / place[2] <= MAX_GROWTH + 1e-6
