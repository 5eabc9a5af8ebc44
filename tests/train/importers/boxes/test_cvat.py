"""CVAT's XML."""

from pathlib import Path

import pytest

from devices import BadInput
from tests.train.importers.boxes.drawing import HEIGHT, WIDTH, boxes, draw, film, reasons, write
from train.importers.boxes import read_marked

BOX = '<box label="nodule" xtl="10" ytl="20" xbr="40" ybr="50"/>'


def images(*inner: str, more: str = "") -> str:
    its = "".join(
        f'<image id="{i}" name="{i}.png" width="{WIDTH}" height="{HEIGHT}" {more}>{text}</image>'
        for i, text in enumerate(inner)
    )
    return f"<annotations><version>1.1</version>{its}</annotations>"


def folder_of(tmp_path: Path, text: str) -> Path:
    for index in range(2):
        draw(tmp_path / "images" / f"{index}.png", index)
    write(tmp_path / "annotations.xml", text)
    return tmp_path


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (BOX, (10, 20, 30, 30)),
        ('<polygon points="10.00,20.00;40.2,25;20,50"/>', (10, 20, 30, 30)),
        ('<ellipse cx="30" cy="40" rx="20" ry="10"/>', (10, 30, 40, 20)),
        ('<ellipse cx="30" cy="40" rx="20" ry="10" rotation="90"/>', (20, 20, 20, 40)),
        ('<box xtl="20" ytl="20" xbr="60" ybr="40" rotation="90"/>', (30, 10, 20, 40)),
        ('<mask left="10" top="20" width="30" height="30" rle="1"/>', (10, 20, 30, 30)),
    ],
)
def test_each_shape_has_a_box(tmp_path: Path, shape: str, box: tuple[int, ...]) -> None:
    found = read_marked(folder_of(tmp_path, images(f'{shape}<points points="1,1"/>', "")))
    assert boxes(found) == {"0.png": [box], "1.png": []}


def test_points_and_lines_are_counted(tmp_path: Path) -> None:
    line = '<polyline points="1,1;9,9;1,9"/>'
    found = read_marked(folder_of(tmp_path, images(BOX, f'{line}<points points="1,1"/>')))
    assert boxes(found)["1.png"] == []
    assert found.notes[0] == "2 points and lines count for nothing: they enclose nothing"


def test_the_subset_is_the_part(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, images(BOX, more='subset="Validation"'))
    assert [its.part for its in read_marked(folder).pictures] == ["validation"]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("<box/>", "not a box"),
        ('<box xtl="nan" ytl="20" xbr="40" ybr="50"/>', "not a box"),
        ('<box xtl="40" ytl="20" xbr="10" ybr="50"/>', "not a box"),
        ('<box xtl="1" ytl="2" xbr="40" ybr="50" rotation="x"/>', "not a box"),
        ('<polygon points="10,20;40,50"/>', "not a box"),
        ('<polygon points="10,20;40;7"/>', "not a box"),
        ('<ellipse cx="30" cy="40" rx="-20" ry="10"/>', "not a box"),
        ('<box xtl="10" ytl="20" xbr="140" ybr="50"/>', "box outside the picture"),
    ],
)
def test_a_bad_shape_drops_its_picture(tmp_path: Path, shape: str, reason: str) -> None:
    found = read_marked(folder_of(tmp_path, images(BOX, shape)))
    assert ({*boxes(found)}, reasons(found)) == ({"0.png"}, {"1.png": reason})


def video(*tracks: str, meta: str = "<source>a.mp4</source>", size: bool = True) -> str:
    its = "".join(f'<track id="0" label="nodule">{track}</track>' for track in tracks)
    measures = f"<width>{WIDTH}</width><height>{HEIGHT}</height>"
    if size:
        meta += f"<original_size>{measures}</original_size>"
    return f"<annotations><meta><task>{meta}</task></meta>{its}</annotations>"


def at(frame: object, x: int = 10, outside: int = 0) -> str:
    right = x + 30
    return f'<box frame="{frame}" outside="{outside}" xtl="{x}" ytl="20" xbr="{right}" ybr="50"/>'


def test_tracks_mark_the_frames_of_a_clip(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", 4)
    film(tmp_path / "b.mp4", 4, seed=1)
    text = video(at(1) + at(2, 12) + at(3, outside=1), at(2, 70))
    write(tmp_path / "annotations.xml", text)
    found = read_marked(tmp_path)
    assert boxes(found) == {
        "a.mp4": [],
        "a.mp4#1": [(10, 20, 30, 30)],
        "a.mp4#2": [(12, 20, 30, 30), (70, 20, 30, 30)],
        "a.mp4#3": [],
    }
    assert {its.group for its in found.pictures} == {"a.mp4"}


def test_frames_that_were_not_annotated_are_left_out(tmp_path: Path) -> None:
    film(tmp_path / "clip.mp4", 9)
    meta = "<start_frame>1</start_frame><stop_frame>6</stop_frame>"
    meta += "<frame_filter>step=2</frame_filter>"
    write(tmp_path / "a.xml", video(at(3), meta=meta))
    assert [*boxes(read_marked(tmp_path))] == ["clip.mp4#1", "clip.mp4#3", "clip.mp4#5"]


@pytest.mark.parametrize("frame", ["99", "-1", "x", "", "9" * 400])
def test_a_box_on_a_frame_that_is_not_there_is_told(tmp_path: Path, frame: str) -> None:
    film(tmp_path / "a.mp4", 3)
    write(tmp_path / "a.xml", video(at(0) + at(frame)))
    assert [its.reason for its in read_marked(tmp_path).dropped] == ["missing"]


def test_a_clip_that_is_missing_or_damaged_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a.xml", video(at(0)))
    with pytest.raises(BadInput, match=r"CVAT, but no picture .* 1 dropped: missing"):
        read_marked(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(BadInput, match=r"1 dropped: unreadable; the first: .*/a.mp4"):
        read_marked(tmp_path)
