"""Whether a release is well: decided by its beats alone, with times that the caller gives."""

from dataclasses import dataclass

START_SECONDS = 200.0
"""Seconds until the first beat: the libraries load, and two models answer the golden frames, first
in a process of their own. With one model, and without that process, it took 54 s on an emulated
Raspberry Pi 5; a tight limit would stop a good release on a slow card."""
SILENT_SECONDS = 8.0
"""Seconds without a beat after which a release hangs. A session that works beats twice a second at
least; a session whose inference hangs needs five seconds to start it again."""
LAST_BEAT_SECONDS = 2.0
"""Seconds that a trial waits for one more beat after its time is over."""


@dataclass(frozen=True)
class Trial:
    """A release on trial."""

    release: str
    back: str | None
    """The release to go back to; None for the first release of a device."""
    before: str | None
    """The release that `previous` named before the switch."""
    seconds: float
    state: str
    """The state that the release has to reach; LIVE always counts."""
    starts: int = 0


class TrialCheck:
    """Checks the beats of one process of a release."""

    def __init__(self, now: float, trial: Trial | None) -> None:
        self._began, self._trial = now, trial
        self._last: float | None = None
        self._state = "nothing"
        self._reached = False

    @property
    def starting(self) -> bool:
        """Whether no beat has come yet."""
        return self._last is None

    def beat(self, now: float, state: str) -> None:
        """Takes in a beat with the state of the session."""
        self._last, self._state = now, state
        if self._trial and state in ("LIVE", self._trial.state):
            self._reached = True

    def passed(self) -> bool:
        """Whether the trial is over and passed: a beat came after its time."""
        if self._trial is None or self._last is None:
            return False
        well = self._reached and self._state != "FAULT"
        return well and self._last >= self._began + self._trial.seconds

    def failure(self, now: float) -> str | None:
        """Why the release failed, None while it may be well."""
        trial = self._trial
        over = None if trial is None else self._began + trial.seconds
        if self._last is None:
            until = self._began + START_SECONDS
            if now >= (until if over is None else min(until, over)):
                return f"it did not begin within {now - self._began:.0f} s"
            return None
        if trial and self._state == "FAULT":
            return "inference failed"
        if now - self._last >= SILENT_SECONDS:
            return f"it hangs: no beat for {now - self._last:.0f} s, in {self._state}"
        if trial is None or over is None or now < over or self.passed():
            return None
        if self._last >= over:
            return f"it never reached {trial.state} in {trial.seconds:g} s; it is {self._state}"
        if now >= over + LAST_BEAT_SECONDS:
            return f"it hangs: no beat for {now - self._last:.0f} s, in {self._state}"
        return None
