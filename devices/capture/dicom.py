"""DICOM files, still or moving, read with pydicom, which the extra `dicom` installs.

Attributes are named by their keywords; PS3.3 and PS3.5 are parts of the standard
(dicom.nema.org). pydicom is imported where it is used: the device runs without it, and starts
sooner. Its errors and warnings quote what they stumble on, which may be a patient's name: none of
their words is passed on.
"""

import hashlib
import struct
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagesize
import numpy as np
from numpy.typing import NDArray

from devices.capture import DICOM
from devices.capture.size import check_size
from devices.errors import BadInput, EndOfRecording
from devices.frame import Box, CaptureDevice, Clock, Frame, Pixels

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FRAMES = 100_000
"""Nearly an hour of thirty frames a second; more is a damaged header."""

# PS3.5, section 10 and annex A: what is not coded, RLE, and the JPEGs that scanners write.
# Big endian is retired, and pydicom reads its palettes wrongly.
UNCODED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})
RLE = "1.2.840.10008.1.2.5"
JPEG = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
JPEG_LS = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
JPEG2000 = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91))

COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})

SOF55, START_OF_SCAN = 0xFFF7, 0xFFDA
"""Markers of a JPEG: the frame header of JPEG-LS, and where the coded pixels begin."""

DECODER = "pylibjpeg"
"""Named, so that training and device decode alike whatever else is installed; and GDCM, which
pydicom would take first, ends the whole process on some damaged files."""
MODULES = ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle")
"""Of pydicom, of the decoder, and of its parts: JPEG and JPEG-LS, JPEG 2000, RLE."""

TAGS = [
    "BitsStored",
    "CineRate",
    "Columns",
    "FrameTime",
    "FrameTimeVector",
    "NumberOfFrames",
    "PatientID",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "RecommendedDisplayFrameRate",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SamplesPerPixel",
    "SequenceOfUltrasoundRegions",
    "WindowCenter",
    "WindowWidth",
    *(
        name.format(colour)
        for colour in ("Red", "Green", "Blue")
        for name in (
            "{}PaletteColorLookupTableDescriptor",
            "{}PaletteColorLookupTableData",
            "Segmented{}PaletteColorLookupTableData",
        )
    ),
]


@dataclass(frozen=True)
class Header:
    """What a DICOM file tells of its frames before a pixel is unpacked."""

    frames: int
    times: tuple[float, ...]
    """Seconds of each frame from the first; empty for a still, and where the file does not say."""
    region: Box | None
    """The largest region of the screen that shows tissue in two dimensions, without the text
    around it; None where the file does not say."""
    patient: str | None
    """Stands for the patient without naming him: the same for the same PatientID. It hides the id
    from the eye; whoever has a list of ids can find it again."""

    @property
    def frame_rate(self) -> float | None:
        """The mean rate in frames a second; None where the file does not say."""
        return (self.frames - 1) / self.times[-1] if self.times else None


def is_dicom(path: Path) -> bool:
    """Whether `path` is named as a DICOM file. Raises BadInput where one could not be read."""
    if path.suffix.lower() not in DICOM:
        return False
    _require_pydicom()
    return True


def read_header(path: Path) -> Header:
    """Reads the header alone.

    Raises BadInput where `path` is no DICOM file that holds a picture which can be decoded, or
    where its size is refused (`devices.capture.size`).
    """
    return _describe(path, _read(path))


def read_frame(path: Path, index: int = 0) -> Pixels:
    """Returns frame `index`, from 0, as it is shown: uint8 ``H x W``, or ``H x W x 3`` (BGR).

    Grey of 8 bits stays as it is stored, which is as the scanner showed it; of more bits it is
    windowed. Raises BadInput as `read_header` does, for a frame that is not there, and for pixels
    that are missing or damaged.
    """
    dataset = _read(path)
    frames = _describe(path, dataset).frames
    if not 0 <= index < frames:
        raise BadInput(f"{path}: no frame {index}; it has {frames}, counted from 0")
    with _reading(path, "the pixels are missing or damaged"):
        from pydicom.pixels.utils import pixel_array

        _check_streams(path, dataset, frames)
        return _shown(pixel_array(path, index=index, decoding_plugin=DECODER), dataset)


class Dicom(CaptureDevice):
    """The frames of a DICOM file, each whole, with its place in the recording."""

    live = False

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        """Opens `path`. Raises BadInput as `read_header` does, and where a frame is missing."""
        self._path, self._clock = path, clock
        self._dataset = _read(path)
        self._header = _describe(path, self._dataset)
        rate = self._header.frame_rate
        self.fps = rate if rate is not None and 1 <= rate <= 240 else 25.0
        if self._header.frames == 1:
            self.fps = 1.0
        self.region = self._header.region
        self._index = 0
        with _reading(path, "the pixels are missing or damaged"):
            _check_streams(path, self._dataset, self._header.frames)
        self._values = _all_values(path)

    def close(self) -> None:
        """Closes the file."""
        self._values.close()

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  a file makes nobody wait
        """Returns the next frame; see `CaptureDevice.read`. Raises BadInput for a damaged one."""
        header = self._header
        if self._index == header.frames:
            raise EndOfRecording(f"{self._path}: the last frame has been read")
        with _reading(self._path, f"frame {self._index} is missing or damaged"):
            pixels = _shown(next(self._values), self._dataset)
        index, self._index = self._index, self._index + 1
        timestamp = None
        if header.frames > 1:
            timestamp = header.times[index] if header.times else index / self.fps
        return Frame(pixels, self._clock(), index, timestamp)


def _require_pydicom() -> None:
    """Raises BadInput where the extra is not installed."""
    if missing := [name for name in MODULES if find_spec(name) is None]:
        raise BadInput(f"DICOM files need {missing[0]}: pip install 'sonolite[dicom]'")


@contextmanager
def _reading(path: Path, fault: str) -> Iterator[None]:
    """Whatever pydicom raises on a damaged file becomes BadInput: `path` and `fault`, no more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except BadInput:
            raise
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror or fault}") from error
        except Exception as error:
            raise BadInput(f"{path}: {fault}") from error


def _read(path: Path) -> "Dataset":
    """The attributes in `TAGS`. Raises BadInput where they belong to no picture we can decode."""
    _require_pydicom()
    with _reading(path, "not a DICOM file, or a damaged one"):
        from pydicom import dcmread

        dataset = dcmread(path, stop_before_pixels=True, specific_tags=[*TAGS])
        if "Rows" not in dataset or "Columns" not in dataset:
            raise BadInput(f"{path}: no picture in this DICOM file")
        check_size(path, int(dataset.Columns), int(dataset.Rows))
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax not in UNCODED | {RLE} | JPEG | JPEG_LS | JPEG2000:
            raise BadInput(f"{path}: no decoder for {syntax.name}")
        kind = dataset.PhotometricInterpretation
        if kind not in COLOUR | GREY | {"PALETTE COLOR"}:
            raise BadInput(f"{path}: neither grey, RGB, YBR nor of a palette")
        if kind in COLOUR and dataset.BitsStored != 8:
            raise BadInput(f"{path}: colours of {int(dataset.BitsStored)} bits; 8 can be read")
        return dataset


def _describe(path: Path, dataset: "Dataset") -> Header:
    """The attributes in our words. Raises BadInput for values that make no sense."""
    with _reading(path, "a damaged DICOM header"):
        frames = int(dataset.get("NumberOfFrames") or 1)
        if not 1 <= frames <= MAX_FRAMES:
            raise BadInput(f"{path}: a header of {frames} frames; at most {MAX_FRAMES:,}")
        patient = str(dataset.get("PatientID") or "").strip()
        digest = hashlib.sha256(patient.encode()).hexdigest()[:16]
        return Header(
            frames=frames,
            times=_times(dataset, frames),
            region=_region(dataset),
            patient=f"patient-{digest}" if patient else None,
        )


def _times(dataset: "Dataset", frames: int) -> tuple[float, ...]:
    """Seconds of each frame from the first (PS3.3, C.7.6.5: milliseconds, or frames a second)."""
    vector = dataset.get("FrameTimeVector")
    if isinstance(vector, Sequence) and len(vector) == frames:
        steps = [0.0, *(float(step) / 1000 for step in vector[1:])]
    else:
        rate = dataset.get("CineRate") or dataset.get("RecommendedDisplayFrameRate")
        step = float(dataset.get("FrameTime") or 0) / 1000 or (1 / float(rate) if rate else 0.0)
        steps = [0.0, *[step] * (frames - 1)]
    usable = np.isfinite(steps).all() and min(steps) >= 0 and sum(steps) > 0
    return tuple(accumulate(steps)) if usable else ()


def _region(dataset: "Dataset") -> Box | None:
    """The largest region with RegionSpatialFormat 2D and RegionDataType tissue (PS3.3, C.8.5.5).

    Its last column and row belong to it; what lies beyond the picture is cut off.
    """
    boxes = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        if (item.get("RegionSpatialFormat"), item.get("RegionDataType")) == (1, 1):
            left, top = int(item.RegionLocationMinX0), int(item.RegionLocationMinY0)
            right = min(int(item.RegionLocationMaxX1) + 1, dataset.Columns)
            bottom = min(int(item.RegionLocationMaxY1) + 1, dataset.Rows)
            if right > left and bottom > top:
                boxes.append(Box(left, top, right - left, bottom - top))
    return max(boxes, key=lambda box: box.w * box.h, default=None)


def _check_streams(path: Path, dataset: "Dataset", frames: int) -> None:
    """Raises BadInput where a coded frame is missing, or is not of the size in the header.

    A JPEG states its own size, and the decoder makes room for it before pydicom compares.
    """
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in UNCODED:
        return
    count = 0
    for stream in generate_frames(dcmread(path).PixelData, number_of_frames=frames):
        size = (dataset.Columns, dataset.Rows)
        if syntax != RLE and _stated_size(stream) != size:
            raise BadInput(f"{path}: frame {count} is not of the size in the header")
        count += 1
    if count != frames:
        raise BadInput(f"{path}: {count} of {frames} frames can be read")


def _all_values(path: Path) -> Generator[NDArray[Any], None, None]:
    """The stored values of every frame in order; a generator, which closes the file when closed."""
    from pydicom.pixels.utils import iter_pixels

    yield from iter_pixels(path, decoding_plugin=DECODER)


def _shown(values: NDArray[Any], dataset: "Dataset") -> Pixels:
    """Stored values as they are shown; colours came in the order red, green, blue."""
    from pydicom.pixels.processing import apply_color_lut

    kind = dataset.PhotometricInterpretation
    if kind in GREY:
        grey = _windowed(values, dataset)
        return 255 - grey if kind == "MONOCHROME1" else grey
    if kind == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        _, _, stated = dataset.RedPaletteColorLookupTableDescriptor
        bits = min(stated, 8 * values.dtype.itemsize)  # of an entry; both may be the larger
        values = (values >> (bits - 8)).astype(np.uint8)
    if values.dtype != np.uint8 or values.shape[2:] != (3,):
        raise ValueError("not three channels of 8 bits")
    return np.ascontiguousarray(values[..., ::-1])


def _windowed(values: NDArray[Any], dataset: "Dataset") -> Pixels:
    """Grey in 8 bits: through the first window where there is one, else all that can be stored.

    PS3.3, C.11.2.1.2.1: a linear window of `width` about `centre` has its ends at
    ``centre - 0.5 -+ (width - 1) / 2``, in units after RescaleSlope and RescaleIntercept.
    """
    if values.ndim != 2:
        raise ValueError("not one channel")
    bits, signed = int(dataset.BitsStored), dataset.PixelRepresentation == 1
    if bits == 8 and not signed:
        return values.astype(np.uint8)
    low, high = (-(2.0 ** (bits - 1)) if signed else 0.0), 2.0 ** (bits - signed) - 1
    scaled = values.astype(np.float64)
    centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if centre is not None and width is not None and width > 1:
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
        scaled = scaled * (1.0 if slope is None else slope) + (intercept or 0.0)
    grey = (scaled - low) * (255 / (high - low))
    return np.asarray(np.rint(np.clip(grey, 0, 255)), dtype=np.uint8)


def _first(dataset: "Dataset", keyword: str) -> float | None:
    """The first value of a decimal string; None where it is absent or empty."""
    value = dataset.get(keyword)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0]
    return None if value is None else float(value)


def _stated_size(stream: bytes) -> tuple[int, int]:
    """Width and height that a JPEG, a JPEG-LS, or a JPEG 2000 codestream states of itself.

    The last begins with SOC and SIZ: ISO/IEC 15444-1, annex A.5.1. JPEG-LS has the segments of a
    JPEG, and states its size in SOF55: ISO/IEC 14495-1, annex C.
    """
    if stream.startswith(b"\xff\x4f\xff\x51"):
        right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
        (channels,) = struct.unpack_from(">H", stream, 40)
        if channels not in (1, 3):
            raise ValueError(f"{channels} channels")
        return right - left, bottom - top
    place = 2
    while (marker := struct.unpack_from(">H", stream, place)[0]) not in (START_OF_SCAN, SOF55):
        place += 2 + struct.unpack_from(">H", stream, place + 2)[0]
    if marker == SOF55:
        height, width = struct.unpack_from(">2H", stream, place + 5)
    else:
        width, height = imagesize.get(BytesIO(stream))
    return width, height
