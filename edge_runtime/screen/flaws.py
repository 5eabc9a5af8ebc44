"""Flaws of a single picture. A picture with a flaw is not classified, and the flaw is the reason.

The checks read a sparse sample of the picture, so that they cost little compared with the model.
The figures beside the limits were measured on the 3,993 stills of TN5000 and on three real sweeps.
"""

from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import Box, Pixels

MIN_PICTURE_SIDE = 64
"""Pixels of the shorter side of a picture: half of the side that common models take."""
SAMPLE_STRIDE = 4
"""The sample has every fourth pixel of every fourth row; the line of a caliper is thinner."""
MAX_SAMPLES = 160
"""Sampled pixels a side at most; the sample of a larger picture is sparser."""
DARK_LEVEL = 12
"""Grey level up to which a pixel is dark; compression leaves such levels in the background."""
MIN_LIT_SHARE = 0.01
"""Share of pixels above DARK_LEVEL, below which the picture is black."""
SATURATED_LEVEL, MAX_SATURATED_SHARE = 250, 0.2
"""Grey level from which a pixel is saturated, and the share of such pixels from which the picture
is. The largest share in a still is 0.04."""
PLAIN_TOLERANCE, PLAIN_SHARE, PLAIN_LEVEL = 8, 0.9, 40
"""A screen has one colour where this share of the pixels lies within this many levels of the
median, and where the brightest channel of the median has this level. Text may stand on it."""
COLOURED_LEVELS, COLOURED_SHARE = 64, 0.001
"""Levels between the channels of a coloured pixel, and the share of such pixels with coloured
neighbours from which colour Doppler is on. Bluish grey maps reach 48 levels; thin calipers and
logos make up 0.0006 of a picture at most."""
TINTED_SHARE = 0.2
"""Share of coloured pixels beyond which the tint of a grey map is removed first."""
BARS_SHARE = 0.4
"""Share of coloured pixels in columns of one colour, from which the screen is a test picture."""
MAX_ROW_CHANGE, MAX_CHANGED_SHARE, MIN_REPEATED_SHARE = 2, 0.02, 0.06
"""Grey levels by which a repeated row may differ from the row above, the share of its pixels that
may differ by more, and the share of repeated rows, one below the other, of a torn picture."""
MIN_SPECKLED_SHARE = 0.3
"""Share of the pixels of a dark row that differ from their neighbour, as they do in an echo. Rows
without an echo are alike although nothing is missing."""


class Flaw(StrEnum):
    """Why a frame is withheld."""

    TOO_SMALL = f"the picture is smaller than {MIN_PICTURE_SIDE} pixels"
    BLACK = "the picture is black"
    NO_SIGNAL = "the grabber has no signal"
    TORN = "a part of the picture is missing"
    SATURATED = "the picture is blown out"
    COLOUR = "colour Doppler is on"


def find_flaw(pixels: Pixels, box: Box) -> Flaw | None:
    """The first flaw of the picture in `box`, or None. Raises nothing, whatever the pixels are."""
    if pixels.ndim != 2 and pixels.shape[2:] != (3,):
        return Flaw.TOO_SMALL
    x, y, w, h = box
    inside = pixels[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
    if min(inside.shape[:2]) < MIN_PICTURE_SIDE:
        return Flaw.TOO_SMALL
    sample = _sample(inside)
    green = sample if sample.ndim == 2 else np.ascontiguousarray(sample[..., 1])
    if np.count_nonzero(green > DARK_LEVEL) < MIN_LIT_SHARE * green.size:
        # A screen of one dark colour is not black: blue and red weigh little in the grey.
        return Flaw.NO_SIGNAL if _is_plain(sample, green) else Flaw.BLACK
    coloured = _coloured(sample)
    if _is_plain(sample, green) or _is_test_picture(coloured, sample):
        return Flaw.NO_SIGNAL
    if _repeats_rows(green):
        return Flaw.TORN
    if np.count_nonzero(green >= SATURATED_LEVEL) > MAX_SATURATED_SHARE * green.size:
        return Flaw.SATURATED
    return Flaw.COLOUR if _has_flow(coloured, sample) else None


def _sample(inside: Pixels) -> Pixels:
    """Single pixels in equal steps. Means would keep thin marks, only paler."""
    height, width = inside.shape[:2]
    size = (min(width // SAMPLE_STRIDE, MAX_SAMPLES), min(height // SAMPLE_STRIDE, MAX_SAMPLES))
    return np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _coloured(sample: Pixels) -> NDArray[np.bool_]:
    """The pixels whose channels lie far apart."""
    if sample.ndim == 2:
        return np.zeros(sample.shape, np.bool_)
    blue, green, red = cv2.split(sample)
    most, least = cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)
    return np.asarray(cv2.subtract(most, least) > COLOURED_LEVELS)


def _is_plain(sample: Pixels, green: Pixels) -> bool:
    """Whether nearly all pixels have one colour, as on the blue screen of a grabber."""
    levels = np.sort(green[::8, ::8], axis=None)
    others = round((1 - PLAIN_SHARE) * len(levels))
    if int(levels[-1 - others]) - int(levels[others]) > 2 * PLAIN_TOLERANCE:
        return False  # without that share on either side, the rest would lie around the median
    coarse = sample[::8, ::8].reshape(-1, 1 if sample.ndim == 2 else 3)
    middle = np.sort(coarse, axis=0)[len(coarse) // 2].astype(np.int16)  # a tenth of np.median
    if middle.max() < PLAIN_LEVEL:
        return False
    near = (np.abs(coarse - middle) <= PLAIN_TOLERANCE).all(axis=1)
    return bool(np.count_nonzero(near) >= PLAIN_SHARE * len(near))


def _is_test_picture(coloured: NDArray[np.bool_], sample: Pixels) -> bool:
    """Whether the upper half shows coloured bars (SMPTE ECR 1-1978, or the bars of the EBU)."""
    upper = len(sample) // 2
    if np.count_nonzero(coloured[:upper]) < BARS_SHARE * coloured[:upper].size:
        return False
    return float(cv2.absdiff(sample[: upper - 1], sample[1:upper]).mean()) < MAX_ROW_CHANGE


def _repeats_rows(green: Pixels) -> bool:
    """Whether a band of the picture repeats one row, as decoders fill a missing part.

    The row may be grey, green, or the last row that came. A dark row looks like a row without echo.
    """
    least = max(3, MIN_REPEATED_SHARE * len(green))
    down = np.asarray(cv2.absdiff(green[1:], green[:-1]) > MAX_ROW_CHANGE)
    changed = cv2.reduce(down.view(np.uint8), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
    same = np.asarray(changed <= MAX_CHANGED_SHARE * green.shape[1])
    if np.count_nonzero(same) < least or _longest(same) < least:
        return False
    across = cv2.absdiff(green[1:, 1:], green[1:, :-1]) > MAX_ROW_CHANGE
    speckled = np.count_nonzero(across, axis=1) >= MIN_SPECKLED_SHARE * green.shape[1]
    bright = green[1:].mean(axis=1, dtype=np.float32) >= PLAIN_LEVEL
    return _longest(same & (bright | speckled)) >= least


def _longest(run: NDArray[np.bool_]) -> int:
    """The length of the longest run of true values."""
    ends = np.flatnonzero(~np.concatenate(([False], run, [False])))
    return int(np.diff(ends).max()) - 1


def _has_flow(coloured: NDArray[np.bool_], sample: Pixels) -> bool:
    """Whether solid areas are coloured; a tinted grey map and thin marks do not count."""
    least, share = COLOURED_SHARE * coloured.size, np.count_nonzero(coloured)
    if share < least:
        return False
    if share > TINTED_SHARE * coloured.size:
        coloured = _coloured(_without_tint(sample))
    solid = cv2.erode(coloured.view(np.uint8), np.ones((2, 2), np.uint8))
    return bool(np.count_nonzero(solid) >= least)


def _without_tint(sample: Pixels) -> Pixels:
    """The sample with scaled channels: the median of the lit pixels becomes grey."""
    lit = sample[sample.max(axis=2) > DARK_LEVEL]
    middle = np.median(lit, axis=0) if len(lit) else np.ones(3)
    return np.asarray(np.clip(sample * (middle.mean() / np.maximum(middle, 1)), 0, 255), np.uint8)


def is_dark(pixels: Pixels, box: Box) -> bool:
    """Whether less than a hundredth of the box is brighter than DARK_LEVEL, as without a signal."""
    x, y, w, h = box
    inside = pixels[y : y + h, x : x + w]
    sparse = inside[::SAMPLE_STRIDE, ::SAMPLE_STRIDE]
    channel = sparse if sparse.ndim == 2 else sparse[..., 1]  # green carries most of the luma
    return 100 * int(np.count_nonzero(channel > DARK_LEVEL)) < channel.size
