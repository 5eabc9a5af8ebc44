"""Follows nodules through a live picture: from the detections of each frame to numbered tracks.

A track moves with the tissue under its box, see `edge_runtime.nodules.motion`, and a detection
corrects it. As in ByteTrack, detections with a high score are associated first, and those with a
low score then continue the tracks that are left: Zhang and others, "ByteTrack: Multi-object
tracking by associating every detection box", ECCV 2022. Of several pairs the one with the largest
intersection over union goes first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from devices import Box
from edge_runtime.bundle.policies import TrackingPolicy as TrackingPolicy
from edge_runtime.nodules.motion import Place
from edge_runtime.results.detection import Detection as Detection

SCORE_SECONDS = 0.25
"""Time constant of the exponential mean of the scores of a track. Chosen among .15 to .5 on six
sweeps; see docs/experiments.md."""
CORRECTION = 0.4
"""Share of the way to a detection that a track is corrected by; more while it is young: the mean of
its detections."""
MIN_COMPARED_SIDE = 32.0
"""Pixels. Smaller boxes are compared as if they had such sides: a small box that moves by its own
width would overlap nothing."""

MARKED_IOU = 0.3
"""The intersection over union from which on a detection corrects a marked track; the detection must
be one that could begin a track. A person marked the nodule: a box of another size is rather another
thing. Chosen on six sweeps."""

SUPPORT_SECONDS = 0.5
"""Time constant of the support of a marked track."""
LEFT_SUPPORT = 0.5
"""Share of the best support of a marked track, below which the nodule has left the picture. On 27
real sweeps it costs no frame in which the nodule is there."""

Move = Callable[[Sequence[Place]], Sequence[Place | None]]
"""Where boxes of the frame before are now; None where that is not known. See `Motion`."""


@dataclass(frozen=True, slots=True)
class Track:
    """One nodule over time."""

    number: int
    """From 1; no other track of the session has it."""
    place: Place
    """Pixels of the screen, as estimated for the last step."""
    first_seen: float
    """Seconds."""
    last_seen: float
    """Seconds."""
    hits: int
    """How many detections continued the track, the first one included."""
    score: float
    """The exponential mean of the scores; a frame without a detection counts as 0."""
    confirmed: bool
    """Whether it has been seen often enough to be shown."""
    seen: bool
    """Whether it was detected in the last step."""
    marked: bool = False
    """Whether somebody marked it: it is shown at once, and needs no detections."""
    support: float = 0.0
    """Of a marked track: the exponential mean of the best score in its box, weak ones included."""
    best_support: float = 0.0
    """The highest support so far."""

    @property
    def box(self) -> Box:
        """The box in whole pixels. It may reach beyond the screen."""
        x, y, w, h = self.place
        return Box(round(x - w / 2), round(y - h / 2), max(1, round(w)), max(1, round(h)))


@dataclass(frozen=True, slots=True)
class Tracks:
    """All tracks of a session, by number."""

    tracks: tuple[Track, ...] = ()
    next_number: int = 1
    at: float = -math.inf
    """Seconds of the last step."""


NO_TRACKS = Tracks()


def step(
    tracks: Tracks,
    detections: Sequence[Detection],
    at: float,
    policy: TrackingPolicy,
    move: Move | None = None,
) -> Tracks:
    """The tracks after a frame with these detections at `at` seconds.

    A time before that of the last step counts as the same time. Without `move` the tracks stay
    where they are until they are detected.
    """
    at = max(at, tracks.at)
    known = [track for track in tracks.tracks if at - track.last_seen <= policy.lost_seconds]
    before = [track.place for track in known]
    moved = [None] * len(known) if move is None else move(before)
    places = [now or then for now, then in zip(moved, before, strict=True)]
    usable = [each for each in detections if each.score >= policy.keep_score]
    usable.sort(key=lambda each: (-each.score, each.box))
    pairs = _associate(known, places, usable, policy)
    share = -math.expm1(-(at - tracks.at) / SCORE_SECONDS) if known else 0.0
    known = [
        _supported(track, place, detections, at - tracks.at, policy) if track.marked else track
        for track, place in zip(known, places, strict=True)
    ]
    followed = []
    for index, (track, place) in enumerate(zip(known, places, strict=True)):
        if index in pairs:
            followed.append(_update(track, place, usable[pairs[index]], at, share, policy))
        elif (
            track.marked
            and track.seen
            and (moved[index] is not None or at == tracks.at)  # at once it cannot have moved
            and not _left(track, policy)
        ):
            followed.append(replace(track, place=place, last_seen=at, seen=True))
        elif track.confirmed or at - track.last_seen <= policy.coast_seconds:
            score = track.score if track.marked else track.score * (1 - share)
            followed.append(replace(track, place=place, score=score, seen=False))
    begun = _begin(tracks.next_number, followed, usable, set(pairs.values()), at, policy)
    return Tracks(
        _most_important([*followed, *begun], at, policy), tracks.next_number + len(begun), at
    )


def visible(tracks: Tracks, policy: TrackingPolicy) -> tuple[Track, ...]:
    """The tracks to show on the picture of the last step.

    They are confirmed, were detected at most `coast_seconds` before, and have a mean score of at
    least `show_score`. A marked nodule is shown unless it has left.
    """
    return tuple(
        track
        for track in tracks.tracks
        if _is_visible(track, tracks.at, policy)
        and (not _left(track, policy) if track.marked else track.score >= policy.show_score)
    )


def add_marked_track(tracks: Tracks, box: Box, at: float) -> Tracks:
    """The tracks with one more, which somebody marked at `at` seconds.

    It moves with the tissue under its box, and detections correct it. Where the tissue cannot be
    followed, or where the locator found the nodule and finds it no more, only a detection takes it
    up again; it ends after the seconds after which a track is lost.
    """
    marked = Track(
        number=tracks.next_number,
        place=_place(box),
        first_seen=at,
        last_seen=at,
        hits=1,
        score=1.0,
        confirmed=True,
        seen=True,
        marked=True,
    )
    return Tracks((*tracks.tracks, marked), tracks.next_number + 1, max(at, tracks.at))


def iou(first: Place, second: Place) -> float:
    """Intersection over union, from 0 to 1."""
    x, y, w, h = first
    other_x, other_y, other_w, other_h = second
    across = min(x + w / 2, other_x + other_w / 2) - max(x - w / 2, other_x - other_w / 2)
    down = min(y + h / 2, other_y + other_h / 2) - max(y - h / 2, other_y - other_h / 2)
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / (w * h + other_w * other_h - shared)


def _place(box: Box) -> Place:
    x, y, w, h = box
    return x + w / 2, y + h / 2, float(w), float(h)


def _compared(place: Place) -> Place:
    """The place with sides that are long enough to overlap after a move."""
    x, y, w, h = place
    return x, y, max(w, MIN_COMPARED_SIDE), max(h, MIN_COMPARED_SIDE)


def _is_visible(track: Track, at: float, policy: TrackingPolicy) -> bool:
    return track.confirmed and at - track.last_seen <= policy.coast_seconds


def _associate(
    tracks: Sequence[Track],
    places: Sequence[Place],
    detections: Sequence[Detection],
    policy: TrackingPolicy,
) -> dict[int, int]:
    """The index of the detection of each track that has one, by the places that they moved to."""
    boxes = [_compared(_place(each.box)) for each in detections]
    candidates = []
    for index, (track, place) in enumerate(zip(tracks, places, strict=True)):
        compared = _compared(place)
        least = max(policy.min_iou, MARKED_IOU if track.marked else 0.0)
        for other, box in enumerate(boxes):
            overlap = iou(compared, box)
            is_weak = detections[other].score < policy.start_score
            if overlap >= least and not (track.marked and is_weak):
                candidates.append((is_weak, -overlap, index, other))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, index, other in sorted(candidates):
        if index not in pairs and other not in taken:
            pairs[index] = other
            taken.add(other)
    return pairs


def _update(
    track: Track,
    place: Place,
    detection: Detection,
    at: float,
    share: float,
    policy: TrackingPolicy,
) -> Track:
    """The track, which has moved to `place`, corrected by its detection.

    `share` is the weight of the detection in the mean of the scores.
    """
    hits = track.hits + 1
    measured = _place(detection.box)
    if at - track.last_seen > policy.coast_seconds:
        place = measured
    return replace(
        track,
        place=_between(place, measured, max(CORRECTION, 1 / hits)),
        last_seen=at,
        hits=hits,
        score=track.score + (0.0 if track.marked else share * (detection.score - track.score)),
        confirmed=track.confirmed or _is_confirmed(hits, at - track.first_seen, policy),
        seen=True,
    )


def _supported(
    track: Track,
    place: Place,
    detections: Sequence[Detection],
    seconds: float,
    policy: TrackingPolicy,
) -> Track:
    """A marked track with its support, `seconds` after the last step."""
    own = [each.score for each in detections if iou(place, _place(each.box)) >= policy.min_iou]
    share = -math.expm1(-seconds / SUPPORT_SECONDS)
    support = track.support + share * (max(own, default=0.0) - track.support)
    return replace(track, support=support, best_support=max(track.best_support, support))


def _left(track: Track, policy: TrackingPolicy) -> bool:
    """Whether the nodule of a marked track has left: the locator found it, and finds it no more.

    Of a nodule that the locator never found nothing is known.
    """
    return (
        track.best_support >= policy.start_score
        and track.support < LEFT_SUPPORT * track.best_support
    )


def _between(place: Place, other: Place, share: float) -> Place:
    (x, y, w, h), (to_x, to_y, to_w, to_h) = place, other
    return (
        x + share * (to_x - x),
        y + share * (to_y - y),
        w + share * (to_w - w),
        h + share * (to_h - h),
    )


def _is_confirmed(hits: int, seconds: float, policy: TrackingPolicy) -> bool:
    return hits >= policy.confirm_hits and seconds >= policy.confirm_seconds


def _begin(
    number: int,
    tracks: Sequence[Track],
    detections: Sequence[Detection],
    taken: set[int],
    at: float,
    policy: TrackingPolicy,
) -> list[Track]:
    """New tracks, from `number` on, of detections that overlap no nodule of this frame."""
    occupied = [_compared(track.place) for track in tracks if track.seen]
    begun: list[Track] = []
    for index, (box, score) in enumerate(detections):
        if index in taken or score < policy.start_score or len(begun) == policy.max_nodules:
            continue
        place = _place(box)
        compared = _compared(place)
        if any(iou(compared, other) >= policy.min_iou for other in occupied):
            continue
        occupied.append(compared)
        begun.append(
            Track(
                number=number + len(begun),
                place=place,
                first_seen=at,
                last_seen=at,
                hits=1,
                score=score,
                confirmed=_is_confirmed(1, 0.0, policy),
                seen=True,
            )
        )
    return begun


def _most_important(
    tracks: Sequence[Track], at: float, policy: TrackingPolicy
) -> tuple[Track, ...]:
    """As many tracks as may be: those that are shown, then those seen, the older ones first."""
    if len(tracks) <= policy.max_nodules:
        return tuple(tracks)

    def rank(track: Track) -> tuple[bool, bool, bool, int]:
        is_visible = _is_visible(track, at, policy)
        return not track.marked, not is_visible, not track.seen, track.number

    kept = sorted(tracks, key=rank)[: policy.max_nodules]
    return tuple(sorted(kept, key=lambda track: track.number))
