"""The folders of the releases on a device, and the functions that change files there.

    ROOT/
      environments/HASH/   a Python environment; shared by releases, so that a new model is small
      releases/ID/         bundle.sonolite, release.json, environment -> ../../environments/HASH
      current, previous    links to releases; `good` is the last one that passed its trial
      incoming/            files that are being sent, named by their sha256
      config.toml          the configuration of the device; people may edit it
      trusted/             public keys, *.pem
      state/               the trial, the newest versions, locks, the log of switches
      release.pyz          this package

A link or a file is either the old or the new one, never a half (rename(2)). It is on the disk
before the next step begins (fsync(2)).
"""

import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BUNDLE, RECORD, ENVIRONMENT, COMPLETE = "bundle.sonolite", "release.json", "environment", "complete"
TOOL, CONFIG, TRUSTED = "release.pyz", "config.toml", "trusted"
DEFAULT_ROOT = "/opt/sonolite"
"""Where a device keeps its releases unless the user names another folder."""
EXAMINATION_LOCK = "examination.lock"
"""The lock that a session holds while it is LIVE."""
LOG_LINES = 1000
"""Lines of the log of switches; older lines are removed."""
POLL_SECONDS = 0.1
"""Seconds between two attempts to take a lock that somebody holds."""


class Refused(Exception):
    """An action that this device refuses; the message is one line that says why."""


@dataclass(frozen=True)
class Layout:
    """The paths below the root."""

    root: Path

    def release(self, name: str) -> Path:
        """The folder of a release."""
        return self.root / "releases" / name

    def environment(self, name: str) -> Path:
        """The folder of a Python environment."""
        return self.root / "environments" / name

    def incoming(self, digest: str) -> Path:
        """A file that was sent, by its sha256."""
        return self.root / "incoming" / digest

    def state(self, name: str) -> Path:
        """A file of the device's state."""
        return self.root / "state" / name

    def link(self, name: str) -> Path:
        """`current`, `previous` or `good`."""
        return self.root / name


FOLDERS = ("releases", "environments", "incoming", TRUSTED, "state")
LINKS = ("current", "previous", "good")


def make_folders(layout: Layout) -> None:
    """Makes the folders and lock files. The group of the service may write the state, too."""
    for name in FOLDERS:
        (layout.root / name).mkdir(exist_ok=True)
    layout.state("").chmod(0o2775)
    for name in (EXAMINATION_LOCK, "switch.lock", "deploy.lock", "supervisor.lock"):
        os.close(_open_lock(layout.state(name)))


def read_link(layout: Layout, name: str) -> str | None:
    """The release that a link points to, None where there is no link."""
    try:
        return layout.link(name).readlink().name
    except FileNotFoundError:
        return None


def set_link(layout: Layout, name: str, release: str) -> None:
    """Points `current`, `previous` or `good` to a release."""
    new = layout.link(f".{name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(Path("releases", release))
    new.replace(layout.link(name))
    sync_folder(layout.root)


def write_file(path: Path, content: bytes, durable: bool = True) -> None:
    """Writes a file whole or not at all; the rest of a killed attempt is overwritten.

    `durable=False` does not wait for the disk, which can take a minute. Such a file may be lost
    with the power.
    """
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # it may be another user's
    with open(part, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    part.replace(path)
    if durable:
        sync_folder(path.parent)


def write_json_file(path: Path, content: Any, durable: bool = True) -> None:
    """Writes JSON whole or not at all; see `write_file`."""
    write_file(path, (json.dumps(content, indent=2) + "\n").encode(), durable)


def read_json_file(path: Path) -> Any:
    """Reads JSON, None where there is no such file or it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def sync_folder(folder: Path) -> None:
    """Writes the names in a folder to the disk (fsync(2))."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_whole(folder: Path, mark: str) -> None:
    """Removes a folder. The file `mark`, which shows that the folder is whole, goes first."""
    (folder / mark).unlink(missing_ok=True)
    shutil.rmtree(folder)


def log_event(layout: Layout, event: str, **facts: object) -> None:
    """Adds one line to the log of switches, and prints it to stderr for the journal."""
    entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}
    path = layout.state("log.jsonl")
    with hold_lock(layout.state("log.lock")):
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [*lines[1 - LOG_LINES :], json.dumps(entry)]
        write_file(path, ("\n".join(kept) + "\n").encode())
    print(json.dumps(entry), file=sys.stderr, flush=True)


def read_event_log(layout: Layout) -> list[dict[str, Any]]:
    """The log of switches, oldest first."""
    path = layout.state("log.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


@contextmanager
def hold_lock(path: Path, wait: float = 10.0, busy: str = "") -> Iterator[None]:
    """Holds the lock of a file (flock(2)); the lock ends with the process in any case.

    Raises Refused with `busy` where another process holds it for more than `wait` seconds.
    """
    handle = _open_lock(path)
    try:
        until = time.monotonic() + wait
        while not try_lock(handle):
            if time.monotonic() >= until:
                raise Refused(busy or f"{path}: held by another process")
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of a file."""
    if not path.exists():
        return False
    handle = _open_lock(path)
    try:
        return not try_lock(handle)
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Takes the lock of an open file; returns False where another process holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_lock(path: Path) -> int:
    """Opens for reading only: the service and the deployment can lock files of each other."""
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
