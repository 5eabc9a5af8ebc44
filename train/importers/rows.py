"""The rows of a CSV file, however a spreadsheet wrote it."""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import IGNORECASE
from re import compile as pattern

from devices import BadInput
from devices.regular_file import MAX_TABLE, read_regular
from train.importers.columns import trimmed

DELIMITERS = ",;\t|"
"""Between the cells; a spreadsheet writes semicolons where the comma stands in numbers."""
DELIMITER_LINE = pattern(r"sep=([,;\t|])\r?\n", IGNORECASE)
"""What spreadsheets write above a table, for themselves."""

Columns = Callable[[Sequence[str], str], tuple[list[str | None], tuple[str, ...]]]
"""From the cells of a first line, and where it stands, to the known column of each, or None, and
the names of the others; as `train.importers.columns.columns_of`."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    where: str
    """The file and the line, for a message."""
    cells: dict[str, str]
    """By column; empty where the line has none."""


@dataclass(frozen=True)
class Rows:
    """A table whose first line has been read; its rows are read as they are asked for."""

    columns: tuple[str, ...]
    """The known columns that are there."""
    notes: tuple[str, ...]
    rows: Iterator[Row]
    """Without the empty ones. Raises BadInput, naming the line, where one has more cells than there
    are columns, or a quotation mark that is not closed."""
    comma_numbers: bool
    """Whether the comma may stand in numbers: it does not stand between the cells."""


def read_rows(
    path: Path, columns_of: Columns, known: Sequence[str], as_written: bool = False
) -> Rows:
    """The rows of a table, with a cell for each of the `known` columns.

    The cells are trimmed unless `as_written`. Raises BadInput where `path` is no CSV file in UTF-8
    or UTF-16, and as `columns_of` does.
    """
    text = _decoded(path)
    skipped = 0
    if written := DELIMITER_LINE.match(text):
        text, skipped = text[written.end() :], 1
    delimiter = written[1] if written else _delimiter(text, known)
    table = csv.reader(  # strict, for a quotation mark that stays open swallows all rows below
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=not as_written,
        strict=True,
    )
    try:
        first_line = next(table, [])
    except csv.Error as error:
        raise BadInput(f"{path}: not a CSV file") from error
    columns, others = columns_of(first_line, str(path))
    notes = []
    if others:
        names = ", ".join(repr(name) for name in others)
        notes.append(f"{path.name}: columns that are not used: {names}")

    def rows() -> Iterator[Row]:
        last = table.line_num
        try:
            for cells in table:
                last = table.line_num
                if not any(cell.strip() for cell in cells):
                    continue
                where = f"{path}, line {table.line_num + skipped}"
                if any(cell.strip() for cell in cells[len(columns) :]):
                    raise BadInput(f"{where}: {len(cells)} cells, but {len(columns)} columns")
                yield Row(
                    where,
                    dict.fromkeys(known, "")
                    | {
                        name: cell if as_written else cell.strip()
                        for name, cell in zip(columns, cells, strict=False)
                        if name is not None
                    },
                )
        except csv.Error as error:
            where = f"{path}, line {last + 1 + skipped}"
            raise BadInput(f"{where}: {error}; is each quotation mark closed?") from error

    present = tuple(name for name in columns if name is not None)
    return Rows(present, tuple(notes), rows(), delimiter != ",")


def first_line_of(path: Path, known: Sequence[str]) -> set[str]:
    """The names in the first line of a table, trimmed and in small letters; none where it is none.

    `known` columns tell what stands between the cells.
    """
    try:
        text = DELIMITER_LINE.sub("", _decoded(path), count=1)
        cells = next(csv.reader(_lines(text), delimiter=_delimiter(text, known)), [])
    except (BadInput, csv.Error):
        return set()
    return {trimmed(cell) for cell in cells}


def _decoded(path: Path) -> str:
    """The text of a table: UTF-8, or the UTF-16 that spreadsheets call Unicode."""
    data = read_regular(path, MAX_TABLE)
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a CSV file in UTF-8") from error


def _delimiter(text: str, columns: Sequence[str]) -> str:
    """What stands between the cells of the first line: what leaves the most known columns."""

    def known(delimiter: str) -> int:
        first_line = next(csv.reader(_lines(text), delimiter=delimiter, skipinitialspace=True), [])
        return len({trimmed(cell) for cell in first_line} & {*columns})

    try:
        return max(DELIMITERS, key=known)
    except csv.Error:
        return ","


def _lines(text: str) -> Iterator[str]:
    yield from io.StringIO(text, newline="")
