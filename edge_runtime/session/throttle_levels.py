"""The ladder of rates: a hot device judges fewer frames; the model is never changed for it."""

import math
from dataclasses import dataclass
from enum import IntEnum

from devices.boards import Thermal

COOLING_SECONDS = 10.0
"""Seconds that a device must have been cool before it climbs one rung."""


class ThrottleLevel(IntEnum):
    """How many frames are judged; the higher the number, the fewer."""

    FULL = 0
    HALF = 1
    QUARTER = 2
    SINGLE = 3
    """One frame a second, or a quarter where that is fewer."""
    WITHHELD = 4

    def rate(self, fps: float) -> float:
        """Frames to judge a second, of a device that gives `fps`."""
        rates = (fps, fps / 2, fps / 4, min(1.0, fps / 4), 0.0)
        return rates[self]

    def due(self, captured_at: float, last: float, fps: float) -> bool:
        """Whether to judge a frame captured at this moment; the last that was judged was at `last`.

        Time is cut into pieces of one frame each, and the first frame of a piece is judged: frames
        do not come by the clock, and a wait since the last would add up.
        """
        if self is ThrottleLevel.FULL:
            return True
        rate = self.rate(fps)
        return math.floor(captured_at * rate) > math.floor(last * rate)

    @property
    def reason(self) -> str | None:
        """What to tell the person; None where nothing is held back."""
        return _REASONS[self]


_REASONS = (
    None,
    "the device is hot: half of the frames are judged",
    "the device is hot: a quarter of the frames is judged",
    "the device is hot: one frame a second is judged",
    "the device is too hot: no frame is judged until it has cooled",
)


@dataclass(frozen=True)
class ThrottleState:
    """Where on the ladder a device stands, and what it needs to know to move."""

    level: ThrottleLevel = ThrottleLevel.FULL
    cool_since: float | None = None
    """Since when it has been cool enough to climb, monotonic seconds; None where it is not."""
    celsius: float | None = None
    """The last temperature that was read; a sensor that falls silent keeps it."""


def next_throttle_state(
    state: ThrottleState,
    thermal: Thermal,
    celsius: float | None,
    throttled: bool | None,
    now: float,
) -> ThrottleState:
    """The state that follows a reading at `now`, monotonic seconds.

    A hot device classifies fewer frames at once: its level follows the temperature, and is at least
    HALF while the processor is throttled. The level goes back by one after COOLING_SECONDS in which
    the processor was not throttled and the temperature lay below the level's limit by more than the
    hysteresis. `celsius` and `throttled` are None where the sensor gave nothing.
    """
    celsius = state.celsius if celsius is None else celsius
    demanded = _demanded(thermal, celsius, throttled)
    if demanded > state.level:
        return ThrottleState(demanded, None, celsius)
    if state.level is ThrottleLevel.FULL or throttled or not _cool(state.level, thermal, celsius):
        return ThrottleState(state.level, None, celsius)
    since = now if state.cool_since is None else state.cool_since
    if now - since < COOLING_SECONDS:
        return ThrottleState(state.level, since, celsius)
    return ThrottleState(ThrottleLevel(state.level - 1), None, celsius)


def _limits(thermal: Thermal) -> tuple[float, ...]:
    """Degrees from which each rung below FULL is demanded."""
    return thermal.half, thermal.quarter, thermal.single, thermal.withheld


def _demanded(thermal: Thermal, celsius: float | None, throttled: bool | None) -> ThrottleLevel:
    """The highest rung that this reading allows."""
    hot = 0 if celsius is None else sum(celsius >= limit for limit in _limits(thermal))
    return max(ThrottleLevel(hot), ThrottleLevel.HALF if throttled else ThrottleLevel.FULL)


def _cool(level: ThrottleLevel, thermal: Thermal, celsius: float | None) -> bool:
    """Whether this temperature lets a device climb from `rung`."""
    return celsius is None or celsius < _limits(thermal)[level - 1] - thermal.hysteresis
