"""Draws a result onto the screen; the colours stand at the top of this file."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import Box, Pixels
from edge_runtime.results.result import NOTICE, Nodule, Result, describe_nodule
from edge_runtime.results.states import State

FONT = cv2.FONT_HERSHEY_SIMPLEX
Color = tuple[int, int, int]
WHITE: Color = (235, 235, 235)
POSITIVE: Color = (60, 170, 255)  # amber; colours are blue, green, red
NEGATIVE: Color = (190, 200, 60)  # teal: people who confuse red and green can tell it from amber
LABEL_COLORS: tuple[Color, ...] = (
    NEGATIVE,
    POSITIVE,
    (230, 150, 200),
    (120, 220, 240),
    (170, 230, 160),
)
"""The colours of more than two labels, in their order, and again from the first."""
ABSTAINED: Color = (190, 190, 190)
NOT_LIVE: Color = (70, 70, 240)
BAND_HEIGHT = 0.075
"""Height of the bands above and below the picture, as a share of the height of the screen."""
FULL_TINT_EVIDENCE, MAX_TINT = 10.0, 0.5
"""The log-odds from which on a place has full colour, and how much of the picture the colour hides.
The evidence of the packaged model exceeds 8 somewhere in half of the validation pictures."""


def draw_result(pixels: Pixels, result: Result, evidence: bool = False) -> Pixels:
    """Returns a BGR copy of `pixels`, taller by two bands, with box, label and state.

    The bands hold the text, so that it covers no mark of the scanner. With `evidence` the window of
    the model is tinted where there is a label: the colour shows for which label a place speaks.
    """
    bgr = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels
    height, _width = bgr.shape[:2]
    band = max(18, round(BAND_HEIGHT * height))
    canvas = np.asarray(
        cv2.copyMakeBorder(bgr, band, band, 0, 0, cv2.BORDER_CONSTANT, value=(30, 24, 20)),
        dtype=np.uint8,
    )
    boxes = {nodule.box: nodule_color(result, nodule) for nodule in result.nodules}
    if not boxes and result.box is not None and not result.searched:
        boxes[result.box] = nodule_color(result, None)
    for nodule in result.nodules:
        if evidence and nodule.label is not None and nodule.evidence is not None:
            _tint(canvas[band : band + height], beyond_threshold(nodule), nodule.window)
    for (x, y, w, h), color in boxes.items():
        cv2.rectangle(canvas, (x, y + band), (x + w - 1, y + h - 1 + band), color, 2)
    for nodule in result.nodules:
        if nodule.locator_score is not None:
            _caption(canvas, nodule, band, nodule_color(result, nodule))
    _write(canvas, _headline(result), (0, 0), band, nodule_color(result, result.leading))
    _write(canvas, _footline(result), (0, height + band), band, WHITE)
    return canvas


def _caption(canvas: Pixels, nodule: Nodule, band: int, color: Color) -> None:
    """The track and the label of a nodule that was found, above the box, or inside at the top."""
    text = f"{nodule.track} {nodule.label or '?'}"
    scale = 0.4 * band / 18
    (width, height), base = cv2.getTextSize(text, FONT, scale, 1)
    tall = height + base + 4
    x, y = nodule.box.x, nodule.box.y + band
    top = y - tall if y - tall >= band else y
    cv2.rectangle(canvas, (x, top), (x + width + 6, top + tall), (0, 0, 0), cv2.FILLED)
    cv2.putText(canvas, text, (x + 3, top + height + 2), FONT, scale, color, 1, cv2.LINE_AA)


def beyond_threshold(nodule: Nodule) -> NDArray[np.float32]:
    """The evidence against the threshold of the last label: 0 is where the label would change.

    The nodule must have evidence.
    """
    assert nodule.evidence is not None
    threshold = nodule.thresholds[list(nodule.probability)[-1]]
    return nodule.evidence - np.float32(math.log(threshold / (1 - threshold)))


def _tint(screen: Pixels, evidence: NDArray[np.float32], window: Box) -> None:
    """Tints the window of the screen in place; the part that overhangs the screen is left out."""
    x, y, w, h = window
    left, top = max(x, 0), max(y, 0)
    inside = screen[top : y + h, left : x + w]
    places = evidence[..., np.newaxis]
    strength = MAX_TINT * np.minimum(np.abs(places) / FULL_TINT_EVIDENCE, 1)
    colors = np.where(places > 0, *np.asarray([POSITIVE, NEGATIVE], np.float32))
    coarse = np.concatenate([colors * strength, 1 - strength], axis=2, dtype=np.float32)
    down, across = evidence.shape[0] / h, evidence.shape[1] / w
    place = np.array(  # of a pixel in the map; both count from the middle of a pixel
        [
            [across, 0, (left - x + 0.5) * across - 0.5],
            [0, down, (top - y + 0.5) * down - 0.5],
        ]
    )
    spread = cv2.warpAffine(
        coarse,
        place,
        (inside.shape[1], inside.shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    kept = cv2.multiply(inside, cv2.cvtColor(spread[..., 3], cv2.COLOR_GRAY2BGR), dtype=cv2.CV_32F)
    cv2.add(kept, spread[..., :3], dst=inside, dtype=cv2.CV_8U)


def nodule_color(result: Result, nodule: Nodule | None) -> Color:
    """The colour of a nodule: that of the label, or of the state where there is no label."""
    if result.state is not State.LIVE:
        return NOT_LIVE
    if nodule is None or nodule.label is None:
        return ABSTAINED
    if len(nodule.thresholds) == 1:
        return POSITIVE if nodule.label in nodule.thresholds else NEGATIVE
    return LABEL_COLORS[list(nodule.probability).index(nodule.label) % len(LABEL_COLORS)]


def _headline(result: Result) -> str:
    """The state, and the leading nodule, with its number where there are several.

    Outside LIVE, and without a nodule, only the state and the reason.
    """
    nodule = result.leading
    if result.state is not State.LIVE or nodule is None:
        return f"{result.state}  {result.reason or ''}"
    number = f"nodule {nodule.track}: " if len(result.nodules) > 1 else ""
    return f"{result.state}   {number}{describe_nodule(result, nodule, '   ')}"


def _footline(result: Result) -> str:
    whole = "   whole picture" if result.region == "found" and not result.searched else ""
    kind = result.backend.partition(" ")[0] + (" (fallback)" if result.fallback else "")
    hot = "" if result.rate == "full" else f"   device hot, rate {result.rate}"
    return f"{NOTICE}   {result.latency_ms.total:.0f} ms {kind}{whole}{hot}"


def _write(canvas: Pixels, text: str, corner: tuple[int, int], band: int, color: Color) -> None:
    """One line of text in a band, as large as the height and the width allow."""
    (width, height), base = cv2.getTextSize(text, FONT, 1.0, 1)
    scale = min(0.62 * band / (height + base), (canvas.shape[1] - 12) / width)
    down = (band + round(height * scale)) // 2
    where = (corner[0] + 6, corner[1] + down)
    cv2.putText(canvas, text, where, FONT, scale, color, 1, cv2.LINE_AA)
