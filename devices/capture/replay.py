"""Plays the record of a session: every frame that was kept, in order, with its time."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from devices.capture.record_format import (
    MAX_ENTRY_BYTES,
    RECORD_FRAMES,
    RECORD_INDEX,
    BrokenLine,
    RecordedBackend,
    RecordedEnd,
    RecordedFrame,
    RecordedGap,
    RecordEntry,
    open_member,
    read_entries,
    read_record_manifest,
    unpack_pixels,
)
from devices.errors import BadInput, EndOfRecording
from devices.frame import CaptureDevice, Clock, Frame


class Replay(CaptureDevice):
    """The frames of a record. `entries` tells what became of them, too."""

    live = False

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        """Opens the record in folder `path`. Raises BadInput where it cannot be read."""
        self._path, self._clock = path, clock
        self.manifest = read_record_manifest(path)
        self.fps, self.region = self.manifest.fps, self.manifest.region
        self.notes = self._notes = Counter[str]()
        self.replay = self
        self.backends: list[str] = []
        """What computed in the session, as far as `entries` has come."""
        self._read = self.entries()
        self._frames = open_member(path, RECORD_FRAMES)
        try:
            self._index = os.fdopen(open_member(path, RECORD_INDEX), "rb")
        except BadInput:
            os.close(self._frames)
            raise

    def close(self) -> None:
        """Closes the files."""
        if not self._index.closed:
            self._index.close()
            os.close(self._frames)

    def entries(self) -> Iterator[RecordEntry]:
        """Every entry of the index; `notes` says why it ended before the session did."""
        whole = False
        for entry in read_entries(iter(lambda: self._index.readline(MAX_ENTRY_BYTES), b"")):
            match entry:
                case BrokenLine(number, problem):
                    note = f"line {number} of {RECORD_INDEX} is broken ({problem})"
                    self._notes[f"the record was replayed up to its end: {note}"] += 1
                    return
                case RecordedEnd(reason=reason):
                    whole = True
                    if reason is not None:
                        self._notes[f"the record ends before the session: {reason}"] += 1
                    break
                case RecordedBackend(backend=backend):
                    self.backends.append(backend)
                case RecordedGap():
                    self._notes["the record has gaps: answers after a gap may differ"] = 1
            yield entry
        if not whole:
            self._notes["the record was cut off, and was replayed up to its last whole frame"] = 1

    def frame(self, entry: RecordedFrame) -> Frame:
        """The frame of an entry, with the times of the record.

        Raises BadInput for a damaged one.
        """
        try:
            packed = os.pread(self._frames, self._plausible(entry), entry.offset)
            if len(packed) < entry.size:
                raise ValueError(f"its pixels are missing in {RECORD_FRAMES}")
            pixels = unpack_pixels(packed, entry.shape)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadInput(f"{self._path}: frame {entry.index}: {reason}") from error
        return Frame(pixels, entry.captured_at, entry.index, entry.timestamp, entry.name)

    def _plausible(self, entry: RecordedFrame) -> int:
        """The bytes to read. Raises ValueError where so few pixels never need so many bytes."""
        raw = entry.height * entry.width * entry.channels
        if entry.size > raw + raw // 100 + 1000:
            raise ValueError(f"{entry.size:,} bytes are too many for {raw:,} bytes of pixels")
        return entry.size

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  a file makes nobody wait
        """Returns the next frame, stamped with the clock; see `CaptureDevice.read`."""
        for entry in self._read:
            if isinstance(entry, RecordedFrame):
                frame = self.frame(entry)
                return Frame(frame.pixels, self._clock(), frame.index, frame.timestamp, frame.name)
        raise EndOfRecording(f"{self._path}: the last frame has been read")
