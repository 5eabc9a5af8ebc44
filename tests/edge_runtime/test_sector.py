"""Where the picture lies on the screen."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import BadInput, Box
from devices.capture import Phantom, open_device
from edge_runtime.sector import Region, find_picture, parse_roi
from tests.conftest import SWEEPS


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    w = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    h = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    both = max(0, w) * max(0, h)
    return both / (a.w * a.h + b.w * b.h - both)


@pytest.mark.parametrize("size", [(320, 240), (640, 480), (1920, 1080)])
def test_the_phantoms_picture_is_found_without_scale_and_text(size: tuple[int, int]) -> None:
    phantom = Phantom(width=size[0], height=size[1])
    found = find_picture(phantom.render(0))
    assert found is not None
    assert overlap(found, phantom.picture) > 0.93


def test_a_trapezoid_is_found_whole() -> None:
    screen = np.zeros((480, 640), np.uint8)
    corners = np.array([[250, 20], [390, 20], [600, 440], [40, 440]])
    cv2.fillPoly(screen, [corners], 90)
    cv2.putText(screen, "Thyroid 12 MHz", (400, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    found = find_picture(screen)
    assert found is not None
    assert overlap(found, Box(40, 20, 560, 420)) > 0.95


@pytest.mark.parametrize("level", [0, 5])
def test_a_dark_screen_has_no_picture(level: int) -> None:
    assert find_picture(np.full((480, 640, 3), level, np.uint8)) is None


def test_text_alone_is_no_picture() -> None:
    screen = np.zeros((480, 640), np.uint8)
    cv2.putText(screen, "NO SIGNAL", (100, 240), cv2.FONT_HERSHEY_SIMPLEX, 2, 255, 3)
    assert find_picture(screen) is None


@pytest.mark.skipif(not SWEEPS.is_dir(), reason="the real sweeps are not here")
@pytest.mark.parametrize(
    ("name", "picture"),
    [("seq24.mp4", Box(104, 0, 480, 432)), ("seq92.mp4", Box(26, 2, 660, 440))],
)
def test_it_is_found_in_real_sweeps(name: str, picture: Box) -> None:
    with open_device(str(SWEEPS / name)) as device:
        found = find_picture(device.read(1.0).pixels)
    assert found is not None
    assert overlap(found, picture) > 0.85


def test_what_was_found_is_kept_until_the_size_changes() -> None:
    region = Region()
    first = region.locate(Phantom(width=320, height=240).render(0))
    brighter = Phantom(width=320, height=240).render(0)
    brighter[:, :] = np.maximum(brighter, 60)
    assert region.locate(brighter) == first
    assert region.locate(Phantom(width=640, height=480).render(0)) != first


def test_stills_are_searched_anew() -> None:
    region = Region()
    region.locate(np.full((240, 320), 90, np.uint8), keep=False)
    found = region.locate(Phantom(width=320, height=240).render(0), keep=False)
    assert found is not None
    assert found.w < 300


def test_a_picture_that_went_dark_is_no_picture() -> None:
    region = Region()
    assert region.locate(np.full((240, 320), 90, np.uint8)) is not None
    assert region.locate(np.zeros((240, 320), np.uint8)) is None


def test_the_users_region_is_taken_as_it_is() -> None:
    roi = Box(10, 20, 100, 80)
    assert Region(roi).locate(np.full((240, 320), 90, np.uint8)) == roi
    assert Region(roi).locate(np.zeros((240, 320), np.uint8)) is None


def test_a_region_outside_the_screen_is_refused() -> None:
    with pytest.raises(BadInput, match="outside the 320 x 240 screen"):
        Region(Box(300, 0, 100, 80)).locate(np.full((240, 320), 90, np.uint8))


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "1,2,3,4,5", "-1,0,50,50", "0,0,0,50"])
def test_an_ill_formed_region_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--roi"):
        parse_roi(text)


def test_a_region_is_read(tmp_path: Path) -> None:
    assert parse_roi("1, 2,30,40") == Box(1, 2, 30, 40)
