"""A file of whole lines that is bounded: at a size or an age the next file begins.

The file keeps the name. `NAME.1` is the one before, up to `NAME.KEEP`.
"""

import fcntl
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devices import BadInput
from edge_runtime.files import refuse_unwritable
from edge_runtime.sinks.sink_uri import Options

ROTATION_OPTIONS = ("max_mb", "max_hours", "keep")


@dataclass(frozen=True)
class Rotation:
    """When the next file begins, and how many earlier ones stay."""

    max_bytes: float = float("inf")
    max_seconds: float = float("inf")
    """A file holds one period: of 24 hours a day, from midnight to midnight in UTC."""
    keep: int = 10

    def period(self, at: float) -> int:
        """The number of the period of a wall time, in seconds."""
        return 0 if self.max_seconds == float("inf") else int(at // self.max_seconds)


def parse_rotation(options: Options) -> Rotation:
    """The rotation of `max_mb`, `max_hours` and `keep`. Raises BadInput for a wrong value."""
    return Rotation(
        1e6 * options.number("max_mb", float("inf"), 0.001, 1e6),
        3600 * options.number("max_hours", float("inf"), 0.001, 1e5),
        int(options.number("keep", 10, 0, 1000)),
    )


class RotatingFile:
    """Appends whole lines. One process writes to a file at a time."""

    def __init__(
        self,
        path: Path,
        rotation: Rotation,
        head: bytes = b"",
        begin: bytes = b"",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`head` is the first line of every file; where it is empty, each begins with `begin`.

        A line that a power cut broke off stays as a line of its own.
        Raises BadInput where the file cannot be written, or begins with something else: it is the
        file of somebody else, and stays as it was.
        """
        refuse_unwritable(path)
        self._path, self._rotation, self._head = path, rotation, head
        self._first = head or begin
        self._wall_clock = wall_clock
        self._handle = -1
        try:
            self._open()
            if self._regular:
                self._mend()
        except OSError as error:
            self.close()
            raise BadInput(f"{path}: cannot be written: {error.strerror}") from error
        except BadInput:
            self.close()
            raise

    def append(self, line: bytes) -> None:
        """Writes one line whole or not at all. Raises BadInput where it cannot be written."""
        try:
            self._rotate(len(line))
            self._write(line if self._size or not self._head else self._head + line)
        except OSError as error:
            raise BadInput(f"{self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Closes the file."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._handle = os.open(self._path, flags, 0o600)  # results are for the owner alone
        status = os.fstat(self._handle)
        self._regular = stat.S_ISREG(status.st_mode)
        if self._regular:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BadInput(f"{self._path}: another sink writes to it") from error
        self._size = status.st_size if self._regular else 0
        self._period = self._rotation.period(status.st_mtime if self._size else self._wall_clock())

    def _mend(self) -> None:
        """Refuses a file that begins otherwise. Ends a broken line; removes a broken first one."""
        first = os.pread(self._handle, len(self._first), 0)
        if not self._first.startswith(first):
            content = "other columns" if self._head else "no result of this program"
            raise BadInput(f"{self._path}: begins with {content}; choose another name")
        if len(first) < len(self._first):
            os.ftruncate(self._handle, 0)
            self._size = 0
        elif self._size and os.pread(self._handle, 1, self._size - 1) != b"\n":
            self._write(b"\n")

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            with suppress(OSError):  # a full disk may keep the beginning of a line
                os.ftruncate(self._handle, self._size)
            raise
        self._size += len(line)

    def _rotate(self, coming: int) -> None:
        """Begins the next file where this one is full or old."""
        if self._handle < 0:
            self._open()
        now = self._rotation.period(self._wall_clock())
        full = self._size + coming > self._rotation.max_bytes
        if not self._regular or not self._size or not (full or now != self._period):
            return
        keep = self._rotation.keep
        free = next((n for n in range(1, keep) if not self._named(n).exists()), keep)
        self._named(free).unlink(missing_ok=True)
        for number in range(free - 1, -1, -1):
            self._named(number).rename(self._named(number + 1))
        self.close()
        self._open()

    def _named(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path
