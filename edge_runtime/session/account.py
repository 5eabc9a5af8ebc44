"""The account of a session: its state, and the result or the loss of every frame."""

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from devices import Box, Clock, Frame
from edge_runtime.bundle.manifest import ClassifierStage
from edge_runtime.bundle.policies import PoolingPolicy
from edge_runtime.models.classifier import Classifier, Prediction
from edge_runtime.nodules import pooling
from edge_runtime.nodules.decide import OUT_OF_SCOPE, decide
from edge_runtime.nodules.prevalence import at_prevalence
from edge_runtime.nodules.smoothing import Smoother
from edge_runtime.results.result import NO_NODULE, FrameLatency, Nodule, Result
from edge_runtime.results.states import Event, State, next_state
from edge_runtime.results.summary import Summary
from edge_runtime.screen.region import Region
from edge_runtime.session.finder import FoundNodule
from edge_runtime.session.prepare import PreparedFrame
from edge_runtime.session.throttle import Throttle
from edge_runtime.session.throttle_levels import ThrottleLevel

_LOGGER = logging.getLogger(__name__)

NO_LATENCY = FrameLatency(0, 0, 0, 0)
UNMARKED = "no nodule is marked"
FORGOTTEN_SECONDS = 60.0
"""Seconds after its last frame for which the pool of a nodule is kept."""


@dataclass(frozen=True)
class Absence:
    """No frame came, and the state of the session changed; see `Account.without_frame`."""

    event: Event
    cause: str


def utc_now() -> datetime:
    """The time of the wall clock, in UTC. Somebody may set the clock while a session runs."""
    return datetime.now(UTC)


class Account:
    """The state of one session. Every frame moves it, and so does the absence of frames."""

    def __init__(
        self,
        live: bool,
        stage: ClassifierStage,
        bundle: str,
        region: Region,
        budget: float,
        throttle: Throttle,
        clock: Clock = time.monotonic,
        utc: Callable[[], datetime] = utc_now,
        prevalence: dict[str, float] | None = None,
        pooling_policy: PoolingPolicy | None = None,
    ) -> None:
        """`bundle` is its id; a live result that is older than `budget` seconds is stale.

        Results tell the probabilities at `prevalence`, too, the share of each label.
        `pooling_policy` is for the nodules that a locator finds.
        """
        self.state = State.SEARCHING
        self.summary = Summary()
        self._live, self._budget, self._clock, self._utc = live, budget, clock, utc
        self._stage, self._bundle = stage, bundle
        self._throttle, self._prevalence = throttle, prevalence
        self._smoother = Smoother(stage.decision.smoothing_seconds)
        self._pooling = pooling_policy
        self._verdicts: dict[int, tuple[pooling.Pool, pooling.Verdict]] = {}
        """The pool and the verdict of each nodule that a locator found, by its track."""
        self._region_changes, self._roi = 0, region.roi
        self._searched = pooling_policy is not None and region.fixed_roi is None
        """Of the last frame; see `PreparedFrame`."""
        self._last_track = self._tracks_before = 0
        """The largest number of a nodule so far, and before the region last moved elsewhere."""
        self._sequence = itertools.count()
        self._screen: tuple[int, ...] | None = None
        """Height and width of the last screen."""
        self._backend, self._fallback = "", ""
        self._cause: str | None = None
        """Why no frame comes, as in the last result."""

    def set_classifier(self, classifier: Classifier, fallback: str = "") -> None:
        """Names `classifier` in later results; `fallback` says why no preferred backend runs."""
        self._backend = classifier.backend.compute.description
        self._fallback = fallback

    def advance(self, event: Event) -> None:
        """Moves to the state that follows `event`; smoothing begins anew after LIVE."""
        before, self.state = self.state, next_state(self.state, event)
        if self.state is not before:
            _LOGGER.info("state %s, was %s: %s", self.state, before, event)
        if self.state is not State.LIVE:
            self._smoother.forget()

    def without_frame(
        self, event: Event, cause: str | None = None, always: bool = False
    ) -> Result | None:
        """Moves the state although no frame came.

        `cause` says why the pictures of the device cannot be used. Returns a result where the state
        or the cause has changed, or where `always` asks for it, else None.
        """
        before, last_trouble = self.state, self._cause
        self.advance(event)
        self._cause = cause
        if not always and self.state is before and cause in (None, last_trouble):
            return None
        level = self._throttle.level
        withheld = level.reason if level is ThrottleLevel.WITHHELD else None
        return self._result(None, NO_LATENCY, (), withheld or cause or str(event))

    def conclude(
        self,
        prepared: PreparedFrame,
        prediction: Prediction | None,
        findings: Sequence[FoundNodule] | None = None,
    ) -> Result:
        """The result of a frame.

        `prediction` is of a marked nodule, `findings` are of a searched picture. Both are None
        where inference failed or did not run.
        """
        frame, check = prepared.frame, prepared.check
        check.wait()
        if self._screen != (screen := frame.pixels.shape[:2]):
            self._screen = screen
            self._smoother.forget()  # the search for the region begins again, as on another device
            self._verdicts.clear()
        self._follow_region(prepared)
        self._searched = prepared.searched
        done = self._clock()
        age = done - frame.captured_at
        if check.event is not None:
            event, prediction, findings = check.event, None, None
        elif prediction is None and findings is None and not prepared.unmarked:
            event = Event.FAILED
        elif prepared.late or (self._live and age > self._budget):
            event = Event.LATE
        else:
            event = Event.CLASSIFIED
        self.advance(event)
        nodules: tuple[Nodule, ...] = ()
        reason = str(check.flaw if event is Event.UNUSABLE and check.flaw is not None else event)
        if event is Event.CLASSIFIED and prepared.unmarked:
            reason = UNMARKED
        if event is Event.CLASSIFIED and findings is not None and not findings:
            reason = NO_NODULE
        if prediction is not None:
            nodules = (self._decide(prepared, prediction, reason),)
        elif findings:
            nodules = tuple(self._decide_finding(each, prepared.frame, reason) for each in findings)
        self._count(reason, nodules, age)
        latency = FrameLatency(
            wait=1000 * (prepared.began - frame.captured_at),
            prepare=1000 * (prepared.ended - prepared.began),
            infer=1000 * (done - prepared.ended),
            total=1000 * age,
        )
        return self._result(prepared, latency, nodules, reason)

    def _follow_region(self, prepared: PreparedFrame) -> None:
        """Begins anew where the region of interest has changed; one elsewhere is another nodule.

        A screen of another size may have another region although nobody marked one.
        """
        roi = self._roi
        if (self._region_changes, roi) == (prepared.region_changes, prepared.roi):
            return
        self._region_changes, self._roi = prepared.region_changes, prepared.roi
        self._smoother.forget()
        self._verdicts.clear()
        if roi is None or prepared.roi is None or not _is_same_nodule(roi, prepared.roi):
            self._tracks_before = self._last_track

    def _number(self, track: int) -> int:
        """The number of a nodule in the session; `track` counts from 1 for each region."""
        number = self._tracks_before + track
        self._last_track = max(self._last_track, number)
        return number

    def _decide(self, prepared: PreparedFrame, prediction: Prediction, reason: str) -> Nodule:
        """The nodule of a prediction. Outside LIVE it has no label, and `reason` says why."""
        assert prepared.box is not None
        assert prepared.window is not None
        stage, score = self._stage, prediction.out_of_scope_score
        probability = _by_label(stage, prediction.probability.tolist())
        smoothed, label, why = None, None, reason if self.state is not State.LIVE else None
        if why is None and score is not None and score > 1:
            self._smoother.forget()
            why = OUT_OF_SCOPE
        if why is None:
            values = self._smoother.add([*probability.values()], prepared.frame.timestamp)
            smoothed = _by_label(stage, values)
            label, why = decide(smoothed, stage)
        return Nodule(
            track=self._number(1),
            box=prepared.box,
            window=prepared.window,
            label=label,
            reason=why,
            probability=probability,
            smoothed=smoothed,
            interval=None,
            adjusted=self._adjusted(smoothed),
            thresholds=stage.operating_point.thresholds,
            locator_score=None,
            out_of_scope_score=score,
            evidence=None if label is None else prediction.evidence,
        )

    def _decide_finding(self, finding: FoundNodule, frame: Frame, reason: str) -> Nodule:
        """A nodule that the locator found, decided by all frames that showed it.

        A still is decided alone. Outside LIVE there is no label, and `reason` says why.
        """
        stage, prediction = self._stage, finding.prediction
        score = prediction.out_of_scope_score
        probability = _by_label(stage, prediction.probability.tolist())
        pooled, interval, label = None, None, None
        why: str | None = reason
        if self.state is State.LIVE and frame.timestamp is None:
            if score is not None and score > 1:
                why = OUT_OF_SCOPE
            else:
                pooled = probability
                label, why = decide(probability, stage)
        elif self.state is State.LIVE:
            assert frame.timestamp is not None
            pool, verdict = self._pool(finding, frame.timestamp, probability)
            label, why = verdict.label, verdict.reason
            if why not in (OUT_OF_SCOPE, pooling.NOT_ENOUGH):
                assert self._pooling is not None
                pooled = pool.probability
                interval = {
                    name: pooling.interval(pool, name, self._pooling) for name in stage.labels
                }
        return Nodule(
            track=self._number(finding.track),
            box=finding.box,
            window=finding.window,
            label=label,
            reason=why,
            probability=probability,
            smoothed=pooled,
            interval=interval,
            adjusted=self._adjusted(pooled),
            thresholds=stage.operating_point.thresholds,
            locator_score=finding.score,
            out_of_scope_score=score,
            evidence=None if label is None else prediction.evidence,
        )

    def _pool(
        self, finding: FoundNodule, at: float, probability: dict[str, float]
    ) -> tuple[pooling.Pool, pooling.Verdict]:
        """What all frames of a nodule say, with this one at `at` seconds."""
        policy = self._pooling
        assert policy is not None
        score = finding.prediction.out_of_scope_score
        before, verdict = self._verdicts.get(finding.track, (None, pooling.UNDECIDED))
        weight = pooling.frame_weight(finding.score, finding.sharpness, score, policy)
        pool = pooling.add(before, probability, at, weight, policy)
        verdict = pooling.settle(verdict, pool, score, self._stage, policy)
        self._verdicts[finding.track] = pool, verdict
        for track, (old, _) in [*self._verdicts.items()]:
            if at - old.at > FORGOTTEN_SECONDS:
                del self._verdicts[track]
        return pool, verdict

    def _adjusted(self, smoothed: dict[str, float] | None) -> dict[str, float] | None:
        """The probabilities at the prevalence that the user named, if so."""
        if smoothed is None or self._prevalence is None:
            return None
        return at_prevalence(smoothed, self._stage.prevalence, self._prevalence)

    def _count(self, cause: str, nodules: tuple[Nodule, ...], age: float) -> None:
        """Counts a frame once: as classified, or by the cause why it was not."""
        if nodules:
            self.summary.classified += 1
            self.summary.labels.update(nodule.label or "no label" for nodule in nodules)
            self.summary.latency.add(1000 * age)
        else:
            self.summary.not_judged[cause] += 1

    def _result(
        self,
        prepared: PreparedFrame | None,
        latency: FrameLatency,
        nodules: tuple[Nodule, ...],
        reason: str,
    ) -> Result:
        """The result of a frame, or of the session where no frame came."""
        frame = None if prepared is None else prepared.frame
        at = self._clock() if frame is None else frame.captured_at
        labelled = any(nodule.label is not None for nodule in nodules)
        if nodules and self.state is State.LIVE:
            reason = nodules[0].reason or reason
        return Result(
            sequence=next(self._sequence),
            frame=None if frame is None else frame.index,
            captured_at=at,
            captured_utc=self._as_utc(at),
            timestamp=None if frame is None else frame.timestamp,
            state=self.state,
            reason=None if labelled else reason,
            nodules=nodules,
            box=None if prepared is None else prepared.box,
            prevalence=self._stage.prevalence,
            adjusted_prevalence=self._prevalence,
            region="found" if self._roi is None else "given",
            searched=self._searched,
            latency_ms=latency,
            rate=self._throttle.level.name.lower(),
            health=self._throttle.troubles,
            backend=self._backend,
            fallback=self._fallback or None,
            bundle=self._bundle,
            file=None if frame is None else frame.name,
        )

    def _as_utc(self, at: float) -> str:
        """The wall time of a monotonic moment; no decision depends on it."""
        then = self._utc() - timedelta(seconds=self._clock() - at)
        return then.isoformat(timespec="milliseconds")


def _by_label(stage: ClassifierStage, values: Sequence[float]) -> dict[str, float]:
    return dict(zip(stage.labels, values, strict=True))


def _is_same_nodule(one: Box, other: Box) -> bool:
    """Whether two boxes mark one nodule: the centre of one lies in the other."""

    def holds(box: Box, x: float, y: float) -> bool:
        return box.x <= x < box.x + box.w and box.y <= y < box.y + box.h

    centres = [(box.x + box.w / 2, box.y + box.h / 2) for box in (one, other)]
    return holds(one, *centres[1]) or holds(other, *centres[0])
