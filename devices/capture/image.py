"""Reads one still image from disk, having looked at its size before any pixel is unpacked."""

from pathlib import Path

import cv2
import imagesize
import numpy as np

from devices.capture.size import check_size
from devices.errors import BadInput
from devices.frame import Pixels

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def read_image(path: Path) -> Pixels:
    """Returns the image as uint8, ``H x W`` if it is stored grey, else ``H x W x 3`` (BGR).

    Raises BadInput where there is no such file, where it is no image, or where its
    size is refused (`devices.capture.size`).
    """
    try:
        width, height = imagesize.get(path)
        data = np.fromfile(path, dtype=np.uint8)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not an image"
        raise BadInput(f"{path}: {reason}") from error
    if width < 1 or height < 1:
        raise BadInput(f"{path}: not an image")
    check_size(path, width, height)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise BadInput(f"{path}: the image is damaged")
    return np.asarray(pixels, dtype=np.uint8)
