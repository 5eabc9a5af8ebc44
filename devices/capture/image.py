"""Reads still images from disk, having looked at their size before any pixel is unpacked."""

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import imagesize
import numpy as np
from numpy.typing import NDArray

from devices.capture.jpeg import decode_jpeg
from devices.capture.orientation import MAX_ENTRIES, stored_orientation, tiff_orientation, turn
from devices.capture.size import MAX_PIXELS, check_size
from devices.errors import BadInput
from devices.frame import Pixels
from devices.regular_file import read_regular

AS_STORED = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
"""Pictures are turned in one place, for all formats but TIFF, whose reader always turns them."""
JPEG_BEGIN = b"\xff\xd8\xff"
PNG_BEGIN, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}

MAX_IMAGE_BYTES = 512 << 20
"""Bytes of an image file, which is read whole."""
MAX_PAGES = 10_000
MAX_ANIMATION = 2 * MAX_PIXELS
"""Pixels of all pictures of an animation, which are held at once: 512 MB."""
NEW_SUBFILE_TYPE = 254
REDUCED, MASK = 1, 4
"""The tag of a directory, and its bits for what is no picture of its own (TIFF 6.0, section 8)."""
DAMAGED_IMAGE = "the image is damaged, or of a kind that cannot be shown"


def read_image(path: Path) -> Pixels:
    """Returns the image as it is shown: uint8 ``H x W`` if it is stored grey, else ``H x W x 3``
    (BGR).

    Raises BadInput where there is no such file, where it is no image, where it holds more than one
    picture, or where its size is refused (`devices.capture.size`).
    """
    return next(_pictures(path, _load_single(path), 1))


def shown_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as `read_image` returns it, without unpacking a pixel.

    Raises BadInput as `read_image` does, as far as the file's headers tell.
    """
    data = _load_single(path)
    width, height = imagesize.get(BytesIO(data), exif_rotation=False)
    orientation = (tiff_orientation if data[:4] in TIFF_ORDERS else stored_orientation)(data)
    return (height, width) if orientation >= 5 else (width, height)


def open_pages(path: Path) -> tuple[int, Iterator[Pixels]]:
    """How many pictures the file holds, and all of them: pages of a TIFF, pictures of an animation.

    Raises BadInput as `read_image` does, and for an animation that is too large.
    """
    data, pages = _load(path)
    return pages, _pictures(path, data, pages)


def count_pages(data: bytes) -> int:
    """How many pictures an image file holds, as TIFF, GIF, WebP and PNG may; 1 for any other.

    Raises ValueError, IndexError or struct.error where the file ends before it says.
    """
    if data[:4] in TIFF_ORDERS:
        return len(_tiff_pages(data))
    if data[:4] == b"GIF8":
        return _gif_pictures(data)
    if data[8:12] == b"WEBP":
        return max(1, _webp_pictures(data))
    if data[:8] == PNG_BEGIN and (offset := data.find(b"acTL", 8, data.find(b"IDAT"))) > 0:
        return max(1, int(struct.unpack_from(">I", data, offset + 4)[0]))
    return 1


def _load_single(path: Path) -> bytes:
    """The file of a single picture. Raises BadInput as `_load` does, and for several pictures."""
    data, pages = _load(path)
    if pages > 1:
        raise BadInput(f"{path}: holds {pages} pictures; save each as a file of its own")
    return data


def _load(path: Path) -> tuple[bytes, int]:
    """The bytes of a file, and how many pictures it holds.

    Raises BadInput where it is no image, or its size is refused.
    """
    try:
        data = read_regular(path, MAX_IMAGE_BYTES)
        width, height = imagesize.get(BytesIO(data))
    except (OSError, ValueError, struct.error) as error:
        reason = getattr(error, "strerror", None) or "not an image"
        raise BadInput(f"{path}: {reason}") from error
    if width < 1 or height < 1:
        raise BadInput(f"{path}: not an image")
    check_size(path, width, height)
    if data[:8] == PNG_BEGIN and PNG_END not in data[-16:]:
        raise BadInput(f"{path}: the image is damaged")  # libpng would say it on stderr, too
    try:
        return data, count_pages(data)
    except (ValueError, IndexError, struct.error) as error:
        raise BadInput(f"{path}: the image is damaged") from error


def _pictures(path: Path, data: bytes, pages: int) -> Iterator[Pixels]:
    """The pictures of a file that holds so many. Raises BadInput for a damaged one."""
    coded = np.frombuffer(data, np.uint8)
    tiff = _tiff_pages(data) if data[:4] in TIFF_ORDERS else []
    if pages == 1 and tiff in ([], [0]):
        pixels = _decode(coded)
        if pixels is None:
            raise BadInput(f"{path}: {DAMAGED_IMAGE}")
        yield turn(_checked(path, pixels), stored_orientation(data))
    elif tiff:
        yield from _decode_pages(path, coded, tiff)
    else:
        orientation = stored_orientation(data)
        for picture in _decode_animation(path, data, pages):
            yield turn(_checked(path, picture), orientation)


def _decode_pages(path: Path, coded: NDArray[np.uint8], pages: list[int]) -> Iterator[Pixels]:
    """The pages of a TIFF with these numbers, turned by its reader."""
    for page in pages:
        try:
            ok, pictures = cv2.imdecodemulti(coded, AS_STORED, range=(page, page + 1))
        except cv2.error:
            ok, pictures = False, ()
        if not ok or len(pictures) != 1:
            raise BadInput(f"{path}: page {page + 1} is damaged, or cannot be shown")
        yield _checked(path, pictures[0])


def _decode_animation(path: Path, data: bytes, pages: int) -> list[NDArray[Any]]:
    """The pictures of an animation, each ``H x W x 3`` (BGR), as they are stored."""
    width, height = imagesize.get(BytesIO(data))
    if width * height * pages > MAX_ANIMATION:
        raise BadInput(
            f"{path}: {pages} pictures of {width} x {height} are too many; make a video of them"
        )
    if not hasattr(cv2, "imdecodeanimation"):
        raise BadInput(f"{path}: an animation; OpenCV 4.11 or newer is needed to read it")
    try:
        ok, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
    except cv2.error as error:
        raise BadInput(f"{path}: {DAMAGED_IMAGE}") from error
    if not ok or len(animation.frames) != pages:
        raise BadInput(f"{path}: {DAMAGED_IMAGE}")
    return [frame[..., :3] for frame in animation.frames]


def _checked(path: Path, pixels: NDArray[Any]) -> Pixels:
    """The pixels, where they are bytes of one or three channels. Raises BadInput for others."""
    if pixels.dtype != np.uint8:
        raise BadInput(f"{path}: {pixels.dtype} pixels; window them to 8 bits first")
    check_size(path, pixels.shape[1], pixels.shape[0])
    return np.asarray(pixels)


def _decode(data: NDArray[np.uint8]) -> NDArray[Any] | None:
    """The pixels of a single picture as they are stored; None for a damaged one."""
    if data[:3].tobytes() == JPEG_BEGIN:
        return decode_jpeg(data)
    try:
        return cv2.imdecode(data, AS_STORED)
    except cv2.error:
        return None


def _tiff_pages(data: bytes) -> list[int]:
    """The numbers of the directories that hold a picture of its own, in order (TIFF 6.0)."""
    order = TIFF_ORDERS[data[:4]]
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    pages, seen = [], set[int]()
    while start:
        (count,) = struct.unpack_from(f"{order}H", data, start)
        if count > MAX_ENTRIES or start in seen or len(seen) == MAX_PAGES:
            raise ValueError("a directory of too many entries, or too many directories")
        kind = 0
        for index in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHII", data, start + 2 + 12 * index)
            if tag == NEW_SUBFILE_TYPE:
                kind = value
        if not kind & (REDUCED | MASK):
            pages.append(len(seen))
        seen.add(start)
        (start,) = struct.unpack_from(f"{order}I", data, start + 2 + 12 * count)
    if not pages:
        raise ValueError("no picture")
    return pages


def _gif_pictures(data: bytes) -> int:
    """Image descriptors of a GIF (GIF89a, 20)."""
    packed = data[10]
    offset = 13 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
    count = 0
    while data[offset] != 0x3B:
        if data[offset] == 0x2C:
            count += 1
            packed = data[offset + 9]
            offset += 11 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
        elif data[offset] == 0x21:
            offset += 2
        else:
            raise ValueError("no block of a GIF")
        while data[offset]:
            offset += 1 + data[offset]
        offset += 1
    return count


def _webp_pictures(data: bytes) -> int:
    """Chunks ANMF of a WebP."""
    count, offset = 0, 12
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise ValueError("cut off")
    while offset + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, offset)
        count += kind == b"ANMF"
        offset += 8 + length + length % 2
    return count
