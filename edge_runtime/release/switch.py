"""The switch from one release to another, and back.

A switch writes the trial to the disk, then moves two links. Where anything stops it, the next start
of the service finds either the old release, or the new release on trial:

    trial.json    current      a start of the service
    none          any          runs the current release
    names NEW     not NEW      the switch was cut short, or taken back: removes the trial
    names NEW     NEW          runs NEW on trial; a third start in one trial goes back at once
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields, replace
from pathlib import Path

from edge_runtime.release.config import (
    MAX_TRIAL_SECONDS,
    MIN_TRIAL_SECONDS,
    TRIAL_STATES,
    Config,
    parse_config,
    read_config,
)
from edge_runtime.release.layout import (
    BUNDLE,
    CONFIG,
    EXAMINATION_LOCK,
    LINKS,
    RECORD,
    STATUS,
    Layout,
    Refused,
    clear_place,
    config_mode,
    hold_lock,
    is_locked,
    is_release_name,
    log_event,
    read_file,
    read_json_file,
    read_link,
    read_record,
    set_aside,
    set_link,
    write_file,
    write_json_file,
)
from edge_runtime.release.trial import Trial

CONFIGURED = "configured"
"""The event of the log that begins a proven release anew, with other settings."""
MAX_STARTS = 2
"""Starts of one trial: a release that stops the whole machine is not tried for ever."""


def read_trial(layout: Layout) -> Trial | None:
    """The trial that is under way, None without one; a file that cannot be read counts as none."""
    return parse_trial(read_json_file(layout.state("trial.json")))


def parse_trial(table: object) -> Trial | None:
    """The trial that a JSON value describes; None where it describes none."""
    if not isinstance(table, dict) or set(table) != {field.name for field in fields(Trial)}:
        return None
    trial = Trial(**table)
    releases = (trial.back, trial.before)
    sound = (
        is_release_name(trial.release)
        and all(name is None or is_release_name(name) for name in releases)
        and type(trial.seconds) in (int, float)
        and MIN_TRIAL_SECONDS <= trial.seconds <= MAX_TRIAL_SECONDS
        and trial.state in TRIAL_STATES
        and type(trial.starts) is int
        and trial.starts >= 0
    )
    return trial if sound else None


def trial_of_current(layout: Layout) -> Trial | None:
    """The trial of the current release, if it is on trial."""
    trial = read_trial(layout)
    return trial if trial and trial.release == read_link(layout, "current") else None


def write_trial(layout: Layout, trial: Trial | None) -> None:
    """Writes the trial to the disk, or removes it."""
    if trial is None:
        clear_place(layout.state("trial.json"))
    else:
        write_json_file(layout.state("trial.json"), asdict(trial))


def switch_release(
    layout: Layout, release: str, wait: float = 0, force: bool = False, config: str = ""
) -> None:
    """Puts a release on trial, with a new configuration where `config` is given.

    A release that passed its trial is not tried again: it begins anew with the configuration.
    The supervisor sees the switch and starts the release. Raises Refused during an examination that
    does not end within `wait` seconds, unless `force` is set, and during the trial of another
    release.
    """
    _require(layout, release)
    where = str(layout.root / CONFIG)
    new = parse_config(config, where) if config else read_config(Path(where))
    with _no_examination(layout, wait, force), hold_lock(layout.state("switch.lock")):
        if config:
            write_file(Path(where), config.encode(), mode=config_mode(layout))
        current = read_link(layout, "current")
        on_trial, good = trial_of_current(layout), read_link(layout, "good")
        if current == release and (on_trial or good == release):
            if config and not on_trial:
                clear_place(layout.state(STATUS))  # it is written when the release begins anew
                log_event(layout, CONFIGURED, release=release)
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
        repair_state(layout)
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


def repair_state(layout: Layout) -> None:
    """Sets damaged files of the state aside, tells so in the log, and makes anew what is needed.

    After a power cut, or on a worn card, any byte may stand in any file. Where `current` names no
    release, the device runs the release before the trial, else the last good one, else any.
    Where the trial is damaged, a release that never passed one is tried anew.
    """
    for name in damaged_files(layout):
        set_aside(layout.root / name)
        log_event(layout, "damaged", file=name)
        if name == "state/trial.json":
            _try_anew(layout)
    current = read_link(layout, "current")
    if current is not None and (layout.release(current) / BUNDLE).is_file():
        return
    if not (layout.root / CONFIG).exists():  # nothing was switched to yet
        return
    trial = read_trial(layout)
    names = [
        trial.back if trial else None,
        read_link(layout, "good"),
        read_link(layout, "previous"),
    ]
    releases = layout.release("")
    names += sorted(path.name for path in releases.iterdir()) if releases.is_dir() else []
    for release in names:
        if is_release_name(release) and release and (layout.release(release) / BUNDLE).is_file():
            log_event(layout, "repaired", release=release, why="the link current is damaged")
            set_link(layout, "current", release)
            write_trial(layout, None)
            return


def _try_anew(layout: Layout) -> None:
    """Begins the trial of the current release anew, unless the release is the last good one."""
    current, good = read_link(layout, "current"), read_link(layout, "good")
    if current is None or current == good:
        return
    try:
        config = read_config(layout.root / CONFIG)
    except Refused:
        config = Config("")
    back = good or read_link(layout, "previous")
    back = None if back == current else back
    write_trial(layout, Trial(current, back, back, config.trial_seconds, config.trial_state))


def damaged_files(layout: Layout) -> list[str]:
    """The paths below the root of state files that are there and cannot be read.

    The log of switches is not among them: it loses single lines, see `log_event`.
    """
    damaged = []
    for name in LINKS:
        link = layout.link(name)
        if (link.is_symlink() or link.exists()) and read_link(layout, name) is None:
            damaged.append(str(link.relative_to(layout.root)))
    if _is_damaged(layout.state("trial.json"), lambda table: parse_trial(table) is not None):
        damaged.append("state/trial.json")
    releases = layout.release("")
    for folder in sorted(releases.iterdir()) if releases.is_dir() else ():
        record = folder / RECORD
        if is_release_name(folder.name) and _is_damaged(record, is_release_record):
            damaged.append(str(record.relative_to(layout.root)))
    return damaged


def is_release_record(record: object) -> bool:
    """Whether a JSON value is the content of `release.json`."""
    return isinstance(record, dict) and all(
        isinstance(record.get(name), str) for name in ("bundle", "sha256", "environment")
    )


def _is_damaged(path: Path, is_sound: Callable[[object], bool]) -> bool:
    """Whether there is something at a path that is no sound JSON."""
    if not (path.is_symlink() or path.exists()):
        return False
    try:
        return not is_sound(json.loads(read_file(path)))
    except FileNotFoundError:
        return False
    except (Refused, ValueError, RecursionError):
        return True


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
    if not is_release_name(release) or not read_record(layout.release(release) / RECORD):
        raise Refused(f"there is no release {release}")
