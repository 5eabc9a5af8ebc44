"""What a locator should answer to a picture: maps of centres, of sides, and of their weights."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from train.locator.network import STRIDE

SPREAD = 0.1
"""Standard deviation of the peak about a centre, as a share of the width and the height."""
LEAST_SPREAD = 0.6
"""The same in places, at least."""
NEAR = 0.3
"""Places with a higher peak learn the sides of the box."""

Boxes = NDArray[np.float32]
"""float32 ``[N, 4]``: left, top, right, bottom, as shares of the side of the picture."""


class Targets(NamedTuple):
    """The maps that belong to one picture."""

    score: NDArray[np.float32]
    """``[places, places]``: 1 at a centre, less around it."""
    score_weight: NDArray[np.float32]
    """``[places, places]``: 0 where a nodule is cut off, and nobody knows what is right; else 1."""
    sides: NDArray[np.float32]
    """``[places, places, 4]`` as in `build_locator`."""
    sides_weight: NDArray[np.float32]
    """``[places, places]``: how much a place learns of its sides; 0 away from every centre."""


def draw_targets(boxes: Boxes, ignored: Boxes, side: int) -> Targets:
    """The maps for a picture with these `boxes`; those that are `ignored` count neither way."""
    places = side // STRIDE
    middles = (np.arange(places, dtype=np.float32) + 0.5) / places
    score = np.zeros((places, places), np.float32)
    sides = np.zeros((places, places, 4), np.float32)
    score_weight = np.ones((places, places), np.float32)
    for left, top, right, bottom in ignored:
        across = (middles >= left) & (middles <= right)
        down = (middles >= top) & (middles <= bottom)
        score_weight[np.ix_(down, across)] = 0
    for left, top, right, bottom in sorted(map(tuple, boxes), key=_area, reverse=True):
        peaks = []
        for low, high in ((left, right), (top, bottom)):
            spread = max(SPREAD * (high - low), LEAST_SPREAD / places)
            centre = middles[min(places - 1, int((low + high) / 2 * places))]
            peaks.append(np.exp(-(((middles - centre) / spread) ** 2) / 2))
        peak = np.outer(peaks[1], peaks[0]).astype(np.float32)
        # A smaller box comes later: its places are its own.
        own = (peak > NEAR) & (peak >= score)
        distances = np.stack(
            np.broadcast_arrays(
                middles[None, :] - left,
                middles[:, None] - top,
                right - middles[None, :],
                bottom - middles[:, None],
            ),
            axis=-1,
        )
        sides[own] = np.maximum(distances[own], 0.5 / side)
        score = np.maximum(score, peak)
    sides_weight = np.where(score > NEAR, score, np.float32(0))
    return Targets(
        score, np.maximum(score_weight, sides_weight > 0).astype(np.float32), sides, sides_weight
    )


def _area(box: tuple[float, ...]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
