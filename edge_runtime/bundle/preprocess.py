"""From a picture to the tensor of a model, by one string that training and the device share.

The string joins steps of the registry below with `|`, as in `gray|crop(context=1.6)|resize(160)`.
The recipe, the run and the bundle store it, and only this module reads it: so the network gets the
same tensors on the device as in training.
"""

import re
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels
from devices.buffers import Buffers

MAX_WINDOW = 1 << 14
"""Pixels of a side of the square around a box: of a picture that is long and flat it takes far more
memory than the picture."""


@dataclass(frozen=True)
class Picture:
    """Pixels on their way through the steps, and a box in them, where there is one."""

    pixels: Pixels
    box: Box | None


@dataclass(frozen=True)
class Gray:
    """One channel: ITU-R BT.601 luma, as `cv2.COLOR_BGR2GRAY` computes it."""

    def __call__(self, picture: Picture, buffers: Buffers | None = None) -> Picture:
        """Returns the grey picture, in an array of `buffers` or a new one; grey pixels stay."""
        if picture.pixels.ndim == 2:
            return picture
        room = None if buffers is None else buffers.take(picture.pixels.shape[:2])
        gray = cv2.cvtColor(picture.pixels, cv2.COLOR_BGR2GRAY, dst=room)
        return Picture(np.asarray(gray, dtype=np.uint8), picture.box)


@dataclass(frozen=True)
class Crop:
    """A square window around the box, `context` times as wide as the longer side of the box.

    Beyond the picture the window is black. Without a box the window is the smallest square around
    the whole picture, so that shapes keep their proportions.
    """

    context: float

    def __post_init__(self) -> None:
        if not 1 <= self.context <= 4:
            raise ValueError("context is a factor from 1 to 4")

    def window(self, width: int, height: int, box: Box | None) -> Box:
        """The square in a picture of that size; the square may overhang the picture.

        Raises BadInput where the box lies outside the picture.
        """
        if box is None:
            x, y, w, h = 0, 0, width, height
            side = max(w, h)
        else:
            x, y, w, h = box
            # Annotations of Pascal VOC count from 1.
            if x < 0 or y < 0 or x + w > width + 1 or y + h > height + 1:
                raise BadInput(
                    f"the box {x},{y},{w},{h} lies outside the {width} x {height} picture"
                )
            side = max(1, round(self.context * max(w, h)))
        return Box(x + (w - side) // 2, y + (h - side) // 2, side, side)

    def __call__(self, picture: Picture) -> Picture:
        """Cuts the window out.

        Raises BadInput where the box lies outside the picture, or the window is too large.
        """
        height, width = picture.pixels.shape[:2]
        left, top, side, _ = self.window(width, height, picture.box)
        if side > MAX_WINDOW:
            raise BadInput(f"a window of {side} x {side} pixels is too large; crop the picture")
        right, bottom = left + side, top + side
        inside = picture.pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        margins = (
            max(-top, 0),
            max(bottom - height, 0),
            max(-left, 0),
            max(right - width, 0),
        )
        if any(margins):
            padded = cv2.copyMakeBorder(inside, *margins, cv2.BORDER_CONSTANT, value=(0, 0, 0))
            inside = np.asarray(padded, dtype=np.uint8)
        return Picture(inside, None)


@dataclass(frozen=True)
class Resize:
    """A square of `side` pixels: a larger picture is averaged, a smaller picture is interpolated.

    Both methods give the same pixels on x86 and on ARM; plain INTER_LINEAR does not.
    """

    side: int

    def __post_init__(self) -> None:
        if not 16 <= self.side <= 1024:
            raise ValueError("side is 16 to 1024 pixels")

    def __call__(self, picture: Picture, out: Pixels | None = None) -> Picture:
        """Makes height and width equal to `side`; writes into `out`, ``side x side``, if given."""
        shrinks = max(picture.pixels.shape[:2]) > self.side
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR_EXACT
        resized = cv2.resize(picture.pixels, (self.side, self.side), dst=out, interpolation=how)
        return Picture(np.asarray(resized, dtype=np.uint8), None)


PREPROCESSING_STEPS: dict[str, type[Gray] | type[Crop] | type[Resize]] = {
    "gray": Gray,
    "crop": Crop,
    "resize": Resize,
}

_STEP = re.compile(r"(?P<name>[a-z]+)(?:\((?P<arguments>[^()]*)\))?")
_ARGUMENT = re.compile(r"(?:(?P<name>[a-z]+)=)?(?P<value>\d{1,6}(?:\.\d{1,6})?)")


@dataclass(frozen=True)
class Preprocessing:
    """A parsed preprocessing string; call it with pixels and, where known, a box."""

    text: str
    gray: Gray
    crop: Crop | None
    resize: Resize

    @property
    def side(self) -> int:
        """Height and width of the result, in pixels."""
        return self.resize.side

    @property
    def crops(self) -> bool:
        """Whether the steps use the box; else they take the whole picture."""
        return self.crop is not None

    def window(self, width: int, height: int, box: Box | None) -> Box:
        """The part of a picture of that size in the tensor; it may overhang the picture."""
        whole = Box(0, 0, width, height)
        return whole if self.crop is None else self.crop.window(width, height, box)

    def __call__(
        self,
        pixels: Pixels,
        box: Box | None = None,
        out: NDArray[np.uint8] | None = None,
        buffers: Buffers | None = None,
    ) -> NDArray[np.uint8]:
        """Returns the tensor of the model contract, uint8 ``[1, side, side, 1]``.

        The tensor is `out` if given; `buffers` lends the arrays for the pixels in between.
        Raises BadInput where the box lies outside the picture, or the window is too large.
        """
        # Gray works pixel by pixel, so that it may run after Crop, on fewer pixels.
        picture = Picture(pixels, box)
        if self.crop is not None:
            picture = self.crop(picture)
        picture = self.gray(picture, buffers)
        picture = self.resize(picture, None if out is None else out[0, :, :, 0])
        return picture.pixels.reshape(1, self.side, self.side, 1) if out is None else out


def parse(text: str) -> Preprocessing:
    """Reads a preprocessing string. Raises BadInput, which names the wrong step."""
    steps = [_parse_step(part, text) for part in text.split("|")]
    match steps:
        case [Gray() as gray, Resize() as resize]:
            return Preprocessing(text, gray, None, resize)
        case [Gray() as gray, Crop() as crop, Resize() as resize]:
            return Preprocessing(text, gray, crop, resize)
    raise BadInput(
        f"preprocessing {text!r}: the steps are gray, then crop where wanted, then resize"
    )


def _parse_step(part: str, text: str) -> Gray | Crop | Resize:
    """Reads one step: `name`, `name(value)` or `name(argument=value)`."""
    match = _STEP.fullmatch(part.strip())
    if match is None or match["name"] not in PREPROCESSING_STEPS:
        raise BadInput(
            f"preprocessing {text!r}: no step {part!r}; there are {', '.join(PREPROCESSING_STEPS)}"
        )
    kind = PREPROCESSING_STEPS[match["name"]]
    expected = [(field.name, field.type) for field in fields(kind)]
    given = match["arguments"].split(",") if match["arguments"] else []
    if len(given) != len(expected):
        raise BadInput(f"preprocessing {text!r}: {part!r} takes {len(expected)} argument(s)")
    values: list[Any] = []
    for word, (name, number) in zip(given, expected, strict=True):
        argument = _ARGUMENT.fullmatch(word.strip())
        if argument is None or argument["name"] not in (None, name):
            raise BadInput(f"preprocessing {text!r}: {part!r} takes {name} = a number")
        if number is int and "." in argument["value"]:
            raise BadInput(f"preprocessing {text!r}: {name} is a whole number")
        values.append(int(argument["value"]) if number is int else float(argument["value"]))
    try:
        return kind(*values)
    except ValueError as error:
        raise BadInput(f"preprocessing {text!r}: {error}") from error
