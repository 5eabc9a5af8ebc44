"""The throttle levels: a hot device classifies fewer frames, with the same model."""

import math
from dataclasses import dataclass
from enum import IntEnum

from devices.boards import Thermal

COOLING_SECONDS = 10.0
"""Seconds that a device must stay cool before its level goes back by one."""


class ThrottleLevel(IntEnum):
    """How many frames are classified; the higher the level, the fewer."""

    FULL = 0
    HALF = 1
    QUARTER = 2
    SINGLE = 3
    """One frame a second, or a quarter of the frames where that is fewer."""
    WITHHELD = 4

    def rate(self, fps: float) -> float:
        """Frames to classify a second, of a device that gives `fps`."""
        rates = (fps, fps / 2, fps / 4, min(1.0, fps / 4), 0.0)
        return rates[self]

    def due(self, captured_at: float, last: float, fps: float) -> bool:
        """Whether to classify a frame captured at this moment, after the last one at `last`.

        Time is cut into equal pieces, and the first frame of a piece is classified. A fixed wait
        after the last frame would add up, because frames do not come exactly by the clock.
        """
        if self is ThrottleLevel.FULL:
            return True
        rate = self.rate(fps)
        return math.floor(captured_at * rate) > math.floor(last * rate)

    @property
    def reason(self) -> str | None:
        """The line for the user; None at the full rate."""
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
    """The throttle level of a device, and the readings that decide the next one."""

    level: ThrottleLevel = ThrottleLevel.FULL
    cool_since: float | None = None
    """Monotonic seconds since which the device is cool enough for the level below; None where it is
    not."""
    celsius: float | None = None
    """The last temperature that was read; it stays while the sensor gives nothing."""


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
    """Degrees Celsius from which on each level above FULL is needed."""
    return thermal.half, thermal.quarter, thermal.single, thermal.withheld


def _demanded(thermal: Thermal, celsius: float | None, throttled: bool | None) -> ThrottleLevel:
    """The lowest level that this reading allows."""
    hot = 0 if celsius is None else sum(celsius >= limit for limit in _limits(thermal))
    return max(ThrottleLevel(hot), ThrottleLevel.HALF if throttled else ThrottleLevel.FULL)


def _cool(level: ThrottleLevel, thermal: Thermal, celsius: float | None) -> bool:
    """Whether this temperature lets a device go back from `level`."""
    return celsius is None or celsius < _limits(thermal)[level - 1] - thermal.hysteresis
