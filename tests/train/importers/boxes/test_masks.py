"""Masks beside pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.importers.boxes.drawing import HEIGHT, WIDTH, boxes, draw, reasons
from train.importers.boxes import read_marked
from train.importers.boxes.masks import MIN_AREA, components

ONE = (10, 20, 30, 25)


def mask(path: Path, *inside: tuple[int, int, int, int], value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for x, y, w, h in inside:
        pixels[y : y + h, x : x + w] = value
    cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize(
    ("picture", "its_mask"),
    [
        ("x.png", "x_mask.png"),
        ("x.png", "x_seg.jpg"),
        ("images/x.png", "masks/x.png"),
        ("images/x.png", "masks/x_mask.png"),
        ("x.png", "masks/x.png"),
        ("train/images/x.png", "train/masks/x.png"),
        ("images/train/x.png", "masks/train/x.png"),
    ],
)
def test_a_picture_has_a_box_for_each_component(
    tmp_path: Path, picture: str, its_mask: str
) -> None:
    draw(tmp_path / picture)
    mask(tmp_path / its_mask, ONE, (60, 50, 20, 20), (100, 5, 2, 3))
    found = read_marked(tmp_path)
    assert boxes(found) == {"x.png": [ONE, (60, 50, 20, 20)]}
    assert found.pictures[0].part == ("train" if "train" in picture else None)
    assert found.layout == "masks"


def test_what_the_data_folder_is_called_says_nothing(tmp_path: Path) -> None:
    draw(tmp_path / "masks" / "x.png")
    mask(tmp_path / "masks" / "x_mask.png", ONE)
    assert boxes(read_marked(tmp_path / "masks")) == {"x.png": [ONE]}


def test_the_same_name_in_two_parts_is_not_confused(tmp_path: Path) -> None:
    for index, part in enumerate(("train", "test")):
        draw(tmp_path / part / "images" / "x.png", index)
        mask(tmp_path / part / "masks" / "x.png", (10 + index, 20, 30, 30))
    assert {its.part: its.boxes[0].x for its in read_marked(tmp_path).pictures} == {
        "train": 10,
        "test": 11,
    }


def test_several_masks_of_a_picture_count_together(tmp_path: Path) -> None:
    draw(tmp_path / "x (1).png")
    mask(tmp_path / "x (1)_mask.png", ONE)
    mask(tmp_path / "x (1)_mask_1.png", (60, 50, 20, 20))
    mask(tmp_path / "x (1)_mask_2.png", ONE)
    assert boxes(read_marked(tmp_path)) == {"x (1).png": [ONE, (60, 50, 20, 20)]}


def test_a_black_mask_says_that_there_is_no_nodule(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1)
    draw(tmp_path / "b.png", 2)
    draw(tmp_path / "c.png", 3)
    mask(tmp_path / "a_mask.png", ONE)
    mask(tmp_path / "b_mask.png")
    mask(tmp_path / "masks" / "d.png")
    found = read_marked(tmp_path)
    assert boxes(found) == {"a.png": [ONE], "b.png": []}
    assert reasons(found) == {"c.png": "no label", "d.png": "missing"}


def test_a_mask_that_does_not_fit_or_is_damaged_drops_its_picture(tmp_path: Path) -> None:
    for index, name in enumerate("abc"):
        draw(tmp_path / f"{name}.png", index)
    mask(tmp_path / "a_mask.png", ONE)
    cv2.imwrite(str(tmp_path / "b_mask.png"), np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    (tmp_path / "c_mask.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert reasons(read_marked(tmp_path)) == {
        "b.png": "annotated at another size",
        "c.png": "unreadable",
    }


def test_numbers_in_a_mask_tell_nodules_that_touch() -> None:
    pixels = np.zeros((40, 60), np.uint8)
    pixels[5:20, 5:20], pixels[5:20, 20:40] = 1, 2
    assert components(pixels) == [(5, 5, 20, 20), (20, 5, 40, 20)]


def test_a_coloured_mask_and_grey_edges_are_understood() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[5:20, 5:20, 2] = 128
    pixels[30:35, 30:40] = 60
    assert components(pixels) == [(5, 5, 20, 20)]


@given(x=st.integers(0, 50), y=st.integers(0, 30), w=st.integers(1, 10), h=st.integers(1, 10))
def test_a_rectangle_is_its_own_box(x: int, y: int, w: int, h: int) -> None:
    pixels = np.zeros((40, 60), np.uint8)
    pixels[y : y + h, x : x + w] = 255
    assert components(pixels) == ([(x, y, x + w, y + h)] if w * h >= MIN_AREA else [])
