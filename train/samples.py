"""Labelled images, from the layouts in which they lie on people's disks.

A sample is one image with its label, the box of the nodule where it is known, and the group (a
patient, case or sweep) that must never stand on two sides of a split.
"""

import csv
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box
from devices.capture.image import SUFFIXES, read_image
from edge_runtime.manifest import Name
from edge_runtime.preprocess import Preprocessing

MANIFEST = "manifest.csv"
BOX_COLUMNS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Sample:
    """One labelled image."""

    path: Path
    label: str
    box: Box | None
    group: str


@dataclass(frozen=True)
class Task:
    """What is told apart. The last label is the positive class: sensitivity is its recall."""

    name: str
    labels: tuple[Name, ...]
    aliases: dict[str, Name]
    """Other spellings of a label that data sets use, such as `1` for `malignant`."""

    def __post_init__(self) -> None:
        if len(set(self.labels)) != 2 or len(self.labels) != 2:
            raise ValueError("a task has two labels, the positive one last")
        if stray := set(self.aliases.values()) - set(self.labels):
            raise ValueError(f"the alias for {min(stray)!r} names no label")

    def label(self, word: str, where: str) -> str:
        """The label that `word` stands for. Raises BadInput, naming `where` it was found."""
        label = self.aliases.get(word, word)
        if label not in self.labels:
            raise BadInput(f"{where}: {word!r} is no class; there are {', '.join(self.labels)}")
        return label


def read_samples(data: Path, task: Task) -> list[Sample]:
    """Reads the samples of `data`: a CSV file or a folder.

    A folder is read by its `manifest.csv` where it has one, else as Pascal VOC (`Annotations/`
    and `JPEGImages/`), else as one folder a class. Raises BadInput where nothing is found, where
    a label is no class, or where a class has no image.
    """
    if data.is_file():
        samples = read_csv(data, task)
    elif (data / MANIFEST).is_file():
        samples = read_csv(data / MANIFEST, task)
    elif (data / "Annotations").is_dir():
        samples = read_voc(data, task)
    elif data.is_dir():
        samples = read_class_folders(data, task)
    else:
        raise BadInput(f"{data}: no such file or folder")
    _refuse_doubtful_paths(samples)
    if not samples:
        raise BadInput(
            f"{data}: no labelled images; expected a CSV with path,label, a Pascal VOC folder, "
            f"or the folders {' and '.join(task.labels)}"
        )
    return samples


def _refuse_doubtful_paths(samples: Iterable[Sample]) -> None:
    """Raises BadInput where an image is listed twice or its name cannot be written down."""
    seen: set[str] = set()
    for sample in samples:
        path = os.path.normpath(sample.path)
        if not path.isprintable():
            raise BadInput(f"{path!r}: rename it, its name is not plain UTF-8")
        if path in seen:
            raise BadInput(f"{path}: listed twice")
        seen.add(path)


def require_both_classes(samples: Iterable[Sample], task: Task, where: str) -> None:
    """Raises BadInput where a class has no sample: nothing can be learnt or measured then."""
    counts = Counter(sample.label for sample in samples)
    for label in task.labels:
        if not counts[label]:
            raise BadInput(f"{where}: no image of class {label!r}; both classes are needed")


def read_csv(path: Path, task: Task) -> list[Sample]:
    """Samples from a table with the columns `path,label` and, where known, a box and a `group`.

    Paths are relative to the table. Without a group each image is a group of its own.
    """
    samples = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = set(table.fieldnames or ())
            if missing := {"path", "label"} - columns:
                raise BadInput(f"{path}: no column {min(missing)!r} in the first line")
            for row in table:
                where = f"{path}, line {table.line_num}"
                words = {name: (row.get(name) or "").strip() for name in columns}
                if not words["path"]:
                    raise BadInput(f"{where}: the path is empty")
                samples.append(
                    Sample(
                        path=path.parent / words["path"],
                        label=task.label(words["label"], where),
                        box=_box([words.get(name, "") for name in BOX_COLUMNS], where),
                        group=words.get("group") or words["path"],
                    )
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not a CSV file in UTF-8") from error
    return samples


def read_voc(folder: Path, task: Task) -> list[Sample]:
    """Samples from Pascal VOC's layout: the first object of each file in `Annotations/`.

    VOC knows no patients, so that each image is a group of its own; a `manifest.csv` with a
    `group` column is better wherever neighbouring images can be of one patient.
    """
    samples = []
    for file in sorted((folder / "Annotations").glob("*.xml")):
        try:
            root = ElementTree.parse(file).getroot()  # noqa: S314  expat refuses entity bombs
        except (ElementTree.ParseError, OSError) as error:
            raise BadInput(f"{file}: not a Pascal VOC annotation") from error
        marked = root.find("object")
        if marked is None:
            raise BadInput(f"{file}: no <object>, so no label")
        corners = [marked.findtext(f"bndbox/{name}") or "" for name in BOX_COLUMNS]
        image = folder / "JPEGImages" / (root.findtext("filename") or f"{file.stem}.jpg")
        if image.parent.resolve() != (folder / "JPEGImages").resolve():
            raise BadInput(f"{file}: the image lies outside JPEGImages")
        label = task.label((marked.findtext("name") or "").strip(), str(file))
        samples.append(Sample(image, label, _box(corners, str(file)), group=file.stem))
    return samples


def read_class_folders(folder: Path, task: Task) -> list[Sample]:
    """Samples from `CLASS/image` or `CLASS/PATIENT/image`; the patient's folder is the group."""
    samples = []
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        images = [path for path in sorted(child.rglob("*")) if path.suffix.lower() in SUFFIXES]
        label = task.label(child.name, str(folder)) if images else ""
        for image in images:
            inner = image.relative_to(child)
            alone = len(inner.parts) == 1
            group = f"{child.name}/{inner}" if alone else inner.parts[0]
            samples.append(Sample(image, label, None, group))
    return samples


def _box(corners: Sequence[str], where: str) -> Box | None:
    """The box between two corners in pixels; None where all four are empty."""
    if not any(corners):
        return None
    try:
        xmin, ymin, xmax, ymax = (round(float(corner)) for corner in corners)
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{where}: the box is not four numbers: {','.join(corners)}") from error
    if xmin < 0 or ymin < 0 or xmax <= xmin or ymax <= ymin:
        raise BadInput(f"{where}: not a box: {xmin},{ymin} to {xmax},{ymax}")
    return Box(xmin, ymin, xmax - xmin, ymax - ymin)


def load_pictures(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> NDArray[np.uint8]:
    """Returns uint8 ``[N, side, side, 1]``: each sample as the device would prepare it.

    Raises BadInput, naming the first image that cannot be read or whose box lies outside it.
    """
    side = preprocessing.side
    pictures = np.empty((len(samples), side, side, 1), dtype=np.uint8)
    for index, sample in enumerate(progress(samples)):
        try:
            pictures[index] = preprocessing(read_image(sample.path), sample.box)[0]
        except BadInput as error:
            if str(sample.path) in str(error):
                raise
            raise BadInput(f"{sample.path}: {error}") from error
    return pictures
