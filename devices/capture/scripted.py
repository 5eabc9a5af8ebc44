"""A device that plays a script: what a probe does when its cable comes out."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from devices.errors import DeviceLost, DeviceStalled, EndOfRecording
from devices.frame import CaptureDevice, Clock, Frame, Pixels

CODEC_BLOCK_ROWS = 16
"""Rows that video codecs code together: damage begins at a multiple of them."""
UNWRITTEN_BGR = (0, 135, 0)
"""The green, in BGR, of a video buffer that is all zeros: Y, Cb and Cr of 0 (ITU-R BT.601)."""


@dataclass(frozen=True)
class Stall:
    """The device gives no frame for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Unplug:
    """The device goes; the script goes on with the next device that plays it."""


@dataclass(frozen=True)
class SizeChange:
    """All pictures of this device that follow have another size."""

    width: int
    height: int


@dataclass(frozen=True)
class Torn:
    """The next picture comes damaged; the seed tells how."""

    seed: int = 0


ScriptEvent = Pixels | Exception | Stall | Unplug | SizeChange | Torn


class Scripted(CaptureDevice):
    """Gives the script's pictures one by one; what is no picture happens where it stands.

    An iterator is not begun anew: behind `Reconnecting(lambda: Scripted(lines, live=True))` an
    Unplug ends one device, and the next one goes on with the line after it.
    """

    def __init__(
        self,
        script: Iterable[ScriptEvent],
        live: bool = False,
        fps: float = 20.0,
        clock: Clock = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """`wait` passes the seconds of a Stall; else they are waited out until the device closes.

        Pictures themselves make nobody wait.
        """
        self.live, self.fps = live, fps
        self._script = iter(script)
        self._clock = clock
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._silent_until = clock()
        self._size: tuple[int, int] | None = None
        self._torn: Torn | None = None
        self._index = 0

    def close(self) -> None:
        """Ends a stall that is being waited out, and the script."""
        self._closed.set()

    def read(self, timeout: float) -> Frame:
        """Returns the next picture or raises the next error; see `CaptureDevice.read`."""
        deadline = self._clock() + timeout
        while True:
            if self._closed.is_set():
                raise DeviceLost("the script was closed")
            if (silence := self._silent_until - self._clock()) > 0:
                self._wait(max(0.0, min(silence, deadline - self._clock())))
                if self._clock() < self._silent_until:
                    raise DeviceStalled("the script says nothing")
            match next(self._script, None):
                case None:
                    raise EndOfRecording("the script has ended")
                case Exception() as error:
                    raise error
                case Stall(seconds):
                    self._silent_until = self._clock() + seconds
                case Unplug():
                    raise DeviceLost("the script unplugs the device")
                case SizeChange(width, height):
                    self._size = (width, height)
                case Torn() as torn:
                    self._torn = torn
                case pixels:
                    return self._frame(pixels)

    def _frame(self, pixels: Pixels) -> Frame:
        """The picture in the size, and with the damage, that the script has asked for."""
        if self._size is not None:
            resized = cv2.resize(pixels, self._size, interpolation=cv2.INTER_AREA)
            pixels = np.asarray(resized, dtype=np.uint8)
        if self._torn is not None:
            pixels, self._torn = tear(pixels, self._torn.seed), None
        index, self._index = self._index, self._index + 1
        now = self._clock()
        return Frame(pixels, now, index, timestamp=now if self.live else index / self.fps)


def tear(pixels: Pixels, seed: int) -> Pixels:
    """Returns a copy without its lower part, as decoders leave a picture of which data is missing.

    The lost part begins at a multiple of CODEC_BLOCK_ROWS rows. It is flat grey, the last good row
    repeated, or, in colour, the green of a buffer that was never written; `seed` chooses.
    """
    rng = np.random.default_rng(seed)
    blocks = len(pixels) // CODEC_BLOCK_ROWS
    row = CODEC_BLOCK_ROWS * int(rng.integers(max(1, blocks // 4), max(2, 3 * blocks // 4)))
    fills = [np.asarray(128, np.uint8), pixels[row - 1]]
    if pixels.ndim == 3:
        fills.append(np.asarray(UNWRITTEN_BGR, np.uint8))
    torn = pixels.copy()
    torn[row:] = fills[int(rng.integers(len(fills)))]
    return torn
