"""The record of a session on disk: a folder with the frames, and what became of each of them.

    sonolite-record.json   the manifest: what was recorded, and how it was judged
    index.jsonl            one line for each frame, result, loss and gap, in order; only appended to
    frames.bin             the pixels of the frames, one after the other, compressed without loss

The line of a frame is written after its pixels, so that a record that was cut off can be read up to
the last whole frame. No line names a file.
"""

import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import msgspec
import numpy as np
from msgspec import Meta, Struct

from devices.capture.kinds import RECORD_MANIFEST
from devices.capture.size import MAX_PIXELS
from devices.errors import BadInput
from devices.frame import MAX_RATE, Box, Pixels
from devices.regular_file import read_regular
from devices.schema_io import read_json

RECORD_INDEX, RECORD_FRAMES = "index.jsonl", "frames.bin"
RECORD_SCHEMA = 1
MAX_ENTRY_BYTES = 65_536
"""Bytes of a line of the index."""
MAX_TEXT = 1000
"""Letters of a reason or a name."""

_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Side = Annotated[int, Meta(ge=1, le=65_536)]
_Text = Annotated[str, Meta(max_length=MAX_TEXT)]
_Moment = Annotated[float, Meta(ge=-1e12, le=1e12)]


@dataclass(frozen=True, slots=True)
class RecordManifest:
    """What was recorded, and how it was judged."""

    schema: Literal[1]
    program: Annotated[str, Meta(max_length=100)]
    """The version of sonolite that wrote the record."""
    started_utc: Annotated[str, Meta(max_length=100)]
    source: Annotated[str, Meta(max_length=4096)]
    """The name of the source without secrets."""
    live: bool
    fps: Annotated[float, Meta(gt=0, le=MAX_RATE)]
    region: Box | None = None
    """Where the ultrasound picture lies on the screen, if the source told it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How the session judged the frames; the session reads it."""


class _Entry(Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """One line of the index."""


class RecordedFrame(_Entry, frozen=True, kw_only=True, tag="frame"):
    """A frame that the session prepared, whether or not it was judged later."""

    index: _Count
    captured_at: _Moment
    timestamp: _Moment | None
    name: _Text | None = None
    height: _Side
    width: _Side
    channels: Literal[1, 3]
    offset: _Count
    """Where the compressed pixels begin in the file of the frames."""
    size: _Count
    """Bytes of the compressed pixels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the pixels."""
        return (self.height, self.width) + ((3,) if self.channels == 3 else ())


class RecordedMark(_Entry, frozen=True, kw_only=True, tag="mark"):
    """From the next frame on another region of interest was examined."""

    roi: Box | None
    """In pixels; None where the region was cleared."""
    follow: bool = False
    """Whether the box follows its nodule."""


class RecordedResult(_Entry, frozen=True, kw_only=True, tag="result"):
    """A result was made of the frame with this index."""

    index: _Count
    late: bool = False
    """Whether the result was older than the budget of the live session."""
    failed: bool = False
    """Whether inference failed."""


class RecordedAbsence(_Entry, frozen=True, kw_only=True, tag="absence"):
    """The state of the session changed although no frame came."""

    state: _Text
    reason: _Text


class RecordedLoss(_Entry, frozen=True, kw_only=True, tag="loss"):
    """The device had gone; the next frame is of the device that was opened again."""


class RecordedBackend(_Entry, frozen=True, kw_only=True, tag="backend"):
    """From now on this backend computed."""

    backend: _Text


class RecordedGap(_Entry, frozen=True, kw_only=True, tag="gap"):
    """Frames or results that could not be kept."""

    frames: _Count


class RecordedEnd(_Entry, frozen=True, kw_only=True, tag="end"):
    """The last line of a record that was not cut off."""

    reason: _Text | None = None
    """Why the record ended before the session; None where both ended together."""


RecordEntry = (
    RecordedFrame
    | RecordedMark
    | RecordedResult
    | RecordedAbsence
    | RecordedLoss
    | RecordedBackend
    | RecordedGap
    | RecordedEnd
)
_decode = msgspec.json.Decoder(RecordEntry).decode


class BrokenLine(NamedTuple):
    """The first line of an index that cannot be read; nothing is read after it."""

    number: int
    """Counts from 1."""
    problem: str


@dataclass(frozen=True, slots=True)
class _Schema:
    schema: Annotated[int, Meta(ge=1, le=2**31)]


def read_record_manifest(folder: Path) -> RecordManifest:
    """The manifest of a record. Raises BadInput, naming the first wrong entry."""
    path = folder / RECORD_MANIFEST
    try:
        content = read_regular(path)
    except FileNotFoundError as error:
        raise BadInput(f"{folder}: not the record of a session: no {path.name}") from error
    schema = read_json(content, _Schema, str(path), whole=False).schema
    if schema > RECORD_SCHEMA:
        raise BadInput(f"{path}: schema {schema} is of a newer sonolite; this one reads 1")
    return read_json(content, RecordManifest, str(path))


def open_member(folder: Path, name: str) -> int:
    """The descriptor of a file of a record, for reading.

    Raises BadInput where it is missing or is no regular file, as a link or a pipe is not.
    """
    path = folder / name
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        reason = "a link, and no regular file" if path.is_symlink() else error.strerror
        raise BadInput(f"{path}: {reason}") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise BadInput(f"{path}: not a regular file")
    return number


def write_entry(entry: RecordEntry) -> bytes:
    """One line of the index."""
    return msgspec.json.encode(entry) + b"\n"


def plain_text(text: str) -> str:
    """A text as a line may hold it: short, and in UTF-8 whatever bytes a name had."""
    return text.encode(errors="backslashreplace").decode()[:MAX_TEXT]


def read_entries(lines: Iterable[bytes]) -> Iterator[RecordEntry | BrokenLine]:
    """The entries of an index up to the first line that is broken or is not ended."""
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            too_long = len(line) >= MAX_ENTRY_BYTES
            yield BrokenLine(number, "too long" if too_long else "cut off")
            return
        try:
            yield _decode(line)
        except (ValueError, RecursionError) as error:
            yield BrokenLine(number, " ".join(str(error).split()))
            return


def pack_pixels(pixels: Pixels) -> bytes:
    """Compresses uint8 ``H x W`` or ``H x W x 3`` without loss.

    The planes are green, blue minus green and red minus green: most of a screen is grey, so that
    two of the planes are nearly 0. Of each row the differences between neighbours are kept.
    """
    coder = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    if pixels.ndim == 2:
        planes = [pixels]
    else:
        blue, green, red = (np.asarray(plane, np.uint8) for plane in cv2.split(pixels))
        planes = [green, blue - green, red - green]
    parts = []
    for plane in planes:
        differences = plane.copy()
        np.subtract(plane[:, 1:], plane[:, :-1], out=differences[:, 1:])
        parts.append(coder.compress(differences.data))
    return b"".join((*parts, coder.flush()))


def unpack_pixels(packed: bytes, shape: tuple[int, ...]) -> Pixels:
    """The pixels that `pack_pixels` compressed. Raises ValueError where they are of another shape.

    No more memory is taken than the pixels need, whatever `packed` holds.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size > 3 * MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels")
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError("damaged pixels") from error
    if len(content) != size or not decoder.eof or decoder.unused_data:
        raise ValueError("damaged pixels, or pixels of another size")
    height, width = shape[:2]
    differences = np.frombuffer(content, np.uint8).reshape(-1, height, width)
    planes = np.cumsum(differences, axis=2, dtype=np.uint8)
    if len(shape) == 2:
        return np.asarray(planes[0], np.uint8)
    green, blue, red = planes
    return np.asarray(cv2.merge([blue + green, green, red + green]), np.uint8)
