"""Still images: what is read, and what is refused before it is unpacked."""

import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from devices import BadInput, Pixels
from devices.capture.image import open_pages, read_image, shown_size


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


BLOCKS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8).repeat(10, 0)
BLOCKS = BLOCKS.repeat(10, 1)
TURNED = {  # as EXIF 2.3, 4.6.4 tells where the stored first row and column are shown
    1: BLOCKS,
    2: np.fliplr(BLOCKS),
    3: np.rot90(BLOCKS, 2),
    4: np.flipud(BLOCKS),
    5: np.transpose(BLOCKS, (1, 0, 2)),
    6: np.rot90(BLOCKS, -1),
    7: np.rot90(np.transpose(BLOCKS, (1, 0, 2)), 2),
    8: np.rot90(BLOCKS, 1),
}


def save(path: Path, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    tiff = {"tiffinfo": {0x112: orientation}} if path.suffix == ".tif" else {"exif": exif}
    options: dict[str, dict[str, Any]] = {
        ".jpg": {"quality": 98} | ({"subsampling": 0} if mode == "RGB" else {}),
        ".webp": {"lossless": True},
    }
    image = Image.fromarray(BLOCKS).convert(mode)
    image.save(path, **options.get(path.suffix, {}), **tiff)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_every_format_is_turned_as_it_is_shown(
    tmp_path: Path, suffix: str, mode: str, orientation: int
) -> None:
    path = tmp_path / f"a{suffix}"
    save(path, mode, orientation)
    shown = np.asarray(Image.fromarray(np.ascontiguousarray(TURNED[orientation])).convert(mode))
    pixels = read_image(path)
    pixels = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    if pixels.ndim != shown.ndim:  # WebP knows no grey
        pixels = pixels[..., 0]
    assert pixels.shape == shown.shape
    assert np.abs(pixels.astype(int) - shown).mean() < 6


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_exif_entry_never_ends_in_a_traceback(
    tmp_path: Path, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from([".jpg", ".png", ".webp", ".tif"]))
    path = tmp_path / f"a{suffix}"
    save(path, "L", 6)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, min(300, len(content) - 1)), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(BadInput):
        read_image(path)


def write_stack(path: Path, pages: int) -> list[Pixels]:
    shown = [np.roll(BLOCKS, 10 * index, axis=1) for index in range(pages)]
    images = list(map(Image.fromarray, shown))
    lossless: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    images[0].save(path, save_all=True, append_images=images[1:], **lossless)
    return shown


STACKS = [".tif", ".gif", ".webp", ".png"]


@pytest.mark.parametrize("suffix", STACKS)
@pytest.mark.parametrize("pages", [1, 2, 5])
def test_every_picture_of_a_file_is_read(tmp_path: Path, suffix: str, pages: int) -> None:
    path = tmp_path / f"a{suffix}"
    shown = write_stack(path, pages)
    read = list(open_pages(path)[1])
    assert len(read) == pages
    for pixels, page in zip(read, shown, strict=True):
        assert np.abs(pixels[..., ::-1].astype(int) - page).mean() < 1


@pytest.mark.parametrize("suffix", STACKS)
def test_where_one_picture_is_wanted_several_are_refused(tmp_path: Path, suffix: str) -> None:
    write_stack(tmp_path / f"a{suffix}", 3)
    with pytest.raises(BadInput, match=rf"a{suffix}: holds 3 pictures; save each"):
        read_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", STACKS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_stack_that_is_cut_off_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    write_stack(path, 4)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BadInput, match=r"damaged|not an image"):
        list(open_pages(path)[1])


def test_the_thumbnail_in_a_tiff_is_no_page(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    small = Image.fromarray(BLOCKS[::2, ::2].copy())
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(BLOCKS).save(path, save_all=True, append_images=[small])
    assert np.array_equal(read_image(path)[..., ::-1], BLOCKS)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@given(orientation=st.integers(0, 9), width=st.integers(32, 50), height=st.integers(32, 50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_the_size_in_the_headers_is_that_of_the_picture_as_it_is_shown(
    tmp_path: Path, suffix: str, orientation: int, width: int, height: int
) -> None:
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.new("RGB", (width, height))
    if suffix == ".tif":
        picture.save(path, tiffinfo=exif)
    else:
        picture.save(path, exif=exif)
    assert shown_size(path) == read_image(path).shape[1::-1]


def test_the_size_of_what_is_no_single_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    page = Image.new("L", (40, 40))
    page.save(path, save_all=True, append_images=[page])
    with pytest.raises(BadInput, match="holds 2 pictures"):
        shown_size(path)
    path.write_bytes(b"II*\0")
    with pytest.raises(BadInput, match="not an image"):
        shown_size(path)
