"""From the maps of a locator to boxes with scores."""

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_CANDIDATES = 32
"""Peaks of a map that are looked at, the highest first."""
SAME_NODULE_IOU = 0.45
"""Two boxes with a higher intersection over union are of one nodule."""
MIN_PEAK_SCORE = 0.02
"""A lower peak is noise."""

_NEIGHBOURS = np.ones((3, 3), np.uint8)


def decode_boxes(
    score: NDArray[np.float32], sides: NDArray[np.float32], count: int = 8
) -> NDArray[np.float32]:
    """The boxes in the answer of a locator, float32 ``[N, 5]``: left, top, right, bottom as shares
    of the side of the picture, and the score, the highest first; at most `count`.

    `score` is ``[places, places]`` and `sides` ``[places, places, 4]``, as in
    `train.locator.network`. A box is at a place whose score no neighbour exceeds; of boxes that
    overlap by more than SAME_NODULE_IOU the one with the highest score stays.
    """
    places = score.shape[0]
    peaks = np.flatnonzero((score >= MIN_PEAK_SCORE) & (score >= cv2.dilate(score, _NEIGHBOURS)))
    scores = score.reshape(-1)[peaks]
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    peaks, scores = peaks[order], scores[order]
    middles = (np.stack((peaks % places, peaks // places), axis=1) + np.float32(0.5)) / places
    distances = sides.reshape(-1, 4)[peaks]
    corners = np.concatenate((middles - distances[:, :2], middles + distances[:, 2:]), axis=1)
    boxes = np.clip(corners, 0, 1, dtype=np.float32)
    kept = non_maximum_suppression(boxes, SAME_NODULE_IOU)[:count]
    return np.concatenate((boxes[kept], scores[kept, np.newaxis]), axis=1, dtype=np.float32)


def non_maximum_suppression(boxes: NDArray[np.float32], max_iou: float) -> list[int]:
    """The numbers of the boxes ``[N, 4]`` that stay, in order: the IoU of each with every earlier
    one that stays is at most `max_iou`. The box with the highest score comes first.
    """
    overlaps = pairwise_iou(boxes, boxes)
    kept: list[int] = []
    for number in range(len(boxes)):
        if not kept or overlaps[number, kept].max() <= max_iou:
            kept.append(number)
    return kept


def pairwise_iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of each box with each other one, float32 ``[N, M]``.

    The boxes are ``[N, 4]`` and ``[M, 4]``: left, top, right, bottom.
    """
    low = np.maximum(one[:, np.newaxis, :2], other[np.newaxis, :, :2])
    high = np.minimum(one[:, np.newaxis, 2:4], other[np.newaxis, :, 2:4])
    both = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:4] - boxes[:, :2], 0), axis=1) for boxes in (one, other)]
    union = areas[0][:, np.newaxis] + areas[1][np.newaxis] - both
    return np.asarray(both / np.maximum(union, np.float32(1e-9)), np.float32)
