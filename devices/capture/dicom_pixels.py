"""Where the frames of a DICOM file's pixel data lie, and what colours they are, by their bytes.

Headers are copied from file to file while the pixels are coded anew, and are then wrong about them:
about the number of frames, about their colours, about what they wrap. So the bytes are asked first.
PS3.3 and PS3.5 are parts of the standard (dicom.nema.org).
"""

import mmap
import re
import struct
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import imagesize
import numpy as np
from numpy.typing import NDArray

from devices.capture.image import JPEG_BEGIN
from devices.errors import BadInput
from devices.quiet import quiet

if TYPE_CHECKING:
    from pydicom import Dataset

IMPLICIT_VR = "1.2.840.10008.1.2"
UNCOMPRESSED = frozenset({IMPLICIT_VR, "1.2.840.10008.1.2.1"})
RLE = "1.2.840.10008.1.2.5"
JPEG = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
JPEG_LS = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
JPEG2000 = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91))
DECODABLE = UNCOMPRESSED | {RLE} | JPEG | JPEG_LS | JPEG2000
"""The transfer syntaxes that are read (PS3.5, section 10 and annex A): uncompressed, RLE, and the
JPEGs that scanners write. Big endian is retired, and pydicom reads its palettes wrongly."""

DECODER = "pylibjpeg"
"""Named, so that training and device decode alike whatever else is installed; and GDCM, which
pydicom would take first, ends the whole process on some damaged files."""

MORE_FRAMES = "NumberOfFrames is missing or too low; every frame that is there is read"
OTHER_COLOURS = "PhotometricInterpretation does not fit the pixels, whose own colours are shown"

PIXEL_MODULE = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
"""What a decoder must know (PS3.3, C.7.6.3)."""

ITEM, DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
J2K_BEGIN = b"\xff\x4f\xff\x51"
JP2_BEGIN = b"\x00\x00\x00\x0cjP  "
NEXT_JPEG = re.compile(rb"\xff\xd9\0?(?=\xff\xd8\xff)")
"""The end of a JPEG, a byte that makes its length even, and the beginning of the next one."""
SOF55, START_OF_SCAN = 0xFFF7, 0xFFDA
"""Markers of a JPEG: the frame header of JPEG-LS, and where the coded pixels begin."""
LOSSLESS = 0xFFC3

NEUTRAL = 4
"""By how much two channels of grey may differ: JPEG's rounding."""
GREY_SHARE, COLOUR_SHARE = 0.75, 0.25
"""Shares of grey pixels: a picture that is grey in one reading of its channels and not in the other
is what it is grey in. Ultrasound is, but for its marks and its flow."""

Span = tuple[tuple[int, int], ...]
"""Where the bytes of a frame lie in the file: offset and length of each of its parts."""


class PixelLayout(NamedTuple):
    """What lies in the pixel data."""

    spans: tuple[Span, ...]
    """Of each frame."""
    subsampled: bool
    """Uncompressed YBR_FULL_422: two pixels share their colour."""


def find_frames(path: Path, file: BinaryIO, dataset: "Dataset", stated: int) -> PixelLayout:
    """Finds every frame; `file` stands at the pixel data, `stated` frames are in the header.

    There may be more frames than stated. Raises BadInput where there are fewer, and ValueError or
    struct.error where the pixel data make no sense.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    tag = struct.unpack("<2H", file.read(4))
    if tag != (0x7FE0, 0x0010):
        raise ValueError("no pixel data")
    if syntax != IMPLICIT_VR:
        file.read(4)
    (length,) = struct.unpack("<I", file.read(4))
    if syntax in UNCOMPRESSED:
        start, end = file.tell(), path.stat().st_size
        layout = _uncompressed(dataset, stated, start, min(length, end - start))
    else:
        layout = PixelLayout(_encapsulated(file, syntax, path.stat().st_size), False)
    if len(layout.spans) < stated:
        raise BadInput(f"{path}: {len(layout.spans)} of {stated} frames can be read")
    return layout


def _uncompressed(dataset: "Dataset", stated: int, start: int, length: int) -> PixelLayout:
    """Frames of equal size, one behind the other.

    Of three samples YBR_FULL_422 stores two for each pixel (PS3.3, C.7.6.3.1.2), all else three:
    the length tells which.
    """
    pixels = int(dataset.Rows) * int(dataset.Columns)
    samples = int(dataset.SamplesPerPixel)
    bits = pixels * samples * int(dataset.BitsAllocated)
    if not bits or bits % 8:
        raise ValueError("frames that begin within a byte")
    size, subsampled = bits // 8, False
    if samples == 3 and dataset.BitsAllocated == 8:
        half = 2 * pixels
        fits, fits_half = length % size < 2, length % half < 2
        exact, exact_half = ((length // each == stated) for each in (size, half))
        if dataset.PhotometricInterpretation == "YBR_FULL_422":
            whole = fits and (exact or not fits_half)
            subsampled = (fits_half and exact_half) or not whole
        else:
            subsampled = fits_half and exact_half and not fits
    if subsampled:
        size = 2 * pixels
    count, rest = divmod(length, size)
    if count > stated and rest > 1:  # PS3.5, 8.1.1: one byte makes the length even
        raise ValueError("a part of a frame behind more frames than stated")
    return PixelLayout(tuple(((start + index * size, size),) for index in range(count)), subsampled)


def _encapsulated(file: BinaryIO, syntax: str, size: int) -> tuple[Span, ...]:
    """Frames in fragments (PS3.5, A.4): what begins as a picture begins a frame.

    The table of offsets, which may be empty or of another file, is not needed.
    """
    fragments = _fragments(file, size)[1:]
    frames: list[list[tuple[int, int]]] = []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for offset, length in fragments:
            end = offset + length
            if _begins(data[offset : offset + 8], syntax):
                frames.append([])
            elif not frames:
                raise ValueError("the first fragment begins no picture")
            if syntax in JPEG | JPEG_LS:
                while cut := NEXT_JPEG.search(data, offset, end):
                    frames[-1].append((offset, cut.end() - offset))
                    frames.append([])
                    offset = cut.end()
            frames[-1].append((offset, end - offset))
    return tuple(map(tuple, frames))


def _begins(head: bytes, syntax: str) -> bool:
    """Whether a fragment with these first bytes begins a frame; RLE: PS3.5, G.5."""
    if syntax == RLE:
        segments, first = struct.unpack("<2I", head)
        return bool(1 <= segments <= 15 and first == 64)
    return head.startswith((J2K_BEGIN, JP2_BEGIN) if syntax in JPEG2000 else JPEG_BEGIN)


def _fragments(file: BinaryIO, size: int) -> list[tuple[int, int]]:
    """Offset and length of every item; the first one is the table of offsets."""
    items = []
    while len(head := file.read(8)) == 8:
        group, element, length = struct.unpack("<2HI", head)
        if (group, element) == DELIMITER:
            break
        start = file.tell()
        if (group, element) != ITEM or start + length > size:
            raise ValueError("not an item, or one that is cut off")
        items.append((start, length))
        file.seek(length, 1)
    return items


def read_span(file: BinaryIO, span: Span) -> bytes:
    """The bytes of a frame. Raises ValueError where the file has become shorter."""
    parts = []
    for offset, length in span:
        file.seek(offset)
        parts.append(file.read(length))
        if len(parts[-1]) != length:
            raise ValueError("the file is cut off")
    return b"".join(parts)


def codestream(data: bytes) -> bytes:
    """JPEG 2000 without the boxes of a JP2 file around it, which PS3.5, A.4.4 forbids.

    A box is its length, its type, and perhaps a longer length (ISO/IEC 15444-1, annex I.4).
    """
    offset = 0
    while data.startswith(JP2_BEGIN) and offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, offset + 8)
            head = 16
        end = offset + length if length else len(data)
        if kind == b"jp2c":
            return data[offset + head : end]
        if length < head and length:
            break
        offset = end
    return data


def stated_size(stream: bytes) -> tuple[int, int]:
    """Width and height that a JPEG, a JPEG-LS, or a JPEG 2000 codestream states of itself.

    The last begins with SOC and SIZ: ISO/IEC 15444-1, annex A.5.1. JPEG-LS has the segments of a
    JPEG, and states its size in SOF55: ISO/IEC 14495-1, annex C.
    """
    if stream.startswith(J2K_BEGIN):
        right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
        (channels,) = struct.unpack_from(">H", stream, 40)
        if channels not in (1, 3):
            raise ValueError(f"{channels} channels")
        return right - left, bottom - top
    for marker, offset in _segments(stream):
        if marker == SOF55:
            height, width = struct.unpack_from(">2H", stream, offset + 1)
            return width, height
    width, height = imagesize.get(BytesIO(stream))
    return width, height


def _segments(stream: bytes) -> list[tuple[int, int]]:
    """Marker and offset of the content of each segment before the coded pixels of a JPEG."""
    offset, segments = 2, []
    while (marker := struct.unpack_from(">H", stream, offset)[0]) != START_OF_SCAN:
        segments.append((marker, offset + 4))
        if marker != 0xFFFF:  # a byte that fills
            offset += 2 + struct.unpack_from(">H", stream, offset + 2)[0]
        else:
            offset += 1
    return segments


def decode_frame(dataset: "Dataset", data: bytes, subsampled: bool) -> NDArray[Any]:
    """The stored values of one frame, ``H x W`` or ``H x W x 3``; colours are not converted.

    Raises whatever pydicom and its decoders do.
    """
    from pydicom import Dataset
    from pydicom.encaps import encapsulate
    from pydicom.pixels.utils import pixel_array

    frame = Dataset()
    frame.file_meta = dataset.file_meta
    for name in PIXEL_MODULE:
        if name in dataset:
            setattr(frame, name, dataset[name].value)
    frame.NumberOfFrames = 1
    colour = int(dataset.SamplesPerPixel) == 3
    if colour:
        frame.PhotometricInterpretation = "YBR_FULL_422" if subsampled else "RGB"
    syntax = dataset.file_meta.TransferSyntaxUID
    compressed = syntax not in UNCOMPRESSED
    frame.PixelData = encapsulate([data]) if compressed else data
    frame["PixelData"].VR = "OB" if compressed or dataset.BitsAllocated == 8 else "OW"
    # The decoder of RLE is in Rust, and tells stderr when it panics.
    with quiet() if syntax == RLE else nullcontext():
        return pixel_array(frame, raw=colour, decoding_plugin=DECODER)


def is_ybr(dataset: "Dataset", data: bytes, values: NDArray[Any], subsampled: bool) -> bool:
    """Whether the three values of a pixel are brightness and two colour differences, not RGB.

    In this order: the picture itself, where it is grey in one of the two readings alone; what the
    stream says of itself; the header.
    """
    if subsampled:
        return True
    sample = values[::2, ::2].astype(np.int16)
    as_rgb = float((np.ptp(sample, axis=2) <= NEUTRAL).mean())
    as_ybr = float((np.abs(sample[..., 1:] - 128).max(axis=2) <= NEUTRAL).mean())
    if max(as_rgb, as_ybr) >= GREY_SHARE and min(as_rgb, as_ybr) <= COLOUR_SHARE:
        return as_ybr > as_rgb
    syntax = dataset.file_meta.TransferSyntaxUID
    by_stream = None
    if syntax in JPEG:
        by_stream = _jpeg_is_ybr(data)
    elif syntax in JPEG2000:
        by_stream = _j2k_is_ybr(data)
    if by_stream is not None:
        return by_stream
    kind = str(dataset.PhotometricInterpretation)
    return kind == "YBR_FULL" or (kind == "YBR_FULL_422" and syntax not in UNCOMPRESSED)


def _jpeg_is_ybr(stream: bytes) -> bool | None:
    """What a JPEG says: JFIF, Adobe's marker, the components' names, and their sampling.

    The order is that of libjpeg (jdapimin.c, default_decompress_parms). None where the stream is
    silent, as a lossless one is, and one whose components are sampled alike and only numbered.
    """
    frame: tuple[int, int] | None = None
    adobe = None
    for marker, offset in _segments(stream):
        if marker == 0xFFE0 and stream[offset : offset + 5] == b"JFIF\0":
            return True
        if marker == 0xFFEE and stream[offset : offset + 5] == b"Adobe":
            adobe = bool(stream[offset + 11])
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            frame = marker, offset
    if adobe is not None or frame is None:
        return adobe
    marker, offset = frame
    components = [stream[offset + 6 + 3 * index :][:2] for index in range(stream[offset + 5])]
    if bytes(name for name, _ in components).lower() == b"rgb":
        return False
    if marker != LOSSLESS and len({sampling for _, sampling in components}) > 1:
        return True
    return None


def _j2k_is_ybr(stream: bytes) -> bool | None:
    """False where the codestream says that its components are transformed: the decoder gives RGB.

    COD, which says it, follows SIZ in the main header (ISO/IEC 15444-1, annex A.6.1).
    """
    offset = 2
    while offset + 4 <= len(stream):
        marker, length = struct.unpack_from(">2H", stream, offset)
        if marker == 0xFF52:
            return False if stream[offset + 8] else None
        if marker == 0xFF90 or length < 2:  # a tile begins
            return None
        offset += 2 + length
    return None
