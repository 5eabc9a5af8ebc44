"""Follows nodules through a live picture: from the detections of each frame to numbered tracks.

As in ByteTrack, detections with a high score are associated first, and those with a low score then
continue the tracks that are left: Zhang and others, "ByteTrack: Multi-object tracking by
associating every detection box", ECCV 2022. Of several pairs the one with the largest intersection
over union goes first.

The centre and the size of a box each have an alpha-beta filter, which takes the velocity as
constant between two detections. Its gains follow from the tracking index: Kalata, "The tracking
index: a generalized parameter for alpha-beta and alpha-beta-gamma target trackers", IEEE
Transactions on Aerospace and Electronic Systems 20(2), 1984. They depend on the time between
detections, so that the frame rate hardly matters. The first detections of a track have the larger
gains of the expanding-memory filter: Brookner, "Tracking and Kalman filtering made easy", 1998,
chapter 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from devices import Box
from edge_runtime.bundle.policies import TrackingPolicy as TrackingPolicy
from edge_runtime.results.detection import Detection as Detection

SCORE_SECONDS = 0.25
"""Time constant of the exponential mean of the scores of a track. Chosen among .15 to .5 on six
sweeps; see docs/experiments.md."""
AGILITY = 160.0
"""Deviation of the acceleration over the deviation of a detection, in 1/s². Assumed: a hand moves
the nodule by 5 of its sides/s², and a detection is wrong by 3 % of a side. Over the marked boxes of
27 real sweeps the mean IoU of the tracks is 0.96; with boxes that tremble by 5 % of a side, and
three of ten missing, it is 0.85, and 0.83 that of the boxes."""
SAME_TIME = 1e-6
"""Seconds. Frames that are no further apart give no velocity."""
MIN_COMPARED_SIDE = 32.0
"""Pixels. Smaller boxes are compared as if they had such sides: a small box that moves by its own
width would overlap nothing."""

Coordinates = tuple[float, float, float, float]
"""The x and y of a centre, then width and height."""

_AT_REST: Coordinates = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Track:
    """One nodule over time."""

    number: int
    """From 1; no other track of the session has it."""
    place: Coordinates
    """Pixels of the screen, as estimated for the last step."""
    velocity: Coordinates
    """Pixels a second."""
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
    fixed: bool = False
    """Whether somebody marked it: it does not move, and counts as seen in every step."""

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
    tracks: Tracks, detections: Sequence[Detection], at: float, policy: TrackingPolicy
) -> Tracks:
    """The tracks after a frame with these detections at `at` seconds.

    A time before that of the last step counts as the same time.
    """
    at = max(at, tracks.at)
    known = [
        track
        for track in tracks.tracks
        if track.fixed or at - track.last_seen <= policy.lost_seconds
    ]
    places = [_predict(track, tracks.at, at, policy.coast_seconds) for track in known]
    marked = [track.box for track in known if track.fixed]
    usable = [
        each
        for each in detections
        if each.score >= policy.keep_score and not any(_holds(box, each.box) for box in marked)
    ]
    usable.sort(key=lambda each: (-each.score, each.box))
    pairs = _associate(known, places, usable, policy)
    share = -math.expm1(-(at - tracks.at) / SCORE_SECONDS) if known else 0.0
    moved = []
    for index, (track, place) in enumerate(zip(known, places, strict=True)):
        if track.fixed:
            moved.append(replace(track, last_seen=at, hits=track.hits + 1))
        elif index in pairs:
            moved.append(_update(track, place, usable[pairs[index]], at, share, policy))
        elif track.confirmed or at - track.last_seen <= policy.coast_seconds:
            score = track.score * (1 - share)
            moved.append(replace(track, place=place, score=score, seen=False))
    begun = _begin(tracks.next_number, moved, usable, set(pairs.values()), at, policy)
    return Tracks(
        _most_important([*moved, *begun], at, policy), tracks.next_number + len(begun), at
    )


def visible(tracks: Tracks, at: float, policy: TrackingPolicy) -> tuple[Track, ...]:
    """The tracks to show on a picture of `at` seconds, moved to that time.

    They are confirmed, were detected at most `coast_seconds` before, and have a mean score of at
    least `show_score`.
    """
    at = max(at, tracks.at)
    return tuple(
        replace(track, place=_predict(track, tracks.at, at, policy.coast_seconds))
        for track in tracks.tracks
        if _is_visible(track, at, policy) and (track.fixed or track.score >= policy.show_score)
    )


def add_fixed_track(tracks: Tracks, box: Box, at: float) -> Tracks:
    """The tracks with one more, which somebody marked at `at` seconds and which does not move.

    Detections whose centre lies in its box belong to it and change nothing.
    """
    fixed = Track(
        number=tracks.next_number,
        place=_coordinates(box),
        velocity=_AT_REST,
        first_seen=at,
        last_seen=at,
        hits=1,
        score=1.0,
        confirmed=True,
        seen=True,
        fixed=True,
    )
    return Tracks((*tracks.tracks, fixed), tracks.next_number + 1, max(at, tracks.at))


def iou(first: Coordinates, second: Coordinates) -> float:
    """Intersection over union, from 0 to 1."""
    x, y, w, h = first
    other_x, other_y, other_w, other_h = second
    across = min(x + w / 2, other_x + other_w / 2) - max(x - w / 2, other_x - other_w / 2)
    down = min(y + h / 2, other_y + other_h / 2) - max(y - h / 2, other_y - other_h / 2)
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / (w * h + other_w * other_h - shared)


def _coordinates(box: Box) -> Coordinates:
    x, y, w, h = box
    return x + w / 2, y + h / 2, float(w), float(h)


def _compared(place: Coordinates) -> Coordinates:
    """The place with sides that are long enough to overlap after a move."""
    x, y, w, h = place
    return x, y, max(w, MIN_COMPARED_SIDE), max(h, MIN_COMPARED_SIDE)


def _holds(box: Box, inner: Box) -> bool:
    x, y, *_ = _coordinates(inner)
    return box.x <= x <= box.x + box.w and box.y <= y <= box.y + box.h


def _is_visible(track: Track, at: float, policy: TrackingPolicy) -> bool:
    return track.confirmed and (track.fixed or at - track.last_seen <= policy.coast_seconds)


def _predict(track: Track, before: float, at: float, coast: float) -> Coordinates:
    """The place at `at`, from that at `before`; after `coast` seconds unseen the track waits."""
    end = track.last_seen + coast
    passed = min(at, end) - min(before, end)
    if passed <= 0:
        return track.place
    (x, y, w, h), (dx, dy, dw, dh) = track.place, track.velocity
    return (
        x + passed * dx,
        y + passed * dy,
        max(1.0, w + passed * dw),
        max(1.0, h + passed * dh),
    )


def _associate(
    tracks: Sequence[Track],
    places: Sequence[Coordinates],
    detections: Sequence[Detection],
    policy: TrackingPolicy,
) -> dict[int, int]:
    """The index of the detection of each track that has one, by the predicted places."""
    boxes = [_compared(_coordinates(each.box)) for each in detections]
    candidates = []
    for index, track in enumerate(tracks):
        if track.fixed:
            continue
        place = _compared(places[index])
        for other, box in enumerate(boxes):
            overlap = iou(place, box)
            if overlap >= policy.min_iou:
                is_weak = detections[other].score < policy.start_score
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
    place: Coordinates,
    detection: Detection,
    at: float,
    share: float,
    policy: TrackingPolicy,
) -> Track:
    """The track, predicted to be in `place`, corrected by its detection.

    `share` is the weight of the detection in the mean of the scores.
    """
    measured, velocity = _coordinates(detection.box), track.velocity
    passed = at - track.last_seen
    if passed > policy.coast_seconds:
        place, velocity = measured, _AT_REST
    elif passed > SAME_TIME:
        alpha, beta = _gains(track.hits, passed)
        place, velocity = _corrected(place, velocity, measured, alpha, beta / passed)
    hits = track.hits + 1
    return Track(
        number=track.number,
        place=place,
        velocity=velocity,
        first_seen=track.first_seen,
        last_seen=at,
        hits=hits,
        score=track.score + share * (detection.score - track.score),
        confirmed=track.confirmed or _is_confirmed(hits, at - track.first_seen, policy),
        seen=True,
    )


def _corrected(
    place: Coordinates,
    velocity: Coordinates,
    measured: Coordinates,
    alpha: float,
    per_second: float,
) -> tuple[Coordinates, Coordinates]:
    """Place and velocity after a measurement; `per_second` is beta over the time that passed."""
    (x, y, w, h), (dx, dy, dw, dh) = place, velocity
    by_x, by_y, by_w, by_h = measured[0] - x, measured[1] - y, measured[2] - w, measured[3] - h
    return (
        (x + alpha * by_x, y + alpha * by_y, w + alpha * by_w, h + alpha * by_h),
        (
            dx + per_second * by_x,
            dy + per_second * by_y,
            dw + per_second * by_w,
            dh + per_second * by_h,
        ),
    )


def _gains(hits: int, passed: float) -> tuple[float, float]:
    """Alpha and beta after `hits` detections, the last of them `passed` seconds ago."""
    index = AGILITY * passed**2
    root = (4 + index - math.sqrt(8 * index + index**2)) / 4
    alpha = 1 - root**2
    beta = 2 * (2 - alpha) - 4 * root
    span = (hits + 1) * (hits + 2)
    return max(alpha, 2 * (2 * hits + 1) / span), min(1.0, max(beta, 6 / span))


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
        place = _coordinates(box)
        compared = _compared(place)
        if any(iou(compared, other) >= policy.min_iou for other in occupied):
            continue
        occupied.append(compared)
        begun.append(
            Track(
                number=number + len(begun),
                place=place,
                velocity=_AT_REST,
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
        return not track.fixed, not is_visible, not track.seen, track.number

    kept = sorted(tracks, key=rank)[: policy.max_nodules]
    return tuple(sorted(kept, key=lambda track: track.number))
