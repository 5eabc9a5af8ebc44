"""The outline of the picture: of one frame, of several, and of real screens."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import Box, Pixels
from devices.capture.phantom import Phantom
from devices.capture.video import Video
from edge_runtime.screen.outline import (
    Corner,
    Outline,
    Shape,
    find_bright,
    find_moving,
    rectangle_outline,
    shrink_for_search,
)
from tests.conftest import SWEEPS

ELSEWHERE = SWEEPS.parent / "not_thyroid"

LUNG = (
    *((105, 0), (267, 0), (369, 178), (369, 336), (315, 352), (250, 362), (185, 366), (120, 362)),
    *((55, 352), (0, 336), (0, 180)),
)
SCREENS: dict[Path, tuple[Corner, ...]] = {
    SWEEPS / "seq07.mp4": (
        *((272, 32), (587, 32), (808, 525), (700, 556), (560, 576), (430, 578), (300, 571)),
        *((160, 549), (46, 525)),
    ),
    SWEEPS / "seq24.mp4": ((104, 0), (583, 0), (583, 438), (104, 438)),
    SWEEPS / "seq92.mp4": (
        *((98, 0), (588, 0), (685, 300), (685, 418), (560, 430), (340, 436), (120, 430)),
        *((0, 420), (0, 305)),
    ),
    ELSEWHERE / "butterfly-ocular-phantom.mp4": (
        *((100, 204), (673, 204), (693, 872), (540, 886), (386, 890), (230, 886), (78, 872)),
    ),
    ELSEWHERE / "clarius-ocular-short.mp4": ((266, 86), (1015, 86), (1015, 876), (266, 876)),
    ELSEWHERE / "lung_Reg_Image_182106_crop.mp4": (
        *((96, 0), (268, 0), (362, 170), (378, 230), (375, 300), (345, 340), (260, 360)),
        *((180, 366), (90, 360), (10, 338), (0, 300), (0, 160)),
    ),
    ELSEWHERE / "lung_Reg_pat1Image_133043.mpeg": LUNG,
    ELSEWHERE / "lung_Reg_pat1Image_133232.mpeg": LUNG,
    ELSEWHERE / "lung_Reg_pat2Image_134240.mpeg": LUNG,
    ELSEWHERE / "lung_Reg_pat2Image_134441.mpeg": LUNG,
    ELSEWHERE / "lung_Reg_pat4Image_140606.mpeg": LUNG,
}
"""Drawn by hand on the brightest that any frame showed; in the lung's the shadow is part of it."""
HARD = "lung_Reg_Image_182106_crop.mp4"
"""Its lower corners fade into black: where they end is the annotator's guess too."""


def overlap(a: Outline, b: Outline) -> float:
    """Intersection over union."""
    whole = Box(0, 0, 1400, 1400)
    one, other = a.mask(whole), b.mask(whole)
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def size(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def every_second(path: Path, count: int = 15, first: int = 0) -> list[Pixels]:
    with Video(path) as video:
        frames = (video.read(1.0).pixels for _ in range(first + 2 * count))
        return list(islice(frames, first, None, 2))


def speckled(mask: Pixels, frames: int = 12, level: float = 60, noise: float = 0) -> list[Pixels]:
    """Frames whose picture, where `mask` is, shows other speckle each time."""
    random = np.random.default_rng(0)
    pictures = (random.rayleigh(level, mask.shape) * (mask > 0) for _ in range(frames))
    noisy = (its + random.normal(0, noise, its.shape) for its in pictures)
    return [np.clip(its, 0, 255).astype(np.uint8) for its in noisy]


def filled(outline: Outline, width: int = 640, height: int = 480) -> Pixels:
    return outline.mask(Box(0, 0, width, height))


TRAPEZOID = Outline(((250, 20), (390, 20), (600, 440), (40, 440)))


@pytest.mark.parametrize("path", SCREENS, ids=lambda path: path.stem)
def test_it_is_found_on_real_screens_as_a_person_draws_it(path: Path) -> None:
    if not path.is_file():
        pytest.skip("the real sweeps are not here")
    frames = every_second(path)
    found = find_moving([shrink_for_search(pixels) for pixels in frames], size(frames[0]))
    assert found is not None
    assert overlap(found, Outline(SCREENS[path])) >= (0.92 if path.name == HARD else 0.95)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("seq24.mp4", Shape.RECTANGLE),
        ("seq92.mp4", Shape.TRAPEZOID),
        ("seq07.mp4", Shape.SECTOR),
    ],
)
def test_the_kind_of_a_real_sweep(name: str, kind: Shape) -> None:
    if not SWEEPS.is_dir():
        pytest.skip("the real sweeps are not here")
    frames = every_second(SWEEPS / name)
    found = find_moving([shrink_for_search(pixels) for pixels in frames], size(frames[0]))
    assert found is not None
    assert found.kind is kind


@pytest.mark.parametrize("noise", [0, 5])
def test_what_stands_still_is_kept_out(noise: float) -> None:
    frames = speckled(filled(TRAPEZOID), noise=noise)
    for pixels in frames:
        cv2.rectangle(pixels, (0, 100), (90, 400), 180, -1)  # a menu, larger than a scale
        cv2.rectangle(pixels, (560, 0), (640, 330), 90, -1)
        cv2.putText(pixels, "Thyroid 12 MHz", (400, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    found = find_moving([shrink_for_search(pixels) for pixels in frames], (640, 480))
    assert found is not None
    assert overlap(found, TRAPEZOID) > 0.94


def test_a_menu_that_opens_once_does_not_move() -> None:
    frames = speckled(filled(TRAPEZOID), frames=15)
    for pixels in frames[7:]:
        pixels[:, 560:] = np.maximum(pixels[:, 560:], 120)
    found = find_moving([shrink_for_search(pixels) for pixels in frames], (640, 480))
    assert found is not None
    assert overlap(found, TRAPEZOID) > 0.94


def test_a_shadow_that_hides_a_side_is_bridged() -> None:
    mask = filled(TRAPEZOID)
    mask[80:300, 150:320] = 0
    found = find_moving([shrink_for_search(pixels) for pixels in speckled(mask)], (640, 480))
    assert found is not None
    assert overlap(found, TRAPEZOID) > 0.94


def test_a_still_screen_has_no_moving_picture() -> None:
    shrunk = shrink_for_search(speckled(filled(TRAPEZOID), frames=1)[0])
    assert find_moving([shrunk] * 15, (640, 480)) is None


def test_few_frames_do_not_tell_what_moves() -> None:
    frames = speckled(filled(TRAPEZOID), frames=5)
    assert find_moving([shrink_for_search(pixels) for pixels in frames], (640, 480)) is None


@pytest.mark.parametrize("screen", [(320, 240), (640, 480), (1920, 1080)])
def test_the_phantoms_picture_is_found_in_one_frame(screen: tuple[int, int]) -> None:
    phantom = Phantom(width=screen[0], height=screen[1])
    found = find_bright(shrink_for_search(phantom.render(0)), screen)
    assert found is not None
    assert overlap(found, rectangle_outline(phantom.picture)) > 0.93
    assert found.kind is Shape.RECTANGLE


def test_a_trapezoid_is_found_in_one_frame() -> None:
    screen = np.where(filled(TRAPEZOID) > 0, 90, 0).astype(np.uint8)
    cv2.putText(screen, "Thyroid 12 MHz", (400, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    found = find_bright(shrink_for_search(screen), (640, 480))
    assert found is not None
    assert overlap(found, TRAPEZOID) > 0.97
    assert found.kind is Shape.TRAPEZOID


@pytest.mark.parametrize("level", [0, 5])
def test_a_dark_screen_has_no_picture(level: int) -> None:
    assert (
        find_bright(shrink_for_search(np.full((480, 640, 3), level, np.uint8)), (640, 480)) is None
    )


def test_text_alone_is_no_picture() -> None:
    screen = np.zeros((480, 640), np.uint8)
    cv2.putText(screen, "NO SIGNAL", (100, 240), cv2.FONT_HERSHEY_SIMPLEX, 2, 255, 3)
    assert find_bright(shrink_for_search(screen), (640, 480)) is None


def test_a_picture_without_a_screen_around_it_is_found_whole() -> None:
    found = find_bright(shrink_for_search(np.full((300, 400), 90, np.uint8)), (400, 300))
    assert found == rectangle_outline(Box(0, 0, 400, 300))


def test_box_and_mask_of_an_outline_agree() -> None:
    box = TRAPEZOID.box
    assert box == Box(40, 20, 561, 421)
    assert np.array_equal(TRAPEZOID.mask(box), filled(TRAPEZOID)[20:441, 40:601])
    assert np.count_nonzero(TRAPEZOID.mask(box)) == TRAPEZOID.area


def test_the_outline_of_a_box_is_that_box() -> None:
    assert rectangle_outline(Box(10, 20, 30, 40)).box == Box(10, 20, 30, 40)
    assert rectangle_outline(Box(10, 20, 30, 40)).area == 1200
