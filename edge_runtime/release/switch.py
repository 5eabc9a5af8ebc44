"""The switch from one release to another, and back.

A switch writes the trial to the disk, then moves two links. Where anything stops it, the next start
of the service finds either the old release, or the new release on trial:

    trial.json    current      a start of the service
    none          any          runs the current release
    names NEW     not NEW      the switch was cut short, or taken back: removes the trial
    names NEW     NEW          runs NEW on trial; a third start in one trial goes back at once
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from edge_runtime.release.config import parse_config, read_config
from edge_runtime.release.layout import (
    CONFIG,
    EXAMINATION_LOCK,
    RECORD,
    Layout,
    Refused,
    hold_lock,
    is_locked,
    log_event,
    read_json_file,
    read_link,
    set_link,
    write_file,
    write_json_file,
)
from edge_runtime.release.trial import Trial

MAX_STARTS = 2
"""Starts of one trial: a release that stops the whole machine is not tried for ever."""


def read_trial(layout: Layout) -> Trial | None:
    """The trial that is under way, None without one; a file that cannot be read counts as none."""
    table = read_json_file(layout.state("trial.json"))
    try:
        return None if table is None else Trial(**table)
    except TypeError:
        return None


def trial_of_current(layout: Layout) -> Trial | None:
    """The trial of the current release, if it is on trial."""
    trial = read_trial(layout)
    return trial if trial and trial.release == read_link(layout, "current") else None


def write_trial(layout: Layout, trial: Trial | None) -> None:
    """Writes the trial to the disk, or removes it."""
    if trial is None:
        layout.state("trial.json").unlink(missing_ok=True)
    else:
        write_json_file(layout.state("trial.json"), asdict(trial))


def switch_release(
    layout: Layout, release: str, wait: float = 0, force: bool = False, config: str = ""
) -> None:
    """Puts a release on trial, with a new configuration where `config` is given.

    The supervisor sees the switch and starts the release. Raises Refused during an examination that
    does not end within `wait` seconds, unless `force` is set, and during the trial of another
    release.
    """
    _require(layout, release)
    where = str(layout.root / CONFIG)
    new = parse_config(config, where) if config else read_config(Path(where))
    with _no_examination(layout, wait, force), hold_lock(layout.state("switch.lock")):
        if config:
            write_file(Path(where), config.encode())
        current = read_link(layout, "current")
        on_trial, good = trial_of_current(layout), read_link(layout, "good")
        if current == release and (on_trial or good == release):
            return
        if on_trial and is_locked(layout.state("supervisor.lock")) and not force:
            raise Refused(f"the release {current} is on trial; wait until it is judged")
        back, before = current, read_link(layout, "previous")
        if on_trial:
            back, before = on_trial.back, on_trial.before
        if back == release:  # the first release of this device failed, and is tried again
            back = good
        trial = Trial(release, back, before, new.trial_seconds, new.trial_state)
        write_trial(layout, trial)
        log_event(layout, "switched", release=release, previous=back, forced=force)
        set_link(layout, "previous", back or release)
        set_link(layout, "current", release)


def roll_back(layout: Layout, wait: float, force: bool) -> str:
    """Goes back to the previous release without a trial, and returns its name."""
    with _no_examination(layout, wait, force), hold_lock(layout.state("switch.lock")):
        current, previous = read_link(layout, "current"), read_link(layout, "previous")
        if current is None or previous in (None, current):
            raise Refused("there is no other release to go back to")
        assert previous is not None
        _require(layout, previous)
        log_event(layout, "went back", release=previous, left=current, forced=force)
        set_link(layout, "current", previous)
        set_link(layout, "previous", current)
        write_trial(layout, None)
        return previous


def release_to_start(layout: Layout) -> tuple[str, Trial | None]:
    """The release to start now, and its trial; see the table above.

    Raises Refused where there is no release.
    """
    with hold_lock(layout.state("switch.lock")):
        trial, current = read_trial(layout), read_link(layout, "current")
        if trial and trial.release != current:
            log_event(layout, "not switched", release=trial.release, why="the switch was cut short")
            write_trial(layout, None)
            trial = None
        if current is None:
            raise Refused(f"{layout.root}: no release is here; deploy one")
    if trial and trial.starts >= MAX_STARTS and trial.back:
        fail_trial(layout, trial, f"its trial was interrupted {trial.starts} times")
        return trial.back, None
    if trial:
        trial = replace(trial, starts=trial.starts + 1)
        write_trial(layout, trial)
    return current, trial


def fail_trial(layout: Layout, trial: Trial, why: str) -> None:
    """Ends a trial that failed: goes back to the release before, and logs why.

    The first release of a device has no release before it: it stays, and the trial is over.
    """
    with hold_lock(layout.state("switch.lock")):
        if read_link(layout, "current") != trial.release:
            return
        event = "fell back" if trial.back else "failed"
        log_event(layout, event, release=trial.release, to=trial.back, why=why)
        if trial.back:
            set_link(layout, "current", trial.back)
            set_link(layout, "previous", trial.before or trial.back)
        write_trial(layout, None)


def pass_trial(layout: Layout, trial: Trial) -> None:
    """Ends a trial that passed: the release is now the last good one."""
    with hold_lock(layout.state("switch.lock")):
        set_link(layout, "good", trial.release)
        log_event(layout, "passed", release=trial.release)
        write_trial(layout, None)


@contextmanager
def _no_examination(layout: Layout, wait: float, force: bool) -> Iterator[None]:
    """Prevents an examination from starting; Refused while there is one, unless `force` is set."""
    busy = "an examination is under way; wait for its end, or --force"
    with nullcontext() if force else hold_lock(layout.state(EXAMINATION_LOCK), wait, busy):
        yield


def _require(layout: Layout, release: str) -> None:
    """Raises Refused where a release is not whole."""
    if not release.isalnum() or not read_json_file(layout.release(release) / RECORD):
        raise Refused(f"there is no release {release}")
