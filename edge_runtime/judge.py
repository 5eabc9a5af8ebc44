"""What is said of one view after the other: the state of a session, and its account."""

import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from devices import Clock, Frame
from edge_runtime.classify import Classifier, Judgement
from edge_runtime.decide import Smoother, decide
from edge_runtime.ladder import Rung
from edge_runtime.manifest import Stage
from edge_runtime.pace import Pace
from edge_runtime.result import Latency, Result
from edge_runtime.sector import Region
from edge_runtime.session import Event, State, step
from edge_runtime.summary import Summary
from edge_runtime.view import View

NO_TIME = Latency(0, 0, 0, 0)


def now() -> datetime:
    """The wall clock's time; it may be set while a session runs, which the record then shows."""
    return datetime.now(UTC)


class Session:
    """The state of one session; each view, and each event without one, moves it."""

    def __init__(
        self,
        live: bool,
        stage: Stage,
        bundle: str,
        region: Region,
        budget: float,
        pace: Pace,
        clock: Clock = time.monotonic,
        utc: Callable[[], datetime] = now,
    ) -> None:
        """`bundle` is its id; a live result that is older than `budget` seconds is stale."""
        self.state = State.SEARCHING
        self.summary = Summary()
        self._live, self._budget, self._clock, self._utc = live, budget, clock, utc
        self._stage, self._bundle, self._region = stage, bundle, region
        self._pace = pace
        self._smoother = Smoother(stage.decision.smoothing_seconds)
        self._sequence = itertools.count()
        self._screen: tuple[int, ...] | None = None
        """Height and width of the last one that was judged."""
        self._backend, self._fallback = "", ""
        self._told: str | None = None
        """Why no frame comes, as it was last said."""

    def computes(self, classifier: Classifier, fallback: str = "") -> None:
        """From now on `classifier` judges; `fallback` tells why no preferred backend does."""
        compute = classifier.backend.compute
        self._backend = f"{compute.kind} {compute.model} {compute.interpreter}"
        self._fallback = fallback

    def happened(self, event: Event) -> None:
        """Moves to the state that follows `event`; what was smoothed so far ends with LIVE."""
        self.state = step(self.state, event)
        if self.state is not State.LIVE:
            self._smoother.forget()

    def without_frame(self, event: Event, trouble: str | None = None) -> Result | None:
        """Moves on although no frame came; returns a result to show if the state has changed, or
        the `trouble` with what comes instead.
        """
        before, told = self.state, self._told
        self.happened(event)
        self._told = trouble
        if self.state is before and trouble in (None, told):
            return None
        withheld = self._pace.rung.reason if self._pace.rung is Rung.WITHHELD else None
        return self._result(None, None, event, NO_TIME, reason=withheld or trouble)

    def conclude(self, view: View, judged: Judgement | None) -> Result:
        """What is said of `view`; `judged` is None where inference failed, or there was nothing."""
        frame, verdict = view.frame, view.verdict
        verdict.wait()
        if self._screen != (screen := frame.pixels.shape[:2]):
            self._screen = screen
            self._smoother.forget()  # the region is searched anew, as on another device
        done = self._clock()
        age = done - frame.captured_at
        if verdict.event is not None:
            event, judged = verdict.event, None
        elif judged is None:
            event = Event.FAILED
        elif self._live and age > self._budget:
            event = Event.LATE
        else:
            event = Event.JUDGED
        self.happened(event)
        smoothed, label, reason = self._decide(judged, frame)
        if event is Event.UNUSABLE and verdict.flaw is not None:
            reason = str(verdict.flaw)
        self._account(reason or str(event), judged is not None, label, age)
        latency = Latency(
            wait=1000 * (view.began - frame.captured_at),
            prepare=1000 * (view.ended - view.began),
            infer=1000 * (done - view.ended),
            total=1000 * age,
        )
        return self._result(view, judged, event, latency, smoothed, label, reason)

    def _decide(
        self, judged: Judgement | None, frame: Frame
    ) -> tuple[float | None, str | None, str | None]:
        """Smoothed probability, label, and why there is none; nothing outside LIVE."""
        if self.state is not State.LIVE or judged is None:
            return None, None, None
        if judged.strangeness is not None and judged.strangeness > 1:
            self._smoother.forget()
            return None, None, "unlike the pictures that the model learnt from"
        smoothed = self._smoother.add(float(judged.probability[-1]), frame.timestamp)
        return smoothed, *decide(smoothed, self._stage)

    def _account(self, cause: str, judged: bool, label: str | None, age: float) -> None:
        """Counts a frame once: as classified, or by the cause why it was not."""
        if judged:
            self.summary.classified += 1
            self.summary.labels[label or "no label"] += 1
            self.summary.latency.add(1000 * age)
        else:
            self.summary.not_judged[cause] += 1

    def _result(
        self,
        view: View | None,
        judged: Judgement | None,
        event: Event,
        latency: Latency,
        smoothed: float | None = None,
        label: str | None = None,
        reason: str | None = None,
    ) -> Result:
        """What is said of `view`, or of the session where no frame came."""
        frame = None if view is None else view.frame
        at = self._clock() if frame is None else frame.captured_at
        return Result(
            sequence=next(self._sequence),
            frame=None if frame is None else frame.index,
            captured_at=at,
            captured_utc=self._as_utc(at),
            timestamp=None if frame is None else frame.timestamp,
            state=self.state,
            label=label,
            reason=reason or (None if label else str(event)),
            probability=(
                None
                if judged is None
                else dict(zip(self._stage.labels, judged.probability.tolist(), strict=True))
            ),
            strangeness=None if judged is None else judged.strangeness,
            smoothed=smoothed,
            threshold=self._stage.operating_point.threshold,
            box=None if view is None else view.box,
            window=None if view is None else view.window,
            evidence=judged.evidence if judged is not None and label is not None else None,
            region="found" if self._region.roi is None else "given",
            latency_ms=latency,
            rate=self._pace.rung.name.lower(),
            health=self._pace.troubles,
            backend=self._backend,
            fallback=self._fallback or None,
            bundle=self._bundle,
            file=None if frame is None else frame.name,
        )

    def _as_utc(self, at: float) -> str:
        """The wall time of a monotonic moment, for the record only."""
        then = self._utc() - timedelta(seconds=self._clock() - at)
        return then.isoformat(timespec="milliseconds")
