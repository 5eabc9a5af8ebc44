"""How long a thread has worked at one task, as another thread sees it."""

from devices.compute.first_opening import FIRST_SECONDS, PROCESS_SECONDS

INFERENCE_TIMEOUT = 5.0
"""Seconds after which one inference counts as hung, of which the slowest board takes a tenth."""
OPENING_TIMEOUT = float(PROCESS_SECONDS + FIRST_SECONDS)
"""Seconds to open a backend and check its golden frames: first in a process of its own, where that
was never done, and then here."""


class Watchdog:
    """How long a thread has been at the same task; for one watching thread."""

    def __init__(self) -> None:
        self.task: object | None = None
        """A new object for each task, None without a task; set by the thread that works."""
        self._last_task: object | None = None
        self._since = 0.0

    def waited(self, now: float) -> float:
        """Seconds that the thread has been at the same task, to within one check.

        `now` is the time of an `UptimeClock`: while the process stands still, no task grows old.
        """
        if self.task is not self._last_task:
            self._last_task, self._since = self.task, now
        return 0.0 if self._last_task is None else now - self._since
