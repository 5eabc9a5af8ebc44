"""The models that have opened on this machine; another is first opened in a process of its own."""

import hashlib
import json
import os
import platform
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices.compute import BackendKind
from devices.compute.first_opening import try_in_process
from devices.compute.interpreter import find_interpreter
from edge_runtime.bundle.archive import Bundle
from edge_runtime.files import state_folder

KNOWN_FOLDER = "models"
_TRIED: set[str] = set()
"""What this process has tried: no live session waits for a second attempt."""


def require_known(
    bundle: Bundle,
    member: str,
    threads: int,
    tensors: NDArray[np.uint8],
    kind: BackendKind = "cpu",
    library: str = "",
    options: Sequence[tuple[str, str]] = (),
) -> None:
    """Makes sure that a model of `bundle` opens on a backend and answers `tensors`, its golden
    frames, uint8 ``[N, side, side, 1]``.

    That is tried once for each bundle, backend, interpreter and machine, in a process of its own.
    It is remembered in this process, and in the user's state where that can be written and belongs
    to the user alone. Raises BadInput where the model crashes or keeps no limit, and what the
    backend raises.
    """
    facts = (bundle.digest, member, kind, library, _changed_at(library), sorted(options))
    machine = (find_interpreter()[1], platform.machine(), platform.node())
    name = hashlib.sha256(json.dumps((*facts, *machine)).encode()).hexdigest()
    if name in _TRIED:
        return
    with suppress(OSError, RuntimeError):  # no folder, or nobody's home
        folder = state_folder() / KNOWN_FOLDER
        if _is_own(folder, stat.S_IFDIR) and _is_own(folder / name, stat.S_IFREG):
            return
    try_in_process(kind, library, options, bundle.read(member), member, threads, tensors)
    _TRIED.add(name)
    with suppress(OSError, RuntimeError):
        folder = state_folder() / KNOWN_FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_own(folder, stat.S_IFDIR):
            os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))


def _is_own(path: Path, kind: int) -> bool:
    """Whether a file of this kind belongs to this user, and nobody else can write it.

    Raises OSError without one.
    """
    status = path.lstat()
    return (
        stat.S_IFMT(status.st_mode) == kind
        and status.st_uid == os.geteuid()
        and not status.st_mode & 0o022
    )


def _changed_at(library: str) -> int:
    """Nanoseconds of the last change of a delegate's library that is named by a path, else 0."""
    try:
        return Path(library).stat().st_mtime_ns if "/" in library else 0
    except (OSError, ValueError):
        return 0
