"""DICOM headers that are wrong about their pixels: the bytes decide."""

import struct
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.pixels.processing import convert_color_space

from devices import BadInput, Pixels
from devices.capture import open_device
from devices.capture.dicom import NO_TIME, OTHER_UNIT, Dicom, read_frame, read_header
from devices.capture.dicom_pixels import MORE_FRAMES, OTHER_COLOURS
from devices.capture.phantom import Phantom
from tests.conftest import CASES
from tests.devices.capture.dicom_files import GREY, published, write_dicom, write_jpegs

SCREEN = Phantom(width=160, height=120).render(3)
RGB: Pixels = np.repeat(SCREEN[..., np.newaxis], 3, axis=2) if SCREEN.ndim == 2 else SCREEN.copy()
RGB[5:15, 5:25] = (240, 120, 20)
"""A scanner's screen: grey, and a mark in amber."""
CHART = np.zeros((48, 64, 3), np.uint8)
CHART[..., 0], CHART[..., 1], CHART[..., 2] = (
    np.linspace(0, 255, 64)[None],
    np.linspace(255, 60, 48)[:, None],
    np.linspace(30, 220, 64)[None],
)
"""Colours everywhere: this picture tells nothing about the meaning of its channels."""

per_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def case(name: str) -> Path:
    path = CASES / "dicom" / name
    if not path.exists():
        pytest.skip("the real cases are not here")
    return path


def coded(rgb: Pixels, ybr: bool, markers: str, subsampled: bool) -> bytes:
    """A JPEG that stores YCbCr, or RGB as it is, with so much about it as `markers` says."""
    buffer = BytesIO()
    sampling = 2 if subsampled else 0
    image = Image.fromarray(rgb)
    image.save(buffer, "JPEG", quality=97, subsampling=sampling, keep_rgb=not ybr)
    stream = buffer.getvalue()
    (length,) = struct.unpack_from(">H", stream, 4)  # JFIF's marker, or Adobe's
    if markers == ("JFIF" if ybr else "Adobe"):
        return stream
    bare = bytearray(stream[:2] + stream[4 + length :])
    if markers == "Adobe":
        body = b"Adobe\0\x64\0\0\0\0" + bytes([int(ybr)])
        bare[2:2] = b"\xff\xee" + struct.pack(">H", 2 + len(body)) + body
    elif markers == "none":
        frame, scan = bare.index(b"\xff\xc0"), bare.index(b"\xff\xda")
        for number in range(3):
            bare[frame + 10 + 3 * number] = bare[scan + 5 + 2 * number] = number + 1
    return bytes(bare)


def close(shown: Pixels, rgb: Pixels) -> bool:
    return float(np.abs(shown[..., ::-1].astype(int) - rgb).mean()) < 6


LABELS = st.sampled_from(["RGB", "YBR_FULL", "YBR_FULL_422"])


@per_example
@given(
    label=LABELS,
    ybr=st.booleans(),
    markers=st.sampled_from(["JFIF", "Adobe", "ids", "none"]),
    subsampled=st.booleans(),
    chart=st.booleans(),
)
def test_a_jpegs_colours_are_its_own_whatever_the_header_says(
    tmp_path: Path, label: str, ybr: bool, markers: str, subsampled: bool, chart: bool
) -> None:
    if (markers == "JFIF" and not ybr) or (markers == "ids" and ybr):
        return  # no coder writes it
    subsampled &= ybr
    if chart and markers == "none" and not subsampled:
        label = "YBR_FULL" if ybr else "RGB"  # only the header knows
    rgb = CHART if chart else RGB
    path = write_dicom(
        tmp_path / "a.dcm",
        rgb,
        TransferSyntaxUID=uid.JPEGBaseline8Bit,
        PhotometricInterpretation=label,
        PixelData=encapsulate([coded(rgb, ybr, markers, subsampled)]),
    )
    assert close(read_frame(path), rgb)
    with Dicom(path) as device:
        device.read(1)
        assert (OTHER_COLOURS in device.notes) == (ybr != label.startswith("YBR"))


@per_example
@given(label=LABELS, ybr=st.booleans())
def test_uncoded_colours_are_what_the_picture_is_grey_in(
    tmp_path: Path, label: str, ybr: bool
) -> None:
    """Three bytes a pixel: labelled YBR_FULL_422, which has two, they are something else."""
    values = convert_color_space(RGB, "RGB", "YBR_FULL") if ybr else RGB
    path = write_dicom(tmp_path / "a.dcm", values, PhotometricInterpretation=label)
    assert close(read_frame(path), RGB)


def test_uncoded_colours_of_three_bytes_labelled_422_are_rgb(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", CHART, PhotometricInterpretation="YBR_FULL_422")
    assert np.array_equal(read_frame(path)[..., ::-1], CHART)


@pytest.mark.parametrize("label", ["YBR_FULL_422", "YBR_FULL", "RGB"])
@pytest.mark.parametrize("frames", [1, 4])
def test_uncoded_colours_of_two_bytes_are_422(tmp_path: Path, label: str, frames: int) -> None:
    if frames == 4 and label == "RGB":
        frames = 2
    ybr = convert_color_space(RGB, "RGB", "YBR_FULL")
    pairs = ybr.reshape(-1, 2, 3)
    packed = np.stack([pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]], axis=1)
    path = write_dicom(
        tmp_path / "a.dcm",
        RGB,
        PhotometricInterpretation=label,
        PixelData=packed.tobytes() * frames,
        NumberOfFrames=frames,
    )
    assert read_header(path).frames == frames
    assert close(read_frame(path, frames - 1), RGB)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("jpeg_pi_rgb_bare.dcm", "jpeg_ybr_bare.dcm"), ("jp2_header.dcm", "j2k.dcm")],
)
def test_the_same_picture_is_the_same_whatever_its_header_says(wrong: str, right: str) -> None:
    assert np.array_equal(read_frame(case(wrong)), read_frame(case(right)))


def test_published_files_are_read_in_their_colours() -> None:
    """Their headers are right: dcmtk's and GDCM's, with and without markers."""
    plain = read_frame(published("SC_rgb.dcm")).astype(int)
    for name in ("SC_rgb_dcmtk_+eb+cr", "SC_rgb_dcmtk_+eb+cy+s4", "SC_rgb_jpeg_gdcm"):
        assert np.abs(read_frame(published(f"{name}.dcm")) - plain).mean() < 3, name


@per_example
@given(
    stated=st.sampled_from([None, 0, 1, 2, 5]),
    frames=st.integers(1, 6),
    coding=st.sampled_from(["plain", "jpeg", "rle", "j2k"]),
    table=st.booleans(),
    parts=st.integers(1, 3),
)
def test_every_frame_is_read_or_its_absence_refused(
    tmp_path: Path, stated: int | None, frames: int, coding: str, table: bool, parts: int
) -> None:
    clip = np.stack([np.roll(GREY, index, axis=1) for index in range(frames)])
    attributes: dict[str, object] = {"PixelData": clip.tobytes()}
    if coding == "jpeg":
        quality = [cv2.IMWRITE_JPEG_QUALITY, 100]
        streams = [cv2.imencode(".jpg", frame, quality)[1].tobytes() for frame in clip]
        attributes["TransferSyntaxUID"] = uid.JPEGBaseline8Bit
    elif coding in ("rle", "j2k"):
        streams = [_compressed(frame, coding) for frame in clip]
        attributes["TransferSyntaxUID"] = uid.RLELossless if coding == "rle" else uid.JPEG2000
    if coding != "plain":
        fragments = 1 if coding == "rle" else parts
        attributes["PixelData"] = encapsulate(streams, fragments, has_bot=table)
    if stated is not None:
        attributes["NumberOfFrames"] = stated
    path = write_dicom(tmp_path / "a.dcm", clip, **attributes)
    if (stated or 1) > frames:
        with pytest.raises(BadInput, match=rf"{frames} of {stated} frames can be read"):
            read_header(path)
        return
    header = read_header(path)
    assert header.frames == frames
    assert (MORE_FRAMES in header.notes) == (frames > (stated or 1))
    with open_device(str(path)) as device:
        for frame in clip:
            shown = device.read(1).pixels
            assert np.abs(shown.astype(int) - frame).mean() < (0 if coding == "plain" else 6) + 0.1


def _compressed(frame: Pixels, coding: str) -> bytes:
    if coding == "j2k":
        stream = cv2.imencode(".jp2", frame, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1]
        return stream.tobytes()  # with the boxes of a file around it, which do not belong there
    return bytes(
        RLELosslessEncoder.encode(
            frame,
            rows=frame.shape[0],
            columns=frame.shape[1],
            samples_per_pixel=1,
            bits_allocated=8,
            bits_stored=8,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
            number_of_frames=1,
        )
    )


def test_several_jpegs_in_one_fragment_are_several_frames(tmp_path: Path) -> None:
    streams = [cv2.imencode(".jpg", np.roll(GREY, index))[1].tobytes() for index in range(3)]
    path = write_jpegs(tmp_path / "a.dcm", [GREY], PixelData=encapsulate([b"".join(streams)]))
    assert read_header(path).frames == 3
    assert not np.array_equal(read_frame(path, 0), read_frame(path, 2))


def test_a_case_without_number_of_frames_has_its_six() -> None:
    assert read_header(case("nof_missing_jpeg.dcm")).frames == 6


@pytest.mark.parametrize(
    ("frame_time", "step", "note"),
    [
        (40, 0.04, None),
        (2, 0.002, None),
        (1000, 1.0, None),
        (0.05, 0.05, OTHER_UNIT),
        (0.4, 0.4, OTHER_UNIT),
        (50_000, 0.05, OTHER_UNIT),
        (1, None, NO_TIME),
        (5000, None, NO_TIME),
        (1e9, None, NO_TIME),
        (1e-9, None, NO_TIME),
    ],
)
def test_a_frame_time_is_taken_in_the_unit_in_which_it_makes_sense(
    tmp_path: Path, frame_time: float, step: float | None, note: str | None
) -> None:
    clip = np.stack([GREY] * 3)
    path = write_dicom(tmp_path / "a.dcm", clip, NumberOfFrames=3, FrameTime=frame_time)
    header = read_header(path)
    assert header.notes == (() if note is None else (note,))
    assert header.times == pytest.approx(() if step is None else (0, step, 2 * step))


@given(seconds=st.floats(0.01, 0.2))
@per_example
def test_the_same_times_in_any_of_three_units_are_the_same(tmp_path: Path, seconds: float) -> None:
    clip = np.stack([GREY] * 2)
    for factor in (1, 1000, 1_000_000):
        number = f"{seconds * factor:.8g}"
        path = write_dicom(tmp_path / "a.dcm", clip, NumberOfFrames=2, FrameTime=number)
        assert read_header(path).times[1] == pytest.approx(seconds, rel=1e-5)


def test_a_decoder_that_panics_is_a_refusal(capfd: pytest.CaptureFixture[str]) -> None:
    path = CASES / "fuzz" / "rle_panic.dcm"
    if not path.exists():
        pytest.skip("the real cases are not here")
    with pytest.raises(BadInput, match=r"rle_panic.dcm"):
        read_frame(path)
    assert capfd.readouterr().err == ""
