"""A frame, a box, and the capture device that delivers frames."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from devices.capture.dicom_identity import DicomIdentity
    from devices.capture.replay import Replay

Pixels = NDArray[np.uint8]
"""uint8, ``H x W`` grey or ``H x W x 3`` in OpenCV's order, blue first."""

Clock = Callable[[], float]
"""Monotonic seconds, as from `time.monotonic`; tests inject their own clock."""


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
    """One picture from a capture device."""

    pixels: Pixels
    captured_at: float
    """Monotonic seconds when the frame was read."""
    index: int
    """The number of the frame on this device, from 0."""
    timestamp: float | None = None
    """Seconds on the source's own time line: the position in a recording, `captured_at` for a
    live device; None for a still, which stands alone."""
    name: str | None = None
    """Of the file, and of the page in a file of several; None for a live device."""
    recording: int = 0
    """Counts the recordings of a device that gets one after the other; what was learnt from one
    holds for no other. 0 for every other device."""
    region: Box | None = None
    """Where the ultrasound picture lies on the screen, if such a recording tells it."""


class CaptureDevice(ABC):
    """A source of frames: a context manager with one method, `read`."""

    live: bool
    """True where frames pass even if nobody reads them; False for a recording, where every frame
    waits until it is read."""
    reconnects: bool = False
    """Whether the device may deliver frames again after DeviceLost."""
    fps: float
    """The nominal frame rate in frames a second; 1 for stills. A saved video takes it."""
    region: Box | None = None
    """Where the ultrasound picture lies on the screen, if the source itself tells it."""
    notes: Mapping[str, int] = MappingProxyType({})
    """What a file says of itself and its data contradict, and in how many files so far."""
    replay: "Replay | None" = None
    """The record of a session that the device plays; None for any other device."""
    received: "Mapping[str, DicomIdentity] | None" = None
    """Whom the recordings show that somebody sent to the device, by the name of their frames; None
    for a device to which nothing is sent."""
    damaged: int = 0
    """The number of pictures so far that could not be decoded."""

    @property
    def endless(self) -> bool:
        """Whether frames may always come, as from a live device; a recording has a last frame."""
        return self.live or self.received is not None

    @abstractmethod
    def read(self, timeout: float) -> Frame:
        """Returns the next frame, waiting up to `timeout` seconds for it.

        Raises EndOfRecording, DeviceStalled, DeviceLost, or BadInput for a recording that turns
        out to be damaged. A device that waits for recordings raises NothingSent where the picture
        before is no longer to be shown.
        """

    def close(self) -> None:  # noqa: B027  most devices hold nothing
        """Frees the device; leaving the context calls it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
