"""Reads one still image from disk, having looked at its size before any pixel is unpacked."""

from pathlib import Path
from typing import Any

import cv2
import imagesize
import numpy as np
from numpy.typing import NDArray

from devices.capture.jpeg import decode_jpeg
from devices.capture.size import check_size
from devices.errors import BadInput
from devices.frame import Pixels

AS_STORED = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
"""Boxes count the pixels of the stored image, so that it is not turned by its EXIF entry."""
JPEG_BEGIN = b"\xff\xd8\xff"
PNG_BEGIN, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


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
    if data[:8].tobytes() == PNG_BEGIN and PNG_END not in data[-16:].tobytes():
        raise BadInput(f"{path}: the image is damaged")  # libpng would say it on stderr, too
    pixels = _decode(data)
    if pixels is None:
        raise BadInput(f"{path}: the image is damaged, or of a kind that cannot be shown")
    if pixels.dtype != np.uint8:
        raise BadInput(f"{path}: {pixels.dtype} pixels; window them to 8 bits first")
    return np.asarray(pixels)


def _decode(data: NDArray[np.uint8]) -> NDArray[Any] | None:
    if data[:3].tobytes() == JPEG_BEGIN:
        return decode_jpeg(data)
    try:
        return cv2.imdecode(data, AS_STORED)
    except cv2.error:
        return None
