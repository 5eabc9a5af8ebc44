"""A simulated probe over a simulated neck, for demo and test: `phantom:`.

Speckle is a field of random scatterers seen through a point-spread function: complex Gaussian
noise, blurred more along the array than along the beam, whose envelope is Rayleigh distributed
(Wagner et al., "Statistics of speckle in ultrasound B-scans", IEEE Trans. Sonics Ultrasonics
30(3), 1983). It is weighted with the echogenicity of the anatomy, attenuated with depth and
log-compressed, as a scanner does. The probe slides back and forth across the nodule, so that it
comes and goes. Everything follows from the seed and the frame's number.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from devices.capture.source_uri import SourceUri, read_options
from devices.errors import BadInput, EndOfRecording
from devices.frame import Box, CaptureDevice, Clock, Frame, Pixels

NODULES = ("malignant", "benign", "none")
DYNAMIC_RANGE_DB = 58.0
WHITE_DB = 22.0
"""The echo that is shown white, over that of gland at the skin."""
SWEEP_SECONDS = 8.0
"""Time in which the probe slides across the nodule and back."""

Field = NDArray[np.float32]


@dataclass(frozen=True)
class NoduleLook:
    """How a nodule looks: the two textbook extremes (ACR TI-RADS lexicon, 2017)."""

    echo: float
    """Echogenicity relative to the gland around it."""
    half_width: float
    half_height: float
    """In parts of the picture's height; taller than wide is a sign of malignancy."""
    lobulation: float
    """Irregularity of the margin, in parts of the radius."""
    foci: int
    """Punctate echogenic foci."""
    halo: bool


LOOKS = {
    "malignant": NoduleLook(0.28, 0.085, 0.115, 0.14, foci=14, halo=False),
    "benign": NoduleLook(1.25, 0.125, 0.090, 0.02, foci=0, halo=True),
}


PHANTOM_OPTIONS: dict[str, Callable[[str], Any]] = {
    "seed": int,
    "fps": float,
    "frames": int,
    "width": int,
    "height": int,
    "nodule": str,
    "live": lambda word: {"yes": True, "no": False}[word],
}
"""Of the URI, with how each is read."""


class Phantom(CaptureDevice):
    """The simulated probe. Live it keeps time with `clock`; not live it gives every frame."""

    def __init__(
        self,
        seed: int = 0,
        fps: float = 20.0,
        frames: int | None = None,
        width: int = 640,
        height: int = 480,
        nodule: str = "malignant",
        live: bool = True,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if nodule not in NODULES:
            raise BadInput(f"phantom: no such nodule; there are {', '.join(NODULES)}")
        if not (1 <= fps <= 200 and 160 <= width <= 1920 and 120 <= height <= 1080):
            raise BadInput("phantom: 1 to 200 frames/s, 160 x 120 to 1920 x 1080 pixels")
        if seed < 0 or (frames is not None and frames < 1):
            raise BadInput("phantom: the seed is 0 or more, the frames are 1 or more")
        self.live = live
        self.fps = fps
        self._frames = frames
        self._clock, self._sleep = clock, sleep
        self._next = 0
        self._start: float | None = None
        self._look = LOOKS.get(nodule)
        self._rng = np.random.default_rng(seed)
        self.picture = Box(width // 8, height // 12, width * 3 // 4, height * 5 // 6)
        """Where the ultrasound picture lies on the screen."""
        self._screen = self._draw_screen(width, height)
        self._build_neck()

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  it never makes anyone wait longer
        """Returns the next frame; live, the one whose time has come. See `CaptureDevice.read`."""
        if self._start is None:
            self._start = self._clock()
        if self.live:
            behind = int((self._clock() - self._start) * self.fps)
            self._next = max(self._next, behind)
        if self._frames is not None and self._next >= self._frames:
            raise EndOfRecording("phantom: the last frame has been read")
        if self.live:
            self._sleep(max(0.0, self._start + self._next / self.fps - self._clock()))
        index = self._next
        self._next += 1
        pixels = self.render(index)
        now = self._clock()
        return Frame(pixels, now, index, timestamp=now if self.live else index / self.fps)

    def render(self, index: int) -> Pixels:
        """Returns the screen of frame `index`, uint8 ``[height, width, 3]``."""
        x, y, w, h = self.picture
        shift, plane = self._pose(index)
        echo = self._echo[:, shift : shift + w].copy()
        self._add_carotids(echo, shift, index)
        if self._look is not None and plane > 0:
            self._add_nodule(echo, self._look, shift, plane)
        # Out of the plane the scatterers are others: the speckle turns from one field to the other.
        angle = index / self.fps * 0.9
        envelope = np.abs(
            np.float32(np.cos(angle)) * self._speckle[0][:, shift : shift + w]
            + np.float32(np.sin(angle)) * self._speckle[1][:, shift : shift + w]
        )
        envelope *= echo
        decibels = 20 * np.log10(np.maximum(envelope, 1e-4))
        gray = np.clip(255 * (1 + (decibels - WHITE_DB) / DYNAMIC_RANGE_DB), 0, 255).astype(
            np.uint8
        )
        screen = self._screen.copy()
        screen[y : y + h, x : x + w] = gray[..., np.newaxis]
        return screen

    def nodule_box(self, index: int) -> Box | None:
        """The nodule's box on the screen in frame `index`; None where it is out of the plane."""
        shift, plane = self._pose(index)
        if self._look is None or plane <= 0:
            return None
        a, b = self._look.half_width * plane, self._look.half_height * plane
        h = self.picture.h
        cx, cy = self._centre[0] - shift + self.picture.x, self._centre[1] + self.picture.y
        return Box(
            round(cx - a * h), round(cy - b * h), max(1, round(2 * a * h)), max(1, round(2 * b * h))
        )

    def _pose(self, index: int) -> tuple[int, float]:
        """The lateral shift in pixels, and the nodule's share of its full radius in this plane."""
        phase = 2 * np.pi * index / self.fps / SWEEP_SECONDS
        shift = round(self._travel / 2 * (1 + np.sin(phase / 2)))
        depth = 1.5 * np.cos(phase)  # of the plane, in radii of the nodule
        return shift, float(np.sqrt(max(0.0, 1 - depth * depth)))

    def _draw_screen(self, width: int, height: int) -> Pixels:
        """The scanner's own marks around the picture: name, depth scale, grey bar."""
        screen = np.zeros((height, width, 3), dtype=np.uint8)
        x, y, w, h = self.picture
        size = height / 1000
        cv2.putText(
            screen, "PHANTOM", (x, y - 8), cv2.FONT_HERSHEY_SIMPLEX, size, (150, 150, 150), 1
        )
        right = x + w + width // 50
        for tick in range(9):
            at = y + round(tick * (h - 1) / 8)
            length = width // 40 if tick % 2 == 0 else width // 80
            cv2.line(screen, (right, at), (right + length, at), (150, 150, 150), 1)
        bar = np.linspace(230, 0, h // 3).astype(np.uint8)
        left = x // 3
        screen[y : y + h // 3, left : left + max(2, width // 80)] = bar[:, None, None]
        return screen

    def _build_neck(self) -> None:
        """Lays down what does not change: anatomy, attenuation, and two fields of scatterers."""
        h, w = self.picture.h, self.picture.w
        self._travel = w // 12
        wide = w + self._travel
        shape = (h, wide)
        self._centre = (0.31 * wide, 0.50 * h)
        self._speckle = [self._scatter(shape) for _ in range(2)]
        y, x = np.mgrid[0:h, 0:wide].astype(np.float32)
        x, y = (x - wide / 2) / h, y / h  # in parts of the picture's height, from the midline
        wave = 0.012 * np.sin(5 * x + 1)
        echo = np.full(shape, 0.35, dtype=np.float32)
        layers = [(0.00, 1.9), (0.035, 0.75), (0.14, 0.30), (0.27, 0.42), (0.78, 0.30)]
        for top, level in layers:  # skin, fat, strap muscles, neck, prevertebral muscle
            echo += (np.float32(level) - echo) * _step((y - top - wave) * 60)
        for top, bottom, strength in ((0.04, 0.14, 1.4), (0.15, 0.26, 1.0), (0.79, 0.95, 0.8)):
            band = _step((y - top - wave) * 60) * _step((bottom - y + wave) * 60)
            echo *= np.exp(np.float32(strength) * band * self._fibres(shape))
        gland = np.zeros(shape, dtype=np.float32)
        for side in (-1, 1):
            gland = np.maximum(gland, _ellipse(x - side * 0.26, y - 0.50, 0.185, 0.20, 12))
        gland = np.maximum(gland, _ellipse(x, y - 0.355, 0.24, 0.05, 6))  # isthmus
        echo += (np.float32(0.95) * np.exp(0.35 * self._clouds(shape)) - echo) * gland
        capsule = gland * (1 - gland) * 4
        echo += np.float32(0.5) * capsule
        # Air in the trachea: a bright front wall, reverberation below it, then shadow.
        trachea = _ellipse(x, y - 0.555, 0.125, 0.155, 16)
        below = _step((0.125 - np.abs(x)) * 40)
        shadow = _step((y - 0.56) * 25) * below
        rings = 0.02 + 0.25 * np.maximum(0, np.sin((y - 0.41) * 110)) * np.exp(-(y - 0.41) * 14)
        echo += (rings - echo) * trachea
        echo *= 1 - np.float32(0.9) * shadow * (1 - trachea)
        wall = trachea * (1 - trachea) * 4 * _step((0.50 - y) * 30)
        echo += 2.2 * wall
        self._carotids = [(wide / 2 + side * 0.53 * h, 0.52 * h) for side in (-1, 1)]
        attenuation = 10 ** (-0.55 * y)
        self._echo = (echo * attenuation).astype(np.float32)
        angles = self._rng.uniform(0, 2 * np.pi, 3)
        self._lobes = [(3, angles[0], 1.0), (5, angles[1], 0.7), (8, angles[2], 0.45)]
        count = self._look.foci if self._look is not None else 0
        self._foci = self._rng.uniform(-0.62, 0.62, (count, 2))

    def _scatter(self, shape: tuple[int, int]) -> NDArray[np.complex64]:
        """Complex scatterers through the point-spread function, of unit mean power."""
        sigma = self.picture.h / 400  # the resolution cell keeps its share of the picture
        parts = [
            cv2.GaussianBlur(
                self._rng.standard_normal(shape).astype(np.float32),
                (0, 0),
                sigmaX=2.0 * sigma,
                sigmaY=0.9 * sigma,
            )
            for _ in range(2)
        ]
        field = (parts[0] + 1j * parts[1]).astype(np.complex64)
        power = float(np.mean(np.abs(field) ** 2))
        return (field / np.float32(np.sqrt(power))).astype(np.complex64)

    def _fibres(self, shape: tuple[int, int]) -> Field:
        """Streaks along the array, as fat septa and muscle fibres give; around zero."""
        noise = self._rng.standard_normal(shape).astype(np.float32)
        sigma = self.picture.h / 400
        streaks = cv2.GaussianBlur(noise, (0, 0), sigmaX=28 * sigma, sigmaY=1.6 * sigma)
        return np.asarray(streaks / streaks.std() * 0.5, dtype=np.float32)

    def _clouds(self, shape: tuple[int, int]) -> Field:
        """Slow unevenness of the gland; around zero, of unit deviation."""
        noise = self._rng.standard_normal(shape).astype(np.float32)
        clouds = cv2.GaussianBlur(noise, (0, 0), sigmaX=self.picture.h / 40)
        return np.asarray(clouds / clouds.std(), dtype=np.float32)

    def _add_carotids(self, echo: Field, shift: int, index: int) -> None:
        """Blood gives almost no echo; the wall does, and widens with each beat (70 a minute)."""
        h = self.picture.h
        beat = 1 + 0.06 * max(0.0, np.sin(2 * np.pi * index / self.fps * 70 / 60))
        for cx, cy in self._carotids:
            radius = 0.075 * h * beat
            patch, x, y = _patch(echo, cx - shift, cy, 2 * radius, 2 * radius)
            if patch.size:
                inside = _ellipse(x, y, radius, radius, 10)
                patch += (np.float32(0.02) - patch) * inside
                patch += np.float32(0.45) * inside * (1 - inside)

    def _add_nodule(self, echo: Field, look: NoduleLook, shift: int, plane: float) -> None:
        """Draws the nodule's cross-section, `plane` of its full size, into the echogenicity."""
        h = self.picture.h
        a, b = look.half_width * h * plane, look.half_height * h * plane
        cx, cy = self._centre[0] - shift, self._centre[1]
        patch, x, y = _patch(echo, cx, cy, 1.7 * a + 4, 1.7 * b + 4)
        if not patch.size:
            return
        angle = np.arctan2(y, x)
        edge = np.ones_like(x)
        for count, phase, weight in self._lobes:
            edge += np.float32(look.lobulation * weight) * np.sin(count * angle + phase)
        inside = _ellipse(x / edge, y / edge, a, b, 14)
        level = np.float32(look.echo * 0.95 * 10 ** (-0.55 * cy / h))
        patch += (level - patch) * inside
        if look.halo:
            rim = _ellipse(x, y, 1.12 * a, 1.12 * b, 5)
            patch *= 1 - np.float32(2.8) * rim * (1 - rim)
        spread = 2 * (h / 400) ** 2 * 2.5
        for fx, fy in self._foci:
            patch += np.float32(1.8) * np.exp(-((x - fx * a) ** 2 + (y - fy * b) ** 2) / spread)


def _step(x: Field) -> Field:
    """A soft step from 0 to 1 around 0."""
    clipped: Field = np.clip(x + 0.5, 0, 1).astype(np.float32)
    return clipped


def _ellipse(x: Field, y: Field, a: float, b: float, sharpness: float) -> Field:
    """1 inside an ellipse of half axes `a` and `b` around the origin, 0 outside, soft between."""
    radius = np.sqrt((x / a) ** 2 + (y / b) ** 2)
    return _step(((1 - radius) * sharpness).astype(np.float32))


def _patch(field: Field, cx: float, cy: float, rx: float, ry: float) -> tuple[Field, Field, Field]:
    """A view around a point, clipped to the field, with its pixels' offsets from the point."""
    height, width = field.shape
    left, right = max(0, int(cx - rx)), min(width, int(cx + rx) + 1)
    top, bottom = max(0, int(cy - ry)), min(height, int(cy + ry) + 1)
    if left >= right or top >= bottom:
        return field[:0, :0], field[:0, :0], field[:0, :0]
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    return field[top:bottom, left:right], x - np.float32(cx), y - np.float32(cy)


def open_phantom(uri: str | SourceUri, clock: Clock = time.monotonic) -> Phantom:
    """The simulated probe with the options of its URI. Raises BadInput for an invalid option."""
    uri = SourceUri(uri)
    query = uri.unexpanded.partition("?")[2]
    return Phantom(**read_options(uri, query, PHANTOM_OPTIONS), clock=clock)
