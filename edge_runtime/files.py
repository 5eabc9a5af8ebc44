"""Files and folders that appear whole or not at all, and where a person's own files lie."""

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devices import BadInput


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it takes the place of `path`.

    Whatever stops the block before its end, a kill included, leaves the old file as it was.
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
            raise  # another file's trouble
        raise BadInput(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it is renamed to `path`.

    Raises BadInput where `path` exists already (nothing is ever overwritten) or cannot be made.
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
    """Raises BadInput where `path` is taken; asked before long work, not only at its end."""
    if path.exists():
        raise BadInput(f"{path} exists already; choose another name or remove it first")
    refuse_unwritable(path)


def refuse_unwritable(path: Path) -> None:
    """Raises BadInput where no file can be put at `path`; asked before long work too."""
    if not path.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise BadInput(f"{path}: is a folder")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"{path}: the folder {path.parent} cannot be written to")


def _temporary_path(path: Path) -> Path:
    """The temporary name keeps the suffix, because video writers choose their format by it."""
    refuse_unwritable(path)
    _sweep(path)
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def _sweep(path: Path) -> None:
    """Removes what a killed process left of an earlier attempt at `path`."""
    for part in path.parent.glob(f".{glob.escape(path.stem)}.*.part{path.suffix}"):
        owner = part.name.removesuffix(f".part{path.suffix}").rpartition(".")[2]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Puts the rename itself on the disk (fsync of the folder; rename(2), fsync(2))."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def configuration_folder() -> Path:
    """Where a person's keys lie (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "sonolite"


def state_folder() -> Path:
    """Where what a device has seen is kept (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "sonolite"
