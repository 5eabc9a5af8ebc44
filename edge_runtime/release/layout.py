"""The folders of the releases on a device, and the functions that change files there.

    ROOT/
      environments/HASH/   a Python environment; shared by releases, so that a new model is small
      releases/ID/         bundle.sonolite, release.json, environment -> ../../environments/HASH
      incoming/            files that are being sent, named by their sha256
      config.toml          the configuration of the device; people may edit it
      trusted/             public keys, *.pem
      state/               the trial, the newest versions, locks, the log of switches, and
        current, previous  links to releases; `good` is the last one that passed its trial
      release.pyz          this package

The user of the service writes in state/ alone. Whatever lies there is data: nobody runs it, and no
link there is followed but to a name below releases/. Any byte may stand there after a power cut.

A link or a file is either the old or the new one, never a half (rename(2)). It is on the disk
before the next step begins (fsync(2)).
"""

import fcntl
import json
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BUNDLE, RECORD, ENVIRONMENT, COMPLETE = "bundle.sonolite", "release.json", "environment", "complete"
TOOL, CONFIG, TRUSTED = "release.pyz", "config.toml", "trusted"
STATUS = "status.json"
"""The file of the state that says which release beats, and in which state."""
VIEW_RECORD = "view.json"
"""The file of the state that says where the live view is, or why there is none."""
VIEW_TOKEN, OPERATOR_TOKEN = "view.token", "operator.token"
"""Files of the state with the secrets of the links for viewers and for operators."""
EXAMS = "exams"
"""The folder of the state with the exams of the device."""
TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")
"""What a token of a view may be."""
DEFAULT_ROOT = "/opt/sonolite"
"""Where a device keeps its releases unless the user names another folder."""
EXAMINATION_LOCK = "examination.lock"
"""The lock that a session holds while it is LIVE."""
SINK_COUNTS = "sinks.json"
"""The counts of the sinks of the running release."""
LOG_LINES = 1000
"""Lines of the log of switches; older lines are removed."""
POLL_SECONDS = 0.1
"""Seconds between two looks at something that is waited for, such as a lock that somebody holds."""


MAX_STATE_BYTES = 4 << 20
"""Bytes of a file of the device's state that are read; more are damage."""


class Refused(Exception):
    """An action that this device refuses; the message is one line that says why."""

    def __str__(self) -> str:
        """The message in one line, whatever it quotes."""
        return " ".join(super().__str__().split())


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
        """`current`, `previous` or `good`.

        Earlier versions kept the links in the root. There they stay until a supervisor of this
        version starts, because an earlier one that still runs looks there.
        """
        earlier = (self.root / "current").is_symlink() and not self.state("current").is_symlink()
        return self.root / name if earlier else self.state(name)


FOLDERS = ("releases", "environments", "incoming", TRUSTED, "state")
LINKS = ("current", "previous", "good")


def make_folders(layout: Layout) -> None:
    """Makes the folders and lock files. The group of the service may write the state, too.

    Raises Refused as `require_own` does.
    """
    for name in FOLDERS:
        (layout.root / name).mkdir(exist_ok=True)
    require_own(layout)
    if layout.state("").stat().st_uid == os.getuid():
        layout.state("").chmod(0o2775)
    config = layout.root / CONFIG
    if config.exists() and config.stat().st_uid == os.getuid():
        config.chmod(config_mode(layout))
    for name in (EXAMINATION_LOCK, "switch.lock", "deploy.lock", "supervisor.lock"):
        os.close(open_lock(layout.state(name)))


def require_own(layout: Layout) -> None:
    """Raises Refused where another user may have put programs or keys here.

    The root and all folders but the state belong to this user, to root, or to the owner of the
    root; nobody else may write them.
    """
    root = layout.root.lstat()
    owners = {0, os.getuid(), root.st_uid}
    for path in (layout.root, *(layout.root / name for name in (*FOLDERS, TOOL))):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(status.st_mode) or status.st_uid not in owners:
            raise Refused(f"{path}: not of the user who deploys here; remove it and deploy again")
        if path != layout.state("") and status.st_mode & 0o022:
            raise Refused(f"{path}: other users can write it; chmod go-w {path}")


def config_mode(layout: Layout) -> int:
    """The mode of `config.toml`, which may hold a password.

    The group is that of the service where the root hands its group down (the bit S_ISGID).
    """
    return 0o640 if layout.root.stat().st_mode & stat.S_ISGID else 0o600


def read_link(layout: Layout, name: str) -> str | None:
    """The release that a link points to, None where there is no link that can be one."""
    try:
        release = layout.link(name).readlink().name
    except OSError:
        return None
    return release if is_release_name(release) else None


def is_release_name(name: object) -> bool:
    """Whether a release may have this name."""
    return isinstance(name, str) and name.isascii() and name.isalnum() and len(name) <= 64


def set_link(layout: Layout, name: str, release: str) -> None:
    """Points `current`, `previous` or `good` to a release."""
    link = layout.link(name)
    new = link.with_name(f".{name}.new")
    clear_place(new)
    releases = layout.release("")
    new.symlink_to(Path(os.path.relpath(releases, link.parent), release))
    if link.is_dir() and not link.is_symlink():
        clear_place(link)
    new.replace(link)
    sync_folder(link.parent)


def clear_place(path: Path) -> None:
    """Removes what lies at a path, of any kind."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_file(path: Path, content: bytes, durable: bool = True, mode: int = 0o644) -> None:
    """Writes a file whole or not at all; the rest of a killed attempt is overwritten.

    `durable=False` does not wait for the disk, which can take a minute. Such a file may be lost
    with the power.
    """
    part = path.with_name(f".{path.name}.part")
    clear_place(part)  # it may be another user's
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(part, flags, mode), "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if path.is_dir() and not path.is_symlink():
        clear_place(path)
    part.replace(path)
    if durable:
        sync_folder(path.parent)


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises FileNotFoundError without a file, and Refused for what cannot be read, is no regular
    file (a link or a pipe), or is larger than MAX_STATE_BYTES.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: cannot be read: {error}") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path}: not a file")
        if status.st_size > MAX_STATE_BYTES:
            raise Refused(f"{path}: larger than {MAX_STATE_BYTES:,} bytes")
        with open(handle, "rb", closefd=False) as file:
            return file.read(MAX_STATE_BYTES)
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)


def write_json_file(path: Path, content: Any, durable: bool = True) -> None:
    """Writes JSON whole or not at all; see `write_file`."""
    write_file(path, (json.dumps(content, indent=2) + "\n").encode(), durable)


def read_json_file(path: Path) -> Any:
    """Reads JSON, None where there is no such file or it is damaged."""
    try:
        return json.loads(read_file(path))
    except (FileNotFoundError, NotADirectoryError, Refused, ValueError, RecursionError):
        return None


def read_record(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty where there is none or it is damaged."""
    record = read_json_file(path)
    return record if isinstance(record, dict) else {}


def sync_folder(folder: Path) -> None:
    """Writes the names in a folder to the disk (fsync(2))."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_whole(folder: Path, mark: str) -> None:
    """Removes a folder, or what lies in its place. The file `mark`, which shows that the folder is
    whole, goes first.
    """
    if folder.is_dir() and not folder.is_symlink():
        clear_place(folder / mark)
    clear_place(folder)


def log_event(layout: Layout, event: str, **facts: object) -> None:
    """Adds one line to the log of switches, and prints it to stderr for the journal.

    A full disk costs the line in the log: the way back must not need room.
    """
    entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}
    with suppress(OSError):
        _append_event(layout, entry)
    print(json.dumps(entry), file=sys.stderr, flush=True)


def _append_event(layout: Layout, entry: dict[str, Any]) -> None:
    """Adds one line to the log of switches; of LOG_LINES the newest stay."""
    path = layout.state("log.jsonl")
    with hold_lock(layout.state("log.lock")):
        entries, damaged = _parse_event_log(layout)
        if damaged:
            set_aside(path)
            entries.append({"at": entry["at"], "event": "damaged", "file": path.name})
        kept = [json.dumps(line) for line in [*entries[1 - LOG_LINES :], entry]]
        write_file(path, ("\n".join(kept) + "\n").encode())


def read_event_log(layout: Layout) -> list[dict[str, Any]]:
    """The log of switches, oldest first, without lines that are damaged."""
    return _parse_event_log(layout)[0]


def _parse_event_log(layout: Layout) -> tuple[list[dict[str, Any]], bool]:
    """The sound lines of the log, and whether there are others."""
    try:
        content = read_file(layout.state("log.jsonl"))
    except FileNotFoundError:
        return [], False
    except Refused:
        return [], True
    entries, damaged = list[dict[str, Any]](), False
    for line in content.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("event"), str):
            entries.append(entry)
        else:
            damaged = True
    return entries, damaged


def set_aside(path: Path) -> None:
    """Renames a damaged file to NAME.damaged, for a person to look at."""
    aside = path.with_name(f"{path.name}.damaged")
    with suppress(OSError):
        clear_place(aside)
        path.rename(aside)
    with suppress(OSError):
        clear_place(path)  # where a rename is not possible


@contextmanager
def hold_lock(path: Path, wait: float = 10.0, busy: str = "") -> Iterator[None]:
    """Holds the lock of a file (flock(2)); the lock ends with the process in any case.

    Raises Refused with `busy` where another process holds it for more than `wait` seconds.
    """
    handle = open_lock(path)
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
    handle = open_lock(path)
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


def open_lock(path: Path) -> int:
    """Opens for reading only: the service and the deployment can lock files of each other.

    What is no file is removed first, such as a folder or a link after a power cut.
    """
    flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            clear_place(path)
    except FileNotFoundError:
        pass
    return os.open(path, flags, 0o644)
