"""The run of a locator: the folder that its training leaves, enough to convert it."""

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import keras
from msgspec import Meta

from devices import BadInput, Box
from devices.regular_file import MAX_MODEL, MAX_TABLE, read_regular
from devices.schema_io import read_json, write_json
from edge_runtime.bundle.policies import TrackingPolicy
from edge_runtime.files import whole_folder
from train.arguments import require_bounded
from train.locator.dataset import LocatorPicture
from train.locator.metrics import ClipFigures, Figure
from train.locator.network import NearestUpSampling
from train.locator.recipe import LocatorRecipe
from train.marked import MarkedPicture
from train.resume import refuse_more_than
from train.samples import PARTS, Part

SCHEMA: Literal[1] = 1
FILES = ("model.keras", "run.json", "split.csv", "report.html")
COLUMNS = ("path", "frame", "xmin", "ymin", "xmax", "ymax", "group", "split")


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the history: the mean losses since the line before."""

    step: int
    score_loss: float
    sides_loss: float
    seconds: float
    """That these steps took."""


@dataclass(frozen=True, slots=True)
class LocatorRecord:
    """The whole of `run.json` of a locator."""

    kind: Literal["locator"]
    schema: Literal[1]
    recipe_name: str
    recipe: LocatorRecipe
    seed: Annotated[int, Meta(ge=0)]
    software: dict[str, str]
    data: tuple[str, ...]
    """The data sets, by name."""
    root: str
    """The folder that the paths of `split.csv` begin at."""
    split_sha256: str
    counts: dict[Part, dict[str, int]]
    """Pictures, boxes, empty pictures and groups of each part."""
    dropped: dict[str, int]
    history: tuple[Step, ...]
    tracking: TrackingPolicy
    """With the scores that were chosen on the validation clips."""
    metrics: dict[Part, dict[str, Figure]]
    clips: dict[Part, ClipFigures]
    """Of the moving pictures, after tracking."""
    model_sha256: str
    started_from: str | None = None
    """SHA-256 of the model of the run whose weights it began with."""
    interrupted: bool = False
    """Whether somebody stopped it before the steps of its recipe."""

    @property
    def scores_are(self) -> str:
        """Where the scores of the tracks come from, in words."""
        clips, most = self.clips.get("validation"), self.recipe.false_frames
        if clips is None:
            return "those of the recipe, as there are no validation clips to choose them on"
        if clips.false is None:
            return "chosen on validation clips, none of which has an empty frame"
        if clips.false > most:
            return (
                f"chosen on validation clips, where {clips.false:.1%} of the empty frames have a "
                f"box: no scores keep them to {most:.0%}"
            )
        return (
            f"chosen on validation clips so that at most {most:.0%} of the empty frames have a box"
        )


@dataclass(frozen=True)
class LocatorRun:
    """A run that has been read back."""

    folder: Path
    record: LocatorRecord
    model: keras.Model
    pictures: tuple[MarkedPicture, ...]

    def of(self, part: Part) -> list[MarkedPicture]:
        """The pictures of one part, in their order."""
        return [picture for picture in self.pictures if picture.part == part]


def split_rows(pictures: Sequence[LocatorPicture], root: Path) -> str:
    """`split.csv`: a row a box, and a row without a box for an empty picture."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for picture in pictures:
        marked = picture.marked
        path = os.path.relpath(marked.path, root)
        for box in marked.boxes or (None,):
            corners = ("",) * 4 if box is None else (box.x, box.y, box.x + box.w, box.y + box.h)
            table.writerow((path, marked.frame, *corners, marked.group, picture.part))
    return text.getvalue()


def count(pictures: Sequence[LocatorPicture]) -> dict[Part, dict[str, int]]:
    """How much each part holds."""
    counts: dict[Part, dict[str, int]] = {}
    for part in PARTS:
        own = [picture.marked for picture in pictures if picture.part == part]
        counts[part] = {
            "pictures": len(own),
            "boxes": sum(len(marked.boxes) for marked in own),
            "empty": sum(not marked.boxes for marked in own),
            "groups": len({marked.group for marked in own}),
        }
    return counts


def write_locator_run(
    out: Path, record: LocatorRecord, model: keras.Model, split: str, report: str
) -> LocatorRecord:
    """Writes the run as a whole, or not at all."""
    with whole_folder(out) as part:
        model.save(part / "model.keras")
        digest = hashlib.sha256((part / "model.keras").read_bytes()).hexdigest()
        record = LocatorRecord(
            **{
                name: getattr(record, name)
                for name in LocatorRecord.__dataclass_fields__
                if name != "model_sha256"
            },
            model_sha256=digest,
        )
        (part / "split.csv").write_text(split)
        (part / "run.json").write_bytes(write_json(record))
        (part / "report.html").write_text(report)
    return record


def read_locator_run(folder: Path, data: Path | None = None) -> LocatorRun:
    """Reads a run; `data` is where its pictures lie now, if they were moved.

    Raises BadInput where the folder is no run of a locator, or where its model or its split is
    another one.
    """
    try:
        content = read_regular(folder / "run.json")
        model = read_regular(folder / "model.keras", MAX_MODEL)
        split = read_regular(folder / "split.csv", MAX_TABLE)
    except OSError as error:
        raise BadInput(f"{folder}: not the run of a locator: {error.strerror}") from error
    record = read_json(content, LocatorRecord, str(folder / "run.json"))
    if hashlib.sha256(model).hexdigest() != record.model_sha256:
        raise BadInput(f"{folder / 'model.keras'}: not the model of this run")
    if hashlib.sha256(split).hexdigest() != record.split_sha256:
        raise BadInput(f"{folder / 'split.csv'}: not the split of this run")
    require_bounded(folder / "model.keras")
    pictures = merge_rows(read_split(folder / "split.csv"), data or Path(record.root))
    try:
        network = keras.saving.load_model(
            folder / "model.keras",
            custom_objects={NearestUpSampling.__name__: NearestUpSampling},
            compile=False,
            safe_mode=True,
        )
    except Exception as error:  # Keras raises whatever a damaged file leads it to
        raise BadInput(f"{folder / 'model.keras'}: not a Keras model that can be read") from error
    return LocatorRun(folder, record, network, pictures)


def refuse_strangers(folder: Path) -> None:
    """Raises BadInput where `folder` is no run that was broken off, or holds more than its files:
    what is there is about to be replaced.
    """
    refuse_more_than(folder, read_locator_run(folder).record.interrupted, FILES)


def read_split(table: Path) -> list[dict[str, str]]:
    """The rows of `split.csv`. Raises BadInput where they are not of that table."""
    try:
        lines = io.StringIO(read_regular(table, MAX_TABLE).decode(), newline="")
        reader = csv.DictReader(lines)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError("other columns")
        rows = list(reader)
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row of another length")
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{table}: not the split of a locator") from error
    return rows


def merge_rows(rows: Sequence[dict[str, str]], root: Path) -> tuple[MarkedPicture, ...]:
    """One picture of all rows of a path and a frame."""
    boxes: dict[tuple[str, int, str, str], list[Box]] = {}
    for row in rows:
        try:
            key = (row["path"], int(row["frame"]), row["group"], row["split"])
            held = boxes.setdefault(key, [])
            if row["xmin"]:
                left, top, right, bottom = (int(row[name]) for name in COLUMNS[2:6])
                held.append(Box(left, top, right - left, bottom - top))
        except ValueError as error:
            raise BadInput(f"split.csv: {row['path']}: {error}") from error
    return tuple(
        MarkedPicture(root / path, tuple(held), group, frame, part)  # type: ignore[arg-type]
        for (path, frame, group, part), held in boxes.items()
    )
