"""How many frames a video's container promises, frame by frame.

A duration is no promise: the last picture may last, the sound may be longer, and a rate may vary.
A table that names every frame is one, as MP4 has it (ISO/IEC 14496-12) and the stream's header of
an AVI (Microsoft, AVI RIFF File Reference). Matroska and MPEG streams have neither. A Matroska file
that is not streamed promises bytes: the size of the segment (RFC 9559, 5.1).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

Atom = tuple[bytes, int, int]
"""Type, and where the content begins and ends."""
MAX_ATOMS = 1_000_000
"""Boxes of a file that are looked at."""


def promised_frames(path: Path) -> int | None:
    """The frames that the container names one by one; None where it does not, or makes no sense."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
            size = path.stat().st_size
            if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
                return _avi(file, size)
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return _mp4(file, size)
    except (OSError, struct.error):
        pass
    return None


def promised_bytes(path: Path) -> int | None:
    """The bytes that a Matroska file says that it has; None for another file, or a streamed one."""
    try:
        with path.open("rb") as file:
            place = 0
            for kind in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):
                file.seek(place)
                if file.read(4) != kind:
                    return None
                first = file.read(1)[0]
                width = 9 - first.bit_length()
                rest = file.read(width - 1)
                size = int.from_bytes(bytes([first & (1 << 8 - width) - 1]) + rest, "big")
                if len(rest) < width - 1 or size == (1 << 7 * width) - 1:
                    return None
                place = file.tell() + size
            return place
    except (OSError, IndexError, ValueError):
        return None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[Atom]:
    for _ in range(MAX_ATOMS):
        file.seek(start)
        if start + 8 > end:
            return
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            head = 16
        stop = start + length if length else end
        if stop < start + head:
            return
        yield kind, start + head, min(stop, end)
        start = stop


def _inside(file: BinaryIO, box: Atom | None, *kinds: bytes) -> Atom | None:
    """The first box along the way of `kinds`."""
    for kind in kinds:
        if box is None:
            return None
        box = next((inner for inner in _boxes(file, *box[1:]) if inner[0] == kind), None)
    return box


def _mp4(file: BinaryIO, size: int) -> int | None:
    """Samples of the first video track: in its table, and in the fragments that follow."""
    track, count = None, 0
    for box in _boxes(file, 0, size):
        if box[0] == b"moov" and track is None:
            for trak in _boxes(file, *box[1:]):
                if trak[0] == b"trak" and track is None and _handler(file, trak) == b"vide":
                    track = _track_id(file, trak)
                    table = _inside(file, trak, b"mdia", b"minf", b"stbl", b"stsz")
                    if table is not None:
                        file.seek(table[1] + 8)
                        (count,) = struct.unpack(">I", file.read(4))
        elif box[0] == b"moof":
            for traf in _boxes(file, *box[1:]):
                if traf[0] == b"traf":
                    count += _fragment(file, traf, track)
    return count or None


def _handler(file: BinaryIO, trak: Atom) -> bytes:
    box = _inside(file, trak, b"mdia", b"hdlr")
    if box is None:
        return b""
    file.seek(box[1] + 8)
    return file.read(4)


def _track_id(file: BinaryIO, trak: Atom) -> int | None:
    box = _inside(file, trak, b"tkhd")
    if box is None:
        return None
    file.seek(box[1])
    version = file.read(4)[0]
    file.seek(box[1] + (20 if version == 1 else 12))
    return int(struct.unpack(">I", file.read(4))[0])


def _fragment(file: BinaryIO, traf: Atom, track: int | None) -> int:
    """The samples of one track in one fragment; 0 for another track."""
    head = _inside(file, traf, b"tfhd")
    if head is None:
        return 0
    file.seek(head[1] + 4)
    if struct.unpack(">I", file.read(4)) != (track,):
        return 0
    count = 0
    for box in _boxes(file, *traf[1:]):
        if box[0] == b"trun":
            file.seek(box[1] + 4)
            count += struct.unpack(">I", file.read(4))[0]
    return count


def _avi(file: BinaryIO, size: int) -> int | None:
    """Frames of the first video stream (dwLength) without the empty chunks that repeat one."""
    place, streams, number, count = 12, 0, -1, 0
    while place + 8 <= size:
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"LIST" and file.read(4) != b"movi":
            place += 12
            continue
        if kind == b"strh":
            content = file.read(36)
            if content[:4] == b"vids" and number < 0:
                number, count = streams, struct.unpack_from("<I", content, 32)[0]
            streams += 1
        if kind == b"idx1":
            name = b"%02d" % number
            entries = struct.iter_unpack("<4s8xI", file.read(length - length % 16))
            count -= sum(not bytes_ for chunk, bytes_ in entries if chunk[:2] == name)
            break
        place += 8 + length + length % 2
    return count or None
