"""A run: the folder that a training leaves, enough to convert it and to train it again."""

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Annotated

import keras
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from devices import BadInput
from edge_runtime.atomic import whole_folder
from edge_runtime.manifest import explain
from train.fit import Epoch
from train.metrics import Metrics
from train.recipe import Recipe
from train.report import Answers, write_report
from train.samples import Sample, read_csv
from train.split import PARTS, Part, Split, split_csv

SCHEMA = 1


@dataclass(frozen=True)
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

    def __post_init__(self) -> None:
        if set(self.counts) != set(PARTS):
            raise ValueError(f"counts are of {', '.join(PARTS)}")


@dataclass(frozen=True)
class Record:
    """The whole of `run.json`."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    schema: int
    recipe_name: str
    recipe: Recipe
    seed: Annotated[int, Field(ge=0)]
    software: dict[str, str]
    data: Data
    history: tuple[Epoch, ...]
    best_epoch: int
    temperature: float
    threshold: Annotated[float, Field(ge=0, le=1)]
    metrics: dict[Part, Metrics]
    model_sha256: str
    """Of `model.keras`, so that no other model is taken for this run's."""

    def __post_init__(self) -> None:
        if set(self.metrics) != set(PARTS):
            raise ValueError(f"metrics are of {', '.join(PARTS)}")


@dataclass(frozen=True)
class Run:
    """A run that has been read back."""

    folder: Path
    record: Record
    model: keras.Model
    split: Split


_RECORD = TypeAdapter(Record)


def software() -> dict[str, str]:
    """The versions that decide a model's numbers."""
    names = ("sonolite", "tensorflow", "keras", "numpy", "opencv-python-headless")
    return {"python": python_version()} | {name: version(name) for name in names}


def data_sha256(samples: Sequence[Sample], root: Path, pictures: NDArray[np.uint8]) -> str:
    """Hashes what the network saw: each sample's name, label and group, and its prepared pixels."""
    digest = hashlib.sha256()
    for sample, picture in zip(samples, pictures, strict=True):
        line = [os.path.relpath(sample.path, root), sample.label, sample.group]
        digest.update(json.dumps(line).encode())
        digest.update(picture.tobytes())
    return digest.hexdigest()


def describe_data(name: str, root: Path, split: Split, pictures: NDArray[np.uint8]) -> Data:
    """What a run says of its data; `root` is the folder that the images' paths start from."""
    counts: dict[Part, dict[str, int]] = {}
    for part in PARTS:
        labels = [sample.label for sample in split.of(part)]
        counts[part] = {label: labels.count(label) for label in sorted(set(labels))}
    return Data(
        name=name,
        path=str(root),
        sha256=data_sha256(split.samples, root, pictures),
        split_sha256=hashlib.sha256(split_csv(split, root).encode()).hexdigest(),
        groups=len({sample.group for sample in split.samples}),
        counts=counts,
    )


def write_run(
    folder: Path, record: Record, split: Split, model: keras.Model, answers: Answers
) -> Record:
    """Writes `run.json`, `split.csv`, `model.keras` and `report.html`, all of them or none.

    `answers` holds, by part of the split, the labels and the positive class's probabilities.
    Raises BadInput where the folder exists already or cannot be written.
    """
    with whole_folder(folder) as part:
        model.save(part / "model.keras")
        record = replace(record, model_sha256=_sha256(part / "model.keras"))
        (part / "run.json").write_bytes(_RECORD.dump_json(record, indent=2) + b"\n")
        (part / "split.csv").write_text(split_csv(split, Path(record.data.path)), "utf-8")
        write_report(asdict(record), answers, part / "report.html")
    return record


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
    try:
        model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a damaged file leads it to
        raise BadInput(f"{folder / 'model.keras'}: not a Keras model that can be read") from error
    root = data or Path(record.data.path)
    return Run(folder, record, model, _read_split(folder / "split.csv", root, record))


def read_record(folder: Path) -> Record:
    """Reads `run.json` alone. Raises BadInput where this is no run of this version."""
    for name in ("run.json", "split.csv", "model.keras"):
        if not (folder / name).is_file():
            raise BadInput(f"{folder}: not a run, it has no {name}")
    try:
        record = _RECORD.validate_json((folder / "run.json").read_bytes())
    except ValidationError as error:
        raise BadInput(f"{folder / 'run.json'}: {explain(error)}") from error
    if record.schema != SCHEMA:
        raise BadInput(f"{folder}: a run of schema {record.schema}; this version reads {SCHEMA}")
    return record


def _read_split(path: Path, root: Path, record: Record) -> Split:
    """The split as it was written, its images looked for under `root`."""
    task = record.recipe.task
    samples = [
        Sample(root / sample.path.relative_to(path.parent), sample.label, sample.box, sample.group)
        for sample in read_csv(path, task)
    ]
    with open(path, newline="", encoding="utf-8") as file:
        parts = tuple(row.get("split") for row in csv.DictReader(file))
    try:
        return Split(tuple(samples), TypeAdapter(tuple[Part, ...]).validate_python(parts))
    except ValidationError as error:
        raise BadInput(f"{path}: a split is none of {', '.join(PARTS)}") from error
