"""Whether a release is well, by its beats alone; it knows no process, and its clock is given."""

from dataclasses import dataclass

START_SECONDS = 120.0
"""Until the first beat: libraries load and the golden frames are answered, which took 54 s on an
emulated Raspberry Pi 5. A limit that a slow card meets would never let a proven release begin."""
SILENT_SECONDS = 8.0
"""Without a beat after the first: it hangs. A loop that works beats twice a second at least, and
one whose inference hangs is given its five seconds to begin it anew."""
LAST_BEAT_SECONDS = 2.0
"""That a trial, its time over, still waits for one more beat."""


@dataclass(frozen=True)
class Trial:
    """A release that has yet to show that it runs here."""

    release: str
    back: str | None
    """What is gone back to; None on the first release of a device."""
    before: str | None
    """What `previous` was."""
    seconds: float
    state: str
    """What has to be reached; LIVE always does."""
    starts: int = 0


class TrialCheck:
    """Fed with the beats of one start of a release."""

    def __init__(self, now: float, trial: Trial | None) -> None:
        self._began, self._trial = now, trial
        self._last: float | None = None
        self._state = "nothing"
        self._reached = False

    @property
    def starting(self) -> bool:
        """Whether no beat came yet."""
        return self._last is None

    def beat(self, now: float, state: str) -> None:
        """Takes a beat, and what state the session is in."""
        self._last, self._state = now, state
        if self._trial and state in ("LIVE", self._trial.state):
            self._reached = True

    def passed(self) -> bool:
        """Whether the trial is over and was passed: proven by a beat after its time."""
        if self._trial is None or self._last is None:
            return False
        well = self._reached and self._state != "FAULT"
        return well and self._last >= self._began + self._trial.seconds

    def failure(self, now: float) -> str | None:
        """Why the release is not well, None while it may be."""
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
