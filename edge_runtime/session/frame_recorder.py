"""Keeps the frames of a session as they were judged, so that a doubtful result can be replayed.

    thread "capture":   capture, lose --+
    thread "inference": conclude -------+-> queue -> thread "recorder" -> folder

No session waits for the disk: a frame that finds the queue full is not kept, and counts as a gap.
A source that is a recording itself waits. The record ends before the disk is full, because the
results of the session need the disk, too.
"""

import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from devices import BadInput, Box, CaptureDevice, Frame
from devices.capture.record_format import (
    RecordedAbsence,
    RecordedBackend,
    RecordedEnd,
    RecordedGap,
    RecordedLoss,
    RecordedMark,
    RecordedResult,
    RecordEntry,
    RecordManifest,
    plain_text,
)
from devices.capture.record_writer import RecordWriter
from devices.capture.source_uri import SourceUri
from devices.health import LOW_DISK
from devices.schema_io import plain
from edge_runtime.files import make_thread_nicer, refuse_existing
from edge_runtime.results.result import Result
from edge_runtime.results.states import Event
from edge_runtime.session.account import utc_now
from edge_runtime.session.record_settings import RECORD_GIGABYTES, RecordSettings
from edge_runtime.text import program_version

_LOGGER = logging.getLogger(__name__)

MIN_FREE = 2 * LOW_DISK
"""Free bytes below which nothing is recorded: the disk stays above the limit of its trouble."""
BYTES_WAITING, ITEMS_WAITING = 64_000_000, 4096
"""Bytes of pixels that may wait for the disk, 23 frames of a 720p screen; frames and lines."""
CLOSING_TIMEOUT = 10.0
"""Seconds that the disk may take for one frame where somebody waits for it."""
SILENT_DISK = "the disk does not answer"


class FrameRecorder:
    """Takes frames and results from the threads of a session, and writes them in its own thread."""

    def __init__(
        self,
        writer: RecordWriter,
        live: bool,
        limit: int,
        free: Callable[[], int],
    ) -> None:
        """Keeps up to `limit` bytes. `free` tells how many bytes are free on the disk."""
        self._writer, self._live, self._limit, self._free = writer, live, limit, free
        self._waiting: deque[Frame | RecordEntry] = deque()
        self._frames = self._bytes = 0
        """Frames that are not yet written, and bytes of their pixels."""
        self._changed = threading.Condition()
        self._closed = False
        self._gap = 0
        """Frames and lines that were not kept since the last line that was."""
        self._backend = ""
        self._region_changes = 0
        """Those before the last frame that was kept."""
        self.lost = 0
        """Frames and lines that were not kept because the disk was too slow."""
        self.left_out = 0
        """Frames that came after the record had ended."""
        self.ended: str | None = None
        """Why the record ended before the session."""
        self._thread = threading.Thread(target=self._write_all, name="recorder", daemon=True)
        self._thread.start()

    def capture(
        self, frame: Frame, region_changes: int = 0, roi: Box | None = None, follow: bool = False
    ) -> None:
        """Keeps a frame; for the capturing thread. Waits for room only in a recording.

        `region_changes` counts how often the region of interest, `roi` now, changed before it;
        `follow` says whether the box follows its nodule.
        """
        with self._changed:
            if not self._live and not self._changed.wait_for(self._has_room, CLOSING_TIMEOUT):
                self._end(SILENT_DISK)
            if self.ended is not None:
                self.left_out += 1
            elif self._has_room():
                if region_changes != self._region_changes:
                    self._region_changes = region_changes
                    self._put(RecordedMark(roi=roi, follow=follow))
                if self._put(frame):
                    self._frames += 1
                    self._bytes += frame.pixels.nbytes
            else:
                self._miss()

    def lose(self) -> None:
        """Notes that the capture device has gone; for the capturing thread."""
        with self._changed:
            self._put(RecordedLoss())

    def conclude(self, result: Result) -> None:
        """Notes what became of a frame, or that no frame came; for any thread."""
        reason = plain_text(result.reason or "")
        entry: RecordEntry
        if result.frame is None:
            entry = RecordedAbsence(state=str(result.state), reason=reason)
        else:
            late, failed = reason == Event.LATE, reason == Event.FAILED
            entry = RecordedResult(index=result.frame, late=late, failed=failed)
        with self._changed:
            if result.backend != self._backend:
                self._backend = result.backend
                self._put(RecordedBackend(backend=plain_text(result.backend)))
            self._put(entry)

    def close(self) -> None:
        """Waits until everything is written, as long as something is within CLOSING_TIMEOUT."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        left = len(self._waiting) + 1
        while self._thread.is_alive() and len(self._waiting) < left:
            left = len(self._waiting)
            self._thread.join(CLOSING_TIMEOUT)
        if self._thread.is_alive():
            self._end(SILENT_DISK)

    def lines(self) -> list[str]:
        """What was kept and what was not, as lines for a person."""
        writer = self._writer
        lines = [f"recorded {writer.frames} frames, {writer.size / 1e6:.1f} MB: {writer.folder}"]
        if self.lost:
            lines.append(
                f"note: the record has gaps: {self.lost} frames could not be kept, because the "
                "disk or the processor was too slow"
            )
        if self.ended is not None:
            later = f"; {self.left_out} later frames are not in it" if self.left_out else ""
            lines.append(f"note: the record ended before the session: {self.ended}{later}")
        return lines

    def _has_room(self) -> bool:
        return (
            self._bytes < BYTES_WAITING and len(self._waiting) < ITEMS_WAITING
        ) or self.ended is not None

    def _put(self, item: Frame | RecordEntry) -> bool:
        """Adds an item behind those that wait, after the gap before it; False without room."""
        if self.ended is not None:
            return False
        if len(self._waiting) >= ITEMS_WAITING:
            self._miss()
            return False
        if self._gap:
            self._waiting.append(RecordedGap(frames=self._gap))
            self._gap = 0
        self._waiting.append(item)
        self._changed.notify_all()
        return True

    def _miss(self) -> None:
        self._gap += 1
        self.lost += 1

    def _end(self, reason: str) -> None:
        """Ends the record before the session. What waits is left out."""
        with self._changed:
            self.ended = reason
            self.left_out += self._frames
            self._waiting.clear()
            self._frames = self._bytes = 0
            self._changed.notify_all()
        _LOGGER.warning("the record ended before the session: %s", reason)

    def _write_all(self) -> None:
        make_thread_nicer()
        try:
            while (item := self._next()) is not None:
                if isinstance(item, Frame) and (reason := self._refusal(item)):
                    self._end(reason)
                    break
                if isinstance(item, Frame):
                    self._writer.append_frame(item)
                    self._forget(item.pixels.nbytes)
                else:
                    self._writer.append(item)
                del item  # the pixels may be used again
            self._writer.append(RecordedEnd(reason=self.ended))
        except OSError as error:
            self._end(error.strerror or str(error))
        except Exception as error:
            self._end(f"it failed: {type(error).__name__}")
        finally:
            self._writer.close()

    def _next(self) -> Frame | RecordEntry | None:
        """The next item; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
            if self._waiting:
                item = self._waiting.popleft()
                self._changed.notify_all()
                return item
            gap, self._gap = self._gap, 0
        return RecordedGap(frames=gap) if gap else None

    def _forget(self, size: int) -> None:
        """Counts a frame as written."""
        with self._changed:
            if self.ended is None:
                self._frames -= 1
                self._bytes -= size
                self._changed.notify_all()

    def _refusal(self, frame: Frame) -> str | None:
        """Why this frame must not be written."""
        if self._writer.size + frame.pixels.nbytes > self._limit:
            return f"it reached its limit of {self._limit / 1e9:g} GB"
        if (free := self._free()) < MIN_FREE:
            return _scarce(free)
        return None


def _scarce(free: int) -> str:
    return f"only {free / 1e6:,.0f} MB are free on the disk, and {MIN_FREE / 1e6:,.0f} are needed"


@contextmanager
def open_frame_recorder(
    folder: Path,
    device: CaptureDevice,
    source: SourceUri,
    settings: RecordSettings,
    gigabytes: float = RECORD_GIGABYTES,
) -> Iterator[FrameRecorder]:
    """Records the session of an open device into a new folder of at most `gigabytes`.

    `settings` are those of the session, `Session.settings`; give the recorder to `Session.run`.
    Raises BadInput where the folder exists or cannot be made, where the disk has too little room,
    and where the source is a record itself.
    """
    if device.replay is not None:
        raise BadInput(f"--record {folder}: the source is the record of a session itself")
    refuse_existing(folder)

    def free() -> int:
        return shutil.disk_usage(folder.parent).free

    if (room := free()) < MIN_FREE:
        raise BadInput(f"--record {folder}: {_scarce(room)}")
    manifest = RecordManifest(
        schema=1,
        program=program_version(),
        started_utc=utc_now().isoformat(timespec="milliseconds"),
        source=plain_text(str(source)),
        live=device.live,
        fps=device.fps,
        region=device.region,
        settings=plain(settings),
    )
    recorder = FrameRecorder(
        RecordWriter(folder, manifest), device.live, int(gigabytes * 1e9), free
    )
    try:
        yield recorder
    finally:
        recorder.close()
