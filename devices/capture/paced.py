"""A recording that plays as it was recorded, for somebody who watches."""

import time

from devices.frame import CaptureDevice, Frame


class PacedRecording(CaptureDevice):
    """A recording that plays at its own frame rate."""

    live = False

    def __init__(self, recording: CaptureDevice) -> None:
        self._recording, self.fps = recording, recording.fps
        self.region, self.notes = recording.region, recording.notes
        self.received = recording.received
        self._due = time.monotonic()

    def read(self, timeout: float) -> Frame:
        """Returns the next frame when its time has come; see `CaptureDevice.read`."""
        time.sleep(max(0.0, min(self._due - time.monotonic(), timeout)))
        self._due = max(self._due, time.monotonic() - 1 / self.fps) + 1 / self.fps
        try:
            return self._recording.read(timeout)
        finally:
            self.damaged = self._recording.damaged

    def close(self) -> None:
        """Closes the recording."""
        self._recording.close()
