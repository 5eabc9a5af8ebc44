"""What a task accepts, which samples can be used, and how their pixels are read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from edge_runtime.bundle.preprocess import Crop, Picture, parse
from tests.devices.capture.dicom_files import region, write_dicom
from tests.train.conftest import TASK
from train.samples import (
    Sample,
    Task,
    box_between,
    check,
    load_pictures,
    read_pixels,
    require_all_classes,
)

SCREEN = np.arange(80 * 90, dtype=np.uint8).reshape(80, 90)


def sample_of(box: Box | None, path: str = "a.png") -> Sample:
    return Sample(Path(path), "benign", box, "a")


def test_a_grade_stands_for_a_label_of_the_task() -> None:
    with pytest.raises(ValueError, match="grade for 'cancer' names no label"):
        Task("nodule", ("benign", "malignant"), {}, {"5": "cancer"})


@given(
    corners=st.lists(st.text(max_size=5) | st.integers(-9, 999).map(str), min_size=4, max_size=4)
)
def test_any_four_words_are_a_box_none_or_refused(corners: list[str]) -> None:
    try:
        box = box_between(corners, "line 2")
    except BadInput as error:
        said = str(error)
    else:
        said = "line 2"
        assert (box is None) == (not any(corners))
    assert said.startswith("line 2")


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(-1, 10, 30, 30), "box outside the picture"),
        (Box(10, -1, 30, 30), "box outside the picture"),
        (Box(30, 10, -20, 30), "not a box"),
        (Box(10, 10, 30, 0), "not a box"),
    ],
)
def test_a_box_that_is_none_drops_its_image(box: Box, reason: str) -> None:
    assert check(np.zeros((100, 100), np.uint8), sample_of(box)) == reason


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(BadInput, match="no image of class 'malignant'"):
        require_all_classes([sample_of(None)], TASK, "the data")


@pytest.mark.parametrize(
    ("height", "width", "box", "reason"),
    [
        (64, 64, None, None),
        (63, 500, None, "too small"),
        (500, 63, Box(1, 1, 30, 30), "too small"),
        (80, 90, Box(0, 0, 8, 1), None),
        (80, 90, Box(0, 0, 7, 7), "too small"),
        (80, 90, Box(0, 0, 91, 81), None),
        (80, 90, Box(0, 0, 92, 20), "box outside the picture"),
        (80, 90, Box(0, 62, 20, 20), "box outside the picture"),
        (80, 90, Box(-1, 0, 20, 20), "box outside the picture"),
    ],
)
def test_a_sample_that_cannot_be_used_is_told_why(
    height: int, width: int, box: Box | None, reason: str | None
) -> None:
    assert check(np.zeros((height, width), np.uint8), sample_of(box)) == reason


def test_black_and_white_alone_is_a_mask_and_no_picture() -> None:
    mask = np.zeros((80, 90), np.uint8)
    mask[20:40, 30:60] = 255
    assert check(mask, sample_of(None)) == "mask"
    assert check(np.dstack([mask] * 3), sample_of(Box(20, 20, 30, 30))) == "mask"
    mask[0, 0] = 128
    assert check(mask, sample_of(None)) is None


@given(box=st.builds(Box, *[st.integers(-20, 120)] * 2, *[st.integers(8, 120)] * 2))
def test_a_sample_that_passes_can_be_cropped(box: Box) -> None:
    if check(SCREEN, sample_of(box)) is None:
        assert Crop(1.2)(Picture(SCREEN, box)).pixels.size > 0


def test_a_dicom_frame_without_a_box_is_cut_to_its_region(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm",
        np.stack([SCREEN, 255 - SCREEN]),
        NumberOfFrames=2,
        SequenceOfUltrasoundRegions=[region(10, 20, 79, 69)],
    )
    box = Box(1, 2, 30, 40)
    assert np.array_equal(read_pixels(Sample(path, "benign", None, "a")), SCREEN[20:70, 10:80])
    assert np.array_equal(read_pixels(Sample(path, "benign", box, "a", frame=1)), 255 - SCREEN)


def test_a_dicom_frame_without_a_region_stays_whole(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", SCREEN)
    assert np.array_equal(read_pixels(Sample(path, "benign", None, "a")), SCREEN)


def test_an_image_file_is_read_as_it_is_stored(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), SCREEN)
    assert np.array_equal(read_pixels(sample_of(None, str(tmp_path / "a.png"))), SCREEN)


def test_pictures_are_prepared_as_the_device_would(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    plain, box = parse("gray|crop(1.5)|resize(32)"), Box(10, 10, 30, 20)
    pictures = load_pictures([Sample(tmp_path / "a.png", "benign", box, "a")], plain)
    assert np.array_equal(pictures, plain(pixels, box))


def test_an_image_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(BadInput, match=r"a.png: not an image"):
        load_pictures([Sample(tmp_path / "a.png", "benign", None, "a")], parse("gray|resize(32)"))


def test_a_box_outside_its_image_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((50, 50), np.uint8))
    sample = Sample(tmp_path / "a.png", "benign", Box(500, 500, 10, 10), "a")
    with pytest.raises(BadInput, match=r"a.png: the box 500,500,10,10 lies outside"):
        load_pictures([sample], parse("gray|crop(1.5)|resize(32)"))
