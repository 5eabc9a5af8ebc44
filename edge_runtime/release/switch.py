"""From one release to another, and back.

A switch writes the trial down, then moves two links. Whatever stops it, the next start of the
service finds either the old release, or the new one with its trial still to be judged:

    trial.json    current      what a start makes of it
    none          any          runs it
    names NEW     not NEW      the switch was cut short, or taken back: forgets the trial
    names NEW     NEW          tries it; a third start within one trial goes back at once
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
"""Of one trial: a release that takes the machine down with it is not tried for ever."""


def read_trial(layout: Layout) -> Trial | None:
    """The trial that is under way, if any; what cannot be read was never under way."""
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
    """Writes down that a trial is under way, or that none is."""
    if trial is None:
        layout.state("trial.json").unlink(missing_ok=True)
    else:
        write_json_file(layout.state("trial.json"), asdict(trial))


def switch_release(
    layout: Layout, release: str, wait: float = 0, force: bool = False, config: str = ""
) -> None:
    """Puts a release on trial, with a new configuration where one is given; the supervisor sees it
    and starts it.

    Raises Refused during an examination that does not end within `wait` seconds, unless
    `force`d, and where another release is on trial.
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
        if back == release:  # it failed as the first one of this device, and is tried again
            back = good
        trial = Trial(release, back, before, new.trial_seconds, new.trial_state)
        write_trial(layout, trial)
        log_event(layout, "switched", release=release, previous=back, forced=force)
        set_link(layout, "previous", back or release)
        set_link(layout, "current", release)


def roll_back(layout: Layout, wait: float, force: bool) -> str:
    """Goes back to the previous release, by a person's wish and without a trial; its name."""
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
    """The release to start now, and its trial; see the module's table.

    Raises Refused where no release is there.
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
    """Goes back from a release that did not pass its trial, and says why.

    The first release of a device has nothing behind it: it stays, and its trial is over.
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
    """Ends a trial well: the release is the last good one."""
    with hold_lock(layout.state("switch.lock")):
        set_link(layout, "good", trial.release)
        log_event(layout, "passed", release=trial.release)
        write_trial(layout, None)


@contextmanager
def _no_examination(layout: Layout, wait: float, force: bool) -> Iterator[None]:
    """Holds off examinations; `force` does not ask. Raises Refused while there is one."""
    busy = "an examination is under way; wait for its end, or --force"
    with nullcontext() if force else hold_lock(layout.state(EXAMINATION_LOCK), wait, busy):
        yield


def _require(layout: Layout, release: str) -> None:
    """Raises Refused where a release is not whole."""
    if not release.isalnum() or not read_json_file(layout.release(release) / RECORD):
        raise Refused(f"there is no release {release}")
