"""A camera or frame grabber by its V4L2 device, read with OpenCV."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from devices.capture.jpeg import decode_jpeg
from devices.capture.source_uri import SourceUri, read_options
from devices.capture.v4l2 import PIXEL_FORMATS, Mode, ModeRequest, choose_mode, offered_modes
from devices.errors import BadInput, DeviceLost, DeviceStalled, HardwareMissing, NoSignal
from devices.frame import CaptureDevice, Clock, Frame, Pixels, nominal_rate

# OpenCV waits so long, in whole seconds, for the first picture of all, which it throws away.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")

YUV_TO_BGR = {"YUYV": cv2.COLOR_YUV2BGR_YUYV, "UYVY": cv2.COLOR_YUV2BGR_UYVY}
"""Formats of two bytes a pixel."""
DRIVER_BUFFERS = 2
"""One buffer is filled while the other is read; more buffers would hold older pictures."""
WAIT_SLICE = 0.1
"""Seconds of a wait between two checks whether the camera was closed."""
BLOCKED_AFTER = 2.0
"""Seconds after which a read that should end within WAIT_SLICE counts as blocked for good."""
MAX_DAMAGED = 25
"""Damaged pictures in a row after which the device counts as lost."""

SIGNAL_STRIDE = 8
"""Every eighth pixel of every eighth row is checked for a signal."""
MAX_NOISE, MAX_EDGE_SHARE = 8, 0.02
"""Grey levels between a pixel and the one below it that may be noise; and the share of pixels that
differ by more even on a test picture, at the edges of its bars. An ultrasound picture that fills a
twentieth of the screen differs at twice as many."""


class Camera(CaptureDevice):
    """A live device: `/dev/video0`, or just its index.

    The pictures are decoded here: OpenCV would give a damaged picture, or the last picture again.
    """

    live = True

    def __init__(
        self, device: int | str, clock: Clock = time.monotonic, request: ModeRequest | None = None
    ) -> None:
        """Opens the device in the best mode that `request` allows.

        Raises HardwareMissing without such a device, BadInput for a mode that it does not offer.
        """
        path = f"/dev/video{device}" if isinstance(device, int) else device
        self._path, self._clock, request = Path(path), clock, request or ModeRequest()
        try:
            asked = choose_mode(offered_modes(self._path), request)
        except BadInput as error:
            raise BadInput(f"camera {path}: {error}") from error
        self._capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise HardwareMissing(f"camera {path}: in use, or not to be read")
        for name, value in (
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*asked.fourcc)),
            (cv2.CAP_PROP_FRAME_WIDTH, asked.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, asked.height),
            (cv2.CAP_PROP_FPS, asked.fps),
            (cv2.CAP_PROP_BUFFERSIZE, DRIVER_BUFFERS),
            (cv2.CAP_PROP_CONVERT_RGB, 0),
        ):
            if value or name == cv2.CAP_PROP_CONVERT_RGB:
                self._capture.set(name, value)
        self.mode = self._granted()
        """The mode in which the device delivers frames."""
        if self.mode[:3] != asked[:3] or not request.allows(self.mode):
            self._capture.release()
            raise BadInput(f"camera {path}: asked for {asked}, it gives {self.mode}")
        self.fps = nominal_rate(self.mode.fps)
        self._index = 0
        self._busy = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Closes the camera; a read in another thread ends before.

        A read that a driver blocks is left alone: the end of the process closes the camera.
        """
        self._closed = True
        if self._busy.acquire(timeout=BLOCKED_AFTER):
            try:
                self._capture.release()
            finally:
                self._busy.release()

    def read(self, timeout: float) -> Frame:
        """Returns the next frame; see `CaptureDevice.read`.

        Raises NoSignal for the test picture of a grabber without a signal.
        """
        deadline, damaged = time.monotonic() + timeout, 0
        while True:
            data = self._grab(deadline)
            now = self._clock()
            if (pixels := self._decode(data)) is not None:
                break
            self.damaged, damaged = self.damaged + 1, damaged + 1
            if damaged == MAX_DAMAGED:
                raise DeviceLost(f"camera {self._path}: {damaged} damaged pictures in a row")
        if not has_signal(pixels):
            raise NoSignal(f"camera {self._path}: a test picture; is the scanner connected?")
        index, self._index = self._index, self._index + 1
        return Frame(pixels, now, index, timestamp=now)

    def _granted(self) -> Mode:
        """The mode that the driver reports."""
        get = self._capture.get
        fourcc = int(get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1")
        width, height = get(cv2.CAP_PROP_FRAME_WIDTH), get(cv2.CAP_PROP_FRAME_HEIGHT)
        return Mode(fourcc, int(width), int(height), float(get(cv2.CAP_PROP_FPS)))

    def _grab(self, deadline: float) -> NDArray[Any]:
        """The next picture as the device codes it."""
        while True:
            with self._busy:
                if self._closed:
                    raise DeviceLost(f"camera {self._path}: closed")
                began = time.monotonic()
                wait = max(0.001, min(WAIT_SLICE, deadline - began))
                try:
                    ready, _ = cv2.VideoCapture.waitAny([self._capture], int(1e9 * wait))
                    ok, data = self._capture.retrieve() if ready else (False, None)
                except cv2.error:
                    ready, ok, data = True, False, None
            if ok and data is not None:
                return np.asarray(data)
            now = time.monotonic()
            if ready or now - began < wait / 2 or not self._path.exists():
                raise DeviceLost(f"camera {self._path}: gone; is it still plugged in?")
            if now >= deadline:
                raise DeviceStalled(f"camera {self._path}: no picture in time; is there a signal?")

    def _decode(self, data: NDArray[Any]) -> Pixels | None:
        """The picture, uint8 ``H x W x 3`` (BGR); None for a damaged one.

        Raises DeviceLost where the size has changed: the camera must be opened again.
        """
        _, width, height, _ = self.mode
        if self.mode.fourcc in YUV_TO_BGR:
            if data.size != 2 * width * height:
                return None
            pairs = data.reshape(height, width, 2)
            return np.asarray(cv2.cvtColor(pairs, YUV_TO_BGR[self.mode.fourcc]), dtype=np.uint8)
        pixels = decode_jpeg(data.reshape(-1))
        if pixels is not None and pixels.shape[:2] != (height, width):
            now = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise DeviceLost(f"camera {self._path}: it now gives {now} instead of {self.mode}")
        return pixels


def has_signal(pixels: Pixels) -> bool:
    """Whether the screen shows more than a test picture of one colour or of coloured bars.

    In a test picture nearly every pixel equals the pixel below it.
    """
    sparse = pixels[::SIGNAL_STRIDE, ::SIGNAL_STRIDE].astype(np.int16)
    changes = np.abs(np.diff(sparse, axis=0)) > MAX_NOISE
    return bool(changes.reshape(*changes.shape[:2], -1).any(axis=2).mean() > MAX_EDGE_SHARE)


def open_camera(uri: str | SourceUri, clock: Clock = time.monotonic) -> Camera:
    """The camera that `uri` names, in the mode that it asks for; see `parse_camera`."""
    device, request = parse_camera(uri)
    return Camera(device, clock, request)


def parse_camera(uri: str | SourceUri) -> tuple[str, ModeRequest]:
    """The device and the mode in `v4l2:///dev/video0?size=1280x720&fps=30&format=mjpeg`.

    Raises BadInput for an unknown option, or a value that cannot be read.
    """
    uri = SourceUri(uri)
    try:
        parts = urlsplit(uri.unexpanded)
    except ValueError:  # its text quotes a part of the address
        raise BadInput(f"{uri}: no camera, as v4l2:///dev/video0 is one") from None
    options = read_options(uri, parts.query, MODE_OPTIONS)
    request = ModeRequest(options.get("size"), options.get("fps"), options.get("format"))
    return parts.netloc + parts.path, request


def _size(word: str) -> tuple[int, int]:
    width, height = map(int, word.split("x"))
    return width, height


MODE_OPTIONS: dict[str, Callable[[str], Any]] = {
    "size": _size,
    "fps": float,
    "format": PIXEL_FORMATS.__getitem__,
}
"""Of the URI, with how each is read."""
