"""LabelMe files."""

from pathlib import Path
from typing import Any

import pytest

from devices import BadInput
from tests.train.importers.boxes.drawing import HEIGHT, WIDTH, boxes, draw, reasons, write
from train.importers.boxes import read_marked


def shape(kind: str | None, *points: object, label: str = "nodule") -> dict[str, Any]:
    its = {"label": label, "points": [*points]}
    return its if kind is None else its | {"shape_type": kind}


def annotate(folder: Path, name: str, *shapes: object, **more: object) -> Path:
    draw(folder / f"{name}.png", ord(name[-1]))
    content: dict[str, object] = {
        "shapes": [*shapes],
        "imagePath": f"{name}.png",
        "imageData": "iVBOR" * 1000,
        "imageWidth": WIDTH,
        "imageHeight": HEIGHT,
    }
    write(folder / f"{name}.json", content | more)
    return folder


GOOD = shape("rectangle", [40, 50], [10.2, 20])


@pytest.mark.parametrize(
    ("entry", "box"),
    [
        (GOOD, (10, 20, 30, 30)),
        (shape("polygon", [10, 20], [40, 25], [20, 50]), (10, 20, 30, 30)),
        (shape(None, [10, 20], [40, 25], [20, 50]), (10, 20, 30, 30)),
        (shape("circle", [30, 40], [33, 44]), (25, 35, 10, 10)),
        (shape("mask", [10, 20], [40, 50]), (10, 20, 30, 30)),
    ],
)
def test_each_shape_has_a_box(tmp_path: Path, entry: dict[str, Any], box: tuple[int, ...]) -> None:
    annotate(tmp_path, "a", entry, shape("line", [1, 1], [9, 9]))
    found = read_marked(annotate(tmp_path, "b"))
    assert boxes(found) == {"a.png": [box], "b.png": []}
    assert found.notes[0].startswith("1 points and lines count for nothing")


def test_one_file_is_read_alone_and_a_picture_without_one_is_dropped(tmp_path: Path) -> None:
    annotate(tmp_path, "a", GOOD)
    draw(tmp_path / "b.png", 9)
    for data in (tmp_path, tmp_path / "a.json"):
        found = read_marked(data)
        assert ({*boxes(found)}, reasons(found)) == ({"a.png"}, {"b.png": "no label"})


@pytest.mark.parametrize("name", [r"..\scans\a.png", "a.jpg", None, "", 7])
def test_the_picture_is_found_by_the_name_of_the_file(tmp_path: Path, name: object) -> None:
    found = read_marked(annotate(tmp_path, "a", GOOD, imagePath=name))
    assert boxes(found) == {"a.png": [(10, 20, 30, 30)]}


def test_folders_are_the_split(tmp_path: Path) -> None:
    for part in ("train", "val"):
        annotate(tmp_path, f"{part}/{part}", GOOD)
    assert [its.part for its in read_marked(tmp_path).pictures] == ["train", "validation"]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        7,
        shape("rectangle", [10, 20]),
        shape("rectangle", [10, 20], [10, 20]),
        shape("rectangle", [10, 20], [float("nan"), 50]),
        shape("rectangle", [10, 20], "40"),
        shape("circle", [10, 20], [1e308, 50]),
        shape("polygon", [10, 20], [40, 50]),
        shape("star", [10, 20], [40, 50]),
        {"points": {"x": 1}},
    ],
)
def test_a_shape_that_is_no_box_drops_its_picture(tmp_path: Path, entry: object) -> None:
    annotate(tmp_path, "a", GOOD)
    assert reasons(read_marked(annotate(tmp_path, "b", entry))) == {"b.png": "not a box"}


def test_another_size_and_damaged_files_are_dropped(tmp_path: Path) -> None:
    annotate(tmp_path, "a", GOOD)
    annotate(tmp_path, "b", GOOD, imageWidth=WIDTH + 1)
    annotate(tmp_path, "d", GOOD, imageWidth=True, imageHeight=[])
    write(tmp_path / "c.json", '{"shapes": [')
    found = read_marked(tmp_path)
    assert reasons(found) == {
        "b.png": "annotated at another size",
        "c.json": "unreadable",
        "d.png": "annotated at another size",
    }


def test_no_shapes_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="LabelMe, but no picture with a box"):
        read_marked(annotate(tmp_path, "a"))
