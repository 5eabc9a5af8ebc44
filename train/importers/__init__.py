"""Labelled images from the layouts in which they lie on people's disks, one file a layout."""

import os
from collections import Counter
from pathlib import Path

from devices import BadInput, Box
from train.importers.class_folders import read_class_folders
from train.importers.ddti import read_ddti
from train.importers.table import read_csv
from train.importers.voc import read_voc
from train.samples import Collection, Task

MANIFEST = "manifest.csv"


def read_samples(data: Path, task: Task) -> Collection:
    """Reads the samples of `data`: a CSV file or a folder.

    A folder is read by its `manifest.csv` where it has one, else as Pascal VOC (`Annotations/`
    and `JPEGImages/`), else as DDTI (a `.xml` for each case), else as one folder a class. What has
    no label, or cannot be read, is dropped with its reason. Raises BadInput where no sample is
    found, or where a label is written that is no class.
    """
    if data.is_file():
        found = read_csv(data, task)
    elif (data / MANIFEST).is_file():
        found = read_csv(data / MANIFEST, task)
    elif (data / "Annotations").is_dir():
        found = read_voc(data, task)
    elif any(data.glob("*.xml")):
        found = read_ddti(data, task)
    elif data.is_dir():
        found = read_class_folders(data, task)
    else:
        raise BadInput(f"{data}: no such file or folder")
    _refuse_doubtful_names(found)
    if not found.samples and found.dropped:
        reasons = Counter(its.reason for its in found.dropped).items()
        counts = ", ".join(f"{reason}: {count}" for reason, count in reasons)
        raise BadInput(f"{data}: no labelled images; all were dropped ({counts})")
    if not found.samples:
        raise BadInput(
            f"{data}: no labelled images; expected a CSV with path,label, a Pascal VOC folder, "
            f"a DDTI folder, or the folders {' and '.join(task.labels)}"
        )
    return found


def _refuse_doubtful_names(found: Collection) -> None:
    """Raises BadInput where a sample is listed twice or a name cannot be written down."""
    paths = [str(sample.path) for sample in found.samples] + [its.path for its in found.dropped]
    for path in paths:
        if not path.isprintable():
            raise BadInput(f"{path!r}: rename it, its name is not plain UTF-8")
    seen: set[tuple[str, int, Box | None]] = set()
    for sample in found.samples:
        entry = (os.path.normpath(sample.path), sample.frame, sample.box)
        if entry in seen:
            raise BadInput(f"{sample.path}: listed twice")
        seen.add(entry)
