"""Pascal VOC, read for boxes."""

from pathlib import Path

import pytest

from devices import BadInput
from tests.conftest import TN5000
from tests.train.importers.boxes.drawing import HEIGHT, WIDTH, boxes, draw, reasons, write
from train.importers.boxes import read_marked

OBJECT = (
    "<object><name>{name}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax>"
    "<ymax>{3}</ymax></bndbox></object>"
)


def voc(*corners: tuple[object, ...], name: str = "", width: int = WIDTH) -> str:
    objects = "".join(OBJECT.format(*its, name="nodule") for its in corners)
    size = f"<size><width>{width}</width><height>{HEIGHT}</height></size>"
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def annotate(folder: Path, **texts: str) -> Path:
    for index, (name, text) in enumerate(texts.items()):
        draw(folder / "JPEGImages" / f"{name}.png", index)
        write(folder / "Annotations" / f"{name}.xml", text)
    return folder


def test_a_picture_has_the_boxes_of_all_its_objects(tmp_path: Path) -> None:
    folder = annotate(tmp_path, a=voc((10, 20, 40, 50), (50.4, 50, 80, 80)), b=voc())
    draw(folder / "JPEGImages" / "c.png", 9)
    found = read_marked(folder)
    assert boxes(found) == {"a.png": [(10, 20, 30, 30), (50, 50, 30, 30)], "b.png": []}
    assert reasons(found) == {"c.png": "no label"}
    assert found.layout == "Pascal VOC"


def test_the_lists_of_voc_are_the_split(tmp_path: Path) -> None:
    folder = annotate(tmp_path, a=voc((10, 20, 40, 50)), b=voc(), c=voc())
    write(folder / "ImageSets/Main/train.txt", "a\nc 1\n")
    write(folder / "ImageSets/Main/val.txt", "b\n")
    assert [its.part for its in read_marked(folder).pictures] == ["train", "validation", "train"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>", "unreadable"),
        ("<a/>", "unknown kind of file"),
        (voc(name="a.png"), "names another picture"),
    ],
)
def test_a_file_that_is_no_annotation_is_dropped(tmp_path: Path, text: str, reason: str) -> None:
    found = read_marked(annotate(tmp_path, a=voc((10, 20, 40, 50)), b=text))
    assert reasons(found)["b.xml"] == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (voc((10, 20, 40, 50), width=121), "annotated at another size"),
        (voc((10, 20, WIDTH + 2, 50)), "box outside the picture"),
        (voc((40, 20, 10, 50)), "not a box"),
        (voc((10, 20, 10, 50)), "not a box"),
        (voc(("nan", 20, 10, 50)), "not a box"),
        (voc(("", "", "", "")), "not a box"),
        (voc((10, 20, 40, "9" * 5000)), "not a box"),
        ("<annotation><object><name>x</name></object></annotation>", "not a box"),
    ],
)
def test_one_bad_object_drops_its_picture(tmp_path: Path, text: str, reason: str) -> None:
    found = read_marked(annotate(tmp_path, a=voc((10, 20, 40, 50)), b=text))
    assert ({*boxes(found)}, reasons(found)) == ({"a.png"}, {"b.png": reason})


def test_a_box_a_pixel_beyond_the_edge_is_cut(tmp_path: Path) -> None:
    found = read_marked(annotate(tmp_path, a=voc((10, 20, WIDTH + 1, HEIGHT))))
    assert boxes(found) == {"a.png": [(10, 20, WIDTH - 10, HEIGHT - 20)]}


BOMB = (
    '<!DOCTYPE a [<!ENTITY l0 "lol">'
    + "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    + "]><annotation><filename>&l11;</filename></annotation>"
)


def test_a_hostile_file_is_one_line(tmp_path: Path) -> None:
    deep = "<annotation>" * 20_000 + "</annotation>" * 20_000
    for hostile in (BOMB, deep):
        with pytest.raises(BadInput, match=r"a.xml: truncated, not XML, or nested too deep"):
            read_marked(annotate(tmp_path, a=hostile))


@pytest.mark.skipif(not TN5000.is_dir(), reason="TN5000 is not here")
def test_copies_in_tn5000_are_one_picture_of_several_nodules(tmp_path: Path) -> None:
    for name in ("Annotations", "JPEGImages"):
        (tmp_path / name).symlink_to(TN5000 / name)
    found = read_marked(tmp_path)
    assert reasons(found) == {"004092.jpg": "annotated at another size"}
    assert found.summary == "Pascal VOC, 3890 pictures, 3986 boxes, 0 without a nodule"
    assert "102 files are copies of another; their boxes are joined" in found.notes
