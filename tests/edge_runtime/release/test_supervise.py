"""A release is tried by a real supervisor, as a real process, and gone back from where it fails."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from edge_runtime.release.config import Config, write_config
from edge_runtime.release.layout import (
    CONFIG,
    SINK_COUNTS,
    STATUS,
    VIEW_RECORD,
    Layout,
    is_locked,
    open_lock,
    read_event_log,
    read_link,
    read_record,
    try_lock,
)
from edge_runtime.release.notify import NOTIFY_VARIABLE, Listener
from edge_runtime.release.supervise import BEAT_TIMEOUT, end_with_parent
from edge_runtime.release.switch import read_trial, switch_release, trial_of_current
from edge_runtime.release.tool import release_status
from tests.conftest import Within, wait_until
from tests.edge_runtime.release.conftest import ENVIRONMENT, ROOT, TRIAL, write_settings

Staged = Callable[[str], str]


@contextmanager
def supervisor(
    layout: Layout, around: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A supervisor at work, as the tool starts it."""
    words = ["-m", "edge_runtime.release", "supervise", str(layout.root)]
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **(around or {})},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until(lambda: is_locked(layout.state("supervisor.lock")))
            yield process
        finally:
            process.terminate()
            process.communicate()


def processes(layout: Layout) -> list[int]:
    """The releases that run on a device."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(layout.root).encode() in words and b"serve" in words:
            found.append(int(process.name))
    return found


def test_a_release_that_lives_passes(layout: Layout, good: str, staged: Staged) -> None:
    new = staged("lives again")
    with supervisor(layout):
        switch_release(layout, new)
        wait_until(lambda: not read_trial(layout))
    assert {name: read_link(layout, name) for name in ("current", "previous", "good")} == {
        "current": new,
        "previous": good,
        "good": new,
    }
    assert read_event_log(layout)[-1]["event"] == "passed"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("hangs", "it hangs"),
        ("hangs-late", "it hangs"),
        ("crashes", "it ended with 7"),
        ("searches", "it never reached LIVE"),
        ("faults", "inference failed"),
        ("silent", "it did not begin"),
    ],
)
def test_a_release_that_fails_here_is_gone_back_from_in_time(
    layout: Layout, good: str, staged: Staged, kind: str, why: str, within: Within
) -> None:
    bad = staged(kind)
    with supervisor(layout) as process:
        wait_until(lambda: processes(layout))
        began = time.monotonic()
        switch_release(layout, bad)
        wait_until(lambda: read_link(layout, "current") == good)
        wait_until(lambda: processes(layout))
        assert time.monotonic() - began <= within(TRIAL + 5)
        assert process.poll() is None
    last = read_event_log(layout)[-1]
    assert (last["event"], last["release"], last["to"]) == ("fell back", bad, good)
    assert why in last["why"]
    assert read_link(layout, "previous") == read_link(layout, "good") == good


def test_a_state_that_cannot_be_written_down_ends_no_release(layout: Layout, good: str) -> None:
    """What lies in the place of the state, as after a power cut, is removed."""
    in_the_way = layout.state("status.json") / "folder"
    in_the_way.mkdir(parents=True)
    with supervisor(layout) as process:
        wait_until(lambda: processes(layout))
        time.sleep(3 * BEAT_TIMEOUT)
        assert process.poll() is None
        assert processes(layout)
    assert not in_the_way.exists()


def test_a_release_that_starts_has_the_counts_and_the_view_of_no_earlier_one(
    layout: Layout, good: str
) -> None:
    """An earlier configuration may have had sinks, and a view, that this one does not have."""
    for name in (SINK_COUNTS, VIEW_RECORD):
        layout.state(name).write_text('{"sinks": [{}]}')
    with supervisor(layout):
        wait_until(lambda: processes(layout))
        status = release_status(layout)
    assert (status["sinks"], status["view"]) == ([], None)


def test_a_release_that_cannot_be_started_is_gone_back_from(
    layout: Layout, good: str, staged: Staged
) -> None:
    bad = staged("lives elsewhere")
    (layout.release(bad) / "environment").unlink()
    with supervisor(layout):
        switch_release(layout, bad)
        wait_until(lambda: read_link(layout, "current") == good)
    assert "cannot be started" in read_event_log(layout)[-1]["why"]


def test_a_trial_goes_on_after_a_power_cut(layout: Layout, good: str, staged: Staged) -> None:
    new = staged("lives again")
    write_settings(layout, seconds=2 * TRIAL)
    with supervisor(layout) as process:
        switch_release(layout, new)
        wait_until(lambda: (trial := read_trial(layout)) and trial.starts == 1)
        process.kill()
    wait_until(lambda: not processes(layout))
    assert trial_of_current(layout)
    with supervisor(layout):
        wait_until(lambda: not read_trial(layout))
    assert read_link(layout, "good") == new


def test_a_trial_that_takes_the_machine_down_is_not_repeated_for_ever(
    layout: Layout, good: str, staged: Staged
) -> None:
    new = staged("lives again")
    switch_release(layout, new)
    for _ in range(2):
        with supervisor(layout) as process:
            wait_until(lambda: processes(layout))
            process.kill()
        wait_until(lambda: not processes(layout))
    with supervisor(layout):
        wait_until(lambda: read_link(layout, "current") == good)
    assert "interrupted 2 times" in read_event_log(layout)[-1]["why"]


def test_the_first_release_has_nothing_behind_it_and_says_why_it_failed(
    layout: Layout, staged: Staged
) -> None:
    switch_release(layout, staged("searches"))
    with supervisor(layout):
        wait_until(lambda: not read_trial(layout))
    assert [line["event"] for line in read_event_log(layout)][:2] == ["switched", "failed"]


def test_a_proven_release_that_ends_ends_its_supervisor_too(
    layout: Layout, good: str, staged: Staged
) -> None:
    """So that whoever starts it counts how often, and stops at his limit."""
    with supervisor(layout) as process:
        wait_until(lambda: processes(layout))
        os.kill(processes(layout)[0], signal.SIGKILL)
        assert process.wait(120) == 2
    assert read_event_log(layout)[-1]["event"] == "ended"


def test_no_release_outlives_its_supervisor(layout: Layout, good: str) -> None:
    with supervisor(layout) as process:
        wait_until(lambda: processes(layout))
        process.kill()
        wait_until(lambda: not processes(layout))


def test_a_release_whose_supervisor_died_before_it_began_does_not_begin() -> None:
    another = os.getppid()
    with subprocess.Popen(
        ["sleep", "600"], preexec_fn=partial(end_with_parent, another)
    ) as release:
        assert release.wait(120) == -signal.SIGKILL


def test_a_changed_configuration_starts_the_release_anew(layout: Layout, good: str) -> None:
    with supervisor(layout):
        wait_until(lambda: processes(layout))
        before = processes(layout)
        write_settings(layout, seconds=9)
        wait_until(lambda: processes(layout) and processes(layout) != before)


def test_a_configuration_that_cannot_be_used_ends_no_release(layout: Layout, good: str) -> None:
    """Such as one that an editor has written half."""
    with supervisor(layout):
        wait_until(lambda: processes(layout))
        before = processes(layout)
        (layout.root / CONFIG).write_text("source = 5\n")
        wait_until(lambda: read_event_log(layout))
        assert processes(layout) == before
        write_settings(layout, seconds=9)
        wait_until(lambda: processes(layout) and processes(layout) != before)
    (told,) = read_event_log(layout)
    assert (told["event"], told["release"]) == ("not configured", good)
    assert "source is of the wrong type" in told["why"]


def awaited(layout: Layout, release: str) -> subprocess.CompletedProcess[str]:
    """The answer of the tool, which waits for what becomes of a release."""
    words = ["-m", "edge_runtime.release", "await", str(layout.root), release]
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_proven_release_is_awaited_until_it_begins_with_other_settings(
    layout: Layout, good: str
) -> None:
    with supervisor(layout):
        wait_until(lambda: read_record(layout.state(STATUS)))
        before = processes(layout)
        switch_release(layout, good, config=write_config(Config("phantom:", roi="1,1,50,50")))
        done = awaited(layout, good)
        assert processes(layout) != before
        assert read_record(layout.state(STATUS))["release"] == good
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["event"] == "configured"


def test_a_proven_release_that_does_not_run_with_other_settings_is_told(
    layout: Layout, good: str
) -> None:
    with supervisor(layout):
        wait_until(lambda: read_record(layout.state(STATUS)))
        (layout.environment(ENVIRONMENT) / "bin" / "sonolite").unlink()
        switch_release(layout, good, config=write_config(Config("phantom:", roi="1,1,50,50")))
        done = awaited(layout, good)
    assert done.returncode == 2, done
    assert f"the release {good} does not run with these settings" in done.stderr
    status = release_status(layout)
    assert (status["running"], status["outcome"]["event"]) == (False, "ended")


def test_systemd_is_told_only_what_the_release_says(
    layout: Layout, good: str, staged: Staged
) -> None:
    """Ready with the first beat, fed by each, and not a moment longer than it beats."""
    with Listener() as systemd, supervisor(layout, {NOTIFY_VARIABLE: systemd.address}):
        wait_until(lambda: (systemd.receive(1) or {}).get("READY"))
        said = systemd.receive(1) or {}
        assert (said["WATCHDOG"], said["STATUS"]) == ("1", "LIVE")
        os.kill(processes(layout)[0], signal.SIGSTOP)
        time.sleep(8 * BEAT_TIMEOUT)
        while systemd.receive(0.01):
            pass
        assert systemd.receive(4 * BEAT_TIMEOUT) is None
        os.kill(processes(layout)[0], signal.SIGCONT)


def test_a_look_at_the_lock_keeps_no_supervisor_from_its_work(layout: Layout, good: str) -> None:
    """`is_locked` takes the lock for a moment."""
    handle = open_lock(layout.state("supervisor.lock"))
    assert try_lock(handle)
    ended = threading.Timer(0.7, os.close, [handle])
    ended.start()
    with supervisor(layout) as process:
        ended.join()
        wait_until(lambda: processes(layout))
        assert process.poll() is None


def test_only_one_supervisor_works_on_a_device(layout: Layout, good: str) -> None:
    with supervisor(layout), supervisor(layout) as second:
        assert second.wait(120) == 2
        assert second.stderr is not None
        assert "a supervisor is at work already" in second.stderr.read()
