"""A video of the screens, with the results drawn in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from devices import BadInput, Pixels
from edge_runtime.files import whole_file
from edge_runtime.results.result import Result
from edge_runtime.sinks.overlay import draw_result

VIDEO_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
"""The codec of each suffix: OpenCV writes it on every machine, and most players read it."""

MIN_DISK_BYTES, DISK_CHECK_FRAMES = 4_000_000, 25
"""Bytes that must be free on the disk, and the frames between two checks. OpenCV does not report a
full disk, and could not close the video there."""


class OverlayVideo:
    """Writes each screen with the result drawn in."""

    wants_pixels, latest_only = True, False

    def __init__(self, path: Path, part: Path, fps: float, evidence: bool) -> None:
        """Writes to `part`, which takes the name `path` at the end."""
        self._path, self._part, self._fps, self._evidence = path, part, fps, evidence
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def write(self, result: Result, pixels: Pixels) -> None:
        """Writes one screen; see `Sink.write`.

        The first frame of the device decides the size of the video. Results before it are left out.
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
            self._size = (width - width % 2, height - height % 2)  # codecs want even numbers
            fourcc = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self._part.suffix])
            self._writer = cv2.VideoWriter(
                str(self._part), cv2.CAP_FFMPEG, fourcc, self._fps, self._size
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
        """Closes the video and checks that it is whole, because OpenCV does not report a full disk.

        Raises BadInput where frames are missing, or where nothing was written.
        """
        if self._writer is None:
            raise BadInput(f"--save {self._path}: no frame was read, so nothing is saved")
        self._writer.release()
        saved = cv2.VideoCapture(str(self._part), cv2.CAP_FFMPEG)
        frame_count = max(0, int(saved.get(cv2.CAP_PROP_FRAME_COUNT)))
        saved.release()
        if frame_count != self._written:
            raise BadInput(
                f"--save {self._path}: holds {frame_count} of {self._written} frames; "
                "is the disk full?"
            )


@contextmanager
def overlay_video(path: Path, fps: float, evidence: bool = False) -> Iterator[OverlayVideo]:
    """A video that takes the name `path` when it is whole.

    Raises BadInput for an unknown suffix, or where the folder cannot be written to.
    """
    if path.suffix not in VIDEO_CODECS:
        raise BadInput(f"--save {path}: the name must end in {' or '.join(VIDEO_CODECS)}")
    with whole_file(path) as part:
        video = OverlayVideo(path, part, fps, evidence)
        yield video
        video.finish()
