"""The project's own table, read for boxes."""

from pathlib import Path

import numpy as np
import pytest

from devices import BadInput
from tests.devices.capture.dicom_files import write_dicom
from tests.train.importers.boxes.drawing import HEIGHT, WIDTH, boxes, draw, film, reasons, write
from train.importers.boxes import read_marked

FIRST = "path,label,xmin,ymin,xmax,ymax"


def folder_of(tmp_path: Path, *rows: str, first: str = FIRST) -> Path:
    for index, name in enumerate("abcd"):
        draw(tmp_path / f"{name}.png", index)
    write(tmp_path / "manifest.csv", "\n".join((first, *rows)) + "\n")
    return tmp_path


def test_several_rows_of_a_picture_are_several_boxes(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        "a.png,benign,10,20,40,50",
        "a.png,malignant,60.4,20,90,50",
        "b.png,,10,20,40,50",
        "c.png,normal,,,,",
        "d.png,,,,,",
    )
    found = read_marked(folder)
    assert boxes(found) == {
        "a.png": [(10, 20, 30, 30), (60, 20, 30, 30)],
        "b.png": [(10, 20, 30, 30)],
        "c.png": [],
        "d.png": [],
    }
    assert "1 pictures have neither a box nor a label" in found.notes[0]
    assert read_marked(folder / "manifest.csv") == found
    assert boxes(read_marked(folder, {"benign"}))["a.png"] == [(10, 20, 30, 30)]


def test_a_nodule_without_a_box_drops_its_picture(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        "a.png,benign,10,20,40,50",
        "b.png,benign,,,,",
        "a.png,malignant,,,,",
        "c.png,benign,10,20,40,50",
    )
    found = read_marked(folder)
    assert ({*boxes(found)}, reasons(found)) == (
        {"c.png"},
        {"a.png": "no box", "b.png": "no box"},
    )


def test_no_label_is_needed_and_groups_sizes_and_the_split_are_read(tmp_path: Path) -> None:
    rows = (
        f"a.png,10,20,40,50,anna,train,{WIDTH},{HEIGHT}",
        f"b.png,10,20,40,50,anna,train,{WIDTH + 1},{HEIGHT}",
        "c.png,10,20,40,50,,test,,",
    )
    first = "path,xmin,ymin,xmax,ymax,group,split,width,height"
    found = read_marked(folder_of(tmp_path, *rows, first=first))
    assert [(its.group, its.part) for its in found.pictures] == [
        ("anna", "train"),
        ("c.png", "test"),
    ]
    assert reasons(found) == {"b.png": "annotated at another size"}


def test_frames_of_dicom_files_and_videos_are_picked(tmp_path: Path) -> None:
    write_dicom(tmp_path / "e.dcm", np.zeros((3, HEIGHT, WIDTH), np.uint8), NumberOfFrames=3)
    film(tmp_path / "f.mp4")
    rows = ("e.dcm,10,20,40,50,2", "f.mp4,10,20,40,50,4", "f.mp4,,,,,5")
    found = read_marked(folder_of(tmp_path, *rows, first="path,xmin,ymin,xmax,ymax,frame"))
    assert [*boxes(found)] == ["e.dcm#2", "f.mp4#4", "f.mp4#5"]
    assert found.pictures[0].group.startswith("patient-")
    with pytest.raises(BadInput, match="neither DICOM nor video"):
        read_marked(
            folder_of(tmp_path, "a.png,1,2,30,40,1", first="path,xmin,ymin,xmax,ymax,frame")
        )


@pytest.mark.parametrize(
    ("rows", "first", "message"),
    [
        (["a.png,benign"], "path,label", r"no column 'xmin'; to learn where nodules are"),
        (["a.png,benign,,,,"], FIRST, "no row has a box; fill in xmin,ymin,xmax,ymax"),
        ([], FIRST, "no row has a box"),
        (["a.png,1,2,3,4"], "image,xmin,ymin,xmax,ymax", "looks like 'path'"),
        ([",benign,1,2,30,40"], FIRST, "line 2: the path is empty"),
        (
            ["a.png,1,2,30,40,train", "a.png,1,2,30,40,val"],
            "path,xmin,ymin,xmax,ymax,split",
            "line 3: a.png stands on two sides",
        ),
    ],
)
def test_a_table_without_boxes_says_what_to_do(
    tmp_path: Path, rows: list[str], first: str, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        read_marked(folder_of(tmp_path, *rows, first=first))


@pytest.mark.parametrize("corners", ["nan,20,40,50", "10,20,40,", "40,20,10,50", "a,b,c,d"])
def test_a_bad_box_drops_its_picture(tmp_path: Path, corners: str) -> None:
    folder = folder_of(tmp_path, "a.png,benign,10,20,40,50", f"b.png,benign,{corners}")
    assert reasons(read_marked(folder)) == {"b.png": "not a box"}
