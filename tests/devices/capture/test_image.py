"""Still images: what is read, and what is refused before it is unpacked."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import BadInput
from devices.capture.image import read_image


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_colour_image_is_read_as_bgr(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.full((40, 60, 3), (10, 120, 230), np.uint8))
    pixels = read_image(path)
    assert pixels.shape == (40, 60, 3)
    assert np.abs(pixels.mean(axis=(0, 1)) - (10, 120, 230)).max() < 4


def test_a_grey_image_keeps_one_channel(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((40, 60), np.uint8))
    assert read_image(path).shape == (40, 60)


def test_an_image_is_not_turned_by_its_exif_entry(tmp_path: Path) -> None:
    """Boxes count the pixels of the stored image."""
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((40, 60, 3), np.uint8))
    content = (tmp_path / "a.jpg").read_bytes()
    tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = content[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 2) + tiff + content[2:]
    (tmp_path / "a.jpg").write_bytes(turned)
    by_default = cv2.imread(str(tmp_path / "a.jpg"))
    assert by_default is not None
    assert by_default.shape == (60, 40, 3)
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)


def test_sixteen_bits_are_refused_rather_than_shown_black(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 60), 4000, np.uint16))
    with pytest.raises(BadInput, match="uint16 pixels; window them"):
        read_image(tmp_path / "a.png")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none.png: No such file"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"a.png"):
        read_image(path)


def test_half_a_png_is_refused_without_a_word_of_libpng(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(BadInput, match="damaged"):
        read_image(path)
    assert capfd.readouterr().err == ""


def test_half_an_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    cv2.imwrite(str(path), noise)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(BadInput, match="damaged"):
        read_image(path)


def test_a_huge_image_is_refused_by_its_header_alone(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    path = tmp_path / "huge.png"
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(20_001) * 100)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(BadInput, match="20000 x 20000 pixels are too many"):
        read_image(path)
