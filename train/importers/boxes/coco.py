"""COCO: one JSON file for many pictures, as most annotation tools and hosts export it.

cocodataset.org/#format-data: `images` with an `id` and a `file_name`, `annotations` with an
`image_id` and a `bbox` of `x, y, width, height`, `categories` with a `name`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices import BadInput
from train.importers.boxes.files import Pictures, expected, part_of_path, read_entries
from train.importers.boxes.marking import (
    Corners,
    Found,
    Mark,
    Marking,
    around_flat,
    corners_of_sides,
    numbers,
)
from train.samples import Dropped, Reason, size_of

GROUPS = ("group", "patient", "patient_id", "case", "case_id", "study_id", "video_id")
"""Entries of an image that name whose it is, by rank; COCO itself has none."""
FOLDER = "images"


@dataclass(frozen=True, slots=True)
class Coco:
    """A file, as far as it is looked at."""

    images: list[Any]
    annotations: list[Any]
    categories: list[Any] = field(default_factory=list)


def read_coco(files: Sequence[Path], root: Path, listed: Sequence[Path]) -> Found:
    """The pictures of COCO files; `listed` are the files in `root` and its folders.

    A picture without an annotation shows no nodule. Of several files, such as
    `instances_train.json` and `instances_val.json`, the names or the folders are the split. A
    picture is dropped that has a crowd: it marks several nodules by one box. Raises BadInput where
    two images have one id.
    """
    pictures = Pictures(root, listed)
    found = Found("COCO")
    for file in files:
        entries = read_entries(file, Coco)
        if entries is None:
            found.dropped.append(Dropped(str(file), "unreadable"))
            continue
        _read(file, entries, pictures, found)
    return found


def _read(file: Path, entries: Coco, pictures: Pictures, found: Found) -> None:
    part = part_of_path(file, pictures.root)
    above = file.parent.parent if file.parent != pictures.root else file.parent
    folders = [file.parent, file.parent / FOLDER, above, above / FOLDER]
    last = file.stem.split("_")[-1]  # as train2017 of instances_train2017
    places = [*folders, *(folder / last for folder in folders)]
    names = {
        _key(entry.get("id")): str(entry.get("name") or "")
        for entry in entries.categories
        if isinstance(entry, dict)
    }
    annotations: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries.annotations:
        if isinstance(entry, dict) and "image_id" in entry:
            annotations[_key(entry["image_id"])].append(entry)
        else:
            found.dropped.append(Dropped(f"{file}: an annotation of no image", "unreadable"))
    ids = set[str]()
    for entry in entries.images:
        if not isinstance(entry, dict) or "id" not in entry:
            found.dropped.append(Dropped(f"{file}: an image without an id", "unreadable"))
            continue
        key, name = _key(entry["id"]), entry.get("file_name")
        if key in ids:
            raise BadInput(f"{file}: two images have the id {key}; boxes of one may be the other's")
        ids.add(key)
        if not isinstance(name, str) or not name:
            found.dropped.append(Dropped(f"{file}: image {key}", "missing"))
            continue
        own = annotations[key]
        found.markings.append(
            Marking(
                path=pictures.find(name, file, *places) or expected(name, file.parent),
                marks=tuple(_mark(one, names) for one in own),
                group=_group(entry),
                part=part,
                size=size_of(*(_word(entry.get(side)) for side in ("width", "height"))),
                fault=next(filter(None, map(_fault, own)), None),
            )
        )
    strays = annotations.keys() - ids
    found.dropped += [
        Dropped(f"{file}: annotations of image {key}", "missing") for key in sorted(strays)
    ]


def _mark(entry: dict[str, Any], names: dict[str, str]) -> Mark:
    category = _key(entry.get("category_id"))
    return Mark(_corners(entry), names.get(category, category))


def _corners(entry: dict[str, Any]) -> Corners | None:
    """The box, or the one around the outlines where there is none."""
    outlines = entry.get("segmentation")
    if entry.get("bbox") in (None, []) and isinstance(outlines, list):
        boxes = [around_flat(outline) for outline in map(numbers, outlines) if outline is not None]
        known = [box for box in boxes if box is not None]
        if not known or len(known) < len(outlines):
            return None
        lows = [min(box[side] for box in known) for side in (0, 1)]
        highs = [max(box[side] for box in known) for side in (2, 3)]
        return (lows[0], lows[1], highs[0], highs[1])
    return corners_of_sides(entry.get("bbox"))


def _fault(entry: dict[str, Any]) -> Reason | None:
    return "marks a crowd" if entry.get("iscrowd") in (1, True, "1") else None


def _group(entry: dict[str, Any]) -> str | None:
    words = (_word(entry.get(name)).strip() for name in GROUPS)
    return next(filter(None, words), None)


def _key(value: object) -> str:
    """An id for comparison: some files have numbers in one place and words in another."""
    return _word(value)


def _word(value: object) -> str:
    """A number or a word as a word; empty for anything else."""
    return str(value) if isinstance(value, int | float | str) else ""
