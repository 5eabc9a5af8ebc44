"""Turns a still the way its file says that it is to be shown (EXIF 2.3, 4.6.4: Orientation).

Annotation tools show pictures turned, and count their boxes in what they show.
"""

import struct
from collections.abc import Iterator

import numpy as np

from devices.frame import Pixels

ORIENTATION = 0x0112
MAX_ENTRIES = 1000
"""Of a directory; one with more is damaged."""


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """The stored picture as it is shown; `orientation` from 1 to 8, where 1 is as stored."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::down, ::right])


def stored_orientation(data: bytes) -> int:
    """What a JPEG, PNG or WebP says in its EXIF entry; 1 where it says nothing that makes sense."""
    try:
        for tiff in _exif(data):
            return _entry(tiff)
    except (struct.error, IndexError):
        pass
    return 1


def tiff_orientation(data: bytes) -> int:
    """What a TIFF says in its first directory; 1 where it says nothing that makes sense."""
    try:
        return _entry(data)
    except struct.error:
        return 1


def _exif(data: bytes) -> Iterator[bytes]:
    """The EXIF entries, each a TIFF without pixels."""
    if data.startswith(b"\xff\xd8"):
        offset = 2
        while data[offset] == 0xFF and data[offset + 1] not in (0xDA, 0xD9):
            if data[offset + 1] == 0xFF:  # a byte that fills
                offset += 1
                continue
            (length,) = struct.unpack_from(">H", data, offset + 2)
            if data[offset + 1] == 0xE1 and data[offset + 4 : offset + 10] == b"Exif\0\0":
                yield data[offset + 10 : offset + 2 + length]
            offset += 2 + length
    elif data.startswith(b"\x89PNG"):
        offset = 8
        while offset + 8 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, offset)
            if kind == b"eXIf":
                yield data[offset + 8 : offset + 8 + length]
            offset += 12 + length
    elif data[8:12] == b"WEBP":
        offset = 12
        while offset + 8 <= len(data):
            kind, length = struct.unpack_from("<4sI", data, offset)
            if kind == b"EXIF":
                yield data[offset + 8 : offset + 8 + length].removeprefix(b"Exif\0\0")
            offset += 8 + length + length % 2


def _entry(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    if not order:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for index in range(min(count, MAX_ENTRIES)):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * index)
        if tag == ORIENTATION:
            return value if 1 <= value <= 8 else 1
    return 1
