"""A picture that may have been held back is never taken for a new one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.capture.capture_time import IMMEDIATE_SECONDS, MIN_HELD_SECONDS, CaptureTime

PERIOD = 0.04


def test_a_picture_that_was_waited_for_is_of_when_it_came() -> None:
    capture_time = CaptureTime(0.0)
    for number in range(1, 5):
        assert capture_time.of_message(PERIOD * (number - 1), PERIOD * number) == PERIOD * number


def test_a_picture_that_lay_there_may_be_as_old_as_the_last_that_did_not() -> None:
    capture_time = CaptureTime(0.0)
    capture_time.of_message(0.0, PERIOD)
    assert capture_time.of_message(0.5, 0.501) == PERIOD
    assert capture_time.of_message(0.9, 0.901) == PERIOD
    assert capture_time.of_message(1.0, 1.0 + PERIOD) == 1.0 + PERIOD


def test_before_anything_came_it_is_as_old_as_the_connection() -> None:
    assert CaptureTime(3.0).of_message(5.0, 5.0) == 3.0


def test_what_comes_after_a_long_wait_may_be_as_old_as_the_wait() -> None:
    capture_time = CaptureTime(0.0)
    for number in range(1, 5):
        capture_time.of_message(PERIOD * (number - 1), PERIOD * number)
    assert capture_time.of_message(0.2, 4.2) == 0.2
    assert [capture_time.of_message(4.2, 4.2) for _ in range(100)] == [0.2] * 100
    assert capture_time.of_message(4.3, 4.3 + PERIOD) == 4.3 + PERIOD


def test_a_source_that_is_slow_by_nature_holds_nothing_back() -> None:
    capture_time = CaptureTime(0.0)
    stamps = [capture_time.of_message(number - 1.0, float(number)) for number in range(1, 6)]
    assert stamps[1:] == [2.0, 3.0, 4.0, 5.0]


@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 2)), min_size=1, max_size=50))
def test_no_picture_is_said_to_be_newer_than_it_came_nor_older_than_the_one_before(
    turns: list[tuple[float, float]],
) -> None:
    capture_time, now, before = CaptureTime(0.0), 0.0, 0.0
    for busy, wait in turns:
        asked, now = now + busy, now + busy + wait
        stamp = capture_time.of_message(asked, now)
        assert before <= stamp <= now
        if wait >= MIN_HELD_SECONDS:
            assert stamp >= asked
        if now - asked < IMMEDIATE_SECONDS:
            assert stamp == pytest.approx(before)
        before = stamp
