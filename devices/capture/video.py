"""A recorded video: every frame, in order, with its place in the recording."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from devices.buffers import Buffers
from devices.capture.promised import promised_bytes, promised_frames
from devices.capture.registry import PYAV
from devices.capture.size import MAX_MOVING_PIXELS, check_size
from devices.errors import BadInput, EndOfRecording
from devices.frame import CaptureDevice, Clock, Frame, Pixels, nominal_rate

# FFmpeg's own complaints would bury the one line that sonolite says; -8 is its "quiet".
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# Every stored frame is read, also those that an edit list hides from players: only so does the
# container's count of them tell whether the end is missing.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "ignore_editlist;1")

MAX_MISSING_FRAMES = 3
"""Frames that may be missing: those at a cut that refer to frames before it."""

MAX_SINGLE_THREAD_PIXELS = 1024 * 768
"""Pixels of a frame up to which one thread decodes: with two, MPEG-4 of 686x528 takes a quarter
more of the processor, which inference could use, and no less time; H.264 of 1920x1080 takes two
thirds of the time."""

ROTATIONS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}
"""By the degrees that a video says; OpenCV itself turns what it decodes."""


class Video(CaptureDevice):
    """A video file, read with OpenCV's FFmpeg; what that cannot decode, with PyAV's."""

    live = False

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        """Opens `path`. Raises BadInput where it is no video or its size is refused."""
        self._path, self._clock = path, clock
        width, height = self._open([cv2.CAP_PROP_N_THREADS, 1])
        check_size(path, width, height, MAX_MOVING_PIXELS)
        if width * height > MAX_SINGLE_THREAD_PIXELS:
            self._open([])
        self._buffers, self._shape = Buffers(), (height, width, 3)
        self.fps = nominal_rate(self._capture.get(cv2.CAP_PROP_FPS))
        self._promised = promised_frames(path) or 0
        self._status, self._bytes = path.stat(), promised_bytes(path) or 0
        self._pyav_pictures: Iterator[tuple[Pixels, float | None]] | None = None
        self._index = 0

    def _open(self, options: list[int]) -> tuple[int, int]:
        """Opens the file; returns the width and height of its frames.

        FFmpeg is given a number: it would take some names for addresses, patterns or options.
        """
        try:
            number = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise BadInput(f"{self._path}: {error.strerror}") from error
        try:
            name = f"/proc/self/fd/{number}"
            self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, options)
        finally:
            os.close(number)
        if not self._capture.isOpened():
            raise BadInput(f"{self._path}: not a video that can be read, or a truncated one")
        width, height = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
        return int(self._capture.get(width)), int(self._capture.get(height))

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()
        self._pyav_pictures = None

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  a file makes nobody wait
        """Returns the next frame; see `CaptureDevice.read`.

        Raises BadInput where the file ends before the frames that its container names.
        """
        picture = self._next()
        if picture is None:
            if self._index == 0:
                raise BadInput(f"{self._path}: {self._without_frame()}")
            if self._index < self._promised - MAX_MISSING_FRAMES:
                raise BadInput(
                    f"{self._path}: truncated or damaged: {self._index} of "
                    f"{self._promised} frames can be read"
                )
            self._require_whole()
            raise EndOfRecording(f"{self._path}: the last frame has been read")
        pixels, position = picture
        index, self._index = self._index, self._index + 1
        timed = position is not None and (position > 0 or index == 0)  # MPEG streams may have none
        timestamp = position if timed else index / self.fps
        return Frame(pixels, self._clock(), index, timestamp, self._path.name)

    def _require_whole(self) -> None:
        """Raises BadInput where the file is shorter than it says, or changed while it was read."""
        before = self._status
        try:
            now = self._path.stat()
        except OSError:  # it was removed or renamed; what is open stays whole
            return
        if now.st_ino != before.st_ino or now.st_dev != before.st_dev:
            return
        if now.st_size < max(before.st_size, self._bytes):
            raise BadInput(f"{self._path}: truncated; {self._index} frames can be read")
        if now.st_size == before.st_size and now.st_mtime_ns != before.st_mtime_ns:
            raise BadInput(f"{self._path}: changed while it was read; {self._index} frames were")

    def _next(self) -> tuple[Pixels, float | None] | None:
        """The next picture and its time in seconds; None at the end."""
        if self._pyav_pictures is None:
            ok, pixels = self._capture.read(self._buffers.take(self._shape))
            if ok and pixels is not None:
                position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                return np.asarray(pixels, dtype=np.uint8), position
            if self._index or PYAV.missing():
                return None
            self._pyav_pictures = self._by_pyav()
        return next(self._pyav_pictures, None)

    def _by_pyav(self) -> Iterator[tuple[Pixels, float | None]]:
        """Every frame that PyAV decodes: it brings decoders that OpenCV lacks, as for AV1."""
        import av

        turn = ROTATIONS.get(int(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360)
        with (
            suppress(av.FFmpegError),
            self._path.open("rb") as file,
            av.open(file, "r", metadata_errors="replace") as container,
        ):
            streams = (each for each in container.streams.video if each.codec_context is not None)
            if (video := next(streams, None)) is None:  # of a codec that nothing decodes
                return
            for picture in container.decode(video):
                pixels = np.asarray(picture.to_ndarray(format="bgr24"), dtype=np.uint8)
                if turn is not None:
                    pixels = np.asarray(cv2.rotate(pixels, turn), dtype=np.uint8)
                yield pixels, picture.time

    def _without_frame(self) -> str:
        """Why there is no frame, and how one may come."""
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False)
        name = code.decode("ascii", "replace").strip("\0 ")
        if PYAV.missing() and name.isprintable() and name:
            return f"OpenCV decodes no frame of this {name} video; PyAV may: {PYAV.cure}"
        return "a video without a single frame that can be read"
