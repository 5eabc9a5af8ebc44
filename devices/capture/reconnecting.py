"""A live device that is opened again when it has gone."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from devices.errors import BadInput, DeviceLost, DeviceStalled, HardwareMissing
from devices.frame import CaptureDevice, Clock, Frame

FIRST, MOST = 1.0, 30.0
"""Seconds until the first attempt, and between later ones at most; each waits twice as long."""


class Reconnecting(CaptureDevice):
    """Whatever `opener` opens, again and again; frames are counted on over all of its lives."""

    returns = True

    def __init__(
        self,
        opener: Callable[[], CaptureDevice],
        clock: Clock = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Opens the device. Raises what `opener` does: one that was never there is an error.

        `wait` passes so many seconds; without it they are waited out, unless the device is closed.
        """
        self._opener, self._clock = opener, clock
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._device: CaptureDevice | None = opener()
        self.live, self.fps = self._device.live, self._device.fps
        self._delay, self._next = FIRST, 0.0
        self._frames = self._before = 0

    def read(self, timeout: float) -> Frame:
        """Returns the next frame; see `CaptureDevice.read`.

        Raises DeviceLost once when the device goes, and DeviceStalled until it is back.
        """
        device = self._device or self._reopen(timeout)
        try:
            frame = device.read(timeout)
        except DeviceLost:
            device.close()
            self._device, self._before = None, self._frames
            self._next = self._clock() + self._delay
            raise
        self._delay = FIRST
        self._frames = self._before + frame.index + 1
        return replace(frame, index=self._frames - 1) if self._before else frame

    def _reopen(self, timeout: float) -> CaptureDevice:
        """The device, where it is there again."""
        if (left := self._next - self._clock()) > 0:
            self._wait(min(left, timeout))
            raise DeviceStalled(f"the device has gone; it is tried again in {left:.0f} s")
        self._delay = min(2 * self._delay, MOST)
        try:
            device = self._opener()
        except (BadInput, DeviceLost, HardwareMissing) as error:
            self._next = self._clock() + self._delay
            raise DeviceStalled(f"the device has gone: {error}") from error
        if self._closed.is_set():  # while it was being opened
            device.close()
            raise DeviceLost("the device was closed")
        self._device = device
        return device

    def close(self) -> None:
        """Gives back what the device holds, and ends a wait for it."""
        self._closed.set()
        if self._device is not None:
            self._device.close()
