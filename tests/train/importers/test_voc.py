"""Pascal VOC folders."""

from pathlib import Path

import pytest

from devices import BadInput, Box
from tests.train.test_samples import TASK
from train.importers import read_samples
from train.importers.voc import read_voc
from train.samples import Collection, Dropped, Sample

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


@pytest.mark.parametrize(
    ("name", "label", "said"), [("7", "2", "'2' is no class"), ("../../7", "1", "outside JPEG")]
)
def test_a_bad_annotation_is_named(tmp_path: Path, name: str, label: str, said: str) -> None:
    annotate(tmp_path, VOC.format(name=name, label=label))
    with pytest.raises(BadInput, match=rf"7.xml: .*{said}"):
        read_voc(tmp_path, TASK)


def test_entities_that_grow_without_end_are_not_unfolded(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    text = f'<!DOCTYPE a [<!ENTITY e0 "{"ha" * 50}">{entities}]><annotation>&e9;</annotation>'
    path = annotate(tmp_path, text)
    assert read_voc(tmp_path, TASK).dropped == (Dropped(str(path), "unreadable"),)
