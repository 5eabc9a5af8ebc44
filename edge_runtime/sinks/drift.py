"""Daily aggregates: what a model answered, as counts, for `sonolite device drift`.

A folder holds one file for each day of UTC and each bundle. No picture, identity or source is kept.
A file is written at most once a minute, at the end of a day, and when the sink closes: a kill or a
power cut costs the counts of the last minute.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devices import BadInput, Clock, Pixels
from devices.schema_io import plain, read_json
from edge_runtime.release.drift_files import DAY_FILE, MAX_DAY_FILES, day_files
from edge_runtime.release.layout import Refused, read_file, set_aside, write_file
from edge_runtime.results.aggregates import DailyAggregates, count_result
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import Result
from edge_runtime.sinks.sink_uri import SinkUri

SAVE_SECONDS = 60.0
"""Seconds between two writes: a memory card wears out."""
_LOCK = "lock"


class Aggregates:
    """Counts results; `open_aggregates` makes it."""

    wants_pixels, latest_only = False, False

    def __init__(self, folder: Path, tally: Tally, clock: Clock = time.monotonic) -> None:
        self._folder, self.tally, self._clock = folder, tally, clock
        self._name = ""
        self._day: DailyAggregates | None = None
        self._unsaved = False
        self._saved_at = clock()

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Counts one result; see `Sink.write`. A full disk loses none while the day lasts."""
        moment, digest = result.captured_utc, result.bundle.rpartition(" ")[2]
        name = f"{moment[:10]}-{digest}.json"
        if self._day is None or name != self._name:
            self.save()
            self._name, self._day = name, self._read(name, result)
        count_result(self._day.hours.setdefault(moment[11:13], {}), result)
        self._unsaved = True
        if self._clock() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Writes the day to the disk, where it has changed; an error is noted in the tally."""
        self._saved_at = self._clock()
        if not self._unsaved:
            return
        try:
            write_file(self._folder / self._name, json.dumps(plain(self._day)).encode())
            self._unsaved = False
        except OSError as error:
            self.tally.fail(f"{self._name} cannot be written: {error.strerror}")

    def _read(self, name: str, result: Result) -> DailyAggregates:
        """The day so far. A damaged file is set aside; old files are removed."""
        day = DailyAggregates(1, result.bundle, result.captured_utc[:10], {})
        if DAY_FILE.fullmatch(name) is None:
            raise BadInput(f"{self._folder}: the bundle {result.bundle} has no digest")
        path = self._folder / name
        try:
            day = read_json(read_file(path), DailyAggregates, name)
        except FileNotFoundError:
            self._prune()
        except (Refused, BadInput):
            set_aside(path)
            self.tally.fail(f"{name} was damaged, and is {name}.damaged now")
        return day

    def _prune(self) -> None:
        """Removes the oldest files, so that there is room for one more."""
        try:
            for path in day_files(self._folder)[: 1 - MAX_DAY_FILES]:
                path.unlink(missing_ok=True)
        except OSError as error:
            self.tally.fail(f"old days cannot be removed: {error.strerror}")


@contextmanager
def open_aggregates(uri: SinkUri, tally: Tally) -> Iterator[Aggregates]:
    """The sink of `drift:FOLDER`, which is made where there is none; one process at a time.

    Raises BadInput where the folder cannot be used.
    """
    place, _ = uri.split(())
    if not place:
        raise BadInput(f"{uri} names no folder")
    folder = Path(place)
    try:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BadInput(f"{uri}: cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"{uri}: another sink writes there") from error
        sink = Aggregates(folder, tally)
        try:
            yield sink
        finally:
            sink.save()
    finally:
        os.close(lock)
