"""A picture that may have been held back is never taken for a new one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.capture.arrival import IMMEDIATE_SECONDS, MIN_HELD_SECONDS, ArrivalTime

PERIOD = 0.04


def test_a_picture_that_was_waited_for_is_of_when_it_came() -> None:
    arrival = ArrivalTime(0.0)
    for number in range(1, 5):
        assert arrival.came(PERIOD * (number - 1), PERIOD * number) == PERIOD * number


def test_a_picture_that_lay_there_may_be_as_old_as_the_last_that_did_not() -> None:
    arrival = ArrivalTime(0.0)
    arrival.came(0.0, PERIOD)
    assert arrival.came(0.5, 0.501) == PERIOD
    assert arrival.came(0.9, 0.901) == PERIOD
    assert arrival.came(1.0, 1.0 + PERIOD) == 1.0 + PERIOD


def test_before_anything_came_it_is_as_old_as_the_connection() -> None:
    assert ArrivalTime(3.0).came(5.0, 5.0) == 3.0


def test_what_comes_after_a_long_wait_may_be_as_old_as_the_wait() -> None:
    arrival = ArrivalTime(0.0)
    for number in range(1, 5):
        arrival.came(PERIOD * (number - 1), PERIOD * number)
    assert arrival.came(0.2, 4.2) == 0.2
    assert [arrival.came(4.2, 4.2) for _ in range(100)] == [0.2] * 100
    assert arrival.came(4.3, 4.3 + PERIOD) == 4.3 + PERIOD


def test_a_source_that_is_slow_by_nature_holds_nothing_back() -> None:
    arrival = ArrivalTime(0.0)
    stamps = [arrival.came(number - 1.0, float(number)) for number in range(1, 6)]
    assert stamps[1:] == [2.0, 3.0, 4.0, 5.0]


@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 2)), min_size=1, max_size=50))
def test_no_picture_is_said_to_be_newer_than_it_came_nor_older_than_the_one_before(
    turns: list[tuple[float, float]],
) -> None:
    arrival, now, before = ArrivalTime(0.0), 0.0, 0.0
    for busy, wait in turns:
        asked, now = now + busy, now + busy + wait
        stamp = arrival.came(asked, now)
        assert before <= stamp <= now
        if wait >= MIN_HELD_SECONDS:
            assert stamp >= asked
        if now - asked < IMMEDIATE_SECONDS:
            assert stamp == pytest.approx(before)
        before = stamp
