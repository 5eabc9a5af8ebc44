"""What a thread is at, as another one sees it."""

INFERENCE_TIMEOUT, OPENING_TIMEOUT = 5.0, 60.0
"""Seconds of one inference after which it counts as hung, the slowest board takes a tenth; and of
opening a backend and proving it."""


class Watchdog:
    """How long a thread has been at the same task. For one watcher."""

    def __init__(self) -> None:
        self.task: object | None = None
        """Another object for each; None for none. For the thread that is at it."""
        self._last_task: object | None = None
        self._since = 0.0

    def waited(self, now: float) -> float:
        """For how long it has been at the same thing, to within one look.

        `now` are seconds awake: a process that was halted is no task that was.
        """
        if self.task is not self._last_task:
            self._last_task, self._since = self.task, now
        return 0.0 if self._last_task is None else now - self._since
