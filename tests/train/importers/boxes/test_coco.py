"""COCO files."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices import BadInput
from tests.train.importers.boxes.drawing import HEIGHT, WIDTH, boxes, draw, reasons, write
from train.importers.boxes import read_marked

BOX = [10.4, 20, 30, 25.2]


def coco(*annotations: object, count: int = 2, **more: object) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT}
            for i in range(count)
        ],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": BOX}, *annotations],
        "categories": [{"id": 1, "name": "nodule"}, {"id": 2, "name": "artery"}],
    } | more


def folder_of(tmp_path: Path, content: object, pictures: int = 2) -> Path:
    for index in range(pictures):
        draw(tmp_path / f"{index}.png", index)
    write(tmp_path / "labels.json", content)
    return tmp_path


def test_boxes_are_read_and_an_image_without_one_shows_no_nodule(tmp_path: Path) -> None:
    found = read_marked(folder_of(tmp_path, coco()))
    assert boxes(found) == {"0.png": [(10, 20, 30, 25)], "1.png": []}
    assert found.summary == "COCO, 2 pictures, 1 boxes, 1 without a nodule"
    assert [its.size for its in found.pictures] == [(WIDTH, HEIGHT)] * 2
    assert "2 pictures are groups of their own" in found.notes[0]


@pytest.mark.parametrize(
    ("json", "picture", "name"),
    [
        ("a.json", "0.png", "0.png"),
        ("a.json", "images/0.png", "0.png"),
        ("annotations/a.json", "images/0.png", "0.png"),
        ("annotations/instances_train2017.json", "train2017/0.png", "0.png"),
        ("annotations/instances_train2017.json", "images/train2017/0.png", "0.png"),
        ("a.json", "p1/0.png", r"C:\data\p1\0.png"),
        ("a.json", "0.png", "/home/other/0.png"),
        ("a.json", "0.png", "../../0.png"),
        ("a.json", "0.png", "0"),
    ],
)
def test_pictures_are_found_where_people_have_them(
    tmp_path: Path, json: str, picture: str, name: str
) -> None:
    image = {"id": 0, "file_name": name}
    path = write(tmp_path / json, coco(images=[image]))
    draw(tmp_path / picture)
    draw(tmp_path / "p2" / "0.jpg")
    for data in (tmp_path, path):
        (found,) = read_marked(data).pictures
        assert found.path == tmp_path / picture


def test_a_name_that_several_pictures_have_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "0.png", 1)
    draw(tmp_path / "b" / "0.png", 2)
    write(tmp_path / "x.json", coco(images=[{"id": 0, "file_name": "0.png"}]))
    with pytest.raises(BadInput, match=r"'0.png' may be .* rename one"):
        read_marked(tmp_path)


@pytest.mark.parametrize(
    "names", [("instances_train.json", "instances_val.json"), ("train/a.json", "valid/a.json")]
)
def test_several_files_are_the_split(tmp_path: Path, names: tuple[str, str]) -> None:
    for index, name in enumerate(names):
        draw((tmp_path / name).parent / f"{index}.png", index)
        image = {"id": 0, "file_name": f"{index}.png", "patient_id": 70 + index}
        write(tmp_path / name, coco(images=[image]))
    found = read_marked(tmp_path).pictures
    assert [(its.part, its.group) for its in found] == [("train", "70"), ("validation", "71")]


def test_a_picture_with_a_crowd_is_dropped(tmp_path: Path) -> None:
    crowd = {"id": 2, "image_id": 1, "category_id": 1, "bbox": BOX, "iscrowd": 1}
    found = read_marked(folder_of(tmp_path, coco(crowd)))
    assert ({*boxes(found)}, reasons(found)) == ({"0.png"}, {"1.png": "marks a crowd"})


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([10, 20, 0, 5], "not a box"),
        ([10, 20, -30, 5], "not a box"),
        ([10, 20, float("nan"), 5], "not a box"),
        ([10, 20, float("inf"), 5], "not a box"),
        ([10, 20, 1e300, 5], "not a box"),
        ([10, 20, 10**400, 5], "not a box"),
        ([10, 20, 30], "not a box"),
        ([10, 20, True, 5], "not a box"),
        ("10 20 30 40", "not a box"),
        (None, "not a box"),
        ([10, 20, 5, 5], "too small"),
        ([-3, 20, 30, 30], "box outside the picture"),
        ([10, 20, WIDTH, 30], "box outside the picture"),
        ([10, 62, 30, 30], "box outside the picture"),
    ],
)
def test_one_bad_box_drops_its_picture(tmp_path: Path, box: object, reason: str) -> None:
    bad = {"id": 2, "image_id": 1, "category_id": 1, "bbox": box}
    good = {"id": 3, "image_id": 1, "category_id": 1, "bbox": BOX}
    found = read_marked(folder_of(tmp_path, coco(bad, good)))
    assert ({*boxes(found)}, reasons(found)) == ({"0.png"}, {"1.png": reason})


def test_a_box_a_pixel_beyond_the_edge_is_cut(tmp_path: Path) -> None:
    wide = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [-1, -0.6, WIDTH + 2, HEIGHT + 1]}
    assert boxes(read_marked(folder_of(tmp_path, coco(wide))))["1.png"] == [(0, 0, WIDTH, HEIGHT)]


def test_an_outline_without_a_box_has_one(tmp_path: Path) -> None:
    outline = {"image_id": 1, "segmentation": [[10, 10, 50, 10, 50, 40], [60, 5, 70, 9, 62, 20]]}
    broken = {"image_id": 0, "segmentation": [[10, 10, 50, 10]]}
    found = read_marked(folder_of(tmp_path, coco(outline, broken)))
    assert boxes(found) == {"1.png": [(10, 5, 60, 35)]}
    assert reasons(found) == {"0.png": "not a box"}


def test_a_picture_of_another_size_than_stated_is_dropped(tmp_path: Path) -> None:
    content = coco()
    content["images"][1]["width"] = 121
    found = read_marked(folder_of(tmp_path, content))
    assert reasons(found) == {"1.png": "annotated at another size"}


def test_of_classes_only_those_asked_for_are_marked(tmp_path: Path) -> None:
    artery = {"id": 2, "image_id": 1, "category_id": 2, "bbox": BOX}
    folder = folder_of(tmp_path, coco(artery))
    assert all(boxes(read_marked(folder)).values())
    assert boxes(read_marked(folder, {"nodule"}))["1.png"] == []
    with pytest.raises(BadInput, match=r"no box of class 'vein'; there are 'artery', 'nodule'"):
        read_marked(folder, {"vein", "nodule"})


def test_two_images_of_one_id_are_refused(tmp_path: Path) -> None:
    content = coco()
    content["images"][1]["id"] = 0
    with pytest.raises(BadInput, match="two images have the id 0"):
        read_marked(folder_of(tmp_path, content))


def test_an_annotation_of_no_image_is_told(tmp_path: Path) -> None:
    stray = {"id": 1, "image_id": 7, "bbox": BOX}
    found = read_marked(folder_of(tmp_path, coco(stray, "x", {})))
    assert reasons(found) == {
        "labels.json: annotations of image 7": "missing",
        "labels.json: an annotation of no image": "unreadable",
    }


def test_missing_images_are_dropped_and_many_refused(tmp_path: Path) -> None:
    found = read_marked(folder_of(tmp_path, coco(count=20), 19))
    assert reasons(found) == {"19.png": "missing"}
    with pytest.raises(BadInput, match="3 of 22 images are missing"):
        read_marked(folder_of(tmp_path, coco(count=22), 19))


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [{"id"',
        '{"images":[],"annotations":' + "[" * 100_000,
        "\xff",
        "",
        '{"images": [], "annotations": NaN',
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"a.json: truncated, not JSON, or nested too deep") as error:
        read_marked(tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_file_beside_a_sound_one_is_dropped(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, coco())
    write(folder / "broken.json", '{"images": [')
    write(folder / "settings.json", {"a": 1})
    assert reasons(read_marked(folder)) == {"broken.json": "unreadable"}


def test_annotations_of_pictures_that_nobody_marked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no picture with a box that can be used: 2 show no nodule"):
        read_marked(folder_of(tmp_path, coco(annotations=[])))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
ENTRY = JSON | st.fixed_dictionaries(
    {"id": st.integers(0, 2) | JSON, "image_id": st.integers(0, 2) | JSON},
    optional={
        "file_name": st.sampled_from(["0.png", "1.png", "..", "\0", "a" * 300]) | JSON,
        "bbox": st.lists(st.floats() | st.integers(), min_size=3, max_size=5) | JSON,
        "segmentation": JSON | st.lists(st.lists(st.floats(), max_size=8), max_size=2),
        "width": JSON,
        "height": JSON,
        "iscrowd": JSON,
        "category_id": JSON,
        "patient": JSON,
        "name": JSON,
    },
)


@given(st.lists(ENTRY, max_size=4), st.lists(ENTRY, max_size=4), JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_a_file_is_read_or_refused(
    tmp_path: Path, images: list[object], annotations: list[object], categories: object
) -> None:
    content = {"images": images, "annotations": annotations, "categories": categories}
    folder = folder_of(tmp_path, content)
    try:
        found = read_marked(folder)
    except BadInput:
        return
    for picture in found.pictures:
        for x, y, w, h in picture.boxes:
            assert 0 <= x < x + w <= WIDTH
            assert 0 <= y < y + h <= HEIGHT
