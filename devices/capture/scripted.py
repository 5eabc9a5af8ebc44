"""A device that plays a script, for tests: what a probe does when its cable comes out."""

import time
from collections.abc import Iterable

from devices.errors import EndOfRecording
from devices.frame import CaptureDevice, Clock, Frame, Pixels


class Scripted(CaptureDevice):
    """Gives the script's pictures one by one and raises its errors where they stand."""

    def __init__(
        self,
        script: Iterable[Pixels | Exception],
        live: bool = False,
        fps: float = 20.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self.live, self.fps = live, fps
        self._script = iter(script)
        self._clock = clock
        self._index = 0

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  a script makes nobody wait
        """Returns the next picture or raises the next error; see `CaptureDevice.read`."""
        line = next(self._script, None)
        if line is None:
            raise EndOfRecording("the script has ended")
        if isinstance(line, Exception):
            raise line
        index, self._index = self._index, self._index + 1
        now = self._clock()
        return Frame(line, now, index, timestamp=now if self.live else index / self.fps)
