"""A source that is slow by nature is not taken for one that has gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.capture.silence_limit import SilenceLimit


@given(waits=st.lists(st.floats(0, 100), min_size=2))
def test_it_is_twice_what_a_source_takes_and_within_bounds(waits: list[float]) -> None:
    silence_limit = SilenceLimit(0.8, 3.0)
    for waited in waits:
        silence_limit.learn(waited)
    assert float(silence_limit) == min(max(0.8, 2 * min(waits[-2:])), 3.0)


def test_it_is_long_until_two_frames_came() -> None:
    silence_limit = SilenceLimit(0.8, 3.0)
    assert silence_limit.seconds == 3.0
    silence_limit.learn(1.2)
    assert silence_limit.seconds == pytest.approx(2.4)


def test_one_long_wait_is_no_slow_source() -> None:
    silence_limit = SilenceLimit(0.8, 3.0)
    for waited in (0.04, 0.04, 60.0):
        silence_limit.learn(waited)
    assert silence_limit.seconds == 0.8
