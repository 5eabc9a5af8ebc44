"""How long a thread has been at the same task."""

from edge_runtime.models.watchdog import Watchdog


def test_only_time_at_the_same_task_counts() -> None:
    its = Watchdog()
    one, other = object(), object()
    said = []
    for now, task in enumerate([None, one, one, one, other, other, None, one]):
        its.task = task
        said.append(its.waited(now))
    assert said == [0, 0, 1, 2, 0, 1, 0, 0]
