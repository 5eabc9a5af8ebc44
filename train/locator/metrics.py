"""How well nodules are found: average precision, FROC, and the boxes of whole clips.

A detection is right where its IoU with a box that no surer detection has taken is high enough.
Intervals are percentiles of a bootstrap over groups: pictures of one neck are not independent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_runtime.models.boxes import pairwise_iou

FALSE_BOXES = (0.1, 0.5, 1.0)
"""False boxes a picture at which the sensitivity is told: Bunch et al., "A free response approach
to the measurement and characterization of radiographic observer performance", 1978."""
IOUS = tuple(np.arange(0.5, 1.0, 0.05).round(2).tolist())
"""The IoUs from which on a detection is right; COCO takes the mean over them."""
RESAMPLES = 500

Boxes = NDArray[np.float32]
"""float32 ``[N, 4]``: left, top, right, bottom."""
Scored = NDArray[np.float32]
"""float32 ``[N, 5]``: boxes and their scores, the surest first."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with the 95 % interval over groups."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Detections:
    """Every detection in some pictures: score, rightness at each of `IOUS`, best IoU; and how many
    boxes there were to find.
    """

    scores: NDArray[np.float32]
    """``[D]``"""
    right: NDArray[np.bool_]
    """``[D, len(IOUS)]``"""
    best: NDArray[np.float32]
    """``[D]``: the IoU with the box that the detection was matched with at the lowest of `IOUS`, or
    0."""
    picture: NDArray[np.int64]
    """``[D]``: the number of the picture."""
    boxes: NDArray[np.int64]
    """``[pictures]``: how many boxes there are to find in each."""


def match(truths: Sequence[Boxes], found: Sequence[Scored]) -> Detections:
    """Matches the detections in each picture with the boxes in it, the surest first."""
    scores, right, best, picture = [], [], [], []
    for number, (truth, scored) in enumerate(zip(truths, found, strict=True)):
        overlaps = (
            pairwise_iou(scored, truth) if len(truth) else np.zeros((len(scored), 1), np.float32)
        )
        taken = np.zeros((len(IOUS), max(1, len(truth))), bool)
        for detection, row in enumerate(overlaps):
            hits, overlap = [], 0.0
            for level, least in enumerate(IOUS):
                free = np.where(taken[level], -1.0, row)
                place = int(free.argmax())
                hit = bool(len(truth)) and bool(free[place] >= least)
                if hit:
                    taken[level, place] = True
                    overlap = overlap or float(free[place])
                hits.append(hit)
            scores.append(scored[detection, 4])
            right.append(hits)
            best.append(overlap)
            picture.append(number)
    return Detections(
        np.asarray(scores, np.float32),
        np.asarray(right, bool).reshape(-1, len(IOUS)),
        np.asarray(best, np.float32),
        np.asarray(picture, np.int64),
        np.asarray([len(truth) for truth in truths], np.int64),
    )


def average_precision(found: Detections, weights: NDArray[np.float64], level: int = 0) -> float:
    """The area under the precision over the recall, with precision made monotone (VOC 2010).

    `weights`, ``[pictures]``, says how often each picture counts. NaN without a box.
    """
    order = np.argsort(-found.scores, kind="stable")
    weight = weights[found.picture[order]]
    right = found.right[order, level] * weight
    total = float(weights @ found.boxes)
    if total == 0:
        return float("nan")
    hits = np.cumsum(right)
    precision = hits / np.maximum(np.cumsum(weight), 1e-12)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate(([0.0], hits / total))
    return float(np.sum(np.diff(recall) * precision))


def sensitivity_at(found: Detections, false_boxes: float, weights: NDArray[np.float64]) -> float:
    """The share of boxes found where there are at most so many false boxes a picture; see FROC."""
    order = np.argsort(-found.scores, kind="stable")
    weight = weights[found.picture[order]]
    right = found.right[order, 0]
    allowed = np.cumsum(weight * ~right) <= false_boxes * weights.sum()
    total = float(weights @ found.boxes)
    return float(np.sum(weight * right * allowed)) / total if total else float("nan")


def recall_from(found: Detections, weights: NDArray[np.float64], score: float) -> float:
    """The share of boxes that a detection of at least this score meets."""
    sure = found.right[:, 0] & (found.scores >= score)
    total = float(weights @ found.boxes)
    return float(weights[found.picture[sure]].sum()) / total if total else float("nan")


def false_from(found: Detections, weights: NDArray[np.float64], score: float) -> float:
    """False boxes a picture from this score on."""
    false = ~found.right[:, 0] & (found.scores >= score)
    return float(weights[found.picture[false]].sum() / weights.sum())


def figures(
    found: Detections, groups: Sequence[str], score: float, seed: int = 0
) -> dict[str, Figure]:
    """All figures of the detections, at the operating point `score` where they need one."""
    measures: dict[str, Callable[[NDArray[np.float64]], float]] = {
        "AP50": lambda weights: average_precision(found, weights),
        "AP50-95": lambda weights: float(
            np.mean([average_precision(found, weights, level) for level in range(len(IOUS))])
        ),
        "recall": lambda weights: recall_from(found, weights, score),
        "false boxes": lambda weights: false_from(found, weights, score),
    }
    for allowed in FALSE_BOXES:
        measures[f"sensitivity at {allowed:g}"] = partial(sensitivity_at, found, allowed)
    sure = found.best[(found.scores >= score) & found.right[:, 0]]
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    draws = [
        np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[members]
        for _ in range(RESAMPLES)
    ]
    every = np.ones(len(members))
    measured = {}
    for name, measure in measures.items():
        values = [measure(draw.astype(np.float64)) for draw in draws]
        low, high = np.nanpercentile(values, (2.5, 97.5))
        measured[name] = Figure(measure(every), float(low), float(high))
    if len(sure):
        quartiles = np.percentile(sure, (25, 50, 75))
        measured["IoU"] = Figure(*(float(quartiles[place]) for place in (1, 0, 2)))
    return measured


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One frame of a clip: what there is to see, and what is shown after tracking."""

    at: float
    """Seconds."""
    truth: Boxes
    shown: Boxes
    tracks: tuple[int, ...]
    """The number of each shown box."""


@dataclass(frozen=True, slots=True)
class ClipFigures:
    """How well nodules are shown in moving pictures, after tracking."""

    frames: int
    marked: int
    """Frames with a nodule."""
    found: float | None
    """The share of the marked frames in which a shown box meets a nodule; None without any."""
    false: float | None
    """The share of the empty frames with a box; None where there are none."""
    false_far: float | None
    """The same without the empty frames that are within `EDGE` frames of a marked one: they may
    show the edge of the nodule."""
    delay: float | None
    """Seconds from the first frame that shows a nodule to the first box that meets it: the median
    over the runs of marked frames. A run that is never met counts with its whole length, so that
    the delay is short where all runs are short and missed."""
    false_tracks: float
    """Tracks a minute that meet no nodule in any frame."""
    iou: float | None
    """The median over the boxes that meet a nodule."""


MEETS = 0.3
"""The IoU from which on a shown box meets a nodule."""
EDGE = 3
"""An empty frame so near to a marked one may show the edge of the nodule."""


def clip_figures(clips: Sequence[Sequence[ClipFrame]]) -> ClipFigures:
    """The figures over all frames of some clips."""
    marked, met, empty, false, far, false_far = 0, 0, 0, 0, 0, 0
    delays, overlaps, seconds, false_tracks = [], [], 0.0, 0
    for clip in clips:
        has = [bool(len(frame.truth)) for frame in clip]
        meets, right_tracks, all_tracks = [], set(), set()
        for place, frame in enumerate(clip):
            values = (
                pairwise_iou(frame.shown, frame.truth) if len(frame.shown) and has[place] else None
            )
            best = 0.0 if values is None else float(values.max())
            meets.append(best >= MEETS)
            all_tracks |= {*frame.tracks}
            if values is not None:
                right_tracks |= {
                    track
                    for track, row in zip(frame.tracks, values, strict=True)
                    if row.max() >= MEETS
                }
            if has[place]:
                marked += 1
                met += meets[-1]
                if meets[-1]:
                    overlaps.append(best)
            else:
                shown = bool(len(frame.shown))
                empty, false = empty + 1, false + shown
                if not any(has[max(0, place - EDGE) : place + EDGE + 1]):
                    far, false_far = far + 1, false_far + shown
        if clip:
            step = clip[1].at - clip[0].at if len(clip) > 1 else 0.0
            seconds += clip[-1].at - clip[0].at + step
            false_tracks += len(all_tracks - right_tracks)
            delays += _delays(clip, has, meets, step)
    return ClipFigures(
        marked + empty,
        marked,
        met / marked if marked else None,
        false / empty if empty else None,
        false_far / far if far else None,
        float(np.median(delays)) if delays else None,
        60 * false_tracks / seconds if seconds else 0.0,
        float(np.median(overlaps)) if overlaps else None,
    )


def _delays(
    clip: Sequence[ClipFrame], has: Sequence[bool], meets: Sequence[bool], step: float
) -> list[float]:
    """Of each run of marked frames, the seconds until a box met the nodule."""
    delays, place = [], 0
    while place < len(clip):
        if not has[place]:
            place += 1
            continue
        end = place
        while end < len(clip) and has[end]:
            end += 1
        first = next((at for at in range(place, end) if meets[at]), None)
        until = clip[end - 1].at + step if first is None else clip[first].at
        delays.append(until - clip[place].at)
        place = end
    return delays
