"""Puts the frames of a Matroska video into an MP4, as they are coded.

An MP4 that is broken off cannot be played: its table of frames comes last. So a video is written as
Matroska, which plays as far as it goes, and becomes an MP4 when it is whole. The layout is that of
ISO/IEC 14496-12, with the entry for MPEG-4 video of 14496-14 and its descriptors of 14496-1.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SCALE = 1000
"""Ticks of a frame."""
FRAMES_A_CHUNK = 32
"""Frames that are listed together."""
MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
"""Of a picture that is shown as it is."""
MPEG4_VISUAL, VISUAL_STREAM = 0x20, 0x11


def remux(source: Path, target: Path, fps: float, size: tuple[int, int]) -> int:
    """Writes the MPEG-4 video `source`, of this rate and width and height, to `target` as MP4.

    Returns how many frames there are. Raises OSError where it cannot be written.
    """
    capture = cv2.VideoCapture(str(source.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    try:
        _, header = capture.retrieve(flag=int(capture.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX)))
        config = b"" if header is None else np.asarray(header, np.uint8).tobytes()
        sizes: list[int] = []
        keys: list[int] = []
        offsets: list[int] = []
        with target.open("wb") as file:
            file.write(_box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2mp41"))
            start = file.tell()
            file.write(struct.pack(">I4sQ", 1, b"mdat", 0))
            while (read := capture.read())[0]:
                packet = np.asarray(read[1], np.uint8).tobytes()
                if len(sizes) % FRAMES_A_CHUNK == 0:
                    offsets.append(file.tell())
                sizes.append(len(packet))
                if capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME):
                    keys.append(len(sizes))
                file.write(packet)
            end = file.tell()
            file.write(_movie(fps, size, config, sizes, keys, offsets))
            file.seek(start + 8)
            file.write(struct.pack(">Q", end - start))
    finally:
        capture.release()
    return len(sizes)


def _movie(
    fps: float,
    size: tuple[int, int],
    config: bytes,
    sizes: Sequence[int],
    keys: Sequence[int],
    offsets: Sequence[int],
) -> bytes:
    """The box that tells where each frame lies; frames count from 1."""
    rate, count = round(SCALE * fps), len(sizes)
    duration = SCALE * count
    width, height = size
    full, rest = divmod(count, FRAMES_A_CHUNK)
    runs = [(1, FRAMES_A_CHUNK)] * bool(full) + [(full + 1, rest)] * bool(rest)
    entry = _box(
        b"mp4v",
        struct.pack(">6xH16x2H2I4xH32x2H", 1, width, height, 72 << 16, 72 << 16, 1, 24, 0xFFFF),
        _full(b"esds", _elementary_stream(config)),
    )
    table = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), entry),
        _full(b"stts", struct.pack(">3I", 1, count, SCALE)),
        _full(b"stss", _numbers(keys)),
        _full(
            b"stsc", struct.pack(">I", len(runs)), *(struct.pack(">3I", *run, 1) for run in runs)
        ),
        _full(b"stsz", struct.pack(">I", 0), _numbers(sizes)),
        _full(b"co64", struct.pack(f">I{len(offsets)}Q", len(offsets), *offsets)),
    )
    media = _box(
        b"minf",
        _full(b"vmhd", bytes(8), flags=1),
        _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1))),
        table,
    )
    track = _box(
        b"trak",
        _full(
            b"tkhd",
            struct.pack(">2QI4xQ16x", 0, 0, 1, duration) + MATRIX,
            struct.pack(">2I", width << 16, height << 16),
            version=1,
            flags=3,
        ),
        _box(
            b"mdia",
            _full(b"mdhd", struct.pack(">2QIQ2H", 0, 0, rate, duration, 0x55C4, 0), version=1),
            _full(b"hdlr", struct.pack(">4x4s12x", b"vide"), b"VideoHandler\0"),
            media,
        ),
    )
    head = struct.pack(">2QIQIH10x", 0, 0, rate, duration, 1 << 16, 1 << 8)
    head = _full(b"mvhd", head, MATRIX, bytes(24), struct.pack(">I", 2), version=1)
    return _box(b"moov", head, track)


def _elementary_stream(config: bytes) -> bytes:
    """How the stream is to be decoded (14496-1, 7.2.6); `config` begins the stream itself."""
    decoder = struct.pack(">2B3x8x", MPEG4_VISUAL, VISUAL_STREAM) + _descriptor(5, config)
    return _descriptor(
        3, struct.pack(">HB", 1, 0) + _descriptor(4, decoder) + _descriptor(6, b"\2")
    )


def _descriptor(tag: int, content: bytes) -> bytes:
    size = len(content)
    parts = [size >> shift & 0x7F | 0x80 for shift in (21, 14, 7)]
    return bytes([tag, *parts, size & 0x7F]) + content


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _numbers(numbers: Sequence[int]) -> bytes:
    return struct.pack(f">I{len(numbers)}I", len(numbers), *numbers)
