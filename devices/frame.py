"""A frame, a box, and the device that delivers frames: the words all other parts use."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""uint8, ``H x W`` grey or ``H x W x 3`` in OpenCV's order, blue first."""

Clock = Callable[[], float]
"""Monotonic seconds, as `time.monotonic` gives them; injected so that tests own the time."""


class Box(NamedTuple):
    """A rectangle in whole pixels; `x`, `y` is its upper left corner."""

    x: int
    y: int
    w: int
    h: int


MAX_RATE = 1000.0
"""Frames a second; more is a damaged header."""


def nominal_rate(stated: float | None) -> float:
    """The rate that a source states, in frames a second; 25 where it makes no sense."""
    return stated if stated is not None and 1 <= stated <= MAX_RATE else 25.0


@dataclass(frozen=True)
class Frame:
    """One picture as it was read from a capture device."""

    pixels: Pixels
    captured_at: float
    """Monotonic seconds, stamped when the frame was read."""
    index: int
    """Counts the frames of this device from 0."""
    timestamp: float | None = None
    """Seconds on the source's own time line: the position in a recording, `captured_at` for a
    live device; None for a still, which stands alone."""
    name: str | None = None
    """Of the file, and of the page in a file of several; None for a live device."""


class CaptureDevice(ABC):
    """A source of frames: a context manager with one method, `read`."""

    live: bool
    """True where frames go by whether or not they are read; False for a recording, whose every
    frame waits its turn."""
    reconnects: bool = False
    """Whether frames may come again after DeviceLost."""
    fps: float
    """The nominal frame rate in frames a second, for a saved video; stills say 1."""
    region: Box | None = None
    """Where the ultrasound picture lies on the screen, if the source itself tells it."""
    notes: Mapping[str, int] = MappingProxyType({})
    """What a file says of itself and its data contradict, and in how many files so far."""
    damaged: int = 0
    """Pictures so far that could not be decoded, and were passed over."""

    @abstractmethod
    def read(self, timeout: float) -> Frame:
        """Returns the next frame, waiting up to `timeout` seconds for it.

        Raises EndOfRecording, DeviceStalled, DeviceLost, or BadInput for a recording that turns
        out to be damaged.
        """

    def close(self) -> None:  # noqa: B027  most devices hold nothing
        """Gives back what the device holds; leaving the context does it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
