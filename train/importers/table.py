"""Samples from a table, a CSV file."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from devices import BadInput
from devices.capture.dicom import is_dicom
from train.importers.columns import COLUMNS, SIZE_COLUMNS, columns_of, trimmed
from train.importers.dicom import patient_of
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

DELIMITERS = ",;\t|"
"""Between the cells; a spreadsheet writes semicolons where the comma stands in numbers."""
DELIMITER_LINE = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)
"""What spreadsheets write above a table, for themselves."""


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
    text = _decoded(path)
    where, notes = str(path), []
    skipped = 0
    if written := DELIMITER_LINE.match(text):
        text, skipped = text[written.end() :], 1
    delimiter = written[1] if written else _delimiter(text)
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    try:
        table = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=root is None
        )
        columns, others = columns_of(next(table, []), where)
        if others:
            names = ", ".join(repr(name) for name in others)
            notes.append(f"{path.name}: columns that are not used: {names}")
        for cells in table:
            if not cells:
                continue
            line = f"{path}, line {table.line_num + skipped}"
            if any(cell.strip() for cell in cells[len(columns) :]):
                raise BadInput(f"{line}: {len(cells)} cells, but {len(columns)} columns")
            row = dict.fromkeys(COLUMNS, "") | {
                name: cell if root is not None else cell.strip()
                for name, cell in zip(columns, cells, strict=False)
                if name is not None
            }
            if not row["path"]:
                raise BadInput(f"{line}: the path is empty")
            image = root / row["path"] if root is not None else _image(path.parent, row["path"])
            if not row["label"]:
                dropped.append(Dropped(str(image), "no label"))
                continue
            corners = [row[name] for name in BOX_COLUMNS]
            if delimiter != ",":
                corners = [corner.replace(",", ".") for corner in corners]
            samples.append(
                Sample(
                    path=image,
                    label=task.label(row["label"], line),
                    box=box_between(corners, line),
                    group=row["group"] or patient_of(image) or row["path"],
                    frame=_frame(row["frame"], image, line),
                    part=_part(row["split"], line),
                    size=size_of(*(row[name] for name in SIZE_COLUMNS)),
                )
            )
    except csv.Error as error:
        raise BadInput(f"{path}: not a CSV file") from error
    return Collection(tuple(samples), tuple(dropped), "table", tuple(notes))


def _decoded(path: Path) -> str:
    """The text of a table: UTF-8, or the UTF-16 that spreadsheets call Unicode."""
    data = path.read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a CSV file in UTF-8") from error


def _delimiter(text: str) -> str:
    """What stands between the cells of the first line: what leaves the most known columns."""

    def known(delimiter: str) -> int:
        first_line = next(csv.reader(_lines(text), delimiter=delimiter, skipinitialspace=True), [])
        return len({trimmed(cell) for cell in first_line} & {*COLUMNS})

    try:
        return max(DELIMITERS, key=known)
    except csv.Error:
        return ","


def _lines(text: str) -> Iterator[str]:
    yield from io.StringIO(text, newline="")


def _image(folder: Path, name: str) -> Path:
    """The image that a table calls `name`; a backslash may be part of it, or stand between folders.

    `name` is tried as it is first.
    """
    image = folder / name
    if "\\" in name and not image.exists():
        return folder / name.replace("\\", "/")
    return image


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
