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
"""A box of ISO/IEC 14496-12: its type, and the offsets where its content begins and ends."""
MAX_ATOMS = 1_000_000
"""Atoms of a file that are looked at."""


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
            offset = 0
            for kind in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):
                file.seek(offset)
                if file.read(4) != kind:
                    return None
                first = file.read(1)[0]
                width = 9 - first.bit_length()
                rest = file.read(width - 1)
                size = int.from_bytes(bytes([first & (1 << 8 - width) - 1]) + rest, "big")
                if len(rest) < width - 1 or size == (1 << 7 * width) - 1:
                    return None
                offset = file.tell() + size
            return offset
    except (OSError, IndexError, ValueError):
        return None


def _atoms(file: BinaryIO, start: int, end: int) -> Iterator[Atom]:
    """The atoms between two offsets, one after the other."""
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


def _inside(file: BinaryIO, atom: Atom | None, *kinds: bytes) -> Atom | None:
    """The first atom at the path `kinds` below another; None where there is none."""
    for kind in kinds:
        if atom is None:
            return None
        atom = next((inner for inner in _atoms(file, *atom[1:]) if inner[0] == kind), None)
    return atom


def _mp4(file: BinaryIO, size: int) -> int | None:
    """Samples of the first video track: in its table, and in the fragments that follow."""
    track, count = None, 0
    for atom in _atoms(file, 0, size):
        if atom[0] == b"moov" and track is None:
            track, count = _first_video_track(file, atom)
        elif atom[0] == b"moof":
            fragments = (traf for traf in _atoms(file, *atom[1:]) if traf[0] == b"traf")
            count += sum(_fragment(file, traf, track) for traf in fragments)
    return count or None


def _first_video_track(file: BinaryIO, moov: Atom) -> tuple[int | None, int]:
    """The number of the first video track, and the samples in its table; None and 0 without."""
    for trak in _atoms(file, *moov[1:]):
        if trak[0] == b"trak" and _handler(file, trak) == b"vide":
            return _track_id(file, trak), _table_samples(file, trak)
    return None, 0


def _table_samples(file: BinaryIO, trak: Atom) -> int:
    """The samples in the table of a track; 0 without a table."""
    table = _inside(file, trak, b"mdia", b"minf", b"stbl", b"stsz")
    if table is None:
        return 0
    file.seek(table[1] + 8)
    return int(struct.unpack(">I", file.read(4))[0])


def _handler(file: BinaryIO, trak: Atom) -> bytes:
    """The kind of a track, as `vide`; empty where it does not say."""
    atom = _inside(file, trak, b"mdia", b"hdlr")
    if atom is None:
        return b""
    file.seek(atom[1] + 8)
    return file.read(4)


def _track_id(file: BinaryIO, trak: Atom) -> int | None:
    atom = _inside(file, trak, b"tkhd")
    if atom is None:
        return None
    file.seek(atom[1])
    version = file.read(4)[0]
    file.seek(atom[1] + (20 if version == 1 else 12))
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
    for atom in _atoms(file, *traf[1:]):
        if atom[0] == b"trun":
            file.seek(atom[1] + 4)
            count += struct.unpack(">I", file.read(4))[0]
    return count


def _avi(file: BinaryIO, size: int) -> int | None:
    """Frames of the first video stream (dwLength) without the empty chunks that repeat one."""
    offset, streams, number, count = 12, 0, -1, 0
    while offset + 8 <= size:
        file.seek(offset)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"LIST" and file.read(4) != b"movi":
            offset += 12
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
        offset += 8 + length + length % 2
    return count or None
