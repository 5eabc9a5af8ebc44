"""A video of the screens with their results drawn in; `--save` of a single picture is a still."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from devices import BadInput, Pixels
from edge_runtime.files import whole_file
from edge_runtime.results.result import Result
from edge_runtime.sinks.mp4 import remux
from edge_runtime.sinks.overlay import draw_result
from edge_runtime.sinks.still import STILL_SUFFIXES, OverlayStill

VIDEO_SUFFIXES = (".mp4", ".avi")
VIDEO_CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""By suffix: what OpenCV's own FFmpeg can write on every machine, and most players can read."""
UNFINISHED_SUFFIXES = {".mp4": ".mkv", ".avi": ".avi"}
"""By suffix: that of the video while it is written, so that a killed process leaves a file that
plays."""

MIN_DISK_BYTES, DISK_CHECK_FRAMES = 4_000_000, 25
"""Bytes that must be free on the disk, and the frames between two checks. OpenCV does not report a
full disk, and could not close the video there."""


class OverlayVideo:
    """Writes each screen with the result drawn in."""

    wants_pixels, latest_only = True, False

    def __init__(self, path: Path, part: Path, fps: float, evidence: bool) -> None:
        """Writes to `part`, whose suffix is one of VIDEO_CODECS; the user called it `path`.

        `evidence` as for `draw_result`.
        """
        self._path, self._part, self._fps, self._evidence = path, part, fps, evidence
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def write(self, result: Result, pixels: Pixels) -> None:
        """Writes one screen; see `Sink.write`.

        The first frame of the device decides the size of the video. Results before it are left out.
        A screen of another shape keeps its proportions, between black bars.
        """
        if self._writer is None and result.frame is None:
            return
        if (
            self._written % DISK_CHECK_FRAMES == 0
            and shutil.disk_usage(self._part.parent).free < MIN_DISK_BYTES
        ):
            raise BadInput(f"--save {self._path}: the disk is full")
        screen = draw_result(pixels, result, self._evidence)
        height, width = screen.shape[:2]
        if self._writer is None:
            self._size = (width + width % 2, height + height % 2)  # codecs want even numbers
            fourcc = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self._part.suffix])
            self._writer = cv2.VideoWriter(
                str(self._part.absolute()), cv2.CAP_FFMPEG, fourcc, self._fps, self._size
            )
            if not self._writer.isOpened():
                raise BadInput(
                    f"--save {self._path}: no video of {width} x {height} can be written"
                )
        self._writer.write(_fitted(screen, self._size))
        self._written += 1

    def finish(self, target: Path) -> None:
        """Closes the video, and puts it at `target` once it is whole: OpenCV says nothing of a full
        disk.

        Raises BadInput where frames are missing, or where nothing was written.
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


def _fitted(screen: Pixels, size: tuple[int, int]) -> Pixels:
    """The screen as large as it fits into a width and a height, in the middle of black.

    The shape of a nodule is a clinical sign, so nothing is stretched. A row or column that only
    makes the size even is added without scaling.
    """
    height, width = screen.shape[:2]
    across, down = size[0] - width, size[1] - height
    if not (0 <= across <= 1 and 0 <= down <= 1):
        scale = min(size[0] / width, size[1] / height)
        width, height = max(1, round(scale * width)), max(1, round(scale * height))
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        screen = np.asarray(cv2.resize(screen, (width, height), interpolation=kind), np.uint8)
        across, down = size[0] - width, size[1] - height
    if across == down == 0:
        return screen
    left, top = across // 2, down // 2
    bars = (top, down - top, left, across - left)
    return np.asarray(cv2.copyMakeBorder(screen, *bars, cv2.BORDER_CONSTANT, value=(0,)), np.uint8)


@contextmanager
def overlay_file(
    path: Path, live: bool, fps: float, evidence: bool = False
) -> Iterator[OverlayVideo | OverlayStill]:
    """A video, or the picture of a single still, that takes its name only once it is whole.

    Raises BadInput for an unknown suffix, for a path that is not UTF-8, which crashes OpenCV, or
    where the folder cannot be written to.
    """
    if path.suffix not in VIDEO_SUFFIXES + STILL_SUFFIXES:
        raise BadInput(
            f"--save {path}: the name must end in {' or '.join(VIDEO_SUFFIXES)}, "
            f"for a single picture in {' or '.join(STILL_SUFFIXES)}"
        )
    if live and path.suffix in STILL_SUFFIXES:
        raise BadInput(f"--save {path}: a live device gives a video, {' or '.join(VIDEO_SUFFIXES)}")
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"--save {path}: the path is not UTF-8") from error
    with whole_file(path) as part:
        if path.suffix in STILL_SUFFIXES:
            still = OverlayStill(path, part, evidence)
            yield still
            still.finish()
            return
        rough = unfinished(path)
        try:
            video = OverlayVideo(path, rough, fps, evidence)
            yield video
            video.finish(part)
        finally:
            rough.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Where the video `path` lies while it is written: beside it, under a name that is free.

    A killed process leaves it there, and it plays as far as it goes.
    """
    suffix = UNFINISHED_SUFFIXES[path.suffix]
    for number in itertools.count(1):
        name = f"{path.stem}.unfinished{'' if number == 1 else f'-{number}'}{suffix}"
        if not (place := path.with_name(name)).exists():
            return place
    raise AssertionError
