"""How long a live device may give no frame before its picture is STALE, and before it is LOST.

Change SILENT_TIMEOUTS or LONGEST_SILENCE to change when a silent device counts as LOST.
"""

from devices.capture.silence_limit import SilenceLimit

READ_TIMEOUT = 1.0
"""Seconds that one read of a device may wait for its frame."""
SILENT_TIMEOUTS, LONGEST_SILENCE = 3, 3.0
"""Time-outs without a frame after which a device is LOST: with the default budget within a second,
however long the protocol takes to notice a pulled cable. A device with slow frames gets twice the
time between two frames, up to LONGEST_SILENCE seconds."""


class Silence:
    """Learns how slow the frames of a device are, and decides when their absence means LOST."""

    def __init__(self, now: float) -> None:
        """Begins at `now`, monotonic seconds, with no frame."""
        self._frames, self._last = 0, now
        self._limit = SilenceLimit(0.0, LONGEST_SILENCE)

    def observe(self, frames: int, now: float) -> None:
        """Notes that `frames` frames were read until `now`."""
        if frames > self._frames:
            if self._frames:  # the wait for the first frame says nothing about later frames
                self._limit.learn((now - self._last) / (frames - self._frames))
            self._frames, self._last = frames, now

    def is_lost(self, now: float, timeout: float) -> bool:
        """Whether the device is LOST at `now`; `timeout` is the wait for one frame, in seconds."""
        # A device that never gave a frame is not LOST.
        silence = now - self._last if self._frames else 0.0
        return silence >= max(SILENT_TIMEOUTS * timeout, self._limit.seconds)
