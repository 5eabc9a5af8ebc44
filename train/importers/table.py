"""Samples from a table, a CSV file."""

from collections.abc import Mapping
from pathlib import Path

from devices import BadInput
from devices.capture.dicom import is_dicom
from train.importers.columns import COLUMNS, SIZE_COLUMNS, columns_of
from train.importers.dicom import patient_of
from train.importers.paths import is_there
from train.importers.rows import Rows, read_rows
from train.samples import (
    BOX_COLUMNS,
    PART_WORDS,
    PARTS,
    Collection,
    Dropped,
    Naming,
    Part,
    Sample,
    box_between,
    size_of,
)


def read_csv(path: Path, task: Naming, root: Path | None = None) -> Collection:
    """Samples from a table with the columns `path,label` and, where known, a box and a `group`.

    Paths are relative to the table; backslashes in them are understood. A column `frame` picks one
    of a DICOM file, from 0. Without a group a DICOM file is of its patient, and each other image is
    a group of its own. A column `split` says what an image is for: train, validation or test. The
    columns `width` and `height` are those of the picture in which the box was drawn. A row without
    a label is dropped. With `root` the table is one that sonolite wrote: paths are relative to
    `root`, and each cell stands for itself, spaces and all.

    Raises BadInput, naming the line, for what cannot be read, and for columns as `columns_of` does.
    """
    table = read_rows(path, columns_of, COLUMNS, as_written=root is not None)
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    for entry in table.rows:
        line, row = entry.where, entry.cells
        if not row["path"]:
            raise BadInput(f"{line}: the path is empty")
        image = root / row["path"] if root is not None else image_of(path.parent, row["path"])
        if not row["label"]:
            dropped.append(Dropped(str(image), "no label"))
            continue
        samples.append(
            Sample(
                path=image,
                label=task.label(row["label"], line),
                box=box_between(box_words(row, table), line),
                group=row["group"] or patient_of(image) or row["path"],
                frame=_frame(row["frame"], image, line),
                part=part_of(row["split"], line),
                size=size_of(*(row[name] for name in SIZE_COLUMNS)),
            )
        )
    return Collection(tuple(samples), tuple(dropped), "table", table.notes)


def box_words(row: Mapping[str, str], table: Rows) -> list[str]:
    """The words for `xmin, ymin, xmax, ymax` in a row, with points in their numbers."""
    words = [row[name] for name in BOX_COLUMNS]
    return [word.replace(",", ".") for word in words] if table.comma_numbers else words


def image_of(folder: Path, name: str) -> Path:
    """The image that a table calls `name`; a backslash may be part of it, or stand between folders.

    `name` is tried as it is first.
    """
    image = folder / name
    if "\\" in name and not is_there(image):
        return folder / name.replace("\\", "/")
    return image


def frame_of(word: str, where: str) -> int:
    """A frame's number; 0 where none is given. Raises BadInput for what is no number."""
    if word and not (word.isascii() and word.isdecimal() and len(word) <= 9):
        raise BadInput(f"{where}: a frame is a whole number from 0, not {word!r}")
    return int(word or 0)


def _frame(word: str, image: Path, where: str) -> int:
    """A frame's number; 0 for a file that has no other."""
    frame = frame_of(word, where)
    if frame and not is_dicom(image):
        raise BadInput(f"{where}: frame {frame} of a file that is not DICOM")
    return frame


def part_of(word: str, where: str) -> Part | None:
    """The part that `word` stands for; None for none. Raises BadInput for another word."""
    if word.lower() not in PART_WORDS:
        raise BadInput(f"{where}: a split is {', '.join(PARTS)}, not {word!r}")
    return PART_WORDS[word.lower()]
