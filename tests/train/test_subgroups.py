"""The traits of an image: its scanner, colour, calipers and the nodule's size."""

import csv
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from devices import Box, Pixels
from devices.capture.image import read_image
from tests.conftest import TN5000
from train.subgroups import traits

BOX = Box(250, 200, 100, 80)
CORNERS = ((250, 240), (350, 240), (300, 200), (300, 280))


def tissue(seed: int = 0) -> Pixels:
    """Grey speckle with a dark nodule and bright calcifications in it."""
    random = np.random.default_rng(seed)
    pixels = cv2.GaussianBlur(random.rayleigh(60, (500, 700)).astype(np.float32), (0, 0), 1.5)
    cv2.ellipse(pixels, (300, 240), (50, 40), 0, 0, 360, 40.0, -1)
    for x, y in random.integers(-25, 25, (6, 2)):
        cv2.circle(pixels, (300 + int(x), 240 + int(y)), 3, 220.0, -1)
    return np.clip(cv2.GaussianBlur(pixels, (0, 0), 1), 0, 255).astype(np.uint8)


def marked(pixels: Pixels, places: Sequence[tuple[int, int]], kind: int) -> Pixels:
    for place in places:
        cv2.drawMarker(pixels, place, 255, kind, 13, 2)
    return pixels


def test_the_stored_size_tells_the_scanner() -> None:
    assert traits(tissue(), None).scanner == "700x500"


@pytest.mark.parametrize("kind", [cv2.MARKER_CROSS, cv2.MARKER_TILTED_CROSS])
@pytest.mark.parametrize("seed", range(3))
def test_calipers_around_the_nodule_are_seen(kind: int, seed: int) -> None:
    assert traits(marked(tissue(seed), CORNERS[:1], kind), BOX).calipers is True
    assert traits(marked(tissue(seed), CORNERS, kind), BOX).calipers is True


@pytest.mark.parametrize("seed", range(3))
def test_bright_spots_and_marks_elsewhere_are_no_calipers(seed: int) -> None:
    assert traits(tissue(seed), BOX).calipers is False
    elsewhere = ((600, 50), (600, 90), (600, 130))
    assert traits(marked(tissue(seed), elsewhere, cv2.MARKER_CROSS), BOX).calipers is False


def test_coloured_calipers_are_calipers_and_colour() -> None:
    pixels = np.dstack([tissue()] * 3)
    for place in CORNERS:
        cv2.drawMarker(pixels, place, (0, 255, 255), cv2.MARKER_CROSS, 13, 2)
    seen = traits(pixels, BOX)
    assert (seen.coloured, seen.calipers) == (True, True)


def test_grey_a_tint_and_compression_are_no_colour() -> None:
    grey = tissue()
    bluish = np.dstack([np.minimum(1.125 * grey, 255).astype(np.uint8), grey, grey])
    _, data = cv2.imencode(".jpg", np.dstack([grey] * 3), [cv2.IMWRITE_JPEG_QUALITY, 30])
    compressed = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    assert not any(traits(its, BOX).coloured for its in (grey, bluish, compressed))


@pytest.mark.parametrize(
    ("w", "h", "size"),
    [(90, 40, "small"), (40, 110, "medium"), (150, 90, "medium"), (160, 90, "large")],
)
def test_the_longer_side_tells_the_nodules_size(w: int, h: int, size: str) -> None:
    assert traits(tissue(), Box(200, 150, w, h)).nodule == size


def test_without_a_box_nothing_is_said_of_the_nodule() -> None:
    seen = traits(marked(tissue(), CORNERS, cv2.MARKER_CROSS), None)
    assert (seen.calipers, seen.nodule) == (None, None)


def test_a_box_at_the_pictures_edge_is_looked_at() -> None:
    pixels = tissue()
    assert traits(pixels, Box(0, 0, 9, 9)).calipers is False
    assert traits(pixels, Box(691, 491, 9, 9)).calipers is False


@pytest.mark.skipif(not TN5000.is_dir(), reason="TN5000 is not here")
def test_tn5000_has_calipers_and_colour_where_they_were_seen() -> None:
    with_calipers = {1132, 3232, 919, 4488, 3340, 4838, 4841, 4355, 1923, 1324, 868, 4202, 234}
    without = {5, 2293, 641, 3286, 297, 908, 1804, 542, 2129, 3936, 4453, 2740, 711, 1341, 2518}
    with open(TN5000 / "manifest.csv", newline="") as file:
        rows = {int(row["path"][-10:-4]): row for row in csv.DictReader(file)}
    seen = {}
    for number in with_calipers | without:
        row = rows[number]
        xmin, ymin, xmax, ymax = (int(row[name]) for name in ("xmin", "ymin", "xmax", "ymax"))
        box = Box(xmin, ymin, xmax - xmin, ymax - ymin)
        seen[number] = traits(read_image(TN5000 / row["path"]), box)
    assert {number for number, its in seen.items() if its.calipers} == with_calipers
    assert {number for number, its in seen.items() if its.coloured} == {4202}
