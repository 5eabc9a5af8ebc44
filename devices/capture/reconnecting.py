"""A live device that is opened again after it was lost."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from devices.errors import BadInput, DeviceLost, DeviceStalled, HardwareMissing
from devices.frame import CaptureDevice, Clock, Frame

_LOGGER = logging.getLogger(__name__)

MIN_DELAY, MAX_DELAY = 1.0, 30.0
"""Seconds before the first attempt, and before a later one at most; each wait is twice the last."""


class Reconnecting(CaptureDevice):
    """A device that `opener` opens again after each loss; the index of the frames goes on.

    A separate thread opens the device. It may take longer than a read, and outlive this object.
    """

    reconnects = True

    def __init__(
        self,
        opener: Callable[[], CaptureDevice],
        clock: Clock = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Opens the device. Raises the error of `opener` where that fails the first time.

        `wait` passes some seconds; the default waits until they are over or the device is closed.
        """
        self._opener, self._clock = opener, clock
        self._changed = threading.Condition()
        self._closed = self._opening = False
        self._opened: CaptureDevice | Exception | None = None
        self._wait = wait or self._wait_for_close
        self._device: CaptureDevice | None = opener()
        self.live, self.fps = self._device.live, self._device.fps
        self.region, self.notes = self._device.region, self._device.notes
        self.replay, self.received = self._device.replay, self._device.received
        self._delay, self._next = MIN_DELAY, 0.0
        self._frames = self._before = 0

    def read(self, timeout: float) -> Frame:
        """Returns the next frame; see `CaptureDevice.read`.

        Raises DeviceLost once when the device goes, and DeviceStalled until it is back.
        """
        device = self._device or self._reopen(timeout)
        damaged = device.damaged
        try:
            frame = device.read(timeout)
        except DeviceLost:
            device.close()
            self._device, self._before = None, self._frames
            self._next = self._clock() + self._delay
            raise
        finally:
            self.damaged += device.damaged - damaged
        self._delay = MIN_DELAY
        self._frames = self._before + frame.index + 1
        return replace(frame, index=self._frames - 1) if self._before else frame

    def _reopen(self, timeout: float) -> CaptureDevice:
        """The device, if it can be opened again; else raises DeviceStalled."""
        if not self._opening and (left := self._next - self._clock()) > 0:
            self._wait(min(left, timeout))
            raise DeviceStalled(
                f"the capture device has gone; opening is tried again in {left:.0f} s"
            )
        with self._changed:
            if self._closed:
                raise DeviceLost("the device was closed")
            if not self._opening:
                self._opening = True
                threading.Thread(target=self._attempt, name="opening", daemon=True).start()
            self._changed.wait_for(lambda: self._opened is not None or self._closed, timeout)
            if self._closed:
                raise DeviceLost("the device was closed")
            if self._opened is None:
                raise DeviceStalled("the capture device has gone; it is being opened")
            opened, self._opened, self._opening = self._opened, None, False
            if isinstance(opened, CaptureDevice):
                self._device = opened
        self._delay = min(2 * self._delay, MAX_DELAY)
        if isinstance(opened, CaptureDevice):
            self.fps = opened.fps
            _LOGGER.info("the capture device is open again")
            return opened
        if not isinstance(opened, BadInput | DeviceLost | HardwareMissing):
            raise opened
        self._next = self._clock() + self._delay
        # The error is not logged: it may name the file or the address of a patient's picture.
        _LOGGER.info("the capture device does not open; next attempt in %g s", self._delay)
        raise DeviceStalled(f"the capture device has gone: {opened}") from opened

    def _attempt(self) -> None:
        """Opens the device, and closes it at once if this object was closed meanwhile."""
        opened: CaptureDevice | Exception
        try:
            opened = self._opener()
        except Exception as error:
            opened = error
        with self._changed:
            if not self._closed:
                self._opened = opened
                self._changed.notify_all()
                return
        if isinstance(opened, CaptureDevice):
            opened.close()

    def _wait_for_close(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

    def close(self) -> None:
        """Closes the device, and ends a wait for it."""
        with self._changed:
            self._closed = True
            opened, self._opened = self._opened, None
            self._changed.notify_all()
        for device in (self._device, opened):
            if isinstance(device, CaptureDevice):
                device.close()
