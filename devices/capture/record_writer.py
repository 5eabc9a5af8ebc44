"""Writes the record of a session: see `devices.capture.record_format`."""

import os
from pathlib import Path

from devices.capture.kinds import RECORD_MANIFEST
from devices.capture.record_format import (
    RECORD_FRAMES,
    RECORD_INDEX,
    RecordedFrame,
    RecordEntry,
    RecordManifest,
    pack_pixels,
    plain_text,
    write_entry,
)
from devices.errors import BadInput
from devices.frame import Frame
from devices.schema_io import write_json

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class RecordWriter:
    """A new folder that only its owner can read; for one thread."""

    def __init__(self, folder: Path, manifest: RecordManifest) -> None:
        """Makes the folder. Raises BadInput where it exists already or cannot be made."""
        self.folder = folder
        try:
            folder.mkdir(mode=0o700)
            self._frames = os.open(folder / RECORD_FRAMES, _CREATE, 0o600)
            self._index = os.open(folder / RECORD_INDEX, _CREATE, 0o600)
            number = os.open(folder / RECORD_MANIFEST, _CREATE, 0o600)
        except FileExistsError as error:
            raise BadInput(f"{folder}: exists already; nothing is overwritten") from error
        except OSError as error:
            raise BadInput(f"{folder}: cannot be made: {error.strerror}") from error
        self.size = 0
        """Bytes that were written."""
        self.frames = 0
        """Frames that were written."""
        self._offset = 0
        try:
            self._write(number, write_json(manifest))
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written: {error.strerror}") from error
        finally:
            os.close(number)

    def append_frame(self, frame: Frame) -> None:
        """Writes the pixels of a frame, then its line. Raises OSError where the disk fails."""
        packed = pack_pixels(frame.pixels)
        self._write(self._frames, packed)
        entry = RecordedFrame(
            index=frame.index,
            captured_at=frame.captured_at,
            timestamp=frame.timestamp,
            name=None if frame.name is None else plain_text(frame.name),
            height=frame.pixels.shape[0],
            width=frame.pixels.shape[1],
            channels=1 if frame.pixels.ndim == 2 else 3,
            offset=self._offset,
            size=len(packed),
        )
        self._offset += len(packed)
        self.append(entry)
        self.frames += 1

    def append(self, entry: RecordEntry) -> None:
        """Writes one line of the index. Raises OSError where the disk fails."""
        self._write(self._index, write_entry(entry))

    def close(self) -> None:
        """Closes the files."""
        os.close(self._frames)
        os.close(self._index)

    def _write(self, number: int, content: bytes) -> None:
        """Writes all of `content`: write(2) may write a part, as to a disk that becomes full."""
        left = memoryview(content)
        while left:
            written = os.write(number, left)
            self.size += written
            left = left[written:]
