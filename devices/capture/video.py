"""A recorded video: every frame, in order, with its place in the recording."""

import os
import time
from pathlib import Path

import cv2
import numpy as np

from devices.capture.size import check_size
from devices.errors import BadInput, EndOfRecording
from devices.frame import CaptureDevice, Clock, Frame

# FFmpeg's own complaints would bury the one line that sonolite says; -8 is its "quiet".
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

EXACT_COUNTS = frozenset({".mp4", ".mov", ".m4v"})
"""Containers whose header tells the true number of frames, so that a missing end is noticed."""
SLACK = 2
"""Frames that a cut file may promise and not show, because its first ones lean on lost ones."""


class Video(CaptureDevice):
    """A video file, read with OpenCV's FFmpeg."""

    live = False

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        """Opens `path`. Raises BadInput where it is no video or its size is refused."""
        self._path, self._clock = path, clock
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise BadInput(f"{path}: not a video that can be read, or a truncated one")
        check_size(
            path,
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 1 <= fps <= 240 else 25.0
        promised = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._promised = promised if path.suffix.lower() in EXACT_COUNTS else 0
        self._index = 0

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  a file makes nobody wait
        """Returns the next frame; see `CaptureDevice.read`.

        Raises BadInput where the file ends before the number of frames that its header promises.
        """
        ok, pixels = self._capture.read()
        if not ok or pixels is None:
            if self._index == 0:
                raise BadInput(f"{self._path}: a video without a single frame that can be read")
            if self._index < self._promised - SLACK:
                raise BadInput(
                    f"{self._path}: truncated or damaged: {self._index} of "
                    f"{self._promised} frames can be read"
                )
            raise EndOfRecording(f"{self._path}: the last frame has been read")
        index, self._index = self._index, self._index + 1
        return Frame(
            np.asarray(pixels, dtype=np.uint8), self._clock(), index, timestamp=index / self.fps
        )
