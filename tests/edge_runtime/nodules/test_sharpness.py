"""Sharpness of the picture of a nodule."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Box, Pixels
from devices.capture.phantom import Phantom
from edge_runtime.nodules.sharpness import sharpness


@pytest.fixture
def nodule() -> Box:
    box = Phantom(live=False).nodule_box(40)
    assert box is not None
    return box


def test_a_blurred_picture_is_less_sharp(screen: Pixels, nodule: Box) -> None:
    blurs = [screen, *(cv2.GaussianBlur(screen, (0, 0), sigma) for sigma in (2, 4, 8))]
    values = [sharpness(np.asarray(pixels, np.uint8), nodule) for pixels in blurs]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] / 2


def test_a_flat_picture_has_no_sharpness() -> None:
    assert sharpness(np.full((200, 200), 90, np.uint8), Box(10, 10, 100, 100)) == 0


def test_white_noise_is_as_sharp_as_can_be() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    assert sharpness(noise, Box(0, 0, 64, 64)) == pytest.approx(1, abs=0.05)


def test_the_gain_does_not_matter(screen: Pixels, nodule: Box) -> None:
    darker = np.asarray(screen * 0.7, np.uint8)
    assert sharpness(darker, nodule) == pytest.approx(sharpness(screen, nodule), rel=0.1)


def test_the_size_of_the_screen_does_not_matter(screen: Pixels, nodule: Box) -> None:
    double = np.asarray(cv2.resize(screen, None, fx=2, fy=2), np.uint8)
    box = Box(*(2 * side for side in nodule))
    assert sharpness(double, box) == pytest.approx(sharpness(screen, nodule), rel=0.15)


@given(st.integers(-50, 80), st.integers(-50, 80), st.integers(1, 90), st.integers(1, 90))
def test_every_box_has_a_sharpness_from_0_to_1(x: int, y: int, w: int, h: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    assert 0 <= sharpness(pixels, Box(x, y, w, h)) <= 1


def test_a_box_beside_the_screen_has_none(screen: Pixels) -> None:
    assert sharpness(screen, Box(-50, 0, 50, 50)) == 0
