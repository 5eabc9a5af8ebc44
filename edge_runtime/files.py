"""Files and folders that are written whole or not at all, and the folders of the user."""

import glob
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from devices import BadInput

NICENESS = 5
"""How much nicer a thread is that writes beside a session; see setpriority(2)."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; on success the file there replaces `path`.

    Where anything stops the block before its end, even a kill, the old file stays as it was.
    Raises BadInput where the folder cannot be written to or the disk is full.
    """
    part = _temporary_path(path)
    try:
        yield part
        with open(part, "rb+") as written:
            os.fsync(written.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename not in (None, str(part), str(path)):
            raise  # the error is about another file
        raise BadInput(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder in the folder of `path`; on success it is renamed to `path`.

    Raises BadInput where `path` exists already (nothing is overwritten) or cannot be made.
    """
    refuse_existing(path)
    part = _temporary_path(path)
    try:
        part.mkdir()
        yield part
        for name in sorted(part.rglob("*")):
            if name.is_file():
                with open(name, "rb+") as written:
                    os.fsync(written.fileno())
        part.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_existing(path: Path) -> None:
    """Raises BadInput where `path` exists; called before long work, not only at the end."""
    if path.exists():
        raise BadInput(f"{path} exists already; choose another name or remove it first")
    refuse_unwritable(path)


def refuse_unwritable(path: Path) -> None:
    """Raises BadInput where no file can be written at `path`; called before long work, too."""
    if not path.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise BadInput(f"{path}: is a folder")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"{path}: the folder {path.parent} cannot be written to")


def _temporary_path(path: Path) -> Path:
    """A temporary path with the suffix of `path`: a video writer needs the suffix."""
    refuse_unwritable(path)
    _sweep(path)
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def _sweep(path: Path) -> None:
    """Removes the temporary files that killed processes left of `path`."""
    for part in path.parent.glob(f".{glob.escape(path.stem)}.*.part{path.suffix}"):
        owner = part.name.removesuffix(f".part{path.suffix}").rpartition(".")[2]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Writes a rename to the disk: fsync of the folder; see rename(2) and fsync(2)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_thread_nicer() -> None:
    """Lets the other threads go before this one, which writes beside a session."""
    with suppress(OSError):  # a sandbox may forbid it
        thread = threading.get_native_id()
        nice = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, nice)


def configuration_folder() -> Path:
    """The folder of the user's keys and saved regions (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "sonolite"


def state_folder() -> Path:
    """The folder of the versions that ran here (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "sonolite"
