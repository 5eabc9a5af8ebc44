"""Videos with a table of boxes."""

from pathlib import Path

import pytest

from devices import BadInput
from tests.conftest import SWEEPS
from tests.train.importers.boxes.drawing import HEIGHT, WIDTH, boxes, film, write
from train.importers.boxes import read_marked
from train.marked import marked_pixels

FIRST = "clip,frame,xmin,ymin,xmax,ymax"


def folder_of(tmp_path: Path, *rows: str, first: str = FIRST, name: str = "boxes.csv") -> Path:
    film(tmp_path / "a.mp4", 4)
    film(tmp_path / "b.mp4", 3, seed=1)
    write(tmp_path / name, "\n".join((first, *rows)) + "\n")
    return tmp_path


@pytest.mark.parametrize("name", ["boxes.csv", "manifest.csv"])
def test_every_frame_of_every_clip_is_a_picture(tmp_path: Path, name: str) -> None:
    rows = ("a.mp4,1,10,20,40,50", "a.mp4,1,70,20,100,50", "a.mp4,3,10.4,20,40,50", "a.mp4,2,,,,")
    found = read_marked(folder_of(tmp_path, *rows, name=name))
    assert boxes(found) == {
        "a.mp4": [],
        "a.mp4#1": [(10, 20, 30, 30), (70, 20, 30, 30)],
        "a.mp4#2": [],
        "a.mp4#3": [(10, 20, 30, 30)],
        "b.mp4": [],
        "b.mp4#1": [],
        "b.mp4#2": [],
    }
    assert [its.group for its in found.pictures] == ["a.mp4"] * 4 + ["b.mp4"] * 3
    assert found.notes == ("1 clips have no row; they count as without a nodule",)


def test_groups_and_parts_are_those_of_the_clip(tmp_path: Path) -> None:
    rows = ("a.mp4;1;10;20;40,0;50;anna;val", "b.mp4;0;;;;;berta;train")
    folder = folder_of(tmp_path, *rows, first=f"{FIRST},group,split".replace(",", ";"))
    found = read_marked(folder / "boxes.csv").pictures
    assert {(its.path.name, its.group, its.part) for its in found} == {
        ("a.mp4", "anna", "validation"),
        ("b.mp4", "berta", "train"),
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.mp4,x,1,2,3,4"], r"line 2: a frame is a whole number from 0, not 'x'"),
        (["a.mp4,-1,1,2,3,4"], "line 2: a frame is"),
        (["a.mp4,1e3,1,2,3,4"], "line 2: a frame is"),
        (["a.mp4,,1,2,3,4"], "line 2: the frame is empty"),
        ([",1,1,2,3,4"], "line 2: the clip is empty"),
        (["a.mp4,1,1,2,3,4,p,train", "a.mp4,2,1,2,3,4,q,train"], "is of two groups"),
        (["a.mp4,1,1,2,3,4,p,train", "a.mp4,2,1,2,3,4,p,test"], "two sides of the split"),
        (["a.mp4,1,1,2,3,4,p,often"], "a split is train"),
        (["a.mp4,1,1,2,3,4,p,train,x,y"], "10 cells, but 8 columns"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_marked(folder_of(tmp_path, *rows, first=f"{FIRST},group,split"))


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ("nan,20,40,50", "not a box"),
        ("10,20,,50", "not a box"),
        ("10,20,10,50", "not a box"),
        ("10,20,x,50", "not a box"),
        ("10,20,1e400,50", "not a box"),
        ("-9,20,40,50", "box outside the picture"),
    ],
)
def test_a_bad_box_drops_its_frame(tmp_path: Path, corners: str, reason: str) -> None:
    found = read_marked(folder_of(tmp_path, f"a.mp4,1,{corners}", "a.mp4,0,10,20,40,50"))
    assert [(its.path[-14:], its.reason) for its in found.dropped] == [("a.mp4, frame 1", reason)]
    assert "a.mp4#1" not in boxes(found)


def test_a_frame_beyond_the_end_and_a_damaged_clip_are_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a.mp4,1,10,20,40,50", "a.mp4,4,10,20,40,50")
    (folder / "b.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    assert [(Path(its.path).name, its.reason) for its in read_marked(folder).dropped] == [
        ("a.mp4, frame 4", "missing"),
        ("b.mp4", "unreadable"),
    ]


def test_a_header_of_too_many_frames_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a.mp4,1,10,20,40,50")
    data = (folder / "b.mp4").read_bytes()
    place = data.index(b"stsz") + 12
    (folder / "b.mp4").write_bytes(data[:place] + b"\xff" * 4 + data[place + 4 :])
    assert [its.reason for its in read_marked(folder).dropped] == ["unreadable"]


def test_a_clip_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"1 of 3 images are missing: c.mp4"):
        read_marked(folder_of(tmp_path, "a.mp4,1,10,20,40,50", "c.mp4,1,10,20,40,50"))


@pytest.mark.parametrize("first", ["clip,frame,xmin,ymin,xmax", "clip,clip,frame,xmin,ymin,xmax"])
def test_a_table_without_its_columns_is_refused(tmp_path: Path, first: str) -> None:
    with pytest.raises(BadInput, match=r"no column 'ymax'|'clip' is there 2 times"):
        read_marked(folder_of(tmp_path, first=first))


def test_two_tables_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.mp4,1,10,20,40,50")
    with pytest.raises(BadInput, match=r"2 tables of clips \(boxes.csv, other.csv\)"):
        read_marked(folder_of(tmp_path, name="other.csv"))


def test_frame_numbers_are_those_of_the_decoded_clip(tmp_path: Path) -> None:
    found = read_marked(folder_of(tmp_path, "a.mp4,2,10,20,40,50"))
    seen = {
        (its.path.name, its.frame): round(float(pixels.mean()) / 30)
        for its, pixels in marked_pixels(found.pictures)
    }
    assert seen == {
        (name, i): i for name, count in (("a.mp4", 4), ("b.mp4", 3)) for i in range(count)
    }
    assert all(pixels.shape == (HEIGHT, WIDTH, 3) for _, pixels in marked_pixels(found.pictures))


@pytest.mark.skipif(not SWEEPS.is_dir(), reason="the sweeps are not here")
def test_the_sweeps_have_every_frame() -> None:
    found = read_marked(SWEEPS)
    assert found.dropped == ()
    assert found.summary == f"{found.layout}, 1352 pictures, 957 boxes, 487 without a nodule"
    assert "1 files are copies of another; their boxes are joined" in found.notes
