"""What a locator learns from: whole pictures as squares, split so that no neck is on two sides."""

import csv
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from devices.capture.image import read_image
from devices.capture.phantom import Phantom
from edge_runtime.bundle.preprocess import parse
from tests.devices.capture.dicom_files import region, write_dicom
from train.locator.dataset import (
    LARGER,
    LocatorPicture,
    network_tensor,
    read_locator_data,
    read_squares,
    simulated_pictures,
    split_runs,
    square_of,
)
from train.locator.metrics import EDGE
from train.locator.recipe import read_locator_recipe
from train.marked import MarkedPicture
from train.samples import LEAK, PARTS, Part

SIDE = 64
NODULE = Box(300, 200, 60, 40)


def picture(group: str, part: Part | None = None) -> MarkedPicture:
    return MarkedPicture(Path(f"{group}.png"), (), group, part=part)


def groups(count: int) -> list[MarkedPicture]:
    """Two pictures of each group."""
    return [picture(f"g{number:03}") for number in range(count) for _ in range(2)]


@given(count=st.integers(3, 90), seed=st.integers(0, 50))
def test_each_part_has_groups_and_each_group_has_a_part(count: int, seed: int) -> None:
    parts = split_runs(groups(count), seed)
    assert len(parts) == count
    assert set(parts.values()) == set(PARTS)
    assert list(parts.values()).count("train") >= count // 3


@given(count=st.integers(20, 90), seed=st.integers(0, 50))
def test_neighbouring_names_stand_on_one_side(count: int, seed: int) -> None:
    parts = split_runs(groups(count), seed)
    sides = [parts[name] for name in sorted(parts)]
    changes = sum(one != next_ for one, next_ in pairwise(sides))
    # Three runs to validate and three to test: each has two ends.
    assert changes <= 12


def test_the_split_follows_the_seed() -> None:
    parts = [split_runs(groups(40), seed) for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


def test_the_order_of_the_pictures_does_not_matter() -> None:
    assert split_runs(groups(30), 3) == split_runs(groups(30)[::-1], 3)


def test_a_given_split_is_kept() -> None:
    pictures = [picture("a", "test"), picture("b", "train"), picture("c", "validation")]
    assert split_runs(pictures, 0) == {"a": "test", "b": "train", "c": "validation"}


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        ([picture("a", "test"), picture("a", "train")], "'a' stands on two sides"),
        ([picture("a", "test"), picture("b")], "'b' has no split"),
        ([picture("a"), picture("b")], "2 groups"),
    ],
)
def test_a_split_that_cannot_be_is_refused(pictures: Sequence[MarkedPicture], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        split_runs(pictures, 0)


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (200, 200), (61, 47)])
@pytest.mark.parametrize("colour", [True, False], ids=["colour", "grey"])
def test_a_square_is_what_the_device_prepares(size: tuple[int, int], colour: bool) -> None:
    preprocessing = parse(read_locator_recipe("nodule-locator").preprocessing)
    shape = (size[1], size[0], 3) if colour else (size[1], size[0])
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    square = square_of(pixels, [], preprocessing.side)
    assert np.array_equal(square.pixels, preprocessing(pixels)[0, :, :, 0])


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (201, 200)])
def test_boxes_are_shares_of_the_square(size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0]), np.uint8)
    box = Box(60, 50, 80, 40)
    pixels[50:90, 60:140] = 255
    square = square_of(pixels, [box], 200)
    rows, columns = np.nonzero(square.pixels > 127)
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert drawn == pytest.approx((square.boxes[0] * 200).tolist(), abs=1)


def test_a_picture_without_a_box_has_an_empty_array() -> None:
    assert square_of(np.zeros((90, 90), np.uint8), [], 64).boxes.shape == (0, 4)


def test_simulated_pictures_show_what_their_boxes_say() -> None:
    squares = simulated_pictures(32)
    boxes = [len(square.boxes) for square in squares]
    assert {0, 1} == set(boxes)
    for square in squares:
        assert square.pixels.shape == (32, 32)
        assert ((square.boxes >= 0) & (square.boxes <= 1)).all()


def test_pictures_and_clips_are_read_together(marked: Path, marked_clips: Path) -> None:
    data = read_locator_data([marked, marked_clips], SIDE, 0)
    assert len(data.pictures) == 24 + 60
    assert {its.source for its in data.pictures} == {0, 1}
    assert all(its.moving == (its.source == 1) for its in data.pictures)
    assert sum(map(len, (data.of(part) for part in PARTS))) == len(data.pictures)
    assert data.dropped == {}
    assert any("24 pictures, 16 boxes, 8 without a nodule" in note for note in data.notes)


def test_no_group_stands_on_two_sides(marked: Path, marked_clips: Path) -> None:
    data = read_locator_data([marked, marked_clips], SIDE, 0)
    sides = {(its.source, its.marked.group, its.part) for its in data.pictures}
    assert len(sides) == 8 + 3
    clips = {(its.marked.group, its.part) for its in data.pictures if its.moving}
    assert clips == {(f"{part}.avi", part) for part in PARTS}


def test_empty_frames_beside_a_marked_one_are_its_edge(marked: Path, marked_clips: Path) -> None:
    data = read_locator_data([marked, marked_clips], SIDE, 0)
    clip = [its for its in data.pictures if its.marked.path.name == "train.avi"]
    first = min(its.marked.frame for its in clip if its.marked.boxes)
    edge = {its.marked.frame for its in clip if its.edge}
    assert set(range(first - EDGE, first)) <= edge
    assert first - EDGE - 1 not in edge
    assert not any(its.edge for its in data.pictures if its.marked.boxes or not its.moving)


def test_a_square_to_learn_from_is_kept_larger_than_the_network_sees_it(marked: Path) -> None:
    data = read_locator_data([marked], SIDE, 0)
    held = round(LARGER * SIDE)
    assert {its.square.pixels.shape for its in data.of("train")} == {(held, held)}
    measured = [*data.of("validation"), *data.of("test")]
    assert {its.square.pixels.shape for its in measured} == {(SIDE, SIDE)}
    tensor = network_tensor(data.pictures[0], parse(f"gray|crop(context=1)|resize({SIDE})"))
    assert tensor.shape == (1, SIDE, SIDE, 1)


def test_boxes_and_window_are_those_of_the_stored_picture(marked: Path) -> None:
    its: LocatorPicture = next(
        each for each in read_locator_data([marked], SIDE, 0).pictures if each.marked.boxes
    )
    left, top, right, bottom = its.square.boxes[0].tolist()
    x, y, longer, _ = its.window
    whole = read_image(its.marked.path).shape[1::-1]
    assert longer == max(whole)
    box = (left * longer + x, top * longer + y, (right - left) * longer, (bottom - top) * longer)
    assert box == pytest.approx(its.marked.boxes[0], abs=0.1)


@pytest.fixture
def screens(tmp_path: Path) -> Path:
    """Forty frames of a screen on which the ultrasound picture is a part."""
    path, phantom = tmp_path / "screens.avi", Phantom(live=False)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (640, 480))
    for index in range(40):
        writer.write(phantom.render(index))
    writer.release()
    return path


@pytest.mark.parametrize("frames", [range(40), [39]], ids=["a clip", "a single frame"])
def test_the_screen_around_the_ultrasound_picture_is_left_out(
    screens: Path, frames: Sequence[int]
) -> None:
    """As on a device."""
    clip = [MarkedPicture(screens, (NODULE,), "clip", frame) for frame in frames]
    *_, last = read_squares(clip, SIDE, iter)
    x, y, longer, _ = last.window
    picture = Phantom(live=False).picture
    assert longer == pytest.approx(max(picture.w, picture.h), rel=0.03)
    assert longer < 0.9 * 640
    left, top, right, bottom = (last.square.boxes[0] * longer).tolist()
    assert (left + x, top + y, right - left, bottom - top) == pytest.approx(NODULE, abs=0.1)


def test_the_ultrasound_picture_is_where_a_dicom_file_says(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320)).astype(np.uint8)
    said = [region(40, 30, 239, 179)]
    path = write_dicom(tmp_path / "a.dcm", noise, SequenceOfUltrasoundRegions=said)
    nodule = MarkedPicture(path, (Box(90, 80, 40, 30),), "a")
    (picture,) = read_squares([nodule], SIDE, iter)
    assert picture.window == Box(40, 30 - 25, 200, 200)
    assert picture.square.boxes[0] == pytest.approx([0.25, 0.375, 0.45, 0.525], abs=0.01)


def test_what_cannot_be_used_is_counted(marked: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(marked, folder)
    (folder / "p00_5.png").write_text("no image")
    (folder / "p01_5.png").unlink()
    data = read_locator_data([folder], SIDE, 0)
    assert len(data.pictures) == 22
    assert sum(data.dropped.values()) == 2
    line = f"1 dropped: unreadable; the first: {folder / 'p00_5.png'}: not an image"
    assert line in data.notes


def split_folder(folder: Path, parts: Sequence[tuple[Part, bool]]) -> Path:
    """A picture for each, with a box where it says so."""
    lines = ["path,xmin,ymin,xmax,ymax,group,split"]
    folder.mkdir()
    for number, (part, has) in enumerate(parts):
        phantom = Phantom(seed=number, width=160, height=120, live=False)
        cv2.imwrite(str(folder / f"{number}.png"), phantom.render(number))
        corners = "40,40,70,60" if has else ",,,"
        lines.append(f"{number}.png,{corners},g{number},{part}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("without", PARTS)
def test_a_part_without_a_box_is_refused(tmp_path: Path, without: Part) -> None:
    parts: list[tuple[Part, bool]] = [(part, part != without) for part in PARTS]
    folder = split_folder(tmp_path / "data", parts)
    with pytest.raises(BadInput, match=f"no picture with a box .* {without}; a column 'split'"):
        read_locator_data([folder], SIDE, 0)


def test_a_part_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = split_folder(tmp_path / "data", [("train", True), ("test", True)])
    with pytest.raises(BadInput, match="validation"):
        read_locator_data([folder], SIDE, 0)


def test_a_part_of_one_data_set_may_come_from_another(tmp_path: Path, marked: Path) -> None:
    folder = split_folder(tmp_path / "data", [("train", True)])
    data = read_locator_data([folder, marked], SIDE, 0)
    assert {its.part for its in data.pictures if its.source == 0} == {"train"}


@pytest.mark.parametrize(("first", "second"), [("train", "test"), ("test", "validation")])
def test_a_picture_on_two_sides_stays_where_it_measures(
    tmp_path: Path, marked: Path, first: Part, second: Part
) -> None:
    names: dict[Part, str] = {}
    for part in (first, second):
        folder = split_folder(tmp_path / part, [(part, True)])
        picture = cv2.imread(str(folder / "0.png"))
        assert picture is not None
        cv2.imwrite(str(folder / "0.png"), picture // 8 * 8 + len(names))
        names[part] = str(folder / "0.png")
    data = read_locator_data([tmp_path / first, tmp_path / second, marked], SIDE, 0)
    gone, kept = sorted((first, second), key=PARTS.index)
    assert data.dropped == {LEAK: 1}
    assert [str(its.marked.path) for its in data.pictures if its.source < 2] == [names[kept]]
    assert any(f"such as {names[gone]} of {names[kept]}" in note for note in data.notes)


def test_a_part_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    folder = split_folder(tmp_path / "data", [(part, True) for part in PARTS])
    for name in ("0.png", "1.png"):
        picture = cv2.imread(str(folder / "2.png"))
        assert picture is not None
        cv2.imwrite(str(folder / name), picture + int(name[0]) + 1)
    with pytest.raises(BadInput, match=r"of the part train; .* 2 dropped: duplicate"):
        read_locator_data([folder], SIDE, 0)


def test_pictures_without_any_box_are_refused(tmp_path: Path, marked: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(marked, folder)
    with open(folder / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["xmin"]]
    for row in rows:
        (folder / row["path"]).write_text("no image")
    with pytest.raises(BadInput, match="no picture with a box"):
        read_locator_data([folder], SIDE, 0)
