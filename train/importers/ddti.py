"""Samples from DDTI, the open access thyroid image database, and others in its layout.

Pedraza et al., "An open access thyroid ultrasound image database", Proc. SPIE 9287, 2015. A case is
`CASE.xml`, with one TI-RADS grade and the outlines of its nodules, and its images are
`CASE_1.jpg`, `CASE_2.jpg` and so on. A grade is a radiologist's suspicion, not a biopsy: which
class it stands for is the choice of whoever writes the recipe.
"""

from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from devices import BadInput, Box
from devices.capture.listing import list_files
from devices.schema_io import read_json
from train.importers.xml import read_xml
from train.samples import AsWritten, Collection, Dropped, Naming, Sample

TIRADS = {"2": "benign", "3": "benign", "4c": "malignant", "5": "malignant"}
"""The usual choice for a task of these labels. 4a and 4b are left out: the rates of malignancy that
are published for them say nothing either way."""

Coordinate = Annotated[float, Meta(ge=-1e5, le=1e5)]


@dataclass(frozen=True, slots=True)
class Point:
    """In pixels of the image."""

    x: Coordinate
    y: Coordinate


@dataclass(frozen=True, slots=True)
class Outline:
    """A polygon drawn around a nodule."""

    points: tuple[Point, ...]


def parse_grades(text: str) -> dict[str, str]:
    """Reads `2=benign,3=benign,5=malignant` into labels by grade. Raises BadInput otherwise."""
    grades: dict[str, str] = {}
    for pair in text.split(","):
        grade, _, label = (word.strip() for word in pair.partition("="))
        if not grade or not label or grade.lower() in grades:
            raise BadInput(f"TI-RADS grades {text!r}: {pair!r} is not grade=label, each grade once")
        grades[grade.lower()] = label
    return grades


def read_ddti(folder: Path, task: Naming) -> Collection:
    """Samples from DDTI's layout: one for each outline, in its bounding box; the case is the group.

    A case is dropped where its grade is missing or not in `task.tirads`, a mark where it has no
    outline; an outline that is there twice counts once. Raises BadInput where the task maps no
    grade.
    """
    if isinstance(task, AsWritten):
        return _read_graded(folder, None)
    if not task.tirads:
        usual = ",".join(f"{grade}={label}" for grade, label in TIRADS.items())
        choice = ", ".join(f'"{grade}" = "{label}"' for grade, label in TIRADS.items())
        raise BadInput(
            f"{folder}: DDTI has TI-RADS grades, no classes; say which grade is which class, with "
            f"--tirads {usual} or in the recipe, under [task]: tirads = {{ {choice} }}"
        )
    return _read_graded(folder, {grade.lower(): label for grade, label in task.tirads.items()})


def _read_graded(folder: Path, labels: dict[str, str] | None) -> Collection:
    """`labels` by grade; None where each grade is a class of its own."""
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    for file in [path for path in list_files(folder) if path.suffix.lower() == ".xml"]:
        root = read_xml(file)
        if root is None:
            dropped.append(Dropped(str(file), "unreadable"))
            continue
        grade = (root.findtext("tirads") or "").strip().lower()
        if not grade or (labels is not None and grade not in labels):
            dropped.append(Dropped(str(file), "grade not mapped" if grade else "no label"))
            continue
        for mark in root.iter("mark"):
            number = (mark.findtext("image") or "").strip()
            boxes = outline_boxes((mark.findtext("svg") or "").strip())
            image = folder / f"{file.stem}_{number}.jpg"
            if boxes is None or not number.isdecimal():
                dropped.append(Dropped(str(file), "unreadable"))
            elif not boxes:
                dropped.append(Dropped(str(image), "no label"))
            else:
                label = grade if labels is None else labels[grade]
                samples += [Sample(image, label, box, file.stem) for box in boxes]
    return Collection(tuple(dict.fromkeys(samples)), tuple(dropped), "DDTI")


def outline_boxes(svg: str) -> list[Box] | None:
    """The bounding boxes of the outlines, which are JSON despite the name; None for what is not."""
    try:
        outlines = read_json(svg or "[]", tuple[Outline, ...], "outlines", whole=False)
    except BadInput:
        return None
    boxes = []
    for points in [outline.points for outline in outlines if outline.points]:
        left, top = floor(min(point.x for point in points)), floor(min(point.y for point in points))
        right, bottom = (
            ceil(max(point.x for point in points)),
            ceil(max(point.y for point in points)),
        )
        boxes.append(Box(left, top, right - left, bottom - top))
    return boxes
