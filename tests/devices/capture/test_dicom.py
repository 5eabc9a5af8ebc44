"""DICOM files: real ones of ultrasound scanners, made ones for each rule, and damaged ones."""

import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import examples, uid
from pydicom.encaps import get_frame
from pydicom.filereader import dcmread

from devices import BadInput, Box, EndOfRecording
from devices.capture import open_device
from devices.capture.dicom import Dicom, is_dicom, read_frame, read_header
from tests.devices.capture.dicom_files import (
    GREY,
    PATIENT,
    published,
    region,
    write_dicom,
    write_jpegs,
)

CLIP = published("color3d_jpeg_baseline.dcm")


def refused(path: Path, said: str) -> None:
    """Asserts one line that names the file and the fault, and not the patient."""
    with pytest.raises(BadInput) as refusal:
        read_frame(path)
    line = str(refusal.value)
    assert line.startswith(str(path))
    assert said in line
    assert "\n" not in line
    assert PATIENT not in line


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    large, syntax = np.zeros((4000, 8000), np.uint8), uid.DeflatedExplicitVRLittleEndian
    path = write_dicom(tmp_path / "a.dcm", large, TransferSyntaxUID=syntax)
    assert path.stat().st_size < large.size / 100
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="no decoder for Deflated Explicit"):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < large.size / 2
    finally:
        tracemalloc.stop()


def test_a_clip_tells_its_frames_their_times_and_its_region() -> None:
    header = read_header(CLIP)
    assert header.frames == 120
    assert header.frame_rate == pytest.approx(30, abs=0.01)
    assert header.times[:2] == pytest.approx((0, 0.033333))
    assert header.region == Box(84, 31, 512, 384)


@pytest.mark.parametrize("index", [0, 119])
def test_a_jpeg_clip_is_read_frame_by_frame(index: int) -> None:
    stream = get_frame(dcmread(CLIP).PixelData, index, number_of_frames=120)
    expected = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_COLOR)
    assert expected is not None
    assert np.abs(read_frame(CLIP, index) - expected.astype(float)).mean() < 1


def test_lossless_jpeg_is_read_to_the_bit() -> None:
    path = published("JPGLosslessP14SV1_1s_1f_8b.dcm")
    stream = get_frame(dcmread(path).PixelData, 0, number_of_frames=1)
    expected = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_UNCHANGED)
    assert expected is not None
    assert np.array_equal(read_frame(path), expected)


@pytest.mark.parametrize(
    ("coded", "plain"),
    [
        ("US1_J2KR.dcm", "US1_UNCR.dcm"),
        ("OBXXXX1A_rle.dcm", "OBXXXX1A.dcm"),
        ("color-pl.dcm", "color-px.dcm"),
        ("emri_small_jpeg_ls_lossless.dcm", "emri_small.dcm"),
        ("SC_rgb_rle_2frame.dcm", "SC_rgb_2frame.dcm"),
    ],
)
def test_the_same_picture_is_the_same_however_it_is_coded(coded: str, plain: str) -> None:
    pixels = read_frame(published(plain))
    assert np.array_equal(read_frame(published(coded)), pixels)
    assert pixels.std() > 5


@pytest.mark.parametrize("order", ["line", "sample"])
def test_near_lossless_jpeg_ls_is_read_in_colour(order: str) -> None:
    pixels = read_frame(published(f"SC_rgb_jls_lossy_{order}.dcm")).astype(int)
    plain = read_frame(published("SC_rgb_rle.dcm")).astype(int)
    assert np.abs(pixels - plain).max() <= 8


def test_a_jpeg_ls_larger_than_its_header_says_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    content = published("emri_small_jpeg_ls_lossless.dcm").read_bytes()
    size = b"\xff\xf7\x00\x0b\x10" + (64).to_bytes(2, "big") * 2
    assert content.count(size) == 10
    path.write_bytes(content.replace(size, size[:5] + (30_000).to_bytes(2, "big") * 2))
    refused(path, "frame 0 is not of the size in the header")


def test_a_clip_in_ybr_shows_its_sector_grey_and_its_mark_green() -> None:
    path = Path(examples.get_path("ybr_color"))
    pixels = read_frame(path, 29).astype(int)
    assert pixels.shape == (240, 320, 3)
    assert np.ptp(pixels[100:200, 100:250], axis=2).mean() < 4
    _, green, red = pixels[20, 190]
    assert green > red + 40


def test_a_segmented_palette_of_16_bits_is_unfolded() -> None:
    pixels = read_frame(published("gdcm-US-ALOKA-16.dcm"))
    assert pixels.shape == (480, 640, 3)
    assert 20 < pixels.mean() < 60


def test_colours_are_given_blue_first(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.full((40, 60, 3), (230, 120, 10), np.uint8))
    assert read_frame(path)[0, 0].tolist() == [10, 120, 230]


def test_ybr_full_is_turned_into_colours(tmp_path: Path) -> None:
    red = np.full((40, 60, 3), (76, 85, 255), np.uint8)
    path = write_dicom(tmp_path / "a.dcm", red, PhotometricInterpretation="YBR_FULL")
    assert np.abs(read_frame(path)[0, 0].astype(int) - (0, 0, 255)).max() <= 2


@pytest.mark.parametrize(("entry", "stated"), [("<u2", 16), ("u1", 8), ("<u2", 8), ("u1", 16)])
def test_a_palette_is_applied(tmp_path: Path, entry: str, stated: int) -> None:
    """Its entries may be shorter than stated, or longer."""
    greys = np.arange(256)
    full = min(stated, 8 * np.dtype(entry).itemsize) == 16
    tables = {
        colour: (its * 257 if full else its).astype(entry).tobytes()
        for colour, its in (("Red", greys), ("Green", greys // 2), ("Blue", 255 - greys))
    }
    attributes: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in tables.items():
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, stated]
        attributes[f"{colour}PaletteColorLookupTableData"] = table
    pixels = read_frame(write_dicom(tmp_path / "a.dcm", GREY, **attributes))
    assert np.array_equal(pixels, np.stack([255 - GREY, GREY // 2, GREY], axis=2))


def test_grey_of_8_bits_stays_as_it_is_stored(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, WindowCenter=10, WindowWidth=5)
    assert np.array_equal(read_frame(path), GREY)


def test_monochrome1_is_white_where_it_is_low(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_frame(path), 255 - GREY)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, [0, 1, 4, 255]),
        ({"BitsStored": 12, "HighBit": 11}, [0, 16, 62, 255]),
        ({"WindowCenter": 500.5, "WindowWidth": 1001}, [0, 64, 255, 255]),
        ({"WindowCenter": [500.5, 9], "WindowWidth": [1001, 9]}, [0, 64, 255, 255]),
        (
            {
                "WindowCenter": 1001.5,
                "WindowWidth": 2001,
                "RescaleSlope": 2,
                "RescaleIntercept": 1,
            },
            [0, 64, 255, 255],
        ),
    ],
)
def test_grey_of_16_bits_goes_through_the_window_or_its_whole_range(
    tmp_path: Path, attributes: dict[str, object], expected: list[int]
) -> None:
    values = np.zeros((40, 60), np.uint16)
    values[0, :4] = 0, 250, 1000, 4095 if "BitsStored" in attributes else 65535
    path = write_dicom(tmp_path / "a.dcm", values, **attributes)
    assert read_frame(path)[0, :4].tolist() == expected


def test_signed_grey_begins_at_its_lowest_value(tmp_path: Path) -> None:
    values = np.full((40, 60), -32768, np.int16)
    values[0, :2] = 0, 32767
    assert read_frame(write_dicom(tmp_path / "a.dcm", values))[0, :3].tolist() == [128, 255, 0]


def test_the_region_is_the_largest_that_shows_tissue_in_two_dimensions(tmp_path: Path) -> None:
    regions = [
        region(0, 0, 59, 39, spatial=3),  # spectral Doppler
        region(0, 0, 59, 39, data=2),  # colour flow
        region(1, 1, 5, 5),
        region(10, 8, 70, 35),  # beyond the right side
        region(30, 30, 20, 20),
    ]
    path = write_dicom(tmp_path / "a.dcm", GREY, SequenceOfUltrasoundRegions=regions)
    assert read_header(path).region == Box(10, 8, 50, 28)


@pytest.mark.parametrize(
    ("attributes", "times"),
    [
        ({"FrameTime": 40}, (0, 0.04, 0.08)),
        ({"FrameTimeVector": [0, 40, 60]}, (0, 0.04, 0.1)),
        ({"FrameTimeVector": [0, 40], "FrameTime": 50}, (0, 0.05, 0.1)),
        ({"CineRate": 20}, (0, 0.05, 0.1)),
        ({"RecommendedDisplayFrameRate": 10}, (0, 0.1, 0.2)),
        ({"FrameTime": 0}, ()),
        ({"FrameTime": -40}, ()),
        ({}, ()),
    ],
)
def test_times_come_from_whatever_the_header_has(
    tmp_path: Path, attributes: dict[str, object], times: tuple[float, ...]
) -> None:
    clip = np.stack([GREY] * 3)
    path = write_dicom(tmp_path / "a.dcm", clip, NumberOfFrames=3, **attributes)
    assert read_header(path).times == pytest.approx(times)
    assert (read_header(path).frame_rate is None) == (not times)


def test_a_patient_is_known_again_but_not_named(tmp_path: Path) -> None:
    one, same, other, nobody = (
        read_header(write_dicom(tmp_path / f"{number}.dcm", GREY, PatientID=name)).patient
        for number, name in enumerate((PATIENT, f" {PATIENT} ", "another", ""))
    )
    assert one == same != other
    assert one is not None
    assert not any(word in one for word in PATIENT.split("-"))
    assert nobody is None


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"PixelData": None}, "pixels are missing or damaged"),
        ({"PixelData": GREY.tobytes()[:1000]}, "0 of 1 frames can be read"),
        ({"Rows": None}, "no picture in this DICOM file"),
        ({"Rows": 4, "Columns": 4}, "4 x 4 pixels are too few"),
        ({"Rows": 30000, "Columns": 30000}, "30000 x 30000 pixels are too many"),
        ({"NumberOfFrames": 2_000_000_000}, "a header of 2000000000 frames"),
        ({"PhotometricInterpretation": "HSV"}, "neither grey, RGB, YBR nor of a palette"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "pixels are missing or damaged"),
        ({"PhotometricInterpretation": "RGB", "BitsStored": 16}, "colours of 16 bits"),
        ({"BitsStored": None}, "pixels are missing or damaged"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    tmp_path: Path, attributes: dict[str, object], said: str
) -> None:
    refused(write_dicom(tmp_path / "a.dcm", GREY, **attributes), said)


@pytest.mark.parametrize("syntax", [uid.MPEG4HP41, uid.HTJ2K])
def test_a_coding_that_is_not_read_is_named(tmp_path: Path, syntax: uid.UID) -> None:
    path = write_jpegs(tmp_path / "a.dcm", [GREY], TransferSyntaxUID=syntax)
    refused(path, f"no decoder for {syntax.name}")


def test_a_wrong_value_representation_is_refused_without_a_word_of_it(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, NumberOfFrames=1)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x28\0\x08\0IS\x02\0001 ", b"\x28\0\x08\0LO\x02\0DO"))
    assert path.read_bytes() != content
    with pytest.raises(BadInput, match=r"a.dcm: a damaged DICOM header$"):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"no DICOM"])
def test_what_is_no_dicom_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    refused(path, "not a DICOM file, or a damaged one")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.dcm", "No such file")


def test_a_frame_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.stack([GREY] * 2), NumberOfFrames=2)
    for index in (2, -1):
        with pytest.raises(BadInput, match=f"no frame {index}; it has 2"):
            read_frame(path, index)


def test_a_jpeg_larger_than_its_header_says_is_not_unpacked(tmp_path: Path) -> None:
    """900 million pixels, which the decoder would make room for."""
    path = write_jpegs(tmp_path / "a.dcm", [GREY])
    content = path.read_bytes()
    size = b"\x08" + (40).to_bytes(2, "big") + (60).to_bytes(2, "big")
    assert content.count(size) == 1
    path.write_bytes(content.replace(size, b"\x08" + (30_000).to_bytes(2, "big") * 2))
    refused(path, "frame 0 is not of the size in the header")


def test_a_clip_without_its_last_frames_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = write_jpegs(tmp_path / "a.dcm", [GREY] * 3, NumberOfFrames=5)
    with pytest.raises(BadInput, match=r"a.dcm: (3 of 5 frames|the pixels are missing)"):
        open_device(str(path))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_clip_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.dcm"
    content = CLIP.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadInput, match=r"cut.dcm: "):
        open_device(str(path))


@pytest.mark.parametrize("coding", ["plain", "jpeg"])
@given(data=st.data())
def test_any_damage_gives_pixels_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, coding: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "a.dcm"
    write = write_dicom if coding == "plain" else lambda path, grey: write_jpegs(path, [grey])
    content = bytearray(write(path, GREY).read_bytes())
    header = content.index(b"\x28\0\x02\0")
    places = st.integers(header, min(header + 400, len(content) - 1))
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        pixels = read_frame(path)
    except BadInput:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2 or pixels.shape[2:] == (3,)


def test_a_clip_opens_as_a_device_with_every_frame_in_order() -> None:
    with open_device(str(CLIP)) as device:
        assert isinstance(device, Dicom)
        assert not device.live
        assert device.fps == pytest.approx(30, abs=0.01)
        frames = [device.read(1.0) for _ in range(4)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.timestamp for frame in frames] == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30], 1e-4)
    assert np.array_equal(frames[3].pixels, read_frame(CLIP, 3))
    assert not np.array_equal(frames[3].pixels, frames[0].pixels)


def test_a_device_tells_where_its_picture_lies() -> None:
    with open_device(str(CLIP)) as device:
        assert device.region == Box(84, 31, 512, 384)


def test_a_folder_gives_every_frame_of_its_files_in_order(tmp_path: Path) -> None:
    write_jpegs(tmp_path / "b.dcm", [GREY, 255 - GREY])
    write_dicom(tmp_path / "c.dcm", GREY // 2)
    cv2.imwrite(str(tmp_path / "a.png"), GREY // 3)
    with open_device(str(tmp_path)) as device:
        frames = [device.read(1.0) for _ in range(4)]
        for _ in range(2):
            with pytest.raises(EndOfRecording):
                device.read(1.0)
    assert [(frame.index, frame.timestamp) for frame in frames] == [(n, None) for n in range(4)]
    means = [float(frame.pixels.mean()) for frame in frames]
    expected = [float(its.mean()) for its in (GREY // 3, GREY, 255 - GREY, GREY // 2)]
    assert means == pytest.approx(expected, abs=2)


def test_a_damaged_file_of_a_folder_does_not_keep_the_next_away(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")
    write_dicom(tmp_path / "b.dcm", GREY)
    with open_device(str(tmp_path)) as device:
        with pytest.raises(BadInput, match=r"a.dcm: not a DICOM file"):
            device.read(1.0)
        assert np.array_equal(device.read(1.0).pixels, GREY)


def test_a_device_ends_after_its_last_frame(tmp_path: Path) -> None:
    path = write_jpegs(tmp_path / "a.dcm", [GREY] * 2)
    with open_device(str(path)) as device:
        assert [device.read(1.0).timestamp for _ in range(2)] == [0, 1 / 25]
        for _ in range(2):
            with pytest.raises(EndOfRecording):
                device.read(1.0)


def test_a_still_stands_alone(tmp_path: Path) -> None:
    with open_device(str(write_dicom(tmp_path / "a.dcm", GREY))) as device:
        assert device.fps == 1
        assert device.read(1.0).timestamp is None


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    path = write_jpegs(tmp_path / "a.dcm", [GREY, 255 - GREY])
    content = bytearray(path.read_bytes())
    table = content.rindex(b"\xff\xc4") + 4
    content[table : table + 20] = bytes(20)
    path.write_bytes(content)
    with open_device(str(path)) as device:
        device.read(1.0)
        with pytest.raises(BadInput, match="frame 1 is missing or damaged"):
            device.read(1.0)


@pytest.mark.parametrize("absent", ["pydicom", "pylibjpeg"])
def test_without_the_extra_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    for call in (is_dicom, read_header, Dicom):
        with pytest.raises(BadInput, match=rf"need {absent}: pip install 'sonolite\[dicom\]'"):
            call(CLIP)
    assert not is_dicom(Path("a.png"))
