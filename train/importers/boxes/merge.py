"""From what annotations say to pictures that can be learnt from.

A picture that lies on the disk twice, byte for byte, is one: each copy may mark another of its
nodules. In TN5000 the file of each of several nodules is a copy of one picture, so that a network
that learns the copies one by one learns that a nodule is background.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from devices import BadInput, Box
from devices.capture.image import shown_size
from devices.capture.kinds import Kind, kind_of
from train.groups import joined_names
from train.importers.boxes.marking import Found, Mark, Marking, box_of
from train.importers.dicom import patient_of
from train.importers.paths import find_missing, refuse_unwritable
from train.marked import MarkedCollection, MarkedPicture, check_box, within
from train.samples import LEAK, MIN_PICTURE, Dropped, Part, Reason, frame_name, tell_dropped

SAME_BOX = 0.7
"""Intersection over union of two boxes above which they mark one nodule."""
CHUNK = 1 << 20


def merge(found: Found, data: Path, classes: Collection[str] | None = None) -> MarkedCollection:
    """The pictures of a data set, each once, with the boxes of all its copies.

    Of `classes`, where they are given, only what is of them is marked. A picture is dropped where
    its annotation, or that of a copy, cannot be used; where it is not there or cannot be read; and
    where copies stand on two sides of the data's own split. Groups that share a picture become one.

    Raises BadInput where no picture with a box is left, where more than a tenth of the pictures is
    missing (`train.importers.paths`), and where `classes` names what is not there.
    """
    refuse_unwritable(
        [*(str(entry.path) for entry in found.markings), *(entry.path for entry in found.dropped)]
    )
    notes = [*found.notes]
    markings = found.markings if classes is None else _of_classes(found, classes, data)
    paths = [*dict.fromkeys(marking.path for marking in markings)]
    missing = dict.fromkeys(find_missing(paths, data))
    dropped = [*found.dropped, *(Dropped(str(path), "missing") for path in missing)]
    paths = [path for path in paths if path not in missing]
    markings = [marking for marking in markings if marking.path not in missing]

    contents = _contents(paths)
    shown = {path: _shown(path) for path in paths}
    groups, alone = _groups(markings, contents, data)
    if alone:
        notes.append(
            f"{alone} pictures are groups of their own, for nothing names their patients; where "
            "several are of one, write a table with a column 'group'"
        )
    copies = len(paths) - len({contents[path] for path in paths})
    if copies:
        notes.append(f"{copies} files are copies of another; their boxes are joined")

    same: dict[tuple[str, int], list[Marking]] = defaultdict(list)
    for marking in markings:
        same[contents[marking.path], marking.frame].append(marking)
    pictures = []
    for alike in same.values():
        size, reason, why = shown[alike[0].path]
        reason = reason or _fault(alike, size)
        if reason is not None:
            names = dict.fromkeys(frame_name(each.path, each.frame) for each in alike)
            dropped += [Dropped(name, reason, why) for name in names]
            continue
        boxes = [box_of(mark.corners) for mark in _marks(alike) if mark.corners is not None]
        if size is not None:
            boxes = [within(box, size) for box in boxes]
        pictures.append(
            MarkedPicture(
                path=alike[0].path,
                boxes=distinct(boxes),
                group=groups[alike[0].path],
                frame=alike[0].frame,
                part=next(iter(_parts(alike)), None),
                size=size or next((one.size for one in alike if one.size), None),
            )
        )
    if not any(picture.boxes for picture in pictures):
        counts = "; ".join(tell_dropped(dropped))
        raise BadInput(
            f"{data}: {found.layout}, but no picture with a box that can be used: "
            f"{len(pictures)} show no nodule" + (f"; {counts}" if counts else "")
        )
    return MarkedCollection(tuple(pictures), tuple(dropped), found.layout, tuple(notes))


def distinct(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """The boxes in their order, without those that mark a nodule which one before marks."""
    kept: list[Box] = []
    for box in boxes:
        if all(box_iou(box, other) <= SAME_BOX for other in kept):
            kept.append(box)
    return tuple(kept)


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union, from 0 to 1; 0 where one of them has no area."""
    width = min(one.x + one.w, other.x + other.w) - max(one.x, other.x)
    height = min(one.y + one.h, other.y + other.h) - max(one.y, other.y)
    if min(width, height, one.w, one.h, other.w, other.h) <= 0:
        return 0.0
    both = width * height
    return both / (one.w * one.h + other.w * other.h - both)


def _of_classes(found: Found, classes: Collection[str], data: Path) -> list[Marking]:
    """The markings with what is of `classes` alone."""
    there = sorted({mark.name for mark in _marks(found.markings)})
    if strange := {*classes} - {*there}:
        names = ", ".join(map(repr, there)) or "none"
        raise BadInput(f"{data}: no box of class {min(strange)!r}; there are {names}")
    return [
        replace(marking, marks=tuple(mark for mark in marking.marks if mark.name in classes))
        for marking in found.markings
    ]


def _marks(markings: Iterable[Marking]) -> list[Mark]:
    return [mark for marking in markings for mark in marking.marks]


def _parts(markings: Sequence[Marking]) -> set[Part]:
    return {marking.part for marking in markings if marking.part is not None}


def _fault(markings: Sequence[Marking], size: tuple[int, int] | None) -> Reason | None:
    """Why what is said of one picture, of that size where it is known, cannot be used."""
    for marking in markings:
        if marking.fault is not None:
            return marking.fault
        if None not in (marking.size, size) and marking.size != size:
            return "annotated at another size"
        for mark in marking.marks:
            if mark.corners is None:
                return "not a box"
            reason = check_box(box_of(mark.corners), size or marking.size)
            if reason is not None:
                return reason
    return LEAK if len(_parts(markings)) > 1 else None


def _shown(path: Path) -> tuple[tuple[int, int] | None, Reason | None, str]:
    """The size of an image, and why it cannot be used, in words where more is known than the
    reason; of another file they are told later.
    """
    if kind_of(path) in (Kind.DICOM, Kind.VIDEO):
        return None, None, ""
    try:
        size = shown_size(path)
    except BadInput as error:
        return None, "unreadable", str(error)
    return size, "too small" if min(size) < MIN_PICTURE else None, ""


def _contents(paths: Sequence[Path]) -> dict[Path, str]:
    """By file the same word for the same bytes; only files of one size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        by_size[path.stat().st_size].append(path)
    contents = {}
    for several in by_size.values():
        places = {os.path.realpath(path) for path in several}
        for path in several:
            contents[path] = os.path.realpath(path) if len(places) == 1 else _digest(path)
    return contents


def _digest(path: Path) -> str:
    """The SHA-256 of a file's bytes; of one that cannot be read, its place."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return os.path.realpath(path)


def _groups(
    markings: Sequence[Marking], contents: dict[Path, str], data: Path
) -> tuple[dict[Path, str], int]:
    """The group of each file, those that share a picture joined; and how many are of none.

    A joined group has the smallest of the names.
    """
    root = data if data.is_dir() else data.parent
    patients = {path: patient_of(path) for path in contents}
    named = {path: patients[path] or os.path.relpath(path, root) for path in contents}
    links = []
    first: dict[str, str] = {}
    stated = {path for path, patient in patients.items() if patient is not None}
    for marking in markings:
        if marking.group is not None:
            stated.add(marking.path)
        group = marking.group or named[marking.path]
        links.append((group, first.setdefault(contents[marking.path], group)))
    names = joined_names(links)
    groups = {path: names[first[contents[path]]] for path in contents}
    return groups, len(contents) - len(stated)
