"""The course of an exam: from the results of frames to what is kept of them.

A decision is kept once a second, and whenever anything changes in it: the state, the nodules, a
label or the reason why there is none, the backend. Of every nodule all frames count together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from devices import Pixels
from edge_runtime.bundle.manifest import ClassifierStage
from edge_runtime.bundle.policies import PoolingPolicy
from edge_runtime.exams.store import ExamDecision, ExamNodule
from edge_runtime.nodules.pooling import UNDECIDED, frame_weight, interval, settle
from edge_runtime.nodules.sharpness import sharpness
from edge_runtime.nodules.summary import BestFrame, NoduleSummary, session_policy, summarise
from edge_runtime.results.result import Nodule, Result
from edge_runtime.results.states import State

INTERVAL_SECONDS = 1.0
"""Seconds from one decision to the next where nothing changes."""
FINISHED_SECONDS = 120.0
"""Seconds out of view after which a nodule that a locator found is finished."""
MAX_HELD_PICTURES = 8
"""Best pictures that are held until they are written."""
MAX_KEY_PICTURES = 50
"""Nodules of an exam whose best picture is kept: the first ones."""
MARKED_POOLING = PoolingPolicy(
    memory_seconds=600.0,
    correlation_seconds=0.4,
    view_deviation=1.0,
    full_sharpness=0.06,
    min_seconds=0.0,
    hysteresis=0.0,
    hold_seconds=0.0,
)
"""The policy for a marked nodule where the bundle has no locator. A locator brings a policy of its
own. No interval follows from this one."""


@dataclass(frozen=True)
class KeyPicture:
    """The best picture of a nodule so far."""

    nodule: int
    result: Result
    pixels: Pixels


@dataclass(frozen=True)
class CourseStep:
    """What is to be kept at one moment."""

    decisions: tuple[ExamDecision, ...]
    nodules: tuple[ExamNodule, ...]


@dataclass
class _Seen:
    """A nodule so far."""

    nodule: Nodule
    """As in the last frame."""
    result: Result
    """The result of that frame."""
    first_seen: str
    """UTC, ISO 8601."""
    summary: NoduleSummary
    at: float
    """Seconds of the last frame."""
    rank: tuple[bool, float]
    """Of the best picture: whether there was a label, and the weight."""
    changed: bool = True


class Course:
    """What the results of one exam add up to. It holds no more than a few pictures."""

    def __init__(
        self, stage: ClassifierStage, policy: PoolingPolicy | None, live: bool, begun: float
    ) -> None:
        """`begun` in monotonic seconds; `policy` is that of the locator of the bundle."""
        self._stage, self._policy = stage, policy or MARKED_POOLING
        self._live, self._begun = live, begun
        self._whole = session_policy(self._policy)
        self._numbers: dict[tuple[str | None, int], int] = {}
        self._seen: dict[int, _Seen] = {}
        self._candidates: dict[int, KeyPicture] = {}
        self._last: Result | None = None
        """The result of the last decision."""
        self._signs: object = None
        """What a change is noticed by."""

    def add(self, result: Result, pixels: Pixels) -> CourseStep | None:
        """Takes a result with its screen; returns what is to be kept now, None where nothing is."""
        numbers = [self._number(nodule, result) for nodule in result.nodules]
        if result.state is State.LIVE:
            for number, nodule in zip(numbers, result.nodules, strict=True):
                self._see(number, nodule, result, pixels)
        signs = _signs(result, numbers)
        if signs == self._signs and not self._is_due(result):
            return None
        self._signs, self._last = signs, result
        decisions = tuple(self._decisions(result, numbers))
        return CourseStep(decisions, self.changed_nodules())

    def changed_nodules(self) -> tuple[ExamNodule, ...]:
        """The nodules that have changed since they were last asked for."""
        changed = [seen for seen in self._seen.values() if seen.changed]
        for seen in changed:
            seen.changed = False
        return tuple(self._record(seen) for seen in changed)

    def take_pictures(self, room: int) -> list[KeyPicture]:
        """At most `room` best pictures that are better than the ones that were taken before."""
        numbers = [*self._candidates][:room]
        return [self._candidates.pop(number) for number in numbers]

    def _number(self, nodule: Nodule, result: Result) -> int:
        """The number of a nodule in the exam."""
        return self._numbers.setdefault((result.file, nodule.track), len(self._numbers) + 1)

    def _see(self, number: int, nodule: Nodule, result: Result, pixels: Pixels) -> None:
        """Adds a frame to what is known of a nodule."""
        before = self._seen.get(number)
        at = _source_seconds(result)
        weight = frame_weight(
            1.0 if nodule.locator_score is None else nodule.locator_score,
            sharpness(pixels, nodule.box),
            nodule.out_of_scope_score,
            self._policy,
        )
        assert result.frame is not None
        summary = summarise(
            None if before is None else before.summary,
            number,
            BestFrame(weight, at, result.frame),
            nodule.probability,
            self._policy,
        )
        rank = nodule.label is not None, weight
        if before is None or rank > before.rank:
            rank = self._offer(KeyPicture(number, result, pixels), rank, before)
        else:
            rank = before.rank
        first = result.captured_utc if before is None else before.first_seen
        self._seen[number] = _Seen(nodule, result, first, summary, at, rank)
        self._forget(at)

    def _offer(
        self, picture: KeyPicture, rank: tuple[bool, float], before: _Seen | None
    ) -> tuple[bool, float]:
        """Holds a picture where there is room; returns the best rank held."""
        is_held = picture.nodule in self._candidates
        has_room = is_held or len(self._candidates) < MAX_HELD_PICTURES
        if has_room and picture.nodule <= MAX_KEY_PICTURES:
            self._candidates[picture.nodule] = picture
            return rank
        return (False, -1.0) if before is None else before.rank

    def _record(self, seen: _Seen) -> ExamNodule:
        """What all frames of a nodule say together. A still is decided alone."""
        nodule, result, summary = seen.nodule, seen.result, seen.summary
        whole, pool = self._whole, summary.pool
        probability, bounds = pool.probability, None
        if result.timestamp is None:
            probability = nodule.probability
            label, reason = nodule.label, nodule.reason
        else:
            score = None if pool.seconds else nodule.out_of_scope_score
            verdict = settle(UNDECIDED, pool, score, self._stage, whole)
            label, reason = verdict.label, verdict.reason
            if nodule.locator_score is not None and pool.seconds:
                bounds = {name: interval(pool, name, whole) for name in self._stage.labels}
        return ExamNodule(
            number=summary.number,
            track=nodule.track,
            file=result.file,
            first_seen=seen.first_seen,
            last_seen=result.captured_utc,
            frames=summary.frames,
            label=label,
            reason=reason,
            probability=probability,
            interval=bounds,
            box=nodule.box,
            best=tuple(frame.index for frame in summary.best),
        )

    def _forget(self, at: float) -> None:
        """Lets go of nodules that a locator found and that are out of view for long."""
        over = [
            number
            for number, seen in self._seen.items()
            if seen.nodule.locator_score is not None
            and not seen.changed
            and at - seen.at > FINISHED_SECONDS
        ]
        for number in over:
            del self._seen[number]

    def _is_due(self, result: Result) -> bool:
        """Whether a decision is kept although nothing has changed."""
        assert self._last is not None
        return abs(_source_seconds(result) - _source_seconds(self._last)) >= INTERVAL_SECONDS

    def _seconds(self, result: Result) -> float | None:
        """See `ExamDecision.seconds`."""
        if not self._live:
            return result.timestamp
        return round(max(0.0, result.captured_at - self._begun), 3)

    def _decisions(self, result: Result, numbers: list[int]) -> Iterable[ExamDecision]:
        """One for each nodule, or one of the frame where there is none."""
        frame = ExamDecision(
            at=result.captured_utc,
            seconds=self._seconds(result),
            frame=result.frame,
            file=result.file,
            state=str(result.state),
            reason=result.reason,
            backend=result.backend,
            fallback=result.fallback,
        )
        if not numbers:
            yield frame
        for number, nodule in zip(numbers, result.nodules, strict=True):
            yield replace(
                frame,
                nodule=number,
                track=nodule.track,
                label=nodule.label,
                reason=nodule.reason,
                probability=nodule.smoothed,
                frame_probability=nodule.probability,
                interval=nodule.interval,
                box=nodule.box,
            )


def _source_seconds(result: Result) -> float:
    """Seconds on the time line of the source."""
    return result.captured_at if result.timestamp is None else result.timestamp


def _signs(result: Result, numbers: list[int]) -> object:
    """What makes a change: a decision is kept at once where any of it differs."""
    decided = [(nodule.label, nodule.reason) for nodule in result.nodules]
    reason = None if numbers else result.reason
    return result.state, reason, result.file, result.backend, result.fallback, numbers, decided
