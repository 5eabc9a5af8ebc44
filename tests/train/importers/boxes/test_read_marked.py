"""Which layout of boxes a folder or file has."""

from pathlib import Path

import pytest

from devices import BadInput
from tests.train.importers.boxes.drawing import draw, write
from train.importers.boxes import read_marked


def test_what_holds_no_boxes_says_what_is_expected(tmp_path: Path) -> None:
    draw(tmp_path / "benign" / "a.png")
    draw(tmp_path / "malignant" / "b.png")
    write(tmp_path / "settings.json", [1])
    write(tmp_path / "notes.xml", "<notes/>")
    write(tmp_path / "patients.csv", "name,age\n")
    with pytest.raises(BadInput, match="no boxes found; expected COCO, YOLO"):
        read_marked(tmp_path)
    with pytest.raises(BadInput, match="no such file"):
        read_marked(tmp_path / "none")
    for name in ("settings.json", "notes.xml", "benign/a.png"):
        with pytest.raises(BadInput, match="no annotation that is known"):
            read_marked(tmp_path / name)


def test_a_folder_is_read_by_its_manifest_first(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    write(tmp_path / "a.xml", "<annotation/>")
    write(tmp_path / "manifest.csv", "path,xmin,ymin,xmax,ymax\na.png,10,20,40,50\n")
    assert read_marked(tmp_path).layout == "table"
    assert read_marked(tmp_path / "manifest.csv").summary == (
        "table, 1 pictures, 1 boxes, 0 without a nodule"
    )
