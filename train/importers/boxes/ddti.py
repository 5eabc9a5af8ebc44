"""DDTI, read for the outlines of its nodules; see `train.importers.ddti`."""

from collections.abc import Sequence
from pathlib import Path

from train.importers.boxes.files import Pictures, read_rooted
from train.importers.boxes.marking import Found, Mark, Marking
from train.importers.ddti import outline_boxes
from train.samples import Dropped, Reason


def read_ddti_boxes(files: Sequence[Path], root: Path, listed: Sequence[Path]) -> Found:
    """The pictures of the cases, with a box around each outline; the case is the group.

    A picture without an outline shows a nodule that nobody has marked, and is dropped.
    """
    pictures = Pictures(root, listed)
    found = Found("DDTI")
    for file in files:
        case = read_rooted(file, "case", found.dropped)
        if case is None:
            continue
        for mark in case.iter("mark"):
            number = (mark.findtext("image") or "").strip()
            boxes = outline_boxes((mark.findtext("svg") or "").strip())
            name = f"{file.stem}_{number}.jpg"
            path = pictures.find(name, file, file.parent) or file.parent / name
            if boxes is None or not number.isdecimal():
                found.dropped.append(Dropped(str(file), "unreadable"))
                continue
            marks = tuple(
                Mark((float(x), float(y), float(x + w), float(y + h))) for x, y, w, h in boxes
            )
            fault: Reason | None = None if boxes else "no box"
            found.markings.append(Marking(path, marks, group=file.stem, fault=fault))
    return found
