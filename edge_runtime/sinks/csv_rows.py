"""Results as CSV (RFC 4180): a row for each nodule of a result, or one where there is none."""

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import NOTICE, Result
from edge_runtime.sinks.json_lines import ResultFile, result_file
from edge_runtime.sinks.sink_uri import SinkUri

COLUMNS = (
    *("sequence", "frame", "captured_utc", "timestamp", "state", "track", "label", "reason"),
    *("score_label", "score", "threshold", "x", "y", "w", "h", "latency_ms", "backend"),
    *("fallback", "bundle", "file", "notice"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet computes text that begins so; an apostrophe before it stops that."""

Cell = str | int | float | None


def open_csv(uri: SinkUri, tally: Tally) -> AbstractContextManager[ResultFile]:
    """A sink of CSV rows; raises as `result_file` does."""
    encoder = CsvEncoder()
    head = encoder.encode([COLUMNS])
    return result_file(uri, lambda result: encoder.encode(csv_rows(result)), tally, head)


class CsvEncoder:
    """Encodes rows as lines in UTF-8, with one writer."""

    def __init__(self) -> None:
        self._out = io.StringIO()
        self._writer = csv.writer(self._out, lineterminator="\r\n")

    def encode(self, rows: Iterable[tuple[Cell, ...]]) -> bytes:
        """The lines of rows; no text begins a formula."""
        self._out.seek(0)
        self._out.truncate()
        self._writer.writerows(map(_harmless, rows))
        return self._out.getvalue().encode(errors="backslashreplace")


def csv_rows(result: Result) -> Iterator[tuple[Cell, ...]]:
    """The rows of a result, a cell for each of COLUMNS."""
    for nodule in result.nodules or (None,):
        box: tuple[Cell, ...] = (None,) * 4 if nodule is None else nodule.box
        score: tuple[Cell, ...] = (None,) * 3
        if nodule is not None and nodule.score is not None:
            label, value, threshold = nodule.score
            score = label, round(value, 6), round(threshold, 6)
        yield (
            result.sequence,
            result.frame,
            result.captured_utc,
            None if result.timestamp is None else round(result.timestamp, 6),
            result.state,
            None if nodule is None else nodule.track,
            None if nodule is None else nodule.label,
            result.reason if nodule is None else nodule.reason,
            *score,
            *box,
            round(result.latency_ms.total, 3),
            result.backend,
            result.fallback,
            result.bundle,
            result.file,
            NOTICE,
        )


def _harmless(cells: tuple[Cell, ...]) -> list[Cell]:
    """The cells, with an apostrophe before what a spreadsheet would compute."""
    return [
        f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in cells
    ]
