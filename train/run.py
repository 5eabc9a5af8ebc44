"""A run: the folder that a training leaves, enough to convert it and to train it again."""

import csv
import hashlib
import io
import json
import math
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Annotated, Literal

import keras
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from devices import BadInput
from devices.packed_arrays import unpack_arrays
from devices.regular_file import MAX_TABLE, read_regular
from devices.schema_io import read_json, write_json
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.manifest import Name
from edge_runtime.bundle.scope import Scope, read_scope, write_scope
from edge_runtime.files import whole_folder
from train.arguments import require_bounded, require_run
from train.decision_rule import DecisionRule, Probability
from train.duplicates import Pair
from train.importers.table import read_csv
from train.learner import Epoch
from train.loading import Loaded
from train.metrics import Labels, Metrics, PartialMetrics, as_labels
from train.recipe import Recipe
from train.resume import refuse_more_than
from train.samples import PARTS, Part
from train.split import Split, csv_text, split_csv

SCHEMA = 4
HEADER_BYTES = 4096
"""Of a file of arrays, beside the arrays."""


@dataclass(frozen=True, slots=True)
class Data:
    """What was trained on."""

    name: str
    path: str
    """Where the images lay; `sonolite convert --data` says where they lie now."""
    sha256: str
    """Over the table of samples and the prepared pictures, in order."""
    split_sha256: str
    groups: int
    counts: dict[Part, dict[str, int]]
    """Images by split, then by label."""
    dropped: dict[str, int]
    """Images that could not be used, by reason."""
    duplicates: int
    """Pairs of equal or nearly equal images, each pulled into one group."""
    boxed: dict[Part, int]
    """Images by split whose nodule is marked with a box."""
    grouped: bool = True
    """Whether it was told which images are of one patient, case or sweep."""

    def __post_init__(self) -> None:
        if set(self.counts) != set(PARTS) or set(self.boxed) != set(PARTS):
            raise ValueError(f"counts are of {', '.join(PARTS)}")


@dataclass(frozen=True, slots=True)
class Record:
    """The whole of `run.json`."""

    schema: int
    recipe_name: str
    recipe: Recipe
    seed: Annotated[int, Meta(ge=0)]
    held_out: str | None
    """The scanner whose images alone are tested, or all but whose, as in `!718x500`."""
    software: dict[str, str]
    data: Data
    history: tuple[Epoch, ...]
    interrupted: bool
    """Whether the user stopped it before its last epoch."""
    best_epoch: int
    temperature: float
    thresholds: dict[Name, Annotated[float, Meta(ge=0, le=1)]]
    """By label: of two the positive one's alone, of more each; see `train.decision_rule`."""
    metrics: dict[Part, Metrics]
    subgroups: dict[str, dict[str, PartialMetrics]]
    """Of the test split, by what an image tells besides its label; and, as `box`, of all its images
    with boxes drawn otherwise."""
    model_sha256: str
    """Of `model.keras`, so that no other model is taken for this run's."""
    teachers: tuple[Epoch, ...] = ()
    """The last epoch of each network that this one learnt from; none without distillation."""
    parted: int = 0
    """Groups with images on both sides of `held_out`, each of which was parted by scanner."""
    withheld: float | None = None
    """The share of the test images out of scope; None of a model without a scope."""
    others: dict[str, int] = field(default_factory=dict)
    """Auxiliary pictures that the scope was fitted with, by the folder that they lay in."""

    def __post_init__(self) -> None:
        if set(self.metrics) != set(PARTS):
            raise ValueError(f"metrics are of {', '.join(PARTS)}")
        labels = self.recipe.task.labels
        if {*self.thresholds} != {*(labels if len(labels) > 2 else labels[-1:])}:
            raise ValueError("thresholds are of each label, or of the positive one of two")

    @property
    def rule(self) -> DecisionRule:
        """How its probabilities become labels."""
        return DecisionRule(self.recipe.task.labels, self.thresholds)

    @property
    def learnt(self) -> Literal["boxes", "pictures"]:
        """Boxes where the preprocessing crops, and more than half of what was learnt had a box."""
        crops = preprocess.parse(self.recipe.preprocessing).crops
        images = sum(self.data.counts["train"].values())
        return "boxes" if crops and 2 * self.data.boxed["train"] > images else "pictures"

    @property
    def seconds(self) -> float:
        """Of all its epochs and those of its teachers, each of which counts as its last."""
        return sum(epoch.seconds for epoch in self.history) + sum(
            teacher.epoch * teacher.seconds for teacher in self.teachers
        )


@dataclass(frozen=True)
class Run:
    """A run that has been read back."""

    folder: Path
    record: Record
    model: keras.Model
    split: Split
    scope: Scope | None
    outliers: NDArray[np.uint8]
    """The auxiliary pictures that the scope was fitted with, ``[N, side, side, 1]``; N may be 0."""


def prevalence(data: Data) -> dict[str, float]:
    """The share of each label in the images that a model learnt from and was calibrated on."""
    counts = [data.counts[part] for part in ("train", "validation")]
    labels = sorted({label for count in counts for label in count})
    images = {label: sum(count.get(label, 0) for count in counts) for label in labels}
    total = sum(images.values())
    return {label: count / total for label, count in images.items()}


def software() -> dict[str, str]:
    """The versions that decide a model's numbers, and the commit where it is known."""
    names = ("sonolite", "tensorflow", "keras", "numpy", "opencv-python-headless")
    versions = {"python": python_version()} | {name: version(name) for name in names}
    return versions | ({"commit": revision} if (revision := commit(Path(__file__))) else {})


def commit(file: Path) -> str | None:
    """The git commit that `file` is of, with `-dirty` where the tree was changed since.

    None where git does not know the file: it was installed from a wheel, or there is no git.
    """
    git = ["git", "-C", str(file.parent)]
    words = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        # An environment may lie in the tree of another project, which does not hold its files.
        listed = [*git, "ls-files", "--error-unmatch", file.name]
        subprocess.run(listed, check=True, capture_output=True)  # noqa: S603
        described = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603
        return described.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def data_sha256(split: Split, root: Path, pictures: Mapping[Part, NDArray[np.uint8]]) -> str:
    """Hashes what the network saw: each sample's entries, and its prepared pixels."""
    digest = hashlib.sha256()
    for part in PARTS:
        for sample, picture in zip(split.of(part), pictures[part], strict=True):
            line = [os.path.relpath(sample.path, root), sample.label, sample.group]
            digest.update(json.dumps([*line, sample.frame, sample.box]).encode())
            digest.update(picture.tobytes())
    return digest.hexdigest()


def describe_data(
    name: str,
    root: Path,
    split: Split,
    pictures: Mapping[Part, NDArray[np.uint8]],
    loaded: Loaded,
    pairs: Sequence[Pair],
    grouped: bool,
) -> Data:
    """What a run says of its data; `root` is the folder that the images' paths start from."""
    counts: dict[Part, dict[str, int]] = {}
    for part in PARTS:
        labels = [sample.label for sample in split.of(part)]
        counts[part] = {label: labels.count(label) for label in sorted(set(labels))}
    return Data(
        name=name,
        path=str(root),
        sha256=data_sha256(split, root, pictures),
        split_sha256=hashlib.sha256(split_csv(split, root).encode()).hexdigest(),
        groups=len({sample.group for sample in split.samples}),
        counts=counts,
        dropped=loaded.reasons,
        duplicates=len(pairs),
        boxed={part: sum(sample.box is not None for sample in split.of(part)) for part in PARTS},
        grouped=grouped,
    )


def write_run(
    folder: Path,
    record: Record,
    split: Split,
    model: keras.Model,
    scope: Scope | None,
    outliers: NDArray[np.uint8] | None,
    answers: Mapping[Part, Probability],
    report: str,
    logs: Path,
) -> Record:
    """Writes all files of a run, or none: those of `FILES`, `scope.npz` only with a scope, and
    `outliers.npz` only with `outliers`, the auxiliary pictures uint8 ``[N, side, side, 1]``: each
    conversion fits the scopes of its variants with them.

    `answers` are the probabilities of each class, in the order of the split's samples;
    `report` is the text of `report.html`, `logs` the folder of the learning curves.
    Raises BadInput where the folder exists already or cannot be written.
    """
    with whole_folder(folder) as part:
        model.save(part / "model.keras")
        record = replace(record, model_sha256=_sha256(part / "model.keras"))
        (part / "run.json").write_bytes(write_json(record))
        (part / "split.csv").write_text(split_csv(split, Path(record.data.path)), "utf-8")
        (part / "answers.csv").write_text(_answers_csv(split, record, answers), "utf-8")
        if scope is not None:
            (part / "scope.npz").write_bytes(write_scope(scope))
        if outliers is not None:
            np.savez_compressed(part / "outliers.npz", pictures=outliers)
        (part / "report.html").write_text(report, "utf-8")
        shutil.copytree(logs, part / "logs")
    return record


FILES = frozenset(
    {
        *("run.json", "split.csv", "answers.csv", "model.keras", "scope.npz", "outliers.npz"),
        *("report.html", "logs"),
    }
)


def refuse_strangers(folder: Path) -> None:
    """Raises BadInput where `folder` is no run that was broken off, or holds more than its files:
    what is there is about to be replaced.
    """
    refuse_more_than(folder, read_record(folder).interrupted, FILES)


def probability_columns(classes: Sequence[str]) -> list[str]:
    """The columns of `answers.csv` with the probabilities: of two classes the positive one's."""
    return ["probability"] if len(classes) == 2 else [f"probability {label}" for label in classes]


def _answers_csv(split: Split, record: Record, answers: Mapping[Part, Probability]) -> str:
    """What the model answered to every image, for whoever wants to measure it again."""
    columns = probability_columns(record.recipe.task.labels)
    rows: list[Sequence[object]] = [("path", "frame", "split", "group", "label", *columns)]
    for part in PARTS:
        for sample, answer in zip(split.of(part), answers[part], strict=True):
            name = os.path.relpath(sample.path, record.data.path)
            shown = [f"{score:.9g}" for score in answer[-len(columns) :]]
            rows.append((name, sample.frame, part, sample.group, sample.label, *shown))
    return csv_text(rows)


@dataclass(frozen=True)
class Answered:
    """What a run's model answered to its test images."""

    labels: Labels
    probability: Probability
    groups: tuple[str, ...]


def read_test_answers(folder: Path, classes: Sequence[str]) -> Answered:
    """Reads back `answers.csv` of a run. Raises BadInput where it is missing or damaged."""
    path, columns = folder / "answers.csv", probability_columns(classes)
    try:
        lines = io.StringIO(read_regular(path, MAX_TABLE).decode(), newline="")
        rows = [row for row in csv.DictReader(lines) if row["split"] == "test"]
        shares = np.array([[float(row[column]) for column in columns] for row in rows])
        if not all(row["label"] in classes and row["group"] is not None for row in rows):
            raise ValueError("no class")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise BadInput(f"{path}: not the answers of this run") from error
    if not rows:
        raise BadInput(f"{path}: no answers to test images")
    return Answered(
        as_labels([row["label"] for row in rows], classes),
        np.concatenate([1 - shares, shares], axis=1) if len(classes) == 2 else shares,
        tuple(row["group"] for row in rows),
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_run(folder: Path, data: Path | None = None) -> Run:
    """Reads a run back; `data` is where its images lie now, if not where they were.

    Raises BadInput where a file is missing, is damaged, or does not belong to the others.
    """
    record = read_record(folder)
    for name, promised in (
        ("split.csv", record.data.split_sha256),
        ("model.keras", record.model_sha256),
    ):
        if _sha256(folder / name) != promised:
            raise BadInput(f"{folder}: {name} is not the one of this run")
    require_bounded(folder / "model.keras")
    try:
        model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a damaged file leads it to
        raise BadInput(f"{folder / 'model.keras'}: not a Keras model that can be read") from error
    root = data or Path(record.data.path)
    split = _read_split(folder / "split.csv", root, record)
    scope = folder / "scope.npz"
    return Run(
        folder,
        record,
        model,
        split,
        read_scope(read_regular(scope)) if scope.exists() else None,
        _read_outliers(folder, record),
    )


def _read_outliers(folder: Path, record: Record) -> NDArray[np.uint8]:
    """Reads `outliers.npz` back. Raises BadInput where it is missing or not what was written."""
    side = preprocess.parse(record.recipe.preprocessing).side
    shape = (sum(record.others.values()), side, side, 1)
    if not record.others:
        return np.zeros(shape, np.uint8)
    path = folder / "outliers.npz"
    size = math.prod(shape)
    try:
        content = read_regular(path, size + HEADER_BYTES)
        pictures = unpack_arrays(content, size + HEADER_BYTES)["pictures"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: missing or damaged; the scope was fitted with it") from error
    if pictures.dtype != np.uint8 or pictures.shape != shape:
        raise BadInput(f"{path}: not the pictures of this run")
    return pictures


def read_record(folder: Path) -> Record:
    """Reads `run.json` alone. Raises BadInput where this is no run of this version."""
    require_run(folder)
    written = folder / "run.json"
    record = read_json(read_regular(written), Record, str(written))
    if record.schema != SCHEMA:
        raise BadInput(f"{folder}: a run of schema {record.schema}; this version reads {SCHEMA}")
    return record


def _read_split(path: Path, root: Path, record: Record) -> Split:
    """The split as it was written, its images looked for under `root`."""
    task = record.recipe.task
    samples = read_csv(path, task, root).samples
    parts = tuple(sample.part for sample in samples if sample.part is not None)
    if len(parts) < len(samples):
        raise BadInput(f"{path}: an image is of no split")
    return Split(samples, parts)
