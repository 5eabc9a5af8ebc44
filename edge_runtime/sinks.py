"""Where results go: JSON lines, a video with the overlay; `commands.terminal` has another."""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from devices import BadInput, Pixels
from edge_runtime.atomic import whole_file
from edge_runtime.overlay import draw
from edge_runtime.result import Result, to_json

FOURCC = {".mp4": "mp4v", ".avi": "MJPG"}
"""By suffix: what OpenCV's own FFmpeg can write on every machine, and most players can read."""

STILLS = (".png", ".jpg")

ROOM, LOOK = 4_000_000, 25
"""Bytes that a disk must have left, and after how many frames it is looked again: OpenCV writes on
without a word when it is full, and the video could not be closed."""


class JsonLines:
    """One result a line on stdout, flushed, so that a reader sees each as it is made."""

    sees, latest = False, False

    def __init__(self, stop: threading.Event) -> None:
        """Sets `stop` once nobody reads any more, as `| head` does."""
        self._stop = stop

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Writes one line; see `Sink.write`."""
        try:
            sys.stdout.buffer.write(to_json(result))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whatever is still in Python's buffer would fail again when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._stop.set()
        except OSError as error:
            raise BadInput(f"results cannot be written to stdout: {error.strerror}") from error


class Single:
    """Keeps the result of the first frame, and whether another one came."""

    sees, latest = False, False

    def __init__(self) -> None:
        self._first: Result | None = None
        self._frames = 0

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Counts a frame; see `Sink.write`."""
        if result.frame is not None:
            self._frames += 1
            self._first = self._first or result

    def line(self, positive: str) -> str | None:
        """The whole result of the only frame; None where there was none, or more than one."""
        result = self._first
        if result is None or self._frames != 1:
            return None
        label = result.label or f"no label ({result.reason})"
        if result.smoothed is None:
            return f"result: {label}"
        shown = f"p({positive}) {result.smoothed:.3f}, threshold {result.threshold:.3f}"
        return f"result: {label}, {shown}"


class OverlayStill:
    """Writes the one screen of a still with the result drawn in."""

    sees, latest = True, False

    def __init__(self, path: Path, part: Path, positive: str, evidence: bool) -> None:
        """Writes to `part`; `path` is what the user called it. `evidence` as for `draw`."""
        self._path, self._part = path, part
        self._positive, self._evidence = positive, evidence
        self._written = False

    def write(self, result: Result, pixels: Pixels) -> None:
        """Writes the screen; see `Sink.write`. Raises BadInput for a second one."""
        if result.frame is None:
            return
        if self._written:
            raise BadInput(
                f"--save {self._path}: the source has more than one picture; "
                f"save them as {' or '.join(FOURCC)}"
            )
        screen = draw(pixels, result, self._positive, self._evidence)
        ok, coded = cv2.imencode(self._part.suffix, screen)
        if not ok:
            raise BadInput(f"--save {self._path}: the picture cannot be written")
        self._part.write_bytes(coded.tobytes())
        self._written = True

    def finish(self) -> None:
        """Raises BadInput where nothing was written."""
        if not self._written:
            raise BadInput(f"--save {self._path}: no frame was read, so nothing is saved")


class OverlayVideo:
    """Writes each screen with its result drawn in."""

    sees, latest = True, False

    def __init__(self, path: Path, part: Path, fps: float, positive: str, evidence: bool) -> None:
        """Writes to `part`; `path` is what the user called it. `evidence` as for `draw`."""
        self._path, self._part, self._fps = path, part, fps
        self._positive, self._evidence = positive, evidence
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def write(self, result: Result, pixels: Pixels) -> None:
        """Writes one screen; see `Sink.write`. The device's first one decides the size of the
        video: what is said before there is one is not in there.
        """
        if self._writer is None and result.frame is None:
            return
        if self._written % LOOK == 0 and shutil.disk_usage(self._part.parent).free < ROOM:
            raise BadInput(f"--save {self._path}: the disk is full")
        screen = draw(pixels, result, self._positive, self._evidence)
        height, width = screen.shape[:2]
        if self._writer is None:
            self._size = (width - width % 2, height - height % 2)  # codecs want even numbers
            fourcc = cv2.VideoWriter.fourcc(*FOURCC[self._part.suffix])
            self._writer = cv2.VideoWriter(
                str(self._part.absolute()), cv2.CAP_FFMPEG, fourcc, self._fps, self._size
            )
            if not self._writer.isOpened():
                raise BadInput(
                    f"--save {self._path}: no video of {width} x {height} can be written"
                )
        if (width, height) != self._size:
            screen = np.asarray(cv2.resize(screen, self._size), dtype=np.uint8)
        self._writer.write(screen)
        self._written += 1

    def finish(self) -> None:
        """Closes the video and looks whether it is whole: OpenCV says nothing of a full disk.

        Raises BadInput where it is not, or where nothing was written.
        """
        if self._writer is None:
            raise BadInput(f"--save {self._path}: no frame was read, so nothing is saved")
        self._writer.release()
        saved = cv2.VideoCapture(str(self._part), cv2.CAP_FFMPEG)
        found = max(0, int(saved.get(cv2.CAP_PROP_FRAME_COUNT)))
        saved.release()
        if found != self._written:
            raise BadInput(
                f"--save {self._path}: holds {found} of {self._written} frames; is the disk full?"
            )


@contextmanager
def overlay(
    path: Path, fps: float, positive: str, evidence: bool = False
) -> Iterator[OverlayVideo | OverlayStill]:
    """A video, or the picture of a still, that takes its name only once it is whole.

    Raises BadInput for a suffix that is not known or a place that cannot be written to.
    """
    if path.suffix not in {**FOURCC, **dict.fromkeys(STILLS)}:
        raise BadInput(
            f"--save {path}: the name must end in {' or '.join(FOURCC)}, "
            f"for a single picture in {' or '.join(STILLS)}"
        )
    with whole_file(path) as part:
        writer: OverlayVideo | OverlayStill
        if path.suffix in STILLS:
            writer = OverlayStill(path, part, positive, evidence)
        else:
            writer = OverlayVideo(path, part, fps, positive, evidence)
        yield writer
        writer.finish()
