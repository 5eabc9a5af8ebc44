"""Auxiliary pictures: of folders, whole and their middles, and beside what was marked."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import train.outliers
from devices import BadInput, Box
from edge_runtime.bundle import preprocess
from train.outliers import (
    MIDDLES,
    pictures_under,
    places_beside,
    read_auxiliary,
    read_pictures_under,
)
from train.samples import Sample

CROP = preprocess.parse("gray|crop(context=1)|resize(16)")
WHOLE = preprocess.parse("gray|resize(16)")


def draw(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def organs(tmp_path: Path) -> Path:
    """A lung in a folder of a folder, two breasts, and a picture that lies in none of them."""
    for number, name in enumerate(("lung/left/0.png", "breast/0.png", "breast/1.png", "0.png")):
        draw(tmp_path / "organs" / name, np.full((40, 60), 50 * (number + 1), np.uint8))
    return tmp_path / "organs"


def test_the_kind_is_the_folder_below_the_one_that_is_given(organs: Path) -> None:
    outliers = read_pictures_under(organs, WHOLE)
    assert outliers.pictures.shape == (4, 16, 16, 1)
    assert sorted(outliers.kinds) == ["breast", "breast", "lung", "organs"]
    means = outliers.pictures.mean(axis=(1, 2, 3))
    assert means[outliers.kinds.index("lung")] == 50
    assert read_pictures_under(organs / "0.png", WHOLE).kinds == ("0.png",)


def test_of_a_video_one_frame_a_second_is_looked_at(
    tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    make_video("a.mp4", frames=45)  # 20 a second
    assert len(list(pictures_under(tmp_path))) == 3


def test_where_there_is_no_picture_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("none")
    for place in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(BadInput, match="no image and no video"):
            list(pictures_under(place))


def test_masks_and_hidden_files_are_no_pictures(organs: Path) -> None:
    draw(organs / "breast" / "0_mask.png", np.full((40, 60), 255, np.uint8))
    draw(organs / "breast" / ".hidden.png", np.full((40, 60), 255, np.uint8))
    assert read_pictures_under(organs, WHOLE).kinds.count("breast") == 2


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="gone: no such file or folder"):
        list(pictures_under(tmp_path / "gone"))


def test_a_picture_is_shown_whole_and_as_if_its_middle_were_marked(tmp_path: Path) -> None:
    pixels = np.zeros((100, 200), np.uint8)
    pixels[30:70, 80:120] = 200
    draw(tmp_path / "a" / "0.png", pixels)
    whole, *middles = read_auxiliary(tmp_path / "a", CROP, seed=0).pictures
    assert whole.mean() < 50
    assert len(middles) == len(MIDDLES)
    assert middles[0].mean() == 200


def test_without_a_crop_the_middle_is_nothing_else(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "0.png", np.zeros((100, 200), np.uint8))
    assert len(read_auxiliary(tmp_path / "a", WHOLE, seed=0).pictures) == 1


def test_of_many_pictures_some_are_drawn(organs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.outliers, "MOST", 5)
    drawn = read_auxiliary(organs, CROP, seed=1)
    assert len(drawn.pictures) == len(drawn.kinds) == 5
    again = read_auxiliary(organs, CROP, seed=1)
    assert np.array_equal(again.pictures, drawn.pictures)
    assert again.kinds == drawn.kinds


def marked(path: Path, *boxes: Box) -> list[Sample]:
    """A black picture with a sample for each box, which is white."""
    pixels = np.zeros((120, 160), np.uint8)
    for x, y, w, h in boxes:
        pixels[y : y + h, x : x + w] = 255
    draw(path, pixels)
    return [Sample(path, "benign", box, "a") for box in boxes]


def test_beside_touches_no_box_of_the_same_picture(tmp_path: Path) -> None:
    samples = marked(tmp_path / "0.png", Box(10, 10, 30, 20), Box(80, 60, 40, 40))
    for seed in range(20):
        pictures = places_beside(samples, CROP, seed)
        assert pictures.shape == (2, 16, 16, 1)
        assert not pictures.any()


def test_beside_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    grains = np.random.default_rng(0).integers(0, 256, (120, 160), np.uint8)
    draw(path, grains)
    samples = [Sample(path, "benign", Box(10, 10, 30, 20), "a")]
    assert np.array_equal(places_beside(samples, CROP, 3), places_beside(samples, CROP, 3))
    assert not np.array_equal(places_beside(samples, CROP, 3), places_beside(samples, CROP, 4))


@pytest.mark.parametrize("box", [None, Box(0, 0, 130, 120), Box(20, 20, 110, 80)])
def test_without_room_there_is_nothing_beside(tmp_path: Path, box: Box | None) -> None:
    draw(tmp_path / "0.png", np.zeros((120, 160), np.uint8))
    samples = [Sample(tmp_path / "0.png", "benign", box, "a")]
    assert places_beside(samples, CROP, 0).shape == (0, 16, 16, 1)


def test_a_model_of_whole_pictures_knows_no_beside(tmp_path: Path) -> None:
    samples = marked(tmp_path / "0.png", Box(10, 10, 30, 20))
    assert places_beside(samples, WHOLE, 0).shape == (0, 16, 16, 1)


def test_beside_is_drawn_of_some_where_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.outliers, "MOST", 3)
    samples = marked(tmp_path / "0.png", *[Box(0, 0, 10 + each, 10) for each in range(6)])
    assert len(places_beside(samples, CROP, 0)) == 3
