"""Labelled images from every layout, and what is said of bad ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from edge_runtime.preprocess import parse
from tests.conftest import TN5000
from train.samples import (
    Sample,
    Task,
    load_pictures,
    read_class_folders,
    read_csv,
    read_samples,
    read_voc,
    require_both_classes,
)

TASK = Task("nodule", ("benign", "malignant"), {"0": "benign", "1": "malignant"})

VOC = """<annotation><filename>{name}.jpg</filename><object><name>{label}</name>
<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax><ymax>50</ymax></bndbox></object></annotation>
"""


def write_csv(folder: Path, text: str) -> Path:
    path = folder / "samples.csv"
    path.write_text(text)
    return path


def test_a_csv_gives_labels_boxes_and_groups(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path,
        "path,label,xmin,ymin,xmax,ymax,group\na.png,malignant,1,2,11,22,p1\nb.png,0,,,,,\n",
    )
    assert read_csv(path, TASK) == [
        Sample(tmp_path / "a.png", "malignant", Box(1, 2, 10, 20), "p1"),
        Sample(tmp_path / "b.png", "benign", None, "b.png"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label\nbenign\n", "no column 'path'"),
        ("path,label\na.png,cyst\n", "line 2: 'cyst' is no class; there are benign, malignant"),
        ("path,label\n,benign\n", "line 2: the path is empty"),
        ("path,label\na.png\n", "line 2: '' is no class"),
        ("path,label,xmin,ymin,xmax,ymax\na.png,0,1,2,x,4\n", "not four numbers"),
        ("path,label,xmin,ymin,xmax,ymax\na.png,0,9,2,3,4\n", "not a box"),
        ("path,label,xmin,ymin,xmax,ymax\na.png,0,1,2,inf,4\n", "not four numbers"),
    ],
)
def test_a_bad_line_of_a_csv_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read_csv(write_csv(tmp_path, text), TASK)
    assert said in str(refusal.value)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_csv_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        read_samples(path, TASK)


def test_voc_gives_the_first_object(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations" / "7.xml").write_text(VOC.format(name="7", label="1"))
    sample = Sample(tmp_path / "JPEGImages" / "7.jpg", "malignant", Box(10, 20, 30, 30), "7")
    assert read_samples(tmp_path, TASK) == [sample]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotation>", "not a Pascal VOC annotation"),
        ("<annotation></annotation>", "no <object>"),
        (VOC.format(name="7", label="2"), "'2' is no class"),
        (VOC.format(name="../../7", label="1"), "outside JPEGImages"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "7.xml").write_text(text)
    with pytest.raises(BadInput, match=r"7.xml") as refusal:
        read_voc(tmp_path, TASK)
    assert said in str(refusal.value)


def test_class_folders_take_the_patients_folder_as_group(tmp_path: Path) -> None:
    for name in ("benign/p1/a.png", "benign/b.png", "malignant/p2/c.png", "benign/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    groups = [(its.label, its.group) for its in read_class_folders(tmp_path, TASK)]
    assert groups == [("benign", "benign/b.png"), ("benign", "p1"), ("malignant", "p2")]


def test_a_folder_that_is_no_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "cyst").mkdir()
    (tmp_path / "cyst" / "a.png").touch()
    with pytest.raises(BadInput, match="'cyst' is no class"):
        read_samples(tmp_path, TASK)


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no labelled images; expected a CSV"):
        read_samples(tmp_path, TASK)
    with pytest.raises(BadInput, match="no such file"):
        read_samples(tmp_path / "none", TASK)


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    samples = [Sample(tmp_path / "a.png", "benign", None, "a")]
    with pytest.raises(BadInput, match="no image of class 'malignant'"):
        require_both_classes(samples, TASK, "the data")


def test_pictures_are_prepared_as_the_device_would(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    plain, box = parse("gray|crop(1.5)|resize(32)"), Box(10, 10, 30, 20)
    pictures = load_pictures([Sample(tmp_path / "a.png", "benign", box, "a")], plain)
    assert np.array_equal(pictures, plain(pixels, box))


def test_an_image_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(BadInput, match=r"a.png: not an image"):
        load_pictures([Sample(tmp_path / "a.png", "benign", None, "a")], parse("gray|resize(32)"))


def test_a_box_outside_its_image_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((50, 50), np.uint8))
    sample = Sample(tmp_path / "a.png", "benign", Box(500, 500, 10, 10), "a")
    with pytest.raises(BadInput, match=r"a.png: the box 500,500,10,10 lies outside"):
        load_pictures([sample], parse("gray|crop(1.5)|resize(32)"))


@pytest.mark.skipif(not TN5000.is_dir(), reason="TN5000 is not here")
def test_tn5000_reads_the_same_as_voc_and_as_table() -> None:
    def seen(samples: list[Sample]) -> dict[Path, tuple[str, Box | None]]:
        return {its.path: (its.label, its.box) for its in samples}

    table = read_samples(TN5000, TASK)
    assert len(table) == 3993
    assert len({its.group for its in table}) == 100
    assert seen(table) == seen(read_voc(TN5000, TASK))
