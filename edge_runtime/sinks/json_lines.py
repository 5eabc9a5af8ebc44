"""Results as JSON, one result a line."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from devices import BadInput, Pixels
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import Result, to_json
from edge_runtime.sinks.rotating_file import (
    ROTATION_OPTIONS,
    RotatingFile,
    parse_rotation,
)
from edge_runtime.sinks.sink_uri import SinkUri

RESULT_BEGIN = b'{"sequence":'
"""The first letters of a result, see `to_json`."""


class JsonLines:
    """Writes one result a line, and flushes each line, so that a reader sees it at once."""

    wants_pixels, latest_only = False, False

    def __init__(self, out: BinaryIO, name: str, stop: threading.Event) -> None:
        """Sets `stop` as soon as nobody reads `out` any more, as after `| head`."""
        self._out, self._name, self._stop = out, name, stop

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Writes one line; see `Sink.write`. Raises BadInput where it cannot be written."""
        try:
            self._out.write(to_json(result))
            self._out.flush()
        except BrokenPipeError:
            # The rest in the buffer of Python would fail again at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
            self._stop.set()
        except OSError as error:
            raise BadInput(
                f"results cannot be written to {self._name}: {error.strerror}"
            ) from error


class ResultFile:
    """Writes each result to a file that rotates."""

    wants_pixels, latest_only = False, False

    def __init__(self, file: RotatingFile, encode: Callable[[Result], bytes], tally: Tally) -> None:
        """`encode` gives the whole lines of a result."""
        self._file, self._encode, self.tally = file, encode, tally

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Writes one result; see `Sink.write`. Raises BadInput where it cannot be written."""
        self._file.append(self._encode(result))


@contextmanager
def result_file(
    uri: SinkUri, encode: Callable[[Result], bytes], tally: Tally, head: bytes = b""
) -> Iterator[ResultFile]:
    """A file of results that rotates as the options of its URI say; see `RotatingFile`."""
    where, options = uri.split(ROTATION_OPTIONS)
    if not where:
        raise BadInput(f"{uri} names no file")
    file = RotatingFile(Path(where), parse_rotation(options), head, RESULT_BEGIN)
    try:
        yield ResultFile(file, encode, tally)
    finally:
        file.close()
