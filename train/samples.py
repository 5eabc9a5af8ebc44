"""Labelled images: what a sample is, what a task tells apart, and which samples can be used.

A sample is one image with its label, the box of the nodule where it is known, and the group (a
patient, case or sweep) that must never stand on two sides of a split. `train.importers` reads them
from the layouts in which they lie on people's disks.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels
from devices.capture.dicom import is_dicom, read_frame, read_header
from devices.capture.image import read_image
from edge_runtime.bundle.manifest import Name
from edge_runtime.bundle.preprocess import Crop, Picture, Preprocessing

BOX_COLUMNS = ("xmin", "ymin", "xmax", "ymax")

MIN_PICTURE = 64
"""Pixels of the shorter side: a picture with fewer is a thumbnail."""
MIN_BOX = 8
"""Pixels of the longer side of a box: a nodule with fewer shows no texture."""

MAX_LABELS = 100

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
PART_WORDS: dict[str, Part | None] = {
    "": None,
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "testing": "test",
} | {part: part for part in PARTS}
"""What people call the parts, in small letters."""

Reason = Literal[
    "missing",
    "unreadable",
    "unknown kind of file",
    "mask",
    "too small",
    "no label",
    "no box",
    "marks a crowd",
    "not a box",
    "box outside the picture",
    "annotated at another size",
    "names another picture",
    "grade not mapped",
    "duplicate across the split",
]

LEAK: Reason = "duplicate across the split"


@dataclass(frozen=True)
class Sample:
    """One labelled image, or one frame of a moving one."""

    path: Path
    label: str
    box: Box | None
    group: str
    frame: int = 0
    """Counts the frames of a DICOM file from 0."""
    part: Part | None = None
    """What it is for, where the data's own table says so."""
    size: tuple[int, int] | None = None
    """Width and height of the picture that the box was drawn in, where the annotation says so."""


@dataclass(frozen=True)
class Dropped:
    """An image, or its annotation, that gave no sample."""

    path: str
    reason: Reason
    why: str = field(default="", compare=False)
    """What is wrong with it, in words, where more is known than the reason."""


def frame_name(path: Path, frame: int) -> str:
    """The file of a picture, and the frame in a moving one, counted from 0."""
    return f"{path}, frame {frame}" if frame else str(path)


def tell_dropped(dropped: Iterable[Dropped]) -> list[str]:
    """A line for each reason: how many were dropped for it, and the first of them."""
    by_reason: dict[Reason, list[Dropped]] = {}
    for entry in dropped:
        by_reason.setdefault(entry.reason, []).append(entry)
    return [
        f"{len(entries)} dropped: {reason}; the first: {entries[0].why or entries[0].path}"
        for reason, entries in by_reason.items()
    ]


@dataclass(frozen=True)
class Collection:
    """What was found in a data set."""

    samples: tuple[Sample, ...]
    dropped: tuple[Dropped, ...]
    layout: str = field(default="table", compare=False)
    """How the data lie on the disk, in words for a user."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What a user should know of how they were read."""

    @property
    def summary(self) -> str:
        """The layout that was recognised, and how much it holds, in one line."""
        classes = len({sample.label for sample in self.samples})
        images = len({(sample.path, sample.frame) for sample in self.samples})
        return f"{self.layout}, {classes} classes, {images} images"


@dataclass(frozen=True, slots=True)
class Task:
    """The classes that the model tells apart.

    With two labels the last is the positive class, and the sensitivity is the recall of this class.
    With more labels each class is told from all others.
    """

    name: str
    """The name of the task, in a few words."""
    labels: tuple[Name, ...]
    """The classes, 2 to 100; of two classes the last is the positive class."""
    aliases: dict[str, Name]
    """Other spellings of a label that data sets use, such as `1` for `malignant`."""
    tirads: dict[str, Name] = field(default_factory=dict)
    """The TI-RADS grades with their labels, such as `5` for `malignant`, if images are only graded.
    Images of other grades are not used."""

    def __post_init__(self) -> None:
        if not 2 <= len(set(self.labels)) == len(self.labels) <= MAX_LABELS:
            raise ValueError(
                f"a task has 2 to {MAX_LABELS} different labels, the positive one last"
            )
        if stray := set(self.aliases.values()) - set(self.labels):
            raise ValueError(f"the alias for {min(stray)!r} names no label")
        if stray := set(self.tirads.values()) - set(self.labels):
            raise ValueError(f"the TI-RADS grade for {min(stray)!r} names no label")

    def graded(self, tirads: dict[str, str]) -> "Task":
        """The same task with other labels for grades. Raises BadInput for a label not its own."""
        try:
            return replace(self, tirads=tirads)
        except ValueError as error:
            raise BadInput(str(error)) from error

    @property
    def examples(self) -> str:
        """The labels, for a sentence on folders of classes."""
        return f": {', '.join(self.labels)}"

    def knows(self, word: str) -> bool:
        """Whether `word` is a label or stands for one."""
        return word in self.labels or word in self.aliases

    def label(self, word: str, where: str) -> str:
        """The label that `word` stands for. Raises BadInput, naming `where` it was found."""
        label = self.aliases.get(word, word)
        if label not in self.labels:
            raise BadInput(f"{where}: {word!r} is no class; there are {', '.join(self.labels)}")
        return label


@dataclass(frozen=True, slots=True)
class AsWritten:
    """Takes each word for the label that it is: data are read so before a task is fixed."""

    examples = ""

    def knows(self, word: str) -> bool:  # noqa: ARG002
        """Whether a folder of this name is of a class though it holds no picture: never."""
        return False

    def label(self, word: str, where: str) -> str:  # noqa: ARG002
        """The word itself."""
        return word


Naming: TypeAlias = Task | AsWritten
"""What turns the words of a data set into labels."""


def size_of(width: str, height: str) -> tuple[int, int] | None:
    """The size in pixels of an annotated picture; None where none is stated: empty, or 0.

    Words that are no size are one that no picture has.
    """
    if not any(word.strip() for word in (width, height)):
        return None
    try:
        size = (round(float(width)), round(float(height)))
    except (ValueError, OverflowError):
        return (-1, -1)
    return None if size == (0, 0) else size


def box_between(corners: Sequence[str], where: str) -> Box | None:
    """The box between `xmin, ymin, xmax, ymax` in pixels; None where all four are empty.

    Whether it is one, and lies in its picture, `check` tells. Raises BadInput, naming `where` they
    were found, for what are not four numbers.
    """
    if not any(corners):
        return None
    try:
        xmin, ymin, xmax, ymax = (round(float(corner)) for corner in corners)
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{where}: the box is not four numbers: {','.join(corners)}") from error
    return Box(xmin, ymin, xmax - xmin, ymax - ymin)


def require_all_classes(samples: Iterable[Sample], task: Task, where: str) -> None:
    """Raises BadInput where a class has no sample: nothing can be learnt or measured then."""
    counts = Counter(sample.label for sample in samples)
    for label in task.labels:
        if not counts[label]:
            raise BadInput(f"{where}: no image of class {label!r}; every class is needed")


def read_pixels(sample: Sample) -> Pixels:
    """The picture of a sample: uint8 ``H x W``, or ``H x W x 3`` (BGR).

    A DICOM frame without a box is cut to its region, so that a scanner's text is not learnt.
    Raises BadInput where it cannot be read.
    """
    if not is_dicom(sample.path):
        return read_image(sample.path)
    pixels = read_frame(sample.path, sample.frame)
    if sample.box is not None:
        return pixels
    x, y, w, h = read_header(sample.path).region or (0, 0, *pixels.shape[1::-1])
    return pixels[y : y + h, x : x + w]


def check(pixels: Pixels, sample: Sample) -> Reason | None:
    """Why a sample cannot be used, judged by its pixels and its box; None where it can."""
    if min(pixels.shape[:2]) < MIN_PICTURE:
        return "too small"
    if shows_mask(pixels):
        return "mask"
    if sample.box is None:
        return None
    if sample.size is not None and sample.size != pixels.shape[1::-1]:
        return "annotated at another size"
    if min(sample.box.w, sample.box.h) < 1:
        return "not a box"
    if max(sample.box.w, sample.box.h) < MIN_BOX:
        return "too small"
    try:
        Crop(context=1)(Picture(pixels, sample.box))
    except BadInput:
        return "box outside the picture"
    return None


def shows_mask(pixels: Pixels) -> bool:
    """Whether a picture is black and white, and nothing between, as no ultrasound is."""
    black = pixels == 0
    return bool(np.all(black | (pixels == 255)) and not np.all(black) and np.any(black))


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
            pictures[index] = preprocessing(read_pixels(sample), sample.box)[0]
        except BadInput as error:
            if str(sample.path) in str(error):
                raise
            raise BadInput(f"{sample.path}: {error}") from error
    return pictures
