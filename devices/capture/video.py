"""A recorded video: every frame, in order, with its place in the recording."""

import os
import time
from pathlib import Path

import cv2
import numpy as np

from devices.buffers import Buffers
from devices.capture.size import check_size
from devices.errors import BadInput, EndOfRecording
from devices.frame import CaptureDevice, Clock, Frame

# FFmpeg's own complaints would bury the one line that sonolite says; -8 is its "quiet".
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# Every stored frame is read, also those that an edit list hides from players: only so does the
# length in the header tell whether the end is missing.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "ignore_editlist;1")

TIMED = frozenset({".avi", ".m4v", ".mov", ".mp4"})
"""Containers whose header tells how long the picture plays, so that a missing end is noticed;
Matroska tells it of the longest track, MPEG streams of none."""
SLACK = 3
"""Frames before the promised end at which the last one may begin: itself, and two of a cut file
that lean on frames that were cut away."""

ALONE = 1024 * 768
"""Pixels of a frame up to which one thread decodes: with two, MPEG-4 of 686x528 takes a quarter
more of the processor, which inference could use, and no less time; H.264 of 1920x1080 takes two
thirds of the time."""


class Video(CaptureDevice):
    """A video file, read with OpenCV's FFmpeg."""

    live = False

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        """Opens `path`. Raises BadInput where it is no video or its size is refused."""
        self._path, self._clock = path, clock
        width, height = self._open([cv2.CAP_PROP_N_THREADS, 1])
        check_size(path, width, height)
        if width * height > ALONE:
            self._open([])
        self._buffers, self._shape = Buffers(), (height, width, 3)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 1 <= fps <= 240 else 25.0
        frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._promised = frames if path.suffix.lower() in TIMED else 0
        self._position = 0.0
        self._index = 0

    def _open(self, options: list[int]) -> tuple[int, int]:
        """Opens the file; returns the width and height of its frames."""
        self._capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, options)
        if not self._capture.isOpened():
            raise BadInput(f"{self._path}: not a video that can be read, or a truncated one")
        width, height = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
        return int(self._capture.get(width)), int(self._capture.get(height))

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  a file makes nobody wait
        """Returns the next frame; see `CaptureDevice.read`.

        Raises BadInput where the file ends before the time that its header promises.
        """
        ok, pixels = self._capture.read(self._buffers.take(self._shape))
        if not ok or pixels is None:
            if self._index == 0:
                raise BadInput(f"{self._path}: a video without a single frame that can be read")
            if self._position * self.fps < self._promised - SLACK - 0.5:
                raise BadInput(
                    f"{self._path}: truncated or damaged: {self._index} of "
                    f"about {self._promised} frames can be read"
                )
            raise EndOfRecording(f"{self._path}: the last frame has been read")
        self._position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        index, self._index = self._index, self._index + 1
        timed = self._position > 0 or index == 0  # some MPEG streams have no times
        timestamp = self._position if timed else index / self.fps
        return Frame(np.asarray(pixels, dtype=np.uint8), self._clock(), index, timestamp)
