"""What a locator answers to marked pictures, its operating point, and its figures."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices import Box
from devices.capture.dicom import Dicom
from devices.capture.kinds import Kind, kind_of
from devices.capture.video import Video
from edge_runtime.bundle.policies import TrackingPolicy
from edge_runtime.bundle.preprocess import Preprocessing
from edge_runtime.models.boxes import decode_boxes
from edge_runtime.nodules.motion import Motion
from edge_runtime.nodules.tracking import NO_TRACKS, Detection, Track, step, visible
from train.locator.dataset import LocatorPicture, network_tensor
from train.locator.metrics import (
    ClipFigures,
    ClipFrame,
    Figure,
    Scored,
    clip_figures,
    figures,
    match,
)

FRAMES_A_SECOND = 20.0
"""Of a clip whose file does not tell."""
STARTS = tuple(np.arange(0.3, 0.9, 0.02).round(2).tolist())
"""Scores from which on a detection may begin a track, to choose from."""
KEEPS = (0.2, 0.4, 0.6)
"""The score that continues a track, as a share of the former."""
SHOWS = (0.0, *np.arange(0.1, 0.65, 0.025).round(3).tolist())
"""Mean scores from which on a track is shown, to choose from; 0 shows every track."""

Answer = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]
"""From tensors uint8 ``[N, side, side, 1]`` to the maps by name, ``[N, ...]``."""
AT_ONCE = 32


def detect(
    answer: Answer,
    pictures: Sequence[LocatorPicture],
    preprocessing: Preprocessing,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Scored]:
    """The detections in each picture, as shares of the side of its square."""
    found: list[Scored] = []
    for start in progress(range(0, len(pictures), AT_ONCE)):
        part = pictures[start : start + AT_ONCE]
        maps = answer(np.concatenate([network_tensor(each, preprocessing) for each in part]))
        found += [decode_boxes(*both) for both in zip(maps["score"], maps["sides"], strict=True)]
    return found


@dataclass(frozen=True)
class Clip:
    """The pictures of one moving picture in their order, and the detections in each."""

    pictures: tuple[LocatorPicture, ...]
    found: tuple[Scored, ...]
    rate: float
    """Frames a second."""


def clips_of(pictures: Sequence[LocatorPicture], found: Sequence[Scored]) -> list[Clip]:
    """The clips among the pictures."""
    by_file: dict[Path, list[tuple[LocatorPicture, Scored]]] = defaultdict(list)
    for picture, scored in zip(pictures, found, strict=True):
        if picture.moving:
            by_file[picture.marked.path].append((picture, scored))
    clips = []
    for path, members in by_file.items():
        ordered = sorted(members, key=lambda member: member[0].marked.frame)
        own, scores = zip(*ordered, strict=True)
        clips.append(Clip(own, scores, _rate(path)))
    return clips


def _rate(path: Path) -> float:
    if not path.is_file():
        return FRAMES_A_SECOND
    with Video(path) if kind_of(path) is Kind.VIDEO else Dicom(path) as clip:
        return clip.fps if 1 <= clip.fps <= 200 else FRAMES_A_SECOND


def follow(clip: Clip, policy: TrackingPolicy) -> list[ClipFrame]:
    """What the device would show of a clip, frame by frame."""
    return _frames(clip, _walk(clip, policy), 0.0)


Walk = list[tuple[float, tuple[Track, ...]]]
"""The seconds of each frame of a clip, and the tracks that are shown on it."""


def _walk(clip: Clip, policy: TrackingPolicy) -> Walk:
    tracks, walk, before = NO_TRACKS, [], None
    for picture, scored in zip(clip.pictures, clip.found, strict=True):
        left, top, longer, _ = picture.window
        at = picture.marked.frame / clip.rate
        detections = []
        for row in scored.tolist():
            x, y = round(left + row[0] * longer), round(top + row[1] * longer)
            w, h = round((row[2] - row[0]) * longer), round((row[3] - row[1]) * longer)
            detections.append(Detection(Box(x, y, max(1, w), max(1, h)), row[4]))
        motion = None
        if before is not None and before.window == picture.window:
            motion = Motion(before.square.pixels, picture.square.pixels, picture.window)
        tracks, before = step(tracks, detections, at, policy, motion), picture
        walk.append((at, visible(tracks, policy)))
    return walk


def _frames(clip: Clip, walk: Walk, show_score: float) -> list[ClipFrame]:
    """The frames with the tracks whose mean score is at least `show_score`."""
    frames = []
    for picture, (at, tracks) in zip(clip.pictures, walk, strict=True):
        shown = [track for track in tracks if track.score >= show_score]
        frames.append(
            ClipFrame(
                at,
                corners(picture.marked.boxes),
                corners([track.box for track in shown]),
                tuple(track.number for track in shown),
            )
        )
    return frames


def corners(boxes: Sequence[Box]) -> NDArray[np.float32]:
    """float32 ``[N, 4]``: left, top, right, bottom in pixels."""
    rows = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    return np.asarray(rows, np.float32).reshape(-1, 4)


def choose_scores(
    clips: Sequence[Clip],
    policy: TrackingPolicy,
    false_frames: float,
    progress: Callable[[Iterable[float]], Iterable[float]] = iter,
) -> TrackingPolicy:
    """The policy with the scores that show most nodules where few empty frames have a box.

    At most `false_frames` of the empty frames may have one; where no scores hold that, those with
    the fewest are chosen. Where two show as many nodules, the fewer empty frames with a box decide.
    Never to be called with clips of the test part.
    """
    candidates = []
    for start in progress(STARTS):
        for share in KEEPS:
            keep = round(share * start, 3)
            tried = replace(policy, start_score=start, keep_score=keep, show_score=0.0)
            walks = [_walk(clip, tried) for clip in clips]
            for show in SHOWS:
                shown = [_frames(*both, show) for both in zip(clips, walks, strict=True)]
                measured = clip_figures(shown)
                false = measured.false or 0.0
                holds = false <= false_frames
                found = (measured.found or 0.0) if holds else 0.0
                candidates.append((holds, found, -false, replace(tried, show_score=show)))
    return max(candidates, key=lambda candidate: candidate[:3])[3] if clips else policy


def measure(
    pictures: Sequence[LocatorPicture], found: Sequence[Scored], policy: TrackingPolicy
) -> tuple[dict[str, Figure], ClipFigures | None]:
    """The figures of the pictures alone, and those of the clips among them after tracking."""
    matched = match([picture.square.boxes for picture in pictures], found)
    groups = [picture.marked.group for picture in pictures]
    alone = figures(matched, groups, policy.still_score)
    clips = clips_of(pictures, found)
    moving = clip_figures([follow(clip, policy) for clip in clips]) if clips else None
    return alone, moving
