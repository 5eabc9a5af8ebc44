"""What keeps a picture from being judged, seen in one frame: each flaw is a reason that is shown.

Everything is looked at in a sparse sample of the picture, so that a check costs little beside the
model. The figures beside the limits are of TN5000's 3,993 stills and three real sweeps.
"""

from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import Box, Pixels

MIN_PICTURE_SIDE = 64
"""Pixels of the picture's shorter side: half of what common models take."""
SAMPLE_STRIDE = 4
"""Every fourth pixel of every fourth row is looked at: thicker than a caliper's line."""
MAX_SAMPLES = 160
"""A side; of larger pictures fewer are looked at."""
DARK_LEVEL = 12
"""Grey levels up to this show nothing; compression leaves some of it in a screen's background."""
MIN_LIT_SHARE = 0.01
"""Share of pixels that show anything, below which the picture is black."""
SATURATED_LEVEL, MAX_SATURATED_SHARE = 250, 0.2
"""Grey levels from which a pixel is saturated, and the share of them from which the picture is.
The most in a still is 0.04."""
PLAIN_TOLERANCE, PLAIN_SHARE, PLAIN_LEVEL = 8, 0.9, 40
"""Levels around the median, the share of pixels within them, and the median's brightest channel
from which a screen is of one colour; text may stand on it."""
COLOURED_LEVELS, COLOURED_SHARE = 64, 0.001
"""Of 255, between a pixel's channels, and the share of such pixels, neighbours coloured too. Bluish
grey maps reach 48; thin calipers and logos make up 0.0006 of a picture at most."""
TINTED_SHARE = 0.2
"""Coloured pixels beyond which a tinted grey map is taken off first."""
BARS_SHARE = 0.4
"""Of coloured pixels, in columns of one colour each, from which they are a test picture."""
MAX_ROW_CHANGE, MAX_CHANGED_SHARE, MIN_REPEATED_SHARE = 2, 0.02, 0.06
"""Grey levels by which a repeated row differs from the one above, the share of pixels that differ
by more all the same, and the share of the picture's rows that are such, one below the other."""
MIN_SPECKLED_SHARE = 0.3
"""Share of a dark row's pixels that differ from the one beside, as an echo's do; where there is
none, rows are alike without anything missing."""


class Flaw(StrEnum):
    """Why a frame is withheld."""

    TOO_SMALL = f"the picture is smaller than {MIN_PICTURE_SIDE} pixels"
    BLACK = "the picture is black"
    NO_SIGNAL = "the grabber has no signal"
    TORN = "a part of the picture is missing"
    SATURATED = "the picture is blown out"
    COLOUR = "colour Doppler is on"


def find_flaw(pixels: Pixels, box: Box) -> Flaw | None:
    """The first flaw of the picture in `box`, or None; raises nothing, whatever the pixels are."""
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
    """Single pixels in equal steps, not means: a mean would make thin marks pale, not absent."""
    height, width = inside.shape[:2]
    size = (min(width // SAMPLE_STRIDE, MAX_SAMPLES), min(height // SAMPLE_STRIDE, MAX_SAMPLES))
    return np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _coloured(sample: Pixels) -> NDArray[np.bool_]:
    """Where a pixel's channels lie far apart."""
    if sample.ndim == 2:
        return np.zeros(sample.shape, np.bool_)
    blue, green, red = cv2.split(sample)
    most, least = cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)
    return np.asarray(cv2.subtract(most, least) > COLOURED_LEVELS)


def _is_plain(sample: Pixels, green: Pixels) -> bool:
    """Whether nearly all is of one colour, as a grabber's blue screen."""
    levels = np.sort(green[::8, ::8], axis=None)
    others = round((1 - PLAIN_SHARE) * len(levels))
    if int(levels[-1 - others]) - int(levels[others]) > 2 * PLAIN_TOLERANCE:
        return False  # what is left without that share on either side would lie around the median
    coarse = sample[::8, ::8].reshape(-1, 1 if sample.ndim == 2 else 3)
    middle = np.sort(coarse, axis=0)[len(coarse) // 2].astype(np.int16)  # a tenth of np.median
    if middle.max() < PLAIN_LEVEL:
        return False
    near = (np.abs(coarse - middle) <= PLAIN_TOLERANCE).all(axis=1)
    return bool(np.count_nonzero(near) >= PLAIN_SHARE * len(near))


def _is_test_picture(coloured: NDArray[np.bool_], sample: Pixels) -> bool:
    """Whether the upper half is of coloured bars (SMPTE ECR 1-1978, and those of EBU)."""
    upper = len(sample) // 2
    if np.count_nonzero(coloured[:upper]) < BARS_SHARE * coloured[:upper].size:
        return False
    return float(cv2.absdiff(sample[: upper - 1], sample[1:upper]).mean()) < MAX_ROW_CHANGE


def _repeats_rows(green: Pixels) -> bool:
    """Whether a band of the picture is one row over and over, as decoders fill what is missing.

    It may be grey, green, or the last row that came; a dark one cannot be told from no echo.
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
    """How many in a row are true, at most."""
    ends = np.flatnonzero(~np.concatenate(([False], run, [False])))
    return int(np.diff(ends).max()) - 1


def _has_flow(coloured: NDArray[np.bool_], sample: Pixels) -> bool:
    """Whether solid areas are coloured; a tinted grey map, or thin marks, are none."""
    least, share = COLOURED_SHARE * coloured.size, np.count_nonzero(coloured)
    if share < least:
        return False
    if share > TINTED_SHARE * coloured.size:
        coloured = _coloured(_without_tint(sample))
    solid = cv2.erode(coloured.view(np.uint8), np.ones((2, 2), np.uint8))
    return bool(np.count_nonzero(solid) >= least)


def _without_tint(sample: Pixels) -> Pixels:
    """The sample with each channel scaled so that its lit pixels are grey in the median."""
    lit = sample[sample.max(axis=2) > DARK_LEVEL]
    middle = np.median(lit, axis=0) if len(lit) else np.ones(3)
    return np.asarray(np.clip(sample * (middle.mean() / np.maximum(middle, 1)), 0, 255), np.uint8)


DARK_STRIDE = 4
"""Every fourth pixel of every fourth row tells whether a picture went dark."""


def is_dark(pixels: Pixels, box: Box) -> bool:
    """Whether less than a hundredth of the box shows anything, as after a lost signal."""
    x, y, w, h = box
    inside = pixels[y : y + h, x : x + w]
    sparse = inside[::DARK_STRIDE, ::DARK_STRIDE]
    channel = sparse if sparse.ndim == 2 else sparse[..., 1]  # green carries most of the luma
    return 100 * int(np.count_nonzero(channel > DARK_LEVEL)) < channel.size
