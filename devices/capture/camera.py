"""A camera or frame grabber by its V4L2 device, read with OpenCV."""

import os
import time

import cv2
import numpy as np

from devices.errors import DeviceLost, HardwareMissing
from devices.frame import CaptureDevice, Clock, Frame

# A grabber without a signal would otherwise hold each read for ten seconds; whole seconds only.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")


class Camera(CaptureDevice):
    """A live device: `/dev/video0`, or just its index."""

    live = True

    def __init__(self, device: int | str, clock: Clock = time.monotonic) -> None:
        """Opens the device. Raises HardwareMissing where there is none."""
        self._device, self._clock = device, clock
        self._capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise HardwareMissing(
                f"camera {device}: not there or in use; `v4l2-ctl --list-devices` shows what is"
            )
        # One buffer, so that what is read is new; drivers that cannot just keep more.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 1 <= fps <= 240 else 25.0
        self._index = 0

    def close(self) -> None:
        """Gives the camera back."""
        self._capture.release()

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  the driver's own time-out holds
        """Returns the next frame; see `CaptureDevice.read`. Raises DeviceLost where none comes."""
        ok, pixels = self._capture.read()
        if not ok or pixels is None:
            raise DeviceLost(f"camera {self._device}: no frame; is it still plugged in?")
        index, self._index = self._index, self._index + 1
        now = self._clock()
        return Frame(np.asarray(pixels, dtype=np.uint8), now, index, timestamp=now)
