"""Pascal VOC folders."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from tests.train.conftest import TASK
from train.importers import read_samples
from train.importers.voc import read_voc
from train.samples import Collection, Dropped, Sample, check, read_pixels

VOC = """<annotation><filename>{name}.jpg</filename><object><name>{label}</name>
<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax><ymax>50</ymax></bndbox></object></annotation>
"""


def annotate(folder: Path, text: str) -> Path:
    (folder / "Annotations").mkdir()
    path = folder / "Annotations" / "7.xml"
    path.write_text(text)
    return path


def test_voc_gives_each_object(tmp_path: Path) -> None:
    text = VOC.format(name="7", label="1")
    other = text[text.index("<object>") : text.index("</annotation>")].replace("40", "60")
    annotate(tmp_path, text.replace("</annotation>", f"{other}<object/></annotation>"))
    found = read_voc(tmp_path, TASK)
    boxes = [its.box for its in found.samples]
    assert boxes == [Box(10, 20, 30, 30), Box(10, 20, 50, 30)]
    assert {its.group for its in found.samples} == {"7"}
    assert [its.reason for its in found.dropped] == ["no label"]


def test_an_image_that_is_named_without_its_suffix_is_found(tmp_path: Path) -> None:
    annotate(tmp_path, VOC.format(name="7", label="1").replace("7.jpg", "7"))
    (sample,) = read_voc(tmp_path, TASK).samples
    assert sample.path.name == "7.jpg"


def test_voc_gives_an_object(tmp_path: Path) -> None:
    annotate(tmp_path, VOC.format(name="7", label="1"))
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages" / "7.jpg").touch()
    sample = Sample(tmp_path / "JPEGImages" / "7.jpg", "malignant", Box(10, 20, 30, 30), "7")
    assert read_samples(tmp_path, TASK) == Collection((sample,), ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>", "unreadable"),
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "unreadable"),
        ("<annotation></annotation>", "no label"),
        (VOC.format(name="7", label=" "), "no label"),
    ],
)
def test_an_annotation_without_a_label_is_dropped(tmp_path: Path, text: str, reason: str) -> None:
    path = annotate(tmp_path, text)
    (dropped,) = read_voc(tmp_path, TASK).dropped
    assert (dropped.path, dropped.reason) == (str(path), reason)


def test_a_bad_annotation_is_named(tmp_path: Path) -> None:
    annotate(tmp_path, VOC.format(name="7", label="2"))
    with pytest.raises(BadInput, match=r"7.xml: '2' is no class"):
        read_voc(tmp_path, TASK)


PLACES = {
    "VOC's folders": ("Annotations/7.xml", "JPEGImages/7.jpg"),
    "beside the picture": ("7.xml", "7.jpg"),
    "in folders of classes": ("benign/p1/7.xml", "benign/p1/7.png"),
    "in folders of their own": ("labels/7.xml", "images/7.bmp"),
    "beside a DICOM file without a suffix": ("7.xml", "7"),
}
FILENAMES = ["7", "7.jpg", "7.png", "old.jpg", "C:\\scans\\7.JPG", "../../7", "/home/x/7.jpg", ""]


@pytest.mark.parametrize("filename", FILENAMES)
@pytest.mark.parametrize(("annotation", "picture"), PLACES.values(), ids=PLACES.keys())
def test_the_picture_of_an_annotation_is_found(
    tmp_path: Path, annotation: str, picture: str, filename: str
) -> None:
    for name in (annotation, picture):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / annotation).write_text(VOC.replace("{name}.jpg", filename).format(label="1"))
    (tmp_path / picture).write_bytes(bytes(128) + b"DICM" if "." not in picture else b"")
    collection = read_samples(tmp_path, TASK)
    assert [sample.path for sample in collection.samples] == [tmp_path / picture]
    assert collection.layout == "Pascal VOC"


def test_an_annotation_that_names_another_picture_than_its_own_is_dropped(tmp_path: Path) -> None:
    """Pictures were renamed, and their annotations too, but not what stands in there."""
    path = annotate(tmp_path, VOC.format(name="8", label="1"))
    (tmp_path / "JPEGImages").mkdir()
    for name in ("7.jpg", "8.jpg"):
        (tmp_path / "JPEGImages" / name).touch()
    assert read_voc(tmp_path, TASK) == Collection(
        (), (Dropped(str(path), "names another picture"),)
    )


def test_a_name_that_two_pictures_have_is_refused(tmp_path: Path) -> None:
    annotate(tmp_path, VOC.format(name="7", label="1"))
    for name in ("a/7.png", "b/7.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(BadInput, match=r"7.xml: '7' may be .*a/7.png and .*b/7.png"):
        read_voc(tmp_path, TASK)


def test_pictures_without_an_annotation_and_masks_are_counted(tmp_path: Path) -> None:
    (tmp_path / "7.xml").write_text(VOC.format(name="7", label="1"))
    for name in ("7.jpg", "7_mask.png", "8.jpg", "._7.jpg"):
        (tmp_path / name).touch()
    collection = read_voc(tmp_path, TASK)
    reasons = [(Path(entry.path).name, entry.reason) for entry in collection.dropped]
    assert reasons == [("7_mask.png", "mask"), ("8.jpg", "no label")]


@given(
    width=st.integers(64, 90),
    height=st.integers(64, 90),
    stated=st.tuples(st.integers(0, 180), st.integers(0, 180)),
    turned=st.booleans(),
)
def test_a_box_drawn_in_a_picture_of_another_size_is_never_used(
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    height: int,
    stated: tuple[int, int],
    turned: bool,
) -> None:
    folder = tmp_path_factory.mktemp("size")
    if turned:
        stated = (height, width)
    size = "<size><width>{}</width><height>{}</height></size><object>".format(*stated)
    text = VOC.format(name="7", label="1").replace("<object>", size)
    (folder / "7.xml").write_text(text)
    cv2.imwrite(str(folder / "7.jpg"), np.zeros((height, width), np.uint8))
    (sample,) = read_samples(folder, TASK).samples
    reason = check(read_pixels(sample), sample)
    assert reason == (None if stated in ((width, height), (0, 0)) else "annotated at another size")


@pytest.mark.parametrize("size", ["", "<width/><height/>", "<width>0</width><height>0</height>"])
def test_a_size_that_is_not_stated_contradicts_nothing(tmp_path: Path, size: str) -> None:
    text = VOC.format(name="7", label="1").replace("<object>", f"<size>{size}</size><object>")
    (tmp_path / "7.xml").write_text(text)
    (tmp_path / "7.jpg").touch()
    (sample,) = read_samples(tmp_path, TASK).samples
    assert sample.size is None


def test_entities_that_grow_without_end_are_not_unfolded(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    text = f'<!DOCTYPE a [<!ENTITY e0 "{"ha" * 50}">{entities}]><annotation>&e9;</annotation>'
    path = annotate(tmp_path, text)
    assert read_voc(tmp_path, TASK).dropped == (Dropped(str(path), "unreadable"),)
