"""Where results go: JSON lines, a video with the overlay; `commands.terminal` has another."""

import itertools
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
from edge_runtime.mp4 import remux
from edge_runtime.overlay import draw
from edge_runtime.result import Result, to_json

VIDEOS = (".mp4", ".avi")
FOURCC = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""By suffix: what OpenCV's own FFmpeg can write on every machine, and most players can read."""
BROKEN_OFF = {".mp4": ".mkv", ".avi": ".avi"}
"""As what a video of each suffix is written: a killed process leaves a file that plays."""

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
                f"save them as {' or '.join(VIDEOS)}"
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
        """Writes to `part`, whose suffix is one of FOURCC; `path` is what the user called it.

        `evidence` as for `draw`.
        """
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

    def finish(self, target: Path) -> None:
        """Closes the video, and puts it at `target` once it is whole: OpenCV says nothing of a full
        disk.

        Raises BadInput where it is not, or where nothing was written.
        """
        if self._writer is None:
            raise BadInput(f"--save {self._path}: no frame was read, so nothing is saved")
        self._writer.release()
        if self._part.suffix == ".mkv":
            whole = remux(self._part, target, self._fps, self._size)
        else:
            saved = cv2.VideoCapture(str(self._part.absolute()), cv2.CAP_FFMPEG)
            whole = max(0, int(saved.get(cv2.CAP_PROP_FRAME_COUNT)))
            saved.release()
        if whole != self._written:
            raise BadInput(
                f"--save {self._path}: holds {whole} of {self._written} frames; is the disk full?"
            )
        if self._part.suffix != ".mkv":
            self._part.replace(target)


@contextmanager
def overlay(
    path: Path, fps: float, positive: str, evidence: bool = False
) -> Iterator[OverlayVideo | OverlayStill]:
    """A video, or the picture of a still, that takes its name only once it is whole.

    Raises BadInput for a suffix that is not known or a place that cannot be written to.
    """
    if path.suffix not in VIDEOS + STILLS:
        raise BadInput(
            f"--save {path}: the name must end in {' or '.join(VIDEOS)}, "
            f"for a single picture in {' or '.join(STILLS)}"
        )
    with whole_file(path) as part:
        if path.suffix in STILLS:
            still = OverlayStill(path, part, positive, evidence)
            yield still
            still.finish()
            return
        rough = unfinished(path)
        try:
            video = OverlayVideo(path, rough, fps, positive, evidence)
            yield video
            video.finish(part)
        finally:
            rough.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Where the video `path` is while it is written: beside it, and never what is there already.

    Whoever kills the process finds it there, and it plays as far as it goes.
    """
    suffix = BROKEN_OFF[path.suffix]
    for number in itertools.count(1):
        name = f"{path.stem}.unfinished{'' if number == 1 else f'-{number}'}{suffix}"
        if not (place := path.with_name(name)).exists():
            return place
    raise AssertionError
