"""Records on disk: pixels without loss, and an index that is read up to its first wrong line."""

import json
import time
import zlib
from collections.abc import Callable
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from devices import Box, Pixels
from devices.capture.phantom import Phantom
from devices.capture.record_format import (
    MAX_ENTRY_BYTES,
    MAX_TEXT,
    BrokenLine,
    RecordedAbsence,
    RecordedEnd,
    RecordedFrame,
    RecordedMark,
    RecordedResult,
    RecordEntry,
    pack_pixels,
    plain_text,
    read_entries,
    unpack_pixels,
    write_entry,
)

SIDES = st.integers(1, 12)
SHAPES = st.one_of(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES, st.just(3)))
FRAME = RecordedFrame(
    index=7,
    captured_at=12.345678901234567,
    timestamp=0.1,
    name="a.png",
    height=2,
    width=3,
    channels=3,
    offset=0,
    size=20,
)
ENTRIES: list[RecordEntry] = [
    FRAME,
    RecordedMark(roi=Box(1, 2, 30, 40), follow=True),
    RecordedResult(index=7, late=True),
    RecordedAbsence(state="LOST", reason="the capture device has gone"),
    RecordedEnd(),
]
INDEX = b"".join(map(write_entry, ENTRIES))


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_pixels_come_back_as_they_were(pixels: np.ndarray) -> None:
    assert np.array_equal(unpack_pixels(pack_pixels(pixels), pixels.shape), pixels)


def test_a_part_of_a_larger_picture_comes_back_too() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    part = whole[3:30, 5:50]
    assert np.array_equal(unpack_pixels(pack_pixels(part), part.shape), part)


@given(st.binary(max_size=200), SHAPES)
def test_bytes_that_are_no_pixels_are_refused(packed: bytes, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"damaged pixels"):
        unpack_pixels(packed, shape)


@pytest.mark.parametrize("shape", [(39, 60), (41, 60), (40, 61), (40, 60, 3), (1, 1)])
def test_pixels_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    packed = pack_pixels(np.zeros((40, 60), np.uint8))
    with pytest.raises(ValueError, match="another size"):
        unpack_pixels(packed, shape)


def test_pixels_that_would_unpack_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="another size"):
        unpack_pixels(zlib.compress(bytes(100_000_000)), (10, 10))


def test_a_picture_that_no_scanner_gives_is_refused() -> None:
    with pytest.raises(ValueError, match="more than"):
        unpack_pixels(b"", (65_536, 65_536, 3))


def read(content: bytes) -> list[RecordEntry | BrokenLine]:
    return list(read_entries(content.splitlines(keepends=True)))


def test_entries_come_back_as_they_were() -> None:
    assert read(INDEX) == ENTRIES


@given(st.integers(0, len(INDEX) - 1))
def test_an_index_that_was_cut_off_gives_all_whole_lines(length: int) -> None:
    whole = INDEX[:length].count(b"\n")
    entries = read(INDEX[:length])
    assert entries[:whole] == ENTRIES[:whole]
    assert all(isinstance(entry, BrokenLine) for entry in entries[whole:])
    assert len(entries) <= whole + 1


@given(st.integers(0, len(INDEX) - 1), st.integers(0, 255))
def test_a_wrong_byte_never_changes_an_earlier_line(place: int, value: int) -> None:
    damaged = INDEX[:place] + bytes([value]) + INDEX[place + 1 :]
    before = INDEX[:place].count(b"\n")
    assert read(damaged)[:before] == ENTRIES[:before]


@given(st.lists(st.binary(max_size=80)))
def test_any_bytes_are_read_up_to_the_first_that_are_no_entry(lines: list[bytes]) -> None:
    entries = list(read_entries(lines))
    assert not any(isinstance(entry, BrokenLine) for entry in entries[:-1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(FRAME.__struct_fields__), JSON)
def test_any_value_in_a_frame_is_taken_or_refused_in_one_line(name: str, value: object) -> None:
    fields = {field: getattr(FRAME, field) for field in FRAME.__struct_fields__}
    line = json.dumps({"kind": "frame", **fields, name: value}).encode() + b"\n"
    (entry,) = read_entries([line])
    if isinstance(entry, BrokenLine):
        assert entry.number == 1
        assert "\n" not in entry.problem
    else:
        assert isinstance(entry, RecordedFrame)
        assert 1 <= entry.width <= 65_536
        assert abs(entry.captured_at) <= 1e12


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"kind":"result","index":-1}\n', "$.index"),
        (b'{"kind":"result","index":' + b"9" * 400 + b"}\n", "$.index"),
        (b'{"kind":"result","index":1,"path":"/etc/passwd"}\n', "path"),
        (b'{"kind":"other"}\n', "other"),
        (b'{"kind":"result"}\n', "index"),
        (b"[" * 5000 + b"\n", ""),
        (b'{"kind":"end"}', "cut off"),
        (b"x" * MAX_ENTRY_BYTES, "too long"),
    ],
)
def test_what_is_no_entry_is_named(line: bytes, problem: str) -> None:
    (entry,) = read_entries([line])
    assert isinstance(entry, BrokenLine)
    assert problem in entry.problem


def test_a_name_of_any_bytes_can_be_written() -> None:
    name = plain_text(b"\xff\xfe.png".decode(errors="surrogateescape") * 500)
    assert len(name) <= MAX_TEXT
    assert read(write_entry(RecordedAbsence(state="LOST", reason=name)))


def as_png(pixels: Pixels, level: int, strategy: int) -> bytes:
    options = [cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_STRATEGY, strategy]
    return cv2.imencode(".png", pixels, options)[1].tobytes()


def as_ffv1(pixels: Pixels) -> bytes:
    coder = av.CodecContext.create("ffv1", "w")
    assert isinstance(coder, av.VideoCodecContext)
    coder.height, coder.width = pixels.shape[:2]
    coder.pix_fmt, coder.time_base, coder.thread_count = "bgr0", Fraction(1, 30), 1
    packets = [*coder.encode(av.VideoFrame.from_ndarray(pixels, "bgr24")), *coder.encode(None)]
    return b"".join(map(bytes, packets))


FORMATS: dict[str, Callable[[Pixels], bytes]] = {
    "differences of planes, zlib level 1, runs (chosen)": pack_pixels,
    "pixels, zlib level 1": lambda pixels: zlib.compress(pixels.tobytes(), 1),
    "PNG, level 1, runs": lambda pixels: as_png(pixels, 1, cv2.IMWRITE_PNG_STRATEGY_RLE),
    "PNG, level 1": lambda pixels: as_png(pixels, 1, cv2.IMWRITE_PNG_STRATEGY_DEFAULT),
    "TIFF, LZW": lambda pixels: cv2.imencode(".tiff", pixels)[1].tobytes(),
    "FFV1 by PyAV, one thread": as_ffv1,
    "pixels as they are": lambda pixels: pixels.tobytes(),
}


@pytest.mark.slow
def test_the_format_is_the_fastest_that_makes_frames_smaller() -> None:
    """Prints the table of docs/record.md: a 720p screen of the phantom with marks in colour."""
    phantom = Phantom(width=1280, height=720, live=False)
    screens = [phantom.render(index) for index in range(0, 60, 2)]
    for screen in screens:
        screen[20:60, 20:200] = (30, 200, 240)
    megabytes = sum(screen.nbytes for screen in screens) / 1e6
    speed, size = {}, {}
    for name, pack in FORMATS.items():
        pack(screens[0])
        seconds, total = [], 0
        for screen in screens:
            began = time.thread_time()
            total += len(pack(screen))
            seconds.append(time.thread_time() - began)
        speed[name] = screens[0].nbytes / 1e6 / sorted(seconds)[len(seconds) // 2]
        size[name] = total / 1e6 / len(screens)
        ratio = megabytes / (total / 1e6)
        print(f"| {name} | {speed[name]:.0f} | {size[name]:.2f} | {ratio:.1f} |")
    chosen, *others, _ = FORMATS
    assert all(speed[chosen] > speed[other] for other in others)
    assert all(size[chosen] < size[other] for other in others if "PNG" in other)
