"""YOLO folders."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devices import BadInput
from tests.devices.capture.dicom_files import write_dicom
from tests.train.importers.boxes.drawing import HEIGHT, WIDTH, boxes, draw, reasons, write
from train.importers.boxes import read_marked
from train.importers.boxes.marking import MAX_COORDINATE
from train.importers.boxes.yolo import shares_of

LINE = "0 0.5 0.5 0.25 0.4\n"
BOX = (45, 27, 30, 36)
YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: nodule\n  1: artery\n"


def folder_of(tmp_path: Path, **labels: str) -> Path:
    """Pictures of the part `train`, each with the text of its file; and one of `val`."""
    for index, (name, text) in enumerate(labels.items()):
        draw(tmp_path / "images" / "train" / f"{name}.png", index)
        write(tmp_path / "labels" / "train" / f"{name}.txt", text)
    draw(tmp_path / "images" / "val" / "v.png", 99)
    write(tmp_path / "labels" / "val" / "v.txt", LINE)
    return tmp_path


def test_boxes_outlines_and_empty_files_are_read(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, a=LINE, b="", c="0 .1 .1 .5 .1 .3 .5\n\n1 0.5 0.5 0.25 0.4", d="\n"
    )
    draw(folder / "images" / "train" / "e.png", 50)
    write(folder / "data.yaml", YAML)
    found = read_marked(folder)
    both = [(12, 9, 48, 36), BOX]
    assert boxes(found) == {
        "a.png": [BOX],
        "b.png": [],
        "c.png": both,
        "d.png": [],
        "e.png": [],
    } | {"v.png": [BOX]}
    assert [its.part for its in found.pictures] == ["train"] * 5 + ["validation"]
    assert found.notes[0] == "1 pictures have no label file; they count as without a nodule"
    assert boxes(read_marked(folder, {"nodule"}))["c.png"] == [(12, 9, 48, 36)]
    assert read_marked(folder / "data.yaml") == found


def test_points_behind_a_box_count_for_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a=f"{LINE.strip()} .1 .1 .9 .9\n")
    write(folder / "data.yaml", f"{YAML}kpt_shape: [2, 2]\n")
    assert boxes(read_marked(folder))["a.png"] == [BOX]


def test_folders_are_read_without_a_data_yaml(tmp_path: Path) -> None:
    found = read_marked(folder_of(tmp_path, a=LINE))
    assert found.layout == "YOLO"
    assert {its.path.name: its.part for its in found.pictures} == {
        "a.png": "train",
        "v.png": "validation",
    }


def test_text_files_beside_the_pictures_are_read(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    write(tmp_path / "a.txt", LINE)
    draw(tmp_path / "b.png")
    write(tmp_path / "classes.txt", "nodule\n")
    assert boxes(read_marked(tmp_path)) == {"a.png": [BOX]}


@pytest.mark.parametrize(
    "text",
    [
        "train: images/train",
        "path: /somewhere/else\ntrain: images/train",
        "train: ../images/train",
        "path: ../data\ntrain: [images/train]",
        "train: train.txt",
    ],
)
def test_the_folders_of_a_data_yaml_are_found(tmp_path: Path, text: str) -> None:
    folder = folder_of(tmp_path, a=LINE)
    write(folder / "train.txt", "./images/train/a.png\n\n")
    write(folder / "data.yaml", text)
    assert boxes(read_marked(folder)) == {"a.png": [BOX]}


def test_a_part_without_any_label_file_is_not_empty_but_unmarked(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a=LINE)
    draw(folder / "images" / "test" / "t.png", 7)
    write(folder / "data.yaml", YAML + "test: images/test\n")
    assert reasons(read_marked(folder)) == {"t.png": "no label"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 0.5 0.5 0.25", "not a box"),
        ("0 0.5 0.5 0.25 0.4 0.9", "not a box"),
        ("nodule 0.5 0.5 0.25 0.4", "not a box"),
        ("0 0.5 0.5 nan 0.4", "not a box"),
        ("0 0.5 0.5 -0.25 0.4", "not a box"),
        ("0 0.5 0.5 0 0", "not a box"),
        ("0 0.5 0.5 1e999 0.4", "not a box"),
        ("0 60 45 30 36", "box outside the picture"),
        ("0 0.5 0.5 0.01 0.01", "not a box"),
        ("\udcff", "unreadable"),
    ],
)
def test_a_line_that_is_no_box_drops_its_picture(tmp_path: Path, text: str, reason: str) -> None:
    folder = folder_of(tmp_path, a="")
    (folder / "labels/train/a.txt").write_bytes(text.encode(errors="surrogateescape"))
    assert reasons(read_marked(folder)) == {"a.png": reason}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "not YAML"),
        ("train: !!python/object/apply:os.system ['true']", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("names: [a]", "names no folder"),
        ("train: nowhere", "there is no folder 'nowhere'"),
        ("train: /etc", "there is no folder '/etc'"),
        ("- train", "no entries"),
        ("train: 2024-13-45", "not YAML"),
        ("x" * 1_000_001, "not a YAML file"),
    ],
)
def test_a_hostile_data_yaml_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    write(folder_of(tmp_path, a=LINE) / "data.yaml", text)
    with pytest.raises(BadInput, match=message) as error:
        read_marked(tmp_path / "data.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.timeout(60)
def test_a_few_merges_do_not_take_all_memory(tmp_path: Path) -> None:
    """Each line would have nine times the entries of the line before it."""
    merged = "".join(
        f"a{line}: &a{line} {{<<: [{', '.join([f'*a{line - 1}'] * 9)}]}}\n" for line in range(1, 12)
    )
    (tmp_path / "data.yaml").write_text(f"a0: &a0 {{x: 1}}\n{merged}train: nowhere\n")
    with pytest.raises(BadInput, match="not YAML"):
        read_marked(tmp_path)


def test_aliases_that_multiply_are_not_unfolded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))]
    write(folder_of(tmp_path, a=LINE) / "data.yaml", "\n".join(lines) + "\ntrain: images/train")
    assert boxes(read_marked(tmp_path)) == {"a.png": [BOX]}


def test_shares_of_a_dicom_file_are_those_of_its_frame(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a=LINE)
    write_dicom(folder / "images/train/b.dcm", np.full((HEIGHT, WIDTH), 7, np.uint8))
    write(folder / "labels/train/b.txt", LINE)
    assert boxes(read_marked(folder))["b.dcm"] == [BOX]


@given(st.lists(st.text(max_size=6) | st.floats().map(str) | st.integers().map(str), max_size=12))
@example(["0", "1", "1", "1", "1"])
def test_any_line_is_a_box_or_none(words: list[str]) -> None:
    box = shares_of(words)
    if box is not None:
        assert len(words) == 5 or (len(words) >= 7 and len(words) % 2)
        assert all(abs(side) <= 2 * MAX_COORDINATE for side in box)


@given(*[st.floats(0, 1)] * 4)
def test_a_box_is_around_its_centre(left: float, top: float, right: float, bottom: float) -> None:
    left, right = sorted((left, right))
    top, bottom = sorted((top, bottom))
    values = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    assert shares_of(["0", *map(str, values)]) == pytest.approx((left, top, right, bottom))
