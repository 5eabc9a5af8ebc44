"""The command line of `release.pyz` on a device: one action a call; answers are JSON on stdout.

Exit codes as everywhere: 0 done, 1 a release fell back, 2 refused, with one line on stderr.
"""

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_runtime.release.config import read_config
from edge_runtime.release.drift_files import device_days
from edge_runtime.release.kiosk import run_kiosk
from edge_runtime.release.layout import (
    COMPLETE,
    CONFIG,
    EXAMINATION_LOCK,
    LINKS,
    POLL_SECONDS,
    RECORD,
    SINK_COUNTS,
    STATUS,
    TRUSTED,
    VIEW_RECORD,
    Layout,
    Refused,
    hold_lock,
    is_locked,
    make_folders,
    read_event_log,
    read_file,
    read_link,
    read_record,
    require_own,
)
from edge_runtime.release.prune import find_surplus, remove_surplus
from edge_runtime.release.stage import make_environment, receive_file, received_size, stage_release
from edge_runtime.release.supervise import SUPERVISOR_START_SECONDS, start_supervisor, supervise
from edge_runtime.release.switch import (
    CONFIGURED,
    damaged_files,
    repair_state,
    roll_back,
    switch_release,
    trial_of_current,
)

BROKEN_SECONDS = 60.0
"""Seconds that the action of a broken deployment may still take to end."""
TRIAL_OUTCOMES = ("passed", "fell back", "failed", "went back", "not switched")
"""The events of the log that end a trial."""
ENDED = "ended"
"""The event of the log that says that a proven release ended."""


def main(arguments: list[str] | None = None) -> None:
    """Does one action on the device."""
    options = _parser().parse_args(arguments)
    os.umask(0o022)
    layout = Layout(Path(options.root))
    try:
        sys.exit(_act(layout, options))
    except Refused as error:
        _fail(str(error))
    except (OSError, shutil.Error) as error:
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")


def _act(layout: Layout, options: argparse.Namespace) -> int:
    """Does the action; returns the exit code."""
    match options.action:
        case "supervise":
            supervise(layout)
        case "start":
            start_supervisor(layout)
        case "kiosk":
            run_kiosk(layout)
        case "prepare":
            make_folders(layout)
        case "status":
            print(json.dumps(release_status(layout)))
        case "log":
            print("\n".join(json.dumps(line) for line in read_event_log(layout)[-options.lines :]))
        case "drift":
            print(json.dumps(device_days(layout, options.since, options.until)))
        case "received":
            print(json.dumps({digest: received_size(layout, digest) for digest in options.digest}))
        case "receive":
            with open(0, "rb", closefd=False) as pipe:
                receive_file(layout, options.digest, options.offset, options.size, pipe)
        case "await":
            return _await(layout, options.release)
        case "back":
            print(json.dumps({"release": roll_back(layout, options.wait, options.force)}))
        case _:
            busy = "another deployment is at work here"
            require_own(layout)
            with hold_lock(layout.state("deploy.lock"), BROKEN_SECONDS, busy):
                with hold_lock(layout.state("switch.lock")):
                    repair_state(layout)
                return _deploy(layout, options)
    return 0


def _deploy(layout: Layout, options: argparse.Namespace) -> int:
    """Does one of the actions that exclude each other; returns the exit code."""
    match options.action:
        case "environment":
            make_environment(layout, options.environment, _wheels())
        case "stage":
            name = stage_release(layout, options.digest, options.environment, options.board)
            print(json.dumps({"release": name}))
        case "switch":
            switch_release(layout, options.release, options.wait, options.force, sys.stdin.read())
        case "prune":
            print(json.dumps({"gone": remove_surplus(layout)}))
    return 0


def _wheels() -> dict[str, str]:
    """The names and the sha256 of wheels, from stdin."""
    try:
        wheels = json.load(sys.stdin)
    except (ValueError, RecursionError) as error:
        raise Refused("the list of wheels is not JSON") from error
    if not isinstance(wheels, dict) or not all(
        isinstance(digest, str) for digest in wheels.values()
    ):
        raise Refused("the list of wheels names no digests")
    return wheels


def release_status(layout: Layout) -> dict[str, Any]:
    """The releases on this device, and the state of the service."""
    links = {name: read_link(layout, name) for name in LINKS}
    running = is_locked(layout.state("supervisor.lock"))
    note = read_record(layout.state(STATUS))
    trial = trial_of_current(layout)
    kinds = TRIAL_OUTCOMES if running else (*TRIAL_OUTCOMES, ENDED)
    outcomes = [line for line in read_event_log(layout) if line["event"] in kinds]
    return {
        **links,
        "running": running,
        "state": note.get("state") if running and note.get("release") == links["current"] else None,
        "view": (read_record(layout.state(VIEW_RECORD)) or None) if running else None,
        "examination": is_locked(layout.state(EXAMINATION_LOCK)),
        "trial": None if trial is None else trial.release,
        "outcome": outcomes[-1] if outcomes else None,
        "releases": _records(layout.release(""), RECORD),
        "environments": list(_records(layout.environment(""), COMPLETE)),
        "config": _settings(layout),
        "surplus": any(find_surplus(layout)),
        "trusted": {path.name: _text(path) for path in layout.root.glob(f"{TRUSTED}/*.pem")},
        "damaged": damaged_files(layout),
        "sinks": read_record(layout.state(SINK_COUNTS)).get("sinks", []) if running else [],
    }


def _settings(layout: Layout) -> dict[str, Any] | None:
    """The configuration without addresses, which may hold a password; None without one."""
    path = layout.root / CONFIG
    try:
        settings = asdict(read_config(path))
    except Refused as error:
        return {"error": str(error)} if path.exists() else None
    return {name: value for name, value in settings.items() if name not in ("source", "sink")}


def _text(path: Path) -> str:
    """The text of a key; empty where it cannot be read."""
    try:
        return read_file(path).decode("ascii", "replace")
    except (FileNotFoundError, Refused):
        return ""


def _records(folder: Path, mark: str) -> dict[str, Any]:
    """The folders that are whole, with their records."""
    if not folder.is_dir():
        return {}
    records = {
        path.name: read_record(path / mark) for path in folder.iterdir() if path.name[0] != "."
    }
    return {name: record for name, record in records.items() if record}


def _await(layout: Layout, release: str) -> int:
    """Waits until a release has ended its trial, or begun anew; prints the outcome."""
    last_alive = time.monotonic()
    while (outcome := _outcome(layout, release)) is None:
        if is_locked(layout.state("supervisor.lock")):
            last_alive = time.monotonic()
        elif time.monotonic() - last_alive >= SUPERVISOR_START_SECONDS:
            raise Refused("the service is not running, so that the release is not tried")
        time.sleep(POLL_SECONDS)
    if outcome["event"] == ENDED:
        why = f"{outcome.get('why')}; sonolite device logs says more"
        raise Refused(f"the release {release} does not run with these settings: {why}")
    print(json.dumps(outcome))
    return 0 if outcome["event"] in ("passed", CONFIGURED) else 1


def _outcome(layout: Layout, release: str) -> dict[str, Any] | None:
    """What became of a release: the event of the log; None while that is open.

    Raises Refused where the release was never tried.
    """
    if (trial := trial_of_current(layout)) is not None and trial.release == release:
        return None
    log = [line for line in read_event_log(layout) if line.get("release") == release]
    begun = [line for line in log if line["event"] in (*TRIAL_OUTCOMES, CONFIGURED)]
    if not begun:
        raise Refused(f"the release {release} was never tried")
    if begun[-1]["event"] != CONFIGURED:
        return begun[-1]
    if log[-1]["event"] == ENDED:
        return log[-1]
    beats = read_record(layout.state(STATUS)).get("release") == release
    return begun[-1] if beats else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="release.pyz")
    actions = parser.add_subparsers(dest="action", required=True)
    arguments: dict[str, tuple[str, ...]] = {
        "supervise": (),
        "start": (),
        "kiosk": (),
        "prepare": (),
        "status": (),
        "log": ("--lines",),
        "drift": ("since", "until"),
        "received": ("digest+",),
        "receive": ("digest", "offset", "size"),
        "environment": ("environment",),
        "stage": ("digest", "environment", "board"),
        "switch": ("release", "--wait", "--force"),
        "back": ("--wait", "--force"),
        "await": ("release",),
        "prune": (),
    }
    for action, names in arguments.items():
        subparser = actions.add_parser(action)
        subparser.add_argument("root")
        for name in names:
            if name == "--force":
                subparser.add_argument(name, action="store_true")
            elif name.endswith("+"):
                subparser.add_argument(name[:-1], nargs="+")
            else:
                kind = {"offset": int, "size": int, "--wait": float, "--lines": int}.get(name, str)
                subparser.add_argument(name, type=kind, default=0)
    return parser


def _fail(line: str) -> None:
    print(" ".join(line.split()), file=sys.stderr)
    sys.exit(2)
