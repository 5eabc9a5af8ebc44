"""What a session saw of one nodule, for the end of the session."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_runtime.bundle.policies import PoolingPolicy
from edge_runtime.nodules.pooling import Pool, add

MAX_BEST = 3
"""How many best frames are kept."""
WHOLE_SESSION = 600.0
"""Seconds: the time constant of the pool of a whole session, the longest that a policy may have."""


@dataclass(frozen=True, slots=True)
class BestFrame:
    """A frame that shows the nodule well."""

    weight: float
    """From 0 to 1; see `frame_weight`."""
    at: float
    """Seconds."""
    index: int
    """The number of the frame on its device."""


@dataclass(frozen=True, slots=True)
class NoduleSummary:
    """What was seen of one nodule, from the first to the last frame that showed it."""

    number: int
    """The number of its track."""
    frames: int
    first_seen: float
    """Seconds."""
    last_seen: float
    """Seconds."""
    best: tuple[BestFrame, ...]
    """The frames of the largest weights, the best first, each another view."""
    pool: Pool
    """All frames; `Pool.probability` and `interval` tell what they say together."""


def session_policy(policy: PoolingPolicy) -> PoolingPolicy:
    """The policy of a summary: it forgets next to nothing of an examination."""
    return replace(policy, memory_seconds=WHOLE_SESSION)


def summarise(
    summary: NoduleSummary | None,
    number: int,
    frame: BestFrame,
    probability: Mapping[str, float],
    policy: PoolingPolicy,
) -> NoduleSummary:
    """The summary with one more frame, whose calibrated probabilities stand by label."""
    whole = session_policy(policy)
    if summary is None:
        pool = add(None, probability, frame.at, frame.weight, whole)
        return NoduleSummary(number, 1, frame.at, frame.at, (frame,), pool)
    return NoduleSummary(
        number=summary.number,
        frames=summary.frames + 1,
        first_seen=summary.first_seen,
        last_seen=max(summary.last_seen, frame.at),
        best=_best([*summary.best, frame], policy.correlation_seconds),
        pool=add(summary.pool, probability, frame.at, frame.weight, whole),
    )


def _best(frames: list[BestFrame], apart: float) -> tuple[BestFrame, ...]:
    """The best frames that lie at least `apart` seconds from each other."""
    best: list[BestFrame] = []
    for frame in sorted(frames, key=lambda frame: (-frame.weight, frame.at)):
        if all(abs(frame.at - other.at) >= apart for other in best):
            best.append(frame)
    return tuple(best[:MAX_BEST])
