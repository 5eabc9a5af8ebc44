"""Decodes JPEG pictures, but for damaged ones, which OpenCV shows with their holes."""

import re

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from devices.capture.size import MAX_PIXELS
from devices.frame import Pixels

HARMLESS = re.compile(
    r"\b([1-9] extraneous bytes before marker 0x(?!d9)|[12] extraneous bytes before marker 0xd9)"
)
"""Bytes too many that some cameras leave in every picture (OpenCV, issue 9477): one to five before
a marker, one or two before the end. A hole that other data closed over leaves more there."""


def decode_jpeg(data: NDArray[np.uint8]) -> Pixels | None:
    """The picture, uint8, ``H x W`` if it is stored grey, else ``H x W x 3`` (BGR).

    None for one that is damaged, too large, or of a kind that cannot be shown: CMYK, lossless, 12
    bits. What a lost USB packet leaves, a hole of 500 bytes or more, is noticed in .88 to 1 of the
    pictures, by its length and whether it was closed; a few wrong bytes seldom are.
    """
    try:
        height, width, stored, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        return _by_opencv(data) if HARMLESS.search(str(error)) else None
    if height * width > MAX_PIXELS:
        return None
    grey = stored == "Gray"
    colours = "GRAY" if grey else "BGR"
    try:
        pixels = simplejpeg.decode_jpeg(data, colours)
    except ValueError as error:
        if not HARMLESS.search(str(error)):
            return None
        pixels = simplejpeg.decode_jpeg(data, colours, strict=False)
    return np.asarray(pixels[..., 0] if grey else pixels)


def _by_opencv(data: NDArray[np.uint8]) -> Pixels | None:
    """The picture, holes and all: simplejpeg takes no stray byte between the headers."""
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(pixels, np.uint8)
