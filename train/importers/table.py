"""Samples from a table, a CSV file."""

import csv
from pathlib import Path

from devices import BadInput
from devices.capture.dicom import is_dicom
from train.importers.dicom import patient_of
from train.samples import (
    BOX_COLUMNS,
    PARTS,
    Collection,
    Dropped,
    Part,
    Sample,
    Task,
    box_between,
)

PART_WORDS: dict[str, Part | None] = {"": None, "val": "validation"} | {its: its for its in PARTS}
"""What may stand in the column `split`."""


def read_csv(path: Path, task: Task) -> Collection:
    """Samples from a table with the columns `path,label` and, where known, a box and a `group`.

    Paths are relative to the table. A column `frame` picks one of a DICOM file, from 0. Without a
    group a DICOM file is of its patient, and each other image is a group of its own. A column
    `split` says what an image is for: train, validation or test. A row without a label is dropped.
    """
    samples, dropped = [], []
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
                image = path.parent / words["path"]
                if not words["label"]:
                    dropped.append(Dropped(str(image), "no label"))
                    continue
                samples.append(
                    Sample(
                        path=image,
                        label=task.label(words["label"], where),
                        box=box_between([words.get(name, "") for name in BOX_COLUMNS], where),
                        group=words.get("group") or patient_of(image) or words["path"],
                        frame=_frame(words.get("frame", ""), image, where),
                        part=_part(words.get("split", ""), where),
                    )
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not a CSV file in UTF-8") from error
    return Collection(tuple(samples), tuple(dropped))


def _frame(word: str, image: Path, where: str) -> int:
    """A frame's number; 0 where none is given, and for a file that has no other."""
    if word and not (word.isascii() and word.isdecimal() and len(word) <= 9):
        raise BadInput(f"{where}: a frame is a whole number from 0, not {word!r}")
    frame = int(word or 0)
    if frame and not is_dicom(image):
        raise BadInput(f"{where}: frame {frame} of a file that is not DICOM")
    return frame


def _part(word: str, where: str) -> Part | None:
    if word.lower() not in PART_WORDS:
        raise BadInput(f"{where}: a split is {', '.join(PARTS)}, not {word!r}")
    return PART_WORDS[word.lower()]
