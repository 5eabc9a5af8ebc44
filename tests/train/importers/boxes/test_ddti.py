"""DDTI, read for outlines."""

from pathlib import Path

from tests.train.importers.boxes.drawing import boxes, draw, reasons, write
from train.importers.boxes import read_marked

OUTLINE = '[{"points": [{"x": 10, "y": 20}, {"x": 60, "y": 20}, {"x": 60, "y": 70}]}]'


def test_outlines_are_boxes_and_need_no_grade(tmp_path: Path) -> None:
    marks = "".join(
        f"<mark><image>{number}</image><svg>{svg}</svg></mark>"
        for number, svg in ((1, OUTLINE), (2, "[]"), (3, "[{"))
    )
    write(tmp_path / "7.xml", f"<case>{marks}</case>")
    write(tmp_path / "8.xml", "<case>")
    for index in (1, 2):
        draw(tmp_path / f"7_{index}.jpg", index)
    found = read_marked(tmp_path)
    assert boxes(found) == {"7_1.jpg": [(10, 20, 50, 50)]}
    assert found.pictures[0].group == "7"
    assert reasons(found) == {
        "7_2.jpg": "no box",
        "7.xml": "unreadable",
        "8.xml": "unreadable",
    }
