"""Boxes of nodules from the layouts of annotation tools, one file a layout.

Each importer tells what an annotation says (`marking`); `merge` makes pictures of it, in the same
way for all.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from devices import BadInput
from devices.capture.kinds import IMAGES as IMAGE_SUFFIXES
from devices.capture.kinds import Kind, kind_of
from devices.capture.listing import list_files
from train.importers.boxes.clips import read_clips
from train.importers.boxes.coco import read_coco
from train.importers.boxes.cvat import read_cvat
from train.importers.boxes.ddti import read_ddti_boxes
from train.importers.boxes.files import read_entries, read_root
from train.importers.boxes.labelme import read_labelme
from train.importers.boxes.marking import Found
from train.importers.boxes.masks import find_masks, read_masks
from train.importers.boxes.merge import merge
from train.importers.boxes.table import read_table_boxes
from train.importers.boxes.voc import read_voc_boxes
from train.importers.boxes.yolo import LABELS, SUFFIXES, is_yaml_of_yolo, read_yolo
from train.importers.columns import COLUMNS
from train.importers.rows import first_line_of
from train.marked import MarkedCollection

MANIFEST = "manifest.csv"
ANNOTATIONS = frozenset({"annotations", "annotation", "labels", "json"})
"""Folders that hold annotations alone, in small letters: the pictures lie beside them."""


def read_marked(data: Path, classes: Collection[str] | None = None) -> MarkedCollection:
    """Reads the marked pictures of `data`: an annotation file or a folder.

    A folder is read by its `manifest.csv` where it has one, by its table of clips, or by its
    `data.yaml`; else by what its XML or JSON files are: CVAT, Pascal VOC, DDTI, COCO or LabelMe;
    else as YOLO's `images` and `labels`; else by its masks. Of `classes`, where they are given,
    only their boxes count; else whatever is marked is a nodule.

    A picture with a box is one that shows a nodule there; one without is known to show none. What
    cannot be used is dropped with its reason. Raises BadInput where no box is found, for a table
    with a line that cannot be read, and as `train.importers.boxes.merge` does.
    """
    found, root = _read(data)
    return merge(found, root, classes)


def _read(data: Path) -> tuple[Found, Path]:
    """What is found, and the folder in which the pictures lie."""
    if data.is_file():
        return _read_file(data)
    if not data.is_dir():
        raise BadInput(f"{data}: no such file or folder")
    if (data / MANIFEST).is_file():
        return _read_table(data / MANIFEST), data
    listed = list_files(data, recursive=True)
    here = [path for path in listed if path.parent == data]
    tables = [path for path in here if path.suffix.lower() == ".csv" and _is_of_clips(path)]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise BadInput(f"{data}: {len(tables)} tables of clips ({names}); name the one to read")
    if tables:
        return read_clips(tables[0]), data
    yamls = [path for path in here if path.suffix.lower() in SUFFIXES and is_yaml_of_yolo(path)]
    if yamls:
        return read_yolo(min(yamls, key=lambda path: path.stem != "data"), data), data
    for suffix in KINDS:
        files = [path for path in listed if path.suffix.lower() == suffix]
        if files and (found := _read_annotations(suffix, files, data, listed)) is not None:
            return found, data
    if _holds_yolo(data, listed):
        return read_yolo(data, data), data
    pictures = [path for path in listed if kind_of(path) in (Kind.IMAGE, Kind.DICOM)]
    if find_masks(pictures, data):
        return read_masks(data, listed), data
    raise BadInput(
        f"{data}: no boxes found; expected COCO, YOLO, Pascal VOC, LabelMe, CVAT or DDTI, masks "
        f"beside the pictures, a {MANIFEST} with path,xmin,ymin,xmax,ymax, or videos with a table "
        "clip,frame,xmin,ymin,xmax,ymax"
    )


def _read_file(path: Path) -> tuple[Found, Path]:
    """What is found by one annotation file, and the folder in which its pictures lie."""
    suffix, folder = path.suffix.lower(), path.parent
    if suffix == ".csv":
        return _read_table(path), folder
    root = folder.parent if folder.name.casefold() in ANNOTATIONS else folder
    if suffix in SUFFIXES:
        return read_yolo(path, root), root
    found = None
    if suffix in KINDS:
        found = _read_annotations(suffix, [path], root, list_files(root, recursive=True))
    if found is None:
        raise BadInput(
            f"{path}: no annotation that is known; expected JSON (COCO, LabelMe), XML (CVAT, "
            "Pascal VOC, DDTI), a data.yaml of YOLO or a table in CSV"
        )
    return found, root


def _read_table(path: Path) -> Found:
    return read_clips(path) if _is_of_clips(path) else read_table_boxes(path)


def _is_of_clips(path: Path) -> bool:
    return first_line_of(path, ("clip", *COLUMNS)) >= {"clip", "frame"}


def _read_annotations(
    suffix: str, files: Sequence[Path], root: Path, listed: Sequence[Path]
) -> Found | None:
    """What is found by files of one suffix, by the kind of the first that has one.

    None where none has. Raises BadInput where none has, and one cannot be read.
    """
    kinds = {path: KINDS[suffix](path) for path in files}
    kind = next((kind for kind in kinds.values() if kind not in (None, BROKEN)), None)
    if kind is None:
        if broken := [path for path, own in kinds.items() if own == BROKEN]:
            raise BadInput(f"{broken[0]}: truncated, not {suffix[1:].upper()}, or nested too deep")
        return None
    if suffix == ".json":  # many a tool leaves files of its own there
        files = [path for path, own in kinds.items() if own in (kind, BROKEN)]
    match kind:
        case "annotations":
            return read_cvat(files, root, listed)
        case "annotation":
            return read_voc_boxes(root, files, listed)
        case "case":
            return read_ddti_boxes(files, root, listed)
        case "COCO":
            return read_coco(files, root, listed)
        case _:
            return read_labelme(files, root, listed)


BROKEN = "broken"


def _kind_of_xml(path: Path) -> str | None:
    """The root of an XML file that may hold boxes; None for another."""
    root = read_root(path)
    if root is None:
        return BROKEN
    return root.tag if root.tag in ("annotations", "annotation", "case") else None


class _Entries(msgspec.Struct):
    """What tells COCO from LabelMe, and both from other JSON."""

    images: Any = None
    annotations: Any = None
    shapes: Any = None


def _kind_of_json(path: Path) -> str | None:
    entries = read_entries(path, _Entries)
    if entries is None:
        return BROKEN if read_entries(path, list[Any]) is None else None
    if isinstance(entries.images, list) and isinstance(entries.annotations, list):
        return "COCO"
    return "LabelMe" if isinstance(entries.shapes, list) else None


KINDS: dict[str, Callable[[Path], str | None]] = {".xml": _kind_of_xml, ".json": _kind_of_json}
"""By the suffix of annotation files, in the order in which they are looked for."""


def _holds_yolo(folder: Path, listed: Sequence[Path]) -> bool:
    """Whether there is a folder `labels` with text files, or a text file beside its picture."""
    texts = [path for path in listed if path.suffix.lower() == ".txt"]
    if any(LABELS in path.relative_to(folder).parts[:-1] for path in texts):
        return True
    stems = {path.with_suffix("") for path in listed if path.suffix.lower() in IMAGE_SUFFIXES}
    return any(path.with_suffix("") in stems for path in texts)
