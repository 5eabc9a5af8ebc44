"""The lock of an examination: while a session holds it, no update stops the picture."""

import os
from contextlib import suppress
from pathlib import Path

from edge_runtime.release.layout import DEFAULT_ROOT, EXAMINATION_LOCK, Layout, open_lock, try_lock
from edge_runtime.results.states import State

ROOT_VARIABLE = "SONOLITE_ROOT"
"""Names the folder of a device's releases, where that is not DEFAULT_ROOT."""


class UpdateLock:
    """A lock that is held from the first LIVE frame until PAUSE seconds after the last.

    A lifted probe does not end an examination. The lock ends with its process in any case. A
    machine without a deployment has no lock file, and nothing is held.
    """

    PAUSE = 10.0
    """Seconds without LIVE after which an examination is over."""

    def __init__(self, root: Path | None = None) -> None:
        root = root or Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)
        self._path = Layout(root).state(EXAMINATION_LOCK)
        self._handle: int | None = None
        self._last = float("-inf")

    def beat(self, now: float, state: State) -> None:
        """Takes the lock in LIVE, and gives it back after PAUSE seconds without LIVE."""
        if state is State.LIVE:
            self._last = now
            if self._handle is None and self._path.exists():
                with suppress(OSError):  # where it cannot be opened, the pictures matter more
                    handle = open_lock(self._path)
                    if try_lock(handle):
                        self._handle = handle
                    else:  # an update or another session holds the lock
                        os.close(handle)
        elif now - self._last >= self.PAUSE:
            self.end()

    def end(self) -> None:
        """Gives the lock back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
