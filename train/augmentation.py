"""Augmentation that models scanners, not photographs: one prepared picture, as another would show.

A B-mode picture is what is left of an echo after focusing, amplification over depth, logarithmic
compression to some 60 dB and a grey map; then the screen paints over it. Each effect below is one
link of that chain, in its order, so that what it changes is what changes between scanners and
presets, and what a radiologist reads (echogenicity against the gland, margin, punctate foci, shape)
is left. Depth has a direction: a picture is mirrored, never turned.

In a log-compressed picture a factor in amplitude is an offset in grey levels, and speckle is added
noise whose law is of the Fisher-Tippett (double exponential) kind: Wagner et al., "Statistics of
speckle in ultrasound B-scans", IEEE Trans. Sonics Ultrasonics 30(3), 1983; Dutt and Greenleaf,
"Adaptive speckle reduction filter for log-compressed B-scan images", IEEE Trans. Medical Imaging
15(6), 1996.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Annotated, TypeVar

import cv2
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from devices import Box

Picture = NDArray[np.uint8]
"""uint8 ``[side, side]``, depth downwards."""
Echo = NDArray[np.float32]
"""A picture on its way: float32 ``[side, side]``, in grey levels, not yet cut to 0..255."""

DYNAMIC_RANGE_DB = 60.0
"""From black to white, assumed of every picture; presets for small parts lie at 50 to 70 dB."""
LEVELS_PER_DB = 255 / DYNAMIC_RANGE_DB
TOE = 32.0
"""Grey level from which an effect is felt in full. Below it fades to none at 0: how far below
black an echo was is not known, and beyond the sector there was none."""
LOG_SPECKLE = float(np.pi / np.sqrt(6))
"""Standard deviation of the natural logarithm of the intensity of fully developed speckle, which
is 5.57 dB (Dutt and Greenleaf)."""
CROSSES = ((0.02, 0.04, 30), (0.04, 0.07, 40), (0.055, 0.085, 60))
"""Burned-in crosses, from those around a large nodule to those around a small one: top-hat and
least length as shares of the side, and least contrast in grey levels."""
CHARACTERS = tuple("0123456789.LRTDSAcm ")

Chance = Annotated[float, Meta(ge=0, le=1)]
Decibels = Annotated[float, Meta(ge=0, le=20)]
Spread = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training pictures are varied, as scanners differ; 0 switches an effect off.

    A *spread* is the standard deviation of a normal distribution about no change. A *chance* is the
    share of pictures that have the effect. The defaults are smaller than the differences between
    the nodule crops of TN5000 (grey level: spread 18, or 4 dB; contrast: spread .24 of its
    logarithm).
    """

    mirror: Chance = 0.5
    """Chance that left and right are exchanged."""
    erase: Chance = 0.3
    """Chance that burned-in calipers are painted out."""
    resolution: Annotated[float, Meta(ge=0, le=0.05)] = 0.006
    """Standard deviation of the largest lateral blur or sharpening, as a share of the side."""
    speckle: Annotated[float, Meta(ge=0, le=5.57)] = 1.5
    """Largest standard deviation of added speckle, dB; 5.57 is fully developed speckle."""
    attenuation: Decibels = 4.0
    """Spread of the attenuation from the top to the bottom, dB."""
    shadow: Decibels = 4.0
    """Spread of the depth of a shadow or an enhancement beside the nodule, dB."""
    tgc: Decibels = 1.5
    """Spread of each slider of the time gain compensation, dB."""
    gain: Decibels = 2.5
    """Spread of the gain, dB."""
    dynamic_range: Spread = 0.2
    """Spread of the logarithm of the dynamic range."""
    gamma: Spread = 0.15
    """Spread of the logarithm of the grey map's exponent."""
    calipers: Chance = 0.2
    """Chance that calipers are painted around the nodule."""
    text: Chance = 0.1
    """Chance that a few characters are painted at the margin."""
    jpeg: Chance = 0.2
    """Chance that the picture is compressed once more, with a quality of 50 to 95."""
    shift: Annotated[float, Meta(ge=0, le=0.5)] = 0.05
    """Spread of the box's place, as a share of its longer side."""
    scale: Spread = 0.1
    """Spread of the logarithm of the box's size, which is the depth scale."""


def mirror(picture: Picture, chance: float, rng: np.random.Generator) -> Picture:
    """Left becomes right: the probe held the other way round."""
    return np.asarray(cv2.flip(picture, 1), np.uint8) if rng.random() < chance else picture


def erase(picture: Picture, chance: float, rng: np.random.Generator) -> Picture:
    """Closes burned-in crosses, and what is written beside them, with what surrounds them."""
    if rng.random() >= chance:
        return picture
    marks = burned_in(picture)
    if not marks.any():
        return picture
    return np.asarray(cv2.inpaint(picture, marks, 2, cv2.INPAINT_TELEA), np.uint8)


def burned_in(picture: Picture) -> Picture:
    """Upright crosses and the characters beside them: 1 there, 0 elsewhere.

    The top-hat leaves what is thin and bright. A cross is where a level run and an upright one meet
    that are longer than a disc which passes the top-hat: no echogenic focus, and no fascia, has
    both. Characters are as bright as the cross that they stand beside.
    """
    side = picture.shape[0]
    marks = np.zeros_like(picture)
    for width, length, contrast in CROSSES:
        width, length = round(width * side) | 1, round(length * side) | 1
        thin = cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, _block(width, width))
        level = cv2.morphologyEx(thin, cv2.MORPH_OPEN, _block(length, 1))
        upright = cv2.morphologyEx(thin, cv2.MORPH_OPEN, _block(1, length))
        centres = np.minimum(level, upright) > contrast
        if centres.any():
            near = cv2.dilate(centres.astype(np.uint8), _block(3 * length, 3 * length))
            painted = (thin > 24) & (picture > 0.6 * picture[centres].max())
            marks |= np.asarray(cv2.dilate(near & painted, _block(3, 3)), np.uint8)
    return marks


def resolution(echo: Echo, largest: float, rng: np.random.Generator) -> Echo:
    """Another point spread, wider laterally than axially; or edges enhanced against it."""
    softer, ratio = rng.uniform((-1, 0.3), (1, 0.8))
    sigma = largest * abs(softer) * echo.shape[0]
    blurred = _blur(echo, sigma, sigma * ratio)
    return blurred if softer > 0 else echo + np.float32(0.7) * (echo - blurred)


def speckle(echo: Echo, largest: float, rng: np.random.Generator) -> Echo:
    """Adds to every other picture the logarithm of a Rayleigh field with a correlation length.

    Many scatterers of random sign in a resolution cell add up to a Gaussian, whatever the law of
    each: real and imaginary part are blurred uniform noise.
    """
    strength, cell, ratio = rng.uniform((-1, 0.006, 0.4), (1, 0.014, 0.8))
    if strength <= 0:
        return echo
    side = echo.shape[0]
    scatterers = rng.integers(-128, 128, (2, side, side), np.int8).astype(np.float32)
    real, imaginary = (_blur(part, cell * side, cell * ratio * side) for part in scatterers)
    intensity = real * real + imaginary * imaginary
    intensity /= intensity.mean()
    intensity += np.float32(0.02)  # a null is as deep as the noise lets it be
    logarithm = np.asarray(cv2.log(intensity), np.float32)
    logarithm -= logarithm.mean()  # gain is an effect of its own
    return echo + np.float32(strength * largest * LEVELS_PER_DB / LOG_SPECKLE) * logarithm


def attenuation(echo: Echo, spread: float, rng: np.random.Generator) -> Echo:
    """More or less echo the deeper it lies, in proportion; the middle stays."""
    slope = rng.normal(0, spread) * LEVELS_PER_DB
    return echo + np.linspace(slope / 2, -slope / 2, echo.shape[0], dtype=np.float32)[:, None]


def shadow(echo: Echo, spread: float, rng: np.random.Generator) -> Echo:
    """A band below some place left or right of the nodule grows darker, or brighter.

    Not below the nodule: there a shadow is a sign of calcification, and enhancement of a cyst.
    """
    levels = rng.normal(0, spread) * LEVELS_PER_DB
    where, top, width = rng.uniform((-1, 0, 0.04), (1, 0.7, 0.1))
    centre = 0.5 + np.sign(where) * (0.35 + 0.2 * abs(where))
    along = np.linspace(0, 1, echo.shape[0], dtype=np.float32)
    bell = np.minimum(((along - centre) / width) ** 2 / 2, 20)  # beyond, denormal numbers are slow
    below = levels / (1 + np.exp((top - along) / 0.05))
    return echo + np.outer(below.astype(np.float32), np.exp(-bell).astype(np.float32))


def tgc(echo: Echo, spread: float, rng: np.random.Generator) -> Echo:
    """Other sliders: a smooth offset over depth. A crop sees about four of a scanner's eight."""
    sliders = rng.normal(0, spread * LEVELS_PER_DB, (4, 1)).astype(np.float32)
    offset = cv2.resize(sliders, (1, echo.shape[0]), interpolation=cv2.INTER_CUBIC)
    return echo + np.asarray(offset, np.float32)


def gain(echo: Echo, spread: float, rng: np.random.Generator) -> Echo:
    """The same factor for all: one offset."""
    return echo + np.float32(rng.normal(0, spread) * LEVELS_PER_DB)


def dynamic_range(echo: Echo, spread: float, rng: np.random.Generator) -> Echo:
    """More or fewer dB from black to white, about the mean of what is seen."""
    mean = np.float32(echo.sum() / max(1, cv2.countNonZero(echo)))
    return mean + (echo - mean) * np.float32(np.exp(-rng.normal(0, spread)))


def gamma(picture: Picture, spread: float, rng: np.random.Generator) -> Picture:
    """Another grey map: a power of the grey level, which leaves black and white."""
    greys = 255 * np.linspace(0, 1, 256) ** np.exp(rng.normal(0, spread))
    return np.asarray(cv2.LUT(picture, np.rint(greys).astype(np.uint8)), np.uint8)


def calipers(picture: Picture, chance: float, rng: np.random.Generator) -> Picture:
    """One or two pairs of marks about the nodule, some numbered, some joined by dots.

    Their distances are drawn without regard to the nodule, so that they tell nothing of it.
    """
    happens, pairs, style, dots, number, grey, width, bold = rng.random(8)
    if happens >= chance:
        return picture
    painted, side = picture.copy(), picture.shape[0]
    names = "12" if pairs < 0.7 else "1"
    level, size = 140 + 115 * grey, max(3, round(side * (0.04 + 0.07 * width)))
    marker = cv2.MARKER_TILTED_CROSS if style < 0.3 else cv2.MARKER_CROSS
    thickness = 2 if size >= 12 and bold < 0.5 else 1
    reach, tilt = rng.uniform(0.2, 0.4, 4) * (-1, 1, -1, 1), rng.normal(0, 0.05, 4)
    ends = np.column_stack((reach, tilt))
    ends[2:] = ends[2:, ::-1]  # the second pair is upright
    points = np.clip(np.rint((0.5 + ends) * side), 0, side - 1).astype(int)
    for name, (start, end) in zip(names, points.reshape(2, 2, 2), strict=False):
        if dots < 0.4:
            steps = max(2, int(np.hypot(*(end - start)) * 32 / side))
            columns, rows = np.rint(np.linspace(start, end, steps)).astype(int).T
            painted[rows, columns] = level
        for x, y in (start, end):
            cv2.drawMarker(painted, (int(x), int(y)), level, marker, size, thickness, cv2.LINE_AA)
        if number < 0.5:
            corner = int(start[0]) - size, int(start[1]) - size // 2
            _write(painted, name, corner, level, size)
    return painted


def text(picture: Picture, chance: float, rng: np.random.Generator) -> Picture:
    """A few characters near the upper or the lower edge."""
    happens, grey, size, x, y = rng.random(5)
    if happens >= chance:
        return picture
    painted, side = picture.copy(), picture.shape[0]
    height = side * (0.04 + 0.04 * size)
    corner = int(0.8 * x * side), int(1.2 * height) if y < 0.5 else side - 2
    _write(painted, "".join(rng.choice(CHARACTERS, 5)), corner, 140 + 115 * grey, height)
    return painted


def jpeg(picture: Picture, chance: float, rng: np.random.Generator) -> Picture:
    """Stored with loss once more; black stays free of its ringing."""
    happens, quality = rng.random(2)
    if happens >= chance:
        return picture
    _, stored = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(50 + 46 * quality)])
    read = np.asarray(cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE), np.uint8)
    return np.where(picture, read, np.uint8(0))


Pixels = TypeVar("Pixels", Picture, Echo)
Effect = Callable[[Pixels, float, np.random.Generator], Pixels]

# The chain in its order. Each effect is named as the field of `Augmentation` that is its strength.
SOURCE: tuple[Effect[Picture], ...] = (mirror, erase)
ECHO: tuple[Effect[Echo], ...] = (
    resolution,
    speckle,
    attenuation,
    shadow,
    tgc,
    gain,
    dynamic_range,
)
SCREEN: tuple[Effect[Picture], ...] = (gamma, calipers, text, jpeg)
OFF = Augmentation(**{field.name: 0.0 for field in fields(Augmentation)})


def vary(picture: Picture, augmentation: Augmentation, rng: np.random.Generator) -> Picture:
    """The picture as another scanner might have shown it; the same `rng` gives the same.

    uint8 ``[side, side]`` in and out, side at least 16. Pixels that are 0 stay 0, but for what is
    painted over them.
    """
    given = _apply(SOURCE, picture, augmentation, rng).astype(np.float32)
    echo = _apply(ECHO, given, augmentation, rng)
    echo = given + np.minimum(given / np.float32(TOE), np.float32(1)) * (echo - given)
    shown = np.rint(np.clip(echo, 0, 255)).astype(np.uint8)
    return _apply(SCREEN, shown, augmentation, rng)


def jitter(
    box: Box, augmentation: Augmentation, rng: np.random.Generator, width: int, height: int
) -> Box:
    """The box elsewhere and of another size, in the picture of `width` x `height` pixels."""
    right, down, larger = rng.normal(
        0, (augmentation.shift, augmentation.shift, augmentation.scale)
    )
    return redraw(box, np.exp(larger), width, height, right, down)


def redraw(
    box: Box, factor: float, width: int, height: int, right: float = 0.0, down: float = 0.0
) -> Box:
    """The box `factor` times as large, at least 1 pixel, for a crop to be cut around; moved by
    shares of its longer side.

    It stays in the picture of `width` x `height` pixels, as far as `preprocess.Crop` asks: VOC
    counts from 1, so that a box may end one pixel beyond. In a part of a picture it is the same
    box, unless it reaches the part's edge.
    """
    longer = max(box.w, box.h)
    w = min(max(1, round(box.w * factor)), width + 1)
    h = min(max(1, round(box.h * factor)), height + 1)
    x = math.floor(box.x + (box.w - w) / 2 + right * longer + 0.5)  # round() looks at odd and even
    y = math.floor(box.y + (box.h - h) / 2 + down * longer + 0.5)
    return Box(min(max(x, 0), width + 1 - w), min(max(y, 0), height + 1 - h), w, h)


def contact_sheet(
    draw: Callable[[Augmentation, np.random.Generator], Picture],
    augmentation: Augmentation,
    seed: int,
    rows: int = 5,
    columns: int = 6,
) -> Picture:
    """Variations of one picture with their captions, uint8 ``[rows * 216, columns * 196]``.

    `draw` shows it as a scanner may, uint8 ``[side, side]``.

    The picture itself; then each effect that is on alone, the most changed of 32 draws, about the
    worst that a network meets; then, in the cells that are left, all together as they come.
    """
    picture = draw(OFF, np.random.default_rng(seed))
    cells = [("original", picture)]
    for name in [field.name for field in fields(Augmentation)]:
        alone = replace(OFF, **{name: getattr(augmentation, name)})
        if alone != OFF:
            rng = np.random.default_rng(seed)
            draws = [draw(alone, rng) for _ in range(32)]
            most = max(draws, key=lambda drawn: cv2.norm(drawn, picture))
            cells.append((name.replace("_", " "), most))
    rng = np.random.default_rng(seed)
    while len(cells) < rows * columns:
        cells.append(("all", draw(augmentation, rng)))
    sheet = np.full((rows, 216, columns, 196), 255, np.uint8)
    for number, (caption, shown) in enumerate(cells[: rows * columns]):
        cell = np.full((216, 196), 255, np.uint8)
        cell[:192, :192] = cv2.resize(shown, (192, 192))
        _write(cell, caption, (2, 206), 0, 10)
        sheet[number // columns, :, number % columns] = cell
    return sheet.reshape(rows * 216, columns * 196)


def _apply(
    effects: tuple[Effect[Pixels], ...],
    pixels: Pixels,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Pixels:
    """One effect after the other, but for those whose strength is 0."""
    for effect in effects:
        strength = getattr(augmentation, effect.__name__)
        if strength > 0:
            pixels = effect(pixels, strength, rng)
    return pixels


def _blur(echo: Echo, lateral: float, axial: float) -> Echo:
    """A Gaussian point spread; standard deviations in pixels, for which OpenCV takes no 0."""
    spread = cv2.GaussianBlur(echo, (0, 0), max(lateral, 0.01), sigmaY=max(axial, 0.01))
    return np.asarray(spread, np.float32)


def _block(width: int, height: int) -> Picture:
    return np.ones((height, width), np.uint8)


def _write(
    picture: Picture, words: str, corner: tuple[int, int], level: float, height: float
) -> None:
    """Writes from the lower left `corner`, capitals `height` pixels high."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, height / 22
    cv2.putText(picture, words, corner, font, scale, level, 1, cv2.LINE_AA)
