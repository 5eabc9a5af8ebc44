"""Labelled images from the layouts in which they lie on people's disks, one file a layout.

`docs/own-data.md` shows each of them.
"""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from devices import BadInput, Box
from devices.capture.listing import list_files
from train.importers.class_folders import read_class_folders
from train.importers.ddti import read_ddti
from train.importers.paths import find_missing, refuse_unwritable
from train.importers.table import read_csv
from train.importers.voc import read_voc
from train.importers.xml import read_xml
from train.samples import AsWritten, Collection, Dropped, Naming

MANIFEST = "manifest.csv"


def read_samples(data: Path, task: Naming) -> Collection:
    """Reads the samples of `data`: a CSV file or a folder.

    A folder is read by its `manifest.csv` where it has one; else, where there are XML files, as
    Pascal VOC (`<annotation>`, in `Annotations/` or beside the pictures) or as DDTI (`<case>`);
    else as one folder a class. What has no label, is not there, or cannot be read, is dropped with
    its reason. Raises BadInput where no sample is found, where a label is written that is no class,
    or where more than `MAX_MISSING` of the images are not there.
    """
    collection = _read(data, task)
    _refuse_doubtful_names(collection)
    collection = _without_missing(collection, data)
    if not collection.samples and collection.dropped:
        reasons = Counter(entry.reason for entry in collection.dropped).items()
        counts = ", ".join(f"{reason}: {count}" for reason, count in reasons)
        raise BadInput(f"{data}: no labelled images; all were dropped ({counts})")
    if not collection.samples:
        raise BadInput(
            f"{data}: no labelled images; expected a CSV with path,label, a Pascal VOC folder, "
            f"a DDTI folder, or a folder for each class{task.examples}"
        )
    return collection


def class_names(data: Path) -> tuple[str, ...]:
    """The classes that `data` itself names, in the order of the alphabet, before a task is fixed.

    Of DDTI these are its TI-RADS grades. Raises BadInput as `read_samples` does, and where two
    names differ only in capitals or spaces.
    """
    names = sorted({sample.label for sample in read_samples(data, AsWritten()).samples})
    spellings: dict[str, str] = {}
    for name in names:
        other = spellings.setdefault("".join(name.casefold().split()), name)
        if other != name:
            raise BadInput(f"{data}: {other!r} and {name!r} differ only in spelling; use one")
    return tuple(names)


def _read(data: Path, task: Naming) -> Collection:
    if data.is_file():
        return read_csv(data, task)
    if not data.is_dir():
        raise BadInput(f"{data}: no such file or folder")
    if (data / MANIFEST).is_file():
        return read_csv(data / MANIFEST, task)
    annotations = [path for path in list_files(data, True) if path.suffix.lower() == ".xml"]
    roots = (read_xml(path) for path in annotations)
    kind = next((root.tag for root in roots if root is not None), None)
    if kind == "annotation" or (data / "Annotations").is_dir():
        return read_voc(data, task)
    if kind == "case" or any(path.parent == data for path in annotations):
        return read_ddti(data, task)
    return read_class_folders(data, task)


def _without_missing(collection: Collection, data: Path) -> Collection:
    """Drops the samples whose image is not there, before any is decoded.

    Raises BadInput where they are more than `MAX_MISSING` of the images.
    """
    missing = {*find_missing((sample.path for sample in collection.samples), data)}
    kept = tuple(sample for sample in collection.samples if sample.path not in missing)
    lost = tuple(
        Dropped(str(sample.path), "missing")
        for sample in collection.samples
        if sample.path in missing
    )
    return replace(collection, samples=kept, dropped=(*collection.dropped, *lost))


def _refuse_doubtful_names(collection: Collection) -> None:
    """Raises BadInput where a sample is listed twice or a name cannot be written down."""
    paths = [sample.path for sample in collection.samples]
    refuse_unwritable([*map(str, paths), *(entry.path for entry in collection.dropped)])
    seen: set[tuple[str, int, Box | None]] = set()
    for sample in collection.samples:
        entry = (os.path.normpath(sample.path), sample.frame, sample.box)
        if entry in seen:
            raise BadInput(f"{sample.path}: listed twice")
        seen.add(entry)
