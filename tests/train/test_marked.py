"""Marked pictures: which can be used, and how their pixels are read."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import BadInput, Box
from tests.devices.capture.dicom_files import region, write_dicom
from tests.train.importers.boxes.drawing import HEIGHT, WIDTH, draw, film
from train.marked import (
    MarkedPicture,
    check_box,
    check_marked,
    count_frames,
    marked_pixels,
    within,
)
from train.samples import Dropped, Reason

SCREEN = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
BOX = Box(10, 20, 30, 30)


def picture_of(path: Path, *boxes: Box, frame: int = 0) -> MarkedPicture:
    return MarkedPicture(path, boxes, "g", frame)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (BOX, None),
        (Box(-1, -1, WIDTH + 2, HEIGHT + 2), None),
        (Box(-2, 0, 30, 30), "box outside the picture"),
        (Box(0, 0, WIDTH + 2, 30), "box outside the picture"),
        (Box(0, 0, 30, HEIGHT + 2), "box outside the picture"),
        (Box(0, 0, 0, 30), "not a box"),
        (Box(0, 0, 30, -1), "not a box"),
        (Box(0, 0, 7, 7), "too small"),
        (Box(0, 0, 8, 1), None),
        (Box(0, 0, 10**30, 30), "box outside the picture"),
    ],
)
def test_a_picture_with_a_bad_box_is_not_used(box: Box, reason: Reason | None) -> None:
    assert check_box(box, (WIDTH, HEIGHT)) == reason
    assert check_marked(SCREEN, picture_of(Path("a"), BOX, box)) == reason


def test_a_picture_is_judged_by_its_pixels() -> None:
    picture = picture_of(Path("a"))
    assert check_marked(SCREEN, picture) is None
    assert check_marked(SCREEN[:63], picture) == "too small"
    assert check_marked(np.uint8(255) * (SCREEN > 9).astype(np.uint8), picture) == "mask"
    assert (
        check_marked(SCREEN, replace(picture, size=(HEIGHT, WIDTH))) == "annotated at another size"
    )


def test_a_box_is_cut_at_the_edges() -> None:
    assert within(Box(-1, -1, WIDTH + 2, 20), (WIDTH, HEIGHT)) == Box(0, 0, WIDTH, 19)
    assert within(BOX, (WIDTH, HEIGHT)) == BOX


def test_a_dicom_frame_is_read_whole_whether_it_has_a_box_or_not(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm", SCREEN, SequenceOfUltrasoundRegions=[region(10, 10, 80, 80)]
    )
    for picture in (picture_of(path, BOX), picture_of(path)):
        ((_, pixels),) = marked_pixels([picture])
        assert np.array_equal(pixels, SCREEN)


def test_pictures_of_all_kinds_are_read_in_order(tmp_path: Path) -> None:
    still, clip = draw(tmp_path / "a.png"), film(tmp_path / "b.mp4", 6)
    frames = np.stack([np.full_like(SCREEN, 20 * index) for index in range(4)])
    dicom = write_dicom(tmp_path / "c.dcm", frames, NumberOfFrames=4)
    asked = [
        picture_of(clip, BOX, frame=4),
        picture_of(dicom, BOX, frame=3),
        picture_of(still, Box(-1, 0, 31, 30)),
        picture_of(clip, frame=1),
        picture_of(dicom, BOX, frame=1),
    ]
    counted: list[MarkedPicture] = []

    def progress(pictures: Iterable[MarkedPicture]) -> Iterable[MarkedPicture]:
        for picture in pictures:
            counted.append(picture)
            yield picture

    seen = [*marked_pixels(asked, progress)]
    assert [(its.path.name, its.frame) for its, _ in seen] == [
        ("b.mp4", 1),
        ("b.mp4", 4),
        ("c.dcm", 1),
        ("c.dcm", 3),
        ("a.png", 0),
    ]
    assert [int(pixels.mean()) // 10 for _, pixels in seen[:4]] == [3, 12, 2, 6]
    assert seen[4][0].boxes == (Box(0, 0, 30, 30),)
    assert len(counted) == 5
    for picture, pixels in seen:
        ((_, alone),) = marked_pixels([picture])
        assert np.array_equal(alone, pixels)


def test_frames_that_are_kept_are_not_overwritten(tmp_path: Path) -> None:
    clip = film(tmp_path / "b.mp4", 6)
    kept = [pixels for _, pixels in marked_pixels(picture_of(clip, frame=i) for i in range(6))]
    assert [round(float(pixels.mean()) / 30) for pixels in kept] == [*range(6)]


def test_a_clip_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = film(tmp_path / "b.mp4", 6)
    opened: list[str] = []
    capture = cv2.VideoCapture

    def counted(name: str, *more: object) -> cv2.VideoCapture:
        opened.append(name)
        return capture(name, *more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(cv2, "VideoCapture", counted)
    assert len([*marked_pixels(picture_of(clip, frame=i) for i in range(6))]) == 6
    assert len(opened) == 1


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    clip = film(tmp_path / "b.mp4", 4)
    cut = film(tmp_path / "c.avi", 30)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    broken = tmp_path / "d.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    still = draw(tmp_path / "e.png")
    asked = [
        picture_of(clip, frame=3),
        picture_of(clip, frame=9),
        picture_of(cut, frame=0),
        picture_of(cut, frame=28),
        picture_of(cut, frame=29),
        picture_of(broken),
        picture_of(still, frame=1),
        picture_of(still, Box(0, 0, 300, 10)),
    ]
    dropped: list[Dropped] = []
    seen = [its for its, _ in marked_pixels(asked, drop=dropped.append)]
    assert seen == asked[:1]
    assert {(Path(its.path).name, its.reason) for its in dropped} == {
        ("b.mp4, frame 9", "missing"),
        ("c.avi", "unreadable"),
        ("c.avi, frame 28", "unreadable"),
        ("c.avi, frame 29", "unreadable"),
        ("d.png", "unreadable"),
        ("e.png, frame 1", "missing"),
        ("e.png", "box outside the picture"),
    }


@pytest.mark.parametrize(
    ("frame", "box", "message"),
    [(9, BOX, "b.mp4, frame 9: missing"), (1, Box(0, 0, 300, 10), "frame 1: box outside")],
)
def test_without_a_list_the_first_fault_is_raised(
    tmp_path: Path, frame: int, box: Box, message: str
) -> None:
    clip = film(tmp_path / "b.mp4", 4)
    with pytest.raises(BadInput, match=message):
        [*marked_pixels([picture_of(clip, box, frame=frame)])]


def test_frames_are_counted(tmp_path: Path) -> None:
    assert count_frames(film(tmp_path / "b.mp4", 5)) == 5
    assert count_frames(film(tmp_path / "b.mkv", 5)) == 5
    assert count_frames(draw(tmp_path / "a.png")) == 1
    frames = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    assert count_frames(write_dicom(tmp_path / "c.dcm", frames, NumberOfFrames=3)) == 3
