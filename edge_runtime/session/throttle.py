"""Fewer frames for a hot device: its health is read once a second, apart from the frames."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from devices import Clock
from devices.boards import Board, Sensors
from devices.health import Health, read_health, troubles
from edge_runtime.session.throttle_levels import ThrottleLevel, ThrottleState, next_throttle_state

READING_INTERVAL = 1.0
"""Seconds between two readings."""


class Throttle:
    """The throttle level of a board, and its troubles; without a board always the full rate."""

    def __init__(
        self,
        board: Board | None = None,
        clock: Clock = time.monotonic,
        read: Callable[[Board], Health] = lambda board: read_health(
            board.sensors, Path(sys.prefix)
        ),
    ) -> None:
        self._board, self._clock, self._read = board, clock, read
        self._state = ThrottleState()
        self._next, self._last = float("-inf"), 0.0
        self.troubles: tuple[str, ...] = ()
        """The troubles of the device, a line each."""

    @property
    def level(self) -> ThrottleLevel:
        """The level of the board now."""
        return self._state.level

    def celsius(self) -> float | None:
        """The temperature, degrees Celsius; without a board that of the hottest thermal zone.

        None where no sensor gives it.
        """
        if self._board is not None:
            return self._state.celsius
        return read_health(Sensors(), Path(sys.prefix)).celsius

    def update(self) -> None:
        """Reads the health of the board once in READING_INTERVAL; for the watching thread."""
        now = self._clock()
        if self._board is None or now < self._next:
            return
        self._next = now + READING_INTERVAL
        health = self._read(self._board)
        self._state = next_throttle_state(
            self._state, self._board.thermal, health.celsius, health.throttled, now
        )
        hot = self.level.reason
        self.troubles = (*troubles(health), *([hot] if hot else []))

    def admits(self, captured_at: float, fps: float) -> bool:
        """Whether to classify a frame captured at this moment; for the capturing thread."""
        if not self.level.due(captured_at, self._last, fps):
            return False
        self._last = captured_at
        return True

    def frame_timeout(self, budget: float, fps: float) -> float:
        """Seconds without a frame after which a device of that frame rate counts as silent."""
        rate = self.level.rate(fps)
        return max(budget, 2 / fps if self.level is ThrottleLevel.FULL or not rate else 1.5 / rate)
