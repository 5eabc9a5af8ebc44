"""The ladder of rates: falls at once, climbs slowly, and never swings faster than its dwell."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.boards import board_names, read_board
from edge_runtime.session.throttle_levels import (
    COOLING_SECONDS,
    ThrottleLevel,
    ThrottleState,
    next_throttle_state,
)

PI = read_board("raspberry-pi-5").thermal
READING = st.tuples(
    st.floats(0.1, 30),
    st.one_of(st.none(), st.floats(20, 110)),
    st.sampled_from([None, False, True]),
)
"""Seconds since the last one, degrees, and whether the processor is throttled."""
READINGS = st.lists(READING, max_size=60)
Reading = tuple[float, float | None, bool | None]


def walk(readings: Sequence[Reading]) -> list[tuple[float, ThrottleLevel]]:
    """The moment of each reading, and the level after it."""
    now, state, walked = 0.0, ThrottleState(), []
    for seconds, celsius, throttled in readings:
        now += seconds
        state = next_throttle_state(state, PI, celsius, throttled, now)
        walked.append((now, state.level))
    return walked


def levels(*readings: Reading) -> list[ThrottleLevel]:
    """The level after each reading."""
    return [level for _, level in walk(list(readings))]


@pytest.mark.parametrize(
    ("celsius", "level"),
    [
        (74.9, ThrottleLevel.FULL),
        (75.0, ThrottleLevel.HALF),
        (80.0, ThrottleLevel.QUARTER),
        (82.5, ThrottleLevel.SINGLE),
        (85.0, ThrottleLevel.WITHHELD),
    ],
)
def test_the_boards_limits_are_the_levels(celsius: float, level: ThrottleLevel) -> None:
    assert levels((1, celsius, False)) == [level]


def test_a_throttled_device_judges_half_however_cool_its_sensor() -> None:
    assert levels(
        (1, 50, True), (COOLING_SECONDS, 50, True), (1, 50, False), (COOLING_SECONDS, 50, False)
    ) == [
        ThrottleLevel.HALF,
        ThrottleLevel.HALF,
        ThrottleLevel.HALF,
        ThrottleLevel.FULL,
    ]


def test_a_level_is_climbed_after_its_dwell_and_below_its_hysteresis() -> None:
    assert levels((1, 80, False), (1, 75, False), (50, 75, False)) == [ThrottleLevel.QUARTER] * 3
    waiting = levels((1, 80, False), (1, 74.9, False), (COOLING_SECONDS - 0.1, 74.9, False))
    assert waiting == [ThrottleLevel.QUARTER] * 3
    climbed = levels(
        (1, 80, False), (1, 74.9, False), (COOLING_SECONDS, 74.9, False), (60, 74.9, False)
    )
    assert climbed == [
        ThrottleLevel.QUARTER,
        ThrottleLevel.QUARTER,
        ThrottleLevel.HALF,
        ThrottleLevel.HALF,
    ]


def test_a_sensor_that_falls_silent_keeps_what_it_said() -> None:
    assert levels((1, 84, False), *[(60.0, None, None)] * 9)[-1] is ThrottleLevel.SINGLE


def test_a_device_without_a_sensor_judges_every_frame() -> None:
    assert levels((1, None, None), (60, None, None)) == [ThrottleLevel.FULL] * 2


@given(READINGS)
def test_it_never_swings_faster_than_its_dwell(readings: list[Reading]) -> None:
    """After any change, the next climb is at least a dwell away."""
    walked = [(0.0, ThrottleLevel.FULL), *walk(readings)]
    changed = None
    for (_, before), (now, after) in pairwise(walked):
        if after < before:
            assert after == before - 1
            assert changed is not None
            assert now - changed >= COOLING_SECONDS - 1e-6
        if after != before:
            changed = now


@given(st.lists(st.tuples(READING, st.floats(0, 40), st.booleans()), max_size=60))
def test_hotter_never_judges_more(pairs: list[tuple[Reading, float, bool]]) -> None:
    cooler = [(seconds, celsius or 20.0, flag) for (seconds, celsius, flag), _, _ in pairs]
    hotter = [
        (seconds, celsius + more, bool(flag) or too)
        for (seconds, celsius, flag), (_, more, too) in zip(cooler, pairs, strict=True)
    ]
    for (_, low), (_, high) in zip(walk(cooler), walk(hotter), strict=True):
        assert high >= low


@given(READINGS)
def test_the_cold_brings_every_frame_back(readings: list[Reading]) -> None:
    cold = [(COOLING_SECONDS, 20.0, False)] * (2 * len(ThrottleLevel))
    assert walk([*readings, *cold])[-1][1] is ThrottleLevel.FULL


@given(READINGS)
def test_no_level_is_above_what_the_reading_allows(readings: list[Reading]) -> None:
    for (_, level), (_, celsius, throttled) in zip(walk(readings), readings, strict=True):
        if celsius is not None:
            demanded = next_throttle_state(ThrottleState(), PI, celsius, throttled, 0.0).level
            assert level >= demanded


@given(st.floats(0.1, 240))
def test_each_level_judges_fewer_frames(fps: float) -> None:
    rates = [level.rate(fps) for level in ThrottleLevel]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (fps, 0)
    assert ThrottleLevel.SINGLE.rate(fps) <= 1


@pytest.mark.parametrize(
    ("level", "due"),
    [
        (ThrottleLevel.FULL, 120),
        (ThrottleLevel.HALF, 60),
        (ThrottleLevel.QUARTER, 30),
        (ThrottleLevel.SINGLE, 4),
        (ThrottleLevel.WITHHELD, 0),
    ],
)
def test_as_many_frames_are_due_as_the_rate_says(level: ThrottleLevel, due: int) -> None:
    """Four seconds at thirty frames, each up to a quarter of a frame's time early or late."""
    times = [(index + (0.75 if index % 3 else 0.25)) / 30 for index in range(120)]
    last, count = -1.0, 0
    for now in times:
        if level.due(now, last, 30):
            last, count = now, count + 1
    assert count == due


def test_every_level_but_the_full_one_says_why() -> None:
    assert [level for level in ThrottleLevel if level.reason is None] == [ThrottleLevel.FULL]


@pytest.mark.parametrize("name", board_names())
def test_every_board_climbs_back_from_each_of_its_limits(name: str) -> None:
    """The hysteresis of no level reaches below what a device at rest may be."""
    thermal = read_board(name).thermal
    assert thermal.half - thermal.hysteresis >= 60
    hot = next_throttle_state(ThrottleState(), thermal, thermal.withheld, None, 0.0)
    assert hot == replace(ThrottleState(), level=ThrottleLevel.WITHHELD, celsius=thermal.withheld)
