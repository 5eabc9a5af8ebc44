"""DDTI folders: grades, outlines, and the quirks of files that were drawn by hand."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from devices.capture.image import read_image
from tests.train.conftest import TASK
from train.importers import class_names, read_samples
from train.importers.ddti import TIRADS, parse_grades, read_ddti
from train.samples import Collection, Dropped, Sample

GRADED = replace(TASK, tirads=TIRADS)


def outline(*points: tuple[float, float]) -> dict[str, object]:
    drawn = [{"x": x, "y": y} for x, y in points]
    return {"points": drawn, "annotation": {}, "regionType": "freehand"}


TRIANGLE = outline((10, 20), (40.2, 20.5), (30, 59))
SQUARE = outline((100, 100), (120, 100), (120, 120), (100, 120))


def write_case(folder: Path, grade: str, *marks: tuple[str, str], case: str = "7") -> Path:
    """A case with its grade, and for each mark the image's number and the text of its `<svg>`."""
    drawn = "".join(f"<mark><image>{image}</image><svg>{svg}</svg></mark>" for image, svg in marks)
    path = folder / f"{case}.xml"
    path.write_text(f"<case><number>{case}</number><tirads>{grade}</tirads>{drawn}</case>")
    return path


def draw_graded(folder: Path, labelled: Path) -> Path:
    """The patients of `tests.conftest.draw_labelled`, graded 2 and 5 instead of labelled."""
    square = json.dumps([outline((140, 90), (200, 90), (200, 150), (140, 150))])
    for number, patient in enumerate(sorted(labelled.glob("*/*"))):
        cv2.imwrite(str(folder / f"{number}_1.jpg"), read_image(patient / "0.png"))
        grade = "5" if patient.parent.name == "malignant" else "2"
        write_case(folder, grade, ("1", square), case=str(number))
    return folder


def test_each_outline_is_a_sample_in_its_bounding_box(tmp_path: Path) -> None:
    write_case(tmp_path, "4c", ("1", json.dumps([TRIANGLE, SQUARE])), ("2", json.dumps([SQUARE])))
    write_case(tmp_path, "2", ("1", json.dumps([SQUARE])), case="8")
    for name in ("7_1.jpg", "7_2.jpg", "8_1.jpg"):
        (tmp_path / name).touch()
    square = Box(100, 100, 20, 20)
    assert read_samples(tmp_path, GRADED) == Collection(
        (
            Sample(tmp_path / "7_1.jpg", "malignant", Box(10, 20, 31, 39), "7"),
            Sample(tmp_path / "7_1.jpg", "malignant", square, "7"),
            Sample(tmp_path / "7_2.jpg", "malignant", square, "7"),
            Sample(tmp_path / "8_1.jpg", "benign", square, "8"),
        ),
        (),
    )


def test_an_outline_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    write_case(tmp_path, "5", ("1", json.dumps([SQUARE, SQUARE])), ("1", json.dumps([SQUARE])))
    (tmp_path / "7_1.jpg").touch()
    assert len(read_samples(tmp_path, GRADED).samples) == 1


@pytest.mark.parametrize("grade", ["4c", "4C", " 4C\n"])
@pytest.mark.parametrize("mapped", ["4c", "4C"])
def test_a_grade_is_known_in_any_case(tmp_path: Path, grade: str, mapped: str) -> None:
    write_case(tmp_path, grade, ("1", json.dumps([SQUARE])))
    task = replace(TASK, tirads={mapped: "malignant"})
    assert [its.label for its in read_ddti(tmp_path, task).samples] == ["malignant"]


@pytest.mark.parametrize(
    ("grade", "reason"), [("4a", "grade not mapped"), ("", "no label"), (" \n", "no label")]
)
def test_a_case_without_a_grade_that_counts_is_dropped(
    tmp_path: Path, grade: str, reason: str
) -> None:
    path = write_case(tmp_path, grade, ("1", json.dumps([SQUARE])))
    (dropped,) = read_ddti(tmp_path, GRADED).dropped
    assert (dropped.path, dropped.reason) == (str(path), reason)


@pytest.mark.parametrize(
    ("image", "svg", "name", "reason"),
    [
        ("1", "", "7_1.jpg", "no label"),
        ("1", "[]", "7_1.jpg", "no label"),
        ("1", json.dumps([outline()]), "7_1.jpg", "no label"),
        ("1", "M 1 2 L 3 4", "7.xml", "unreadable"),
        ("1", '[{"points": [{"x": 1}]}]', "7.xml", "unreadable"),
        ("1", '[{"points": [{"x": NaN, "y": 1e999}]}]', "7.xml", "unreadable"),
        ("1", "[" * 100_000, "7.xml", "unreadable"),
        ("", json.dumps([SQUARE]), "7.xml", "unreadable"),
        ("../1", json.dumps([SQUARE]), "7.xml", "unreadable"),
    ],
)
def test_a_mark_without_an_outline_is_dropped_and_the_next_one_kept(
    tmp_path: Path, image: str, svg: str, name: str, reason: str
) -> None:
    write_case(tmp_path, "3", (image, svg), ("2", json.dumps([TRIANGLE])))
    found = read_ddti(tmp_path, GRADED)
    assert [(its.path, its.reason) for its in found.dropped] == [(str(tmp_path / name), reason)]
    assert [its.path.name for its in found.samples] == ["7_2.jpg"]


@pytest.mark.parametrize("content", [b"", b"<case>", b"<case>&e;</case>", b"\xff\xfe\x00"])
def test_a_case_that_is_no_xml_is_dropped(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "7.xml"
    path.write_bytes(content)
    assert read_ddti(tmp_path, GRADED).dropped == (Dropped(str(path), "unreadable"),)


def test_a_task_without_grades_is_told_what_to_write(tmp_path: Path) -> None:
    write_case(tmp_path, "3", ("1", json.dumps([SQUARE])))
    with pytest.raises(BadInput, match=r'tirads = { "2" = "benign", .*"5" = "malignant" }'):
        read_samples(tmp_path, TASK)


@given(
    svg=st.text(max_size=80)
    | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps)
)
def test_any_svg_is_read_or_dropped(tmp_path_factory: pytest.TempPathFactory, svg: str) -> None:
    folder = tmp_path_factory.mktemp("ddti")
    write_case(folder, "3", ("1", svg.replace("<", "").replace("&", "")))
    found = read_ddti(folder, GRADED)
    assert len(found.dropped) == 1
    assert found.dropped[0].reason in ("unreadable", "no label")


def test_grades_are_classes_before_a_task_is_fixed(tmp_path: Path) -> None:
    for case, grade in (("7", "4A"), ("8", "2"), ("9", "")):
        write_case(tmp_path, grade, ("1", json.dumps([SQUARE])), case=case)
        (tmp_path / f"{case}_1.jpg").touch()
    assert class_names(tmp_path) == ("2", "4a")


def test_grades_are_read_from_one_line() -> None:
    assert parse_grades("2=benign, 4C = malignant") == {"2": "benign", "4c": "malignant"}


@pytest.mark.parametrize("text", ["", "2", "2=", "=benign", "2=benign,", "4c=benign,4C=malignant"])
def test_grades_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not grade=label, each grade once"):
        parse_grades(text)


@given(
    grades=st.dictionaries(
        st.sampled_from(["1", "2", "3", "4a", "4b", "4c", "5"]),
        st.sampled_from(TASK.labels),
        min_size=1,
    )
)
def test_grades_that_are_written_are_read_back(grades: dict[str, str]) -> None:
    assert parse_grades(",".join(f"{grade}={label}" for grade, label in grades.items())) == grades
