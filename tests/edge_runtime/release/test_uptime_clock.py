"""A clock that stands while nobody could look at it."""

from edge_runtime.release.uptime_clock import UptimeClock


def test_time_in_which_its_owner_did_not_run_is_one_step() -> None:
    moments = iter([100.0, 100.25, 125.25, 125.5])
    clock = UptimeClock(lambda: next(moments))
    assert [clock() for _ in range(3)] == [0.25, 1.25, 1.5]
