"""Copies of a picture are one, with the boxes of all."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from tests.train.importers.boxes.drawing import draw, film, write
from train.importers.boxes.marking import Found, Mark, Marking
from train.importers.boxes.merge import SAME_BOX, box_iou, distinct, merge
from train.marked import MarkedCollection
from train.samples import Dropped, Reason

ONE, OTHER = Mark((10, 20, 40, 50)), Mark((60, 20, 90, 50))
NEAR = Mark((11, 21, 41, 50))


def merged(folder: Path, *markings: Marking) -> MarkedCollection:
    return merge(Found("test", [*markings]), folder)


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path]:
    one = draw(tmp_path / "a.png")
    return one, Path(shutil.copy(one, tmp_path / "b.png"))


def test_copies_are_one_picture_with_the_boxes_of_both(
    tmp_path: Path, twins: tuple[Path, Path]
) -> None:
    one, other = twins
    found = merged(tmp_path, Marking(one, (ONE,)), Marking(other, (NEAR, OTHER)))
    (picture,) = found.pictures
    assert picture.path == one
    assert picture.boxes == (Box(10, 20, 30, 30), Box(60, 20, 30, 30))
    assert "1 files are copies of another; their boxes are joined" in found.notes


def test_a_copy_that_shows_none_takes_no_box_away(tmp_path: Path, twins: tuple[Path, Path]) -> None:
    found = merged(tmp_path, Marking(twins[0], ()), Marking(twins[1], (ONE,)))
    assert [its.boxes for its in found.pictures] == [(Box(10, 20, 30, 30),)]


def test_a_link_to_a_picture_is_a_copy(tmp_path: Path) -> None:
    one = draw(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(one)
    found = merged(tmp_path, Marking(one, (ONE,)), Marking(tmp_path / "b.png", (OTHER,)))
    assert [len(its.boxes) for its in found.pictures] == [2]


def test_a_fault_of_one_copy_drops_all(tmp_path: Path, twins: tuple[Path, Path]) -> None:
    third = draw(tmp_path / "c.png", 3)
    bad = Marking(twins[1], (ONE,), size=(1, 1))
    found = merged(tmp_path, Marking(twins[0], (ONE,)), bad, Marking(third, (ONE,)))
    assert [its.path for its in found.pictures] == [third]
    reason: Reason = "annotated at another size"
    assert found.dropped == tuple(Dropped(str(path), reason) for path in twins)


def test_groups_that_share_a_picture_are_one(tmp_path: Path, twins: tuple[Path, Path]) -> None:
    others = [draw(tmp_path / f"{index}.png", index) for index in range(1, 4)]
    found = merged(
        tmp_path,
        Marking(others[0], (ONE,), "q"),
        Marking(twins[0], (ONE,), "q"),
        Marking(twins[1], (ONE,), "p"),
        Marking(others[1], (ONE,), "p"),
        Marking(others[2], (ONE,), "r"),
    )
    assert [its.group for its in found.pictures] == ["p", "p", "p", "r"]


def test_copies_on_two_sides_of_the_split_are_dropped(
    tmp_path: Path, twins: tuple[Path, Path]
) -> None:
    third = draw(tmp_path / "c.png", 3)
    found = merged(
        tmp_path,
        Marking(twins[0], (ONE,), part="train"),
        Marking(twins[1], (ONE,), part="test"),
        Marking(third, (ONE,), part="test"),
    )
    assert [its.path for its in found.pictures] == [third]
    assert {its.reason for its in found.dropped} == {"duplicate across the split"}


def test_copies_of_a_clip_are_joined_frame_by_frame(tmp_path: Path) -> None:
    one = film(tmp_path / "a.mp4")
    other = Path(shutil.copy(one, tmp_path / "b.mp4"))
    found = merged(
        tmp_path,
        Marking(one, (ONE,), "a", 0),
        Marking(one, (), "a", 1),
        Marking(other, (OTHER,), "b", 1),
        Marking(other, (OTHER,), "b", 0),
    )
    assert [(its.path, its.frame, len(its.boxes), its.group) for its in found.pictures] == [
        (one, 0, 2, "a"),
        (one, 1, 1, "a"),
    ]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_unreadable(tmp_path: Path, content: bytes) -> None:
    sound, broken = draw(tmp_path / "a.png"), tmp_path / "b.png"
    broken.write_bytes(content)
    found = merged(tmp_path, Marking(sound, (ONE,)), Marking(broken, (ONE,)))
    assert found.dropped == (Dropped(str(broken), "unreadable"),)


def test_a_thumbnail_is_too_small(tmp_path: Path) -> None:
    sound, small = draw(tmp_path / "a.png"), draw(tmp_path / "b.png", width=60, height=60)
    found = merged(tmp_path, Marking(sound, (ONE,)), Marking(small, ()))
    assert found.dropped == (Dropped(str(small), "too small"),)


@pytest.mark.parametrize("name", ["a\udcff.png", "\ud800"])
def test_a_name_that_cannot_be_written_down_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="is not UTF-8"):
        merged(tmp_path, Marking(tmp_path / name, (ONE,)))


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b"])
def test_a_name_that_no_file_has_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="1 of 1 images are missing"):
        merged(tmp_path, Marking(tmp_path / name, (ONE,)))


def test_nothing_at_all_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "")
    with pytest.raises(BadInput, match="no picture with a box that can be used: 0 show no nodule"):
        merged(tmp_path)


BOXES = st.builds(Box, *[st.integers(-5, 60)] * 2, *[st.integers(1, 60)] * 2)


@given(BOXES, BOXES)
def test_the_iou_is_a_share(one: Box, other: Box) -> None:
    assert 0 <= box_iou(one, other) == box_iou(other, one) <= 1
    assert box_iou(one, one) == 1


@given(st.lists(BOXES, max_size=8))
def test_of_boxes_of_one_nodule_the_first_is_kept(boxes: list[Box]) -> None:
    kept = distinct(boxes)
    assert kept[:1] == tuple(boxes[:1])
    assert distinct(kept) == kept
    for box in boxes:
        assert box in kept or any(box_iou(box, its) > SAME_BOX for its in kept)
