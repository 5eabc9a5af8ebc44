"""DICOM files, still or moving, read with pydicom, which the extra `dicom` installs.

Attributes are named by their keywords; PS3.3 and PS3.5 are parts of the standard
(dicom.nema.org). pydicom is imported where it is used: the device runs without it, and starts
sooner. Its errors and warnings quote what they stumble on, which may be a patient's name: none of
their words is passed on.
"""

import hashlib
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from devices.capture.dicom_pixels import (
    DECODABLE,
    MORE_FRAMES,
    OTHER_COLOURS,
    RLE,
    UNCOMPRESSED,
    PixelLayout,
    codestream,
    decode_frame,
    find_frames,
    is_ybr,
    read_span,
    stated_size,
)
from devices.capture.kinds import Kind, kind_of
from devices.capture.registry import PYDICOM
from devices.capture.size import check_size
from devices.errors import BadInput, EndOfRecording
from devices.frame import Box, CaptureDevice, Clock, Frame, Pixels, nominal_rate
from devices.regular_file import require_regular

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FRAMES = 100_000
"""Nearly an hour of thirty frames a second; more is a damaged header."""

COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})

MILLISECOND = 1e-3
UNITS = ((2, 2000, MILLISECOND), (0.002, 0.5, 1.0), (10_000, 2_000_000, 1e-6))
"""Ranges of FrameTime, from and to, and the unit of each in seconds. FrameTime is defined in
milliseconds (PS3.3, C.7.6.5), and no scanner stores a clip of more than 500 frames/s; some write
seconds, and some microseconds. What lies between two ranges may be either, and is not believed."""
OTHER_UNIT = "FrameTime is not in milliseconds; it is taken in the unit in which it makes sense"
NO_TIME = "FrameTime makes no sense; 25 frames/s are taken"
MISSING = "the pixels are missing or damaged"
PICTURE_KEYWORDS = [
    "BitsAllocated",
    "BitsStored",
    "CineRate",
    "Columns",
    "FrameTime",
    "FrameTimeVector",
    "HighBit",
    "NumberOfFrames",
    "PatientID",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PlanarConfiguration",
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
    notes: tuple[str, ...] = ()
    """What the header says and the data contradict."""

    @property
    def frame_rate(self) -> float | None:
        """The mean rate in frames a second; None where the file does not say."""
        return (self.frames - 1) / self.times[-1] if self.times else None


def is_dicom(path: Path) -> bool:
    """Whether `path` is a DICOM file by its content, or by its name where its content says nothing.

    Raises BadInput where one could not be read.
    """
    if kind_of(path) is not Kind.DICOM:
        return False
    PYDICOM.require()
    return True


def read_header(path: Path) -> Header:
    """Reads the header, and where the frames lie, but no pixel.

    Raises BadInput where `path` is no DICOM file that holds a picture which can be decoded, where a
    frame is missing, or where the size is refused (`devices.capture.size`).
    """
    return _open(path)[1]


def read_frame(path: Path, index: int = 0) -> Pixels:
    """Returns frame `index`, from 0, as it is shown: uint8 ``H x W``, or ``H x W x 3`` (BGR).

    Grey of 8 bits stays as it is stored, which is as the scanner showed it; of more bits it is
    windowed. Raises BadInput as `read_header` does, for a frame that is not there, and for pixels
    that are missing or damaged.
    """
    dataset, header, layout = _open(path)
    if not 0 <= index < header.frames:
        raise BadInput(f"{path}: no frame {index}; it has {header.frames}, counted from 0")
    with _reading(path, MISSING), path.open("rb") as file:
        return _read_pixels(file, path, dataset, layout, index)[0]


class Dicom(CaptureDevice):
    """The frames of a DICOM file, each whole, with its place in the recording."""

    live = False

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        """Opens `path`. Raises BadInput as `read_header` does, and where a frame is missing."""
        self._path, self._clock = path, clock
        self._dataset, self._header, self._layout = _open(path)
        still = self._header.frames == 1
        self.fps = 1.0 if still else nominal_rate(self._header.frame_rate)
        self.region, self.frames = self._header.region, self._header.frames
        self.size = int(self._dataset.Columns), int(self._dataset.Rows)
        self.notes = self._notes = Counter(self._header.notes)
        self._index = 0
        with ExitStack() as stack, _reading(path, MISSING):
            self._file = stack.enter_context(path.open("rb"))
            for index in range(self.frames):
                _frame_bytes(self._file, path, self._dataset, self._layout, index)
            stack.pop_all()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  a file makes nobody wait
        """Returns the next frame; see `CaptureDevice.read`. Raises BadInput for a damaged one."""
        header = self._header
        if self._index == header.frames:
            raise EndOfRecording(f"{self._path}: the last frame has been read")
        index, self._index = self._index, self._index + 1
        with _reading(self._path, f"frame {index} is missing or damaged"):
            pixels, note = _read_pixels(self._file, self._path, self._dataset, self._layout, index)
        if note is not None:
            self._notes[note] = 1
        timestamp = None
        if header.frames > 1:
            timestamp = header.times[index] if header.times else index / self.fps
        return Frame(pixels, self._clock(), index, timestamp, self._path.name)


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
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # a decoder in Rust panics with one
            raise BadInput(f"{path}: {fault}") from error


def _open(path: Path) -> tuple["Dataset", Header, PixelLayout]:
    """The attributes in `PICTURE_KEYWORDS`, the header made of them, and where the frames lie.

    Raises BadInput where they belong to no picture that can be decoded.
    """
    PYDICOM.require()
    require_regular(path)
    with ExitStack() as stack:
        with _reading(path, "not a DICOM file, or a damaged one"):
            from pydicom import dcmread
            from pydicom.filereader import read_file_meta_info
            from pydicom.uid import DeflatedExplicitVRLittleEndian

            syntax = read_file_meta_info(path).get("TransferSyntaxUID")
            # pydicom would inflate all of it, however large.
            if syntax == DeflatedExplicitVRLittleEndian:
                raise BadInput(f"{path}: no decoder for {syntax.name}")
            file = stack.enter_context(path.open("rb"))
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=[*PICTURE_KEYWORDS])
            _check_readable(path, dataset)
        with _reading(path, "a damaged DICOM header"):
            stated = int(dataset.get("NumberOfFrames") or 1)
            if not 1 <= stated <= MAX_FRAMES:
                raise BadInput(f"{path}: a header of {stated} frames; at most {MAX_FRAMES:,}")
        with _reading(path, MISSING):
            layout = find_frames(path, file, dataset, stated)
            if len(layout.spans) > MAX_FRAMES:
                raise BadInput(f"{path}: {len(layout.spans)} frames; at most {MAX_FRAMES:,}")
    with _reading(path, "a damaged DICOM header"):
        return dataset, _describe(dataset, stated, len(layout.spans)), layout


def _check_readable(path: Path, dataset: "Dataset") -> None:
    """Raises BadInput for a file without a picture, and for one that nothing here decodes."""
    if "Rows" not in dataset or "Columns" not in dataset:
        raise BadInput(f"{path}: no picture in this DICOM file")
    check_size(path, int(dataset.Columns), int(dataset.Rows))
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in DECODABLE:
        raise BadInput(f"{path}: no decoder for {syntax.name}")
    kind = dataset.PhotometricInterpretation
    if kind not in COLOUR | GREY | {"PALETTE COLOR"}:
        raise BadInput(f"{path}: neither grey, RGB, YBR nor of a palette")
    if kind in COLOUR and dataset.BitsStored != 8:
        raise BadInput(f"{path}: colours of {int(dataset.BitsStored)} bits; 8 can be read")


def _describe(dataset: "Dataset", stated: int, frames: int) -> Header:
    """The header made of the attributes: `frames` are there, `stated` are named."""
    patient = str(dataset.get("PatientID") or "").strip()
    digest = hashlib.sha256(patient.encode()).hexdigest()[:16]
    times, note = _times(dataset, frames)
    notes = (MORE_FRAMES if frames > stated else None, note)
    return Header(
        frames=frames,
        times=times,
        region=_region(dataset),
        patient=f"patient-{digest}" if patient else None,
        notes=tuple(filter(None, notes)),
    )


def _times(dataset: "Dataset", frames: int) -> tuple[tuple[float, ...], str | None]:
    """Seconds of each frame from the first, and what is wrong with what the header says of them.

    PS3.3, C.7.6.5: milliseconds, or frames a second.
    """
    vector = dataset.get("FrameTimeVector")
    if isinstance(vector, Sequence) and len(vector) == frames:
        steps = [float(step) for step in vector[1:]]
    elif step := float(dataset.get("FrameTime") or 0):
        steps = [step] * (frames - 1)
    else:
        rates = (dataset.get("CineRate"), dataset.get("RecommendedDisplayFrameRate"))
        rate = float(next(filter(None, rates), 0))
        if frames == 1 or not 0 < rate < float("inf"):
            return (), None
        return tuple(index / rate for index in range(frames)), None
    if not np.isfinite(steps).all() or min(steps, default=0) < 0 or sum(steps) <= 0:
        return (), None
    mean = sum(steps) / len(steps)
    unit = next((unit for low, high, unit in UNITS if low <= mean <= high), None)
    if unit is None:
        return (), NO_TIME
    times = tuple(accumulate((step * unit for step in steps), initial=0.0))
    return times, None if unit == MILLISECOND else OTHER_UNIT


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


def _read_pixels(
    file: BinaryIO, path: Path, dataset: "Dataset", layout: PixelLayout, index: int
) -> tuple[Pixels, str | None]:
    """Frame `index` as it is shown, and what of the header it contradicts."""
    data = _frame_bytes(file, path, dataset, layout, index)
    values = decode_frame(dataset, data, layout.subsampled)
    kind = dataset.PhotometricInterpretation
    if kind not in COLOUR:
        return _shown_grey(values, dataset), None
    if values.dtype != np.uint8 or values.shape[2:] != (3,):
        raise ValueError("not three channels of 8 bits")
    ybr = is_ybr(dataset, data, values, layout.subsampled)
    if ybr:
        from pydicom.pixels.processing import convert_color_space

        values = convert_color_space(values, "YBR_FULL", "RGB")
    # YBR_ICT and YBR_RCT are what a JPEG 2000 codestream makes of RGB, and takes back itself.
    as_told = ybr == kind.startswith("YBR_FULL")
    return np.ascontiguousarray(values[..., ::-1]), None if as_told else OTHER_COLOURS


def _frame_bytes(
    file: BinaryIO, path: Path, dataset: "Dataset", layout: PixelLayout, index: int
) -> bytes:
    """The bytes of frame `index`. Raises BadInput where a coded one has not the header's size."""
    data = read_span(file, layout.spans[index])
    if dataset.file_meta.TransferSyntaxUID in UNCOMPRESSED | {RLE}:
        return data
    data = codestream(data)
    if stated_size(data) != (dataset.Columns, dataset.Rows):
        raise BadInput(f"{path}: frame {index} is not of the size in the header")
    return data


def _shown_grey(values: NDArray[Any], dataset: "Dataset") -> Pixels:
    """Stored values of one channel as they are shown, through a palette where there is one."""
    from pydicom.pixels.processing import apply_color_lut

    kind = dataset.PhotometricInterpretation
    if kind in GREY:
        grey = _windowed(values, dataset)
        return 255 - grey if kind == "MONOCHROME1" else grey
    values = apply_color_lut(values, dataset)
    _, _, stated = dataset.RedPaletteColorLookupTableDescriptor
    bits = min(stated, 8 * values.dtype.itemsize)  # of an entry; both may be the larger
    values = (values >> (bits - 8)).astype(np.uint8)
    if values.shape[2:] != (3,):
        raise ValueError("not three channels")
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
