"""Tables and annotations of labelled pictures, from every layout that is read."""

import json
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from devices import BadInput
from tests.fuzz.target import target
from train.importers import class_names, read_samples
from train.importers.boxes import read_marked
from train.importers.ddti import parse_grades
from train.samples import Task

TASK = Task("nodule", ("benign", "malignant"), {"0": "benign", "1": "malignant"}, {"4a": "benign"})
SIDE = 80


@cache
def coded() -> bytes:
    picture = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), np.uint8)
    return cv2.imencode(".png", picture)[1].tobytes()


def folder_with(name: str, content: bytes, *pictures: str) -> Path:
    """A new folder of pictures, and of a file with `content`."""
    folder = Path("data")
    shutil.rmtree(folder, ignore_errors=True)
    for picture in pictures or ("a.png", "b.png"):
        path = folder / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(coded())
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return folder


def samples_of(name: str, content: bytes, *pictures: str) -> object:
    """Reads labelled pictures, of which one annotation is the input."""
    folder = folder_with(name, content, *pictures)
    with suppress(BadInput):
        class_names(folder)
    return read_samples(folder, TASK)


def marks_of(name: str, content: bytes, *pictures: str) -> object:
    """Reads marked pictures, of which one annotation is the input."""
    return read_marked(folder_with(name, content, *pictures))


TABLES = [
    b"path,label,xmin,ymin,xmax,ymax,group,split\n"
    b"a.png,benign,1,2,40,50,p1,train\nb.png,1,,,,,p2,test\n",
    b"image;class;patient\r\na.png;benign;1\r\nb.png;malignant;2\r\n",
    "\ufeffpath\tlabel\na.png\t0\nb.png\t1\n".encode(),
]
VOC = b"""<annotation><folder>x</folder><filename>a.png</filename>
<size><width>80</width><height>80</height><depth>1</depth></size>
<object><name>1</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>40</xmax><ymax>44</ymax></bndbox>
</object></annotation>"""
DDTI = (
    b"<?xml version='1.0'?><case><number>7</number><tirads>4a</tirads><mark><image>1</image>"
    b'<svg>[{"points": [{"x": 3, "y": 4}, {"x": 40, "y": 5}, {"x": 30, "y": 60}], '
    b'"annotation": {}, "regionType": "freehand"}]</svg></mark></case>'
)
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 80}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 4, 30, 40], "iscrowd": 0},
            {
                "id": 2,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [[1, 2, 30, 2, 30, 40]],
                "bbox": [1, 2, 29, 38],
            },
            {
                "id": 3,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [[1, 2, 30, 2, 30, 40], [4, 5, 30, 5, 30, 60]],
            },
        ],
        "categories": [{"id": 1, "name": "nodule"}],
    }
).encode()
LABELME = json.dumps(
    {
        "version": "5.0",
        "imagePath": "a.png",
        "imageWidth": 80,
        "imageHeight": 80,
        "shapes": [
            {"label": "nodule", "points": [[3, 4], [40, 50]], "shape_type": "rectangle"},
            {"label": "nodule", "points": [[3, 4], [40, 50], [9, 70]], "shape_type": "polygon"},
            {"label": "nodule", "points": [[30, 30], [40, 40]], "shape_type": "circle"},
        ],
    }
).encode()
CVAT = b"""<annotations><version>1.1</version><image id="0" name="a.png" width="80" height="80">
<box label="nodule" xtl="3.0" ytl="4.0" xbr="40.5" ybr="50.0" occluded="0"></box>
<polygon label="nodule" points="1.0,2.0;30.0,4.0;20.0,60.5"/></image>
<track id="0" label="nodule"><box frame="0" xtl="3" ytl="4" xbr="40" ybr="50" outside="0"/></track>
</annotations>"""
BOXES = [b"path,xmin,ymin,xmax,ymax,group\na.png,3,4,40,50,p1\nb.png,,,,,p2\n"]
CLIPS = [b"clip,frame,xmin,ymin,xmax,ymax,split\nc.avi,0,3,4,40,50,train\nc.avi,1,,,,,train\n"]

YAML = b"""path: .
train: train/images
val: val/images
names: {0: nodule, 1: cyst}
"""


@target(lambda: TABLES)
def table(content: bytes) -> object:
    return samples_of("manifest.csv", content)


@target(lambda: [VOC])
def pascal_voc(content: bytes) -> object:
    return samples_of("Annotations/a.xml", content)


@target(lambda: [DDTI])
def ddti(content: bytes) -> object:
    return samples_of("1.xml", content, "1_1.jpg")


@target(lambda: BOXES)
def box_table(content: bytes) -> object:
    return marks_of("manifest.csv", content)


@target(lambda: CLIPS)
def clip_table(content: bytes) -> object:
    return marks_of("clips.csv", content, "c.avi")


@target(lambda: [VOC])
def pascal_voc_boxes(content: bytes) -> object:
    return marks_of("a.xml", content)


@target(lambda: [DDTI])
def ddti_boxes(content: bytes) -> object:
    return marks_of("1.xml", content, "1_1.jpg")


@target(lambda: [COCO])
def coco(content: bytes) -> object:
    return marks_of("a.json", content)


@target(lambda: [LABELME])
def labelme(content: bytes) -> object:
    return marks_of("a.json", content)


@target(lambda: [CVAT])
def cvat(content: bytes) -> object:
    return marks_of("annotations.xml", content)


@target(lambda: [b"0 0.5 0.5 0.2 0.3\n", b"0 0.1 0.1 0.5 0.1 0.5 0.6\n"])
def yolo_labels(content: bytes) -> object:
    return marks_of("labels/a.txt", content, "images/a.png")


@target(lambda: [YAML, b"train: [a.png]\nnames: [nodule]\n"])
def yolo_yaml(content: bytes) -> object:
    folder = folder_with("data.yaml", content, "train/images/a.png", "val/images/b.png")
    for part in ("train", "val"):
        (folder / part / "labels").mkdir()
        (folder / part / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.3\n")
    return read_marked(folder)


@target(lambda: [coded()])
def mask(content: bytes) -> object:
    return marks_of("a_mask.png", content)


@target(lambda: [b"4a=benign,5=malignant"])
def grades(content: bytes) -> object:
    return TASK.graded(parse_grades(content.decode(errors="replace")))
