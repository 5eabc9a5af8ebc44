"""Results as JSON, one result a line."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from devices import BadInput, Pixels
from edge_runtime.files import refuse_unwritable
from edge_runtime.results.result import Result, to_json


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


@contextmanager
def open_json_lines(where: str, stop: threading.Event) -> Iterator[JsonLines]:
    """A sink of JSON lines: `-` is stdout; a file gets the lines at its end.

    Raises BadInput where the file cannot be written.
    """
    if where == "-":
        yield JsonLines(sys.stdout.buffer, "stdout", stop)
        return
    refuse_unwritable(Path(where))
    with open(where, "ab") as out:
        yield JsonLines(out, where, stop)
