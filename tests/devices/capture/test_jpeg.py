"""JPEG pictures: the whole ones as OpenCV decodes them, of the others none."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices.capture.jpeg import decode_jpeg
from devices.capture.phantom import Phantom

SCREEN = Phantom().render(0)
PICTURE = bytes(cv2.imencode(".jpg", SCREEN)[1])
HEADERS = 700
"""Bytes before the pixels, and more."""
PACKET = 512
"""The least that a USB packet of a camera holds."""


def as_array(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def without_huffman_tables(data: bytes) -> bytes:
    kept, place = data[:2], 2
    while data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        kept += data[place:end] if data[place + 1] != 0xC4 else b""
        place = end
    return kept + data[place:]


@pytest.mark.parametrize("screen", [SCREEN, SCREEN[..., 0]])
def test_a_picture_is_as_opencv_decodes_it(screen: NDArray[np.uint8]) -> None:
    data = cv2.imencode(".jpg", screen)[1]
    pixels = decode_jpeg(as_array(bytes(data)))
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(cv2.imdecode(data, cv2.IMREAD_ANYCOLOR)))


def test_a_camera_may_leave_the_huffman_tables_out() -> None:
    short = without_huffman_tables(PICTURE)
    assert len(short) < len(PICTURE)
    pixels = decode_jpeg(as_array(short))
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(cv2.imdecode(as_array(PICTURE), cv2.IMREAD_COLOR)))


def test_a_camera_may_fill_its_buffer_up() -> None:
    assert decode_jpeg(as_array(PICTURE + bytes(5000))) is not None


@pytest.mark.parametrize("marker", [b"\xff\xdb", b"\xff\xc0", b"\xff\xd3", b"\xff\xd9"])
@pytest.mark.parametrize(("stray", "shown"), [(1, True), (50, False)])
def test_a_stray_byte_before_a_marker_does_no_harm(marker: bytes, stray: int, shown: bool) -> None:
    by_rows = [cv2.IMWRITE_JPEG_RST_INTERVAL, SCREEN.shape[1] // 16]
    before, after = bytes(cv2.imencode(".jpg", SCREEN, by_rows)[1]).split(marker, 1)
    pixels = decode_jpeg(as_array(before + bytes(stray) + marker + after))
    assert (pixels is not None) == shown


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize(("size", "most"), [(PACKET, 20), (4 * PACKET, 30), (8 * PACKET, 10)])
def test_of_pictures_that_lack_packets_nearly_all_are_none(
    size: int, most: int, filled: bool
) -> None:
    hole = bytes(size) if filled else b""
    starts = np.random.default_rng(0).integers(HEADERS, len(PICTURE) - 2 * size, 200)
    holed = [PICTURE[:start] + hole + PICTURE[start + size :] for start in starts]
    assert sum(decode_jpeg(as_array(data)) is not None for data in holed) <= most


@given(st.integers(0, len(PICTURE) - 1))
def test_a_picture_cut_short_is_none(size: int) -> None:
    assert decode_jpeg(as_array(PICTURE[:size])) is None


@pytest.mark.parametrize(("room", "shown"), [(0, True), (-1, False)])
def test_a_picture_of_too_many_pixels_is_none(
    monkeypatch: pytest.MonkeyPatch, room: int, shown: bool
) -> None:
    monkeypatch.setattr("devices.capture.jpeg.MAX_PIXELS", SCREEN[..., 0].size + room)
    assert (decode_jpeg(as_array(PICTURE)) is not None) == shown


def test_of_a_damaged_picture_nothing_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    middle = len(PICTURE) // 2
    decode_jpeg(as_array(PICTURE[:middle]))
    decode_jpeg(as_array(PICTURE[:middle] + bytes(PACKET) + PICTURE[middle + PACKET :]))
    assert capfd.readouterr() == ("", "")


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, HEADERS))
def test_whatever_a_header_says_is_a_picture_or_none(junk: bytes, place: int) -> None:
    damaged = PICTURE[:place] + junk + PICTURE[place + len(junk) :]
    pixels = decode_jpeg(as_array(damaged))
    assert pixels is None or pixels.dtype == np.uint8
