"""The kept pictures of an exam as Secondary Capture images.

They are pictures of a screen. An Ultrasound Image tells how many pixels a millimetre has, and which
transducer was used. That is not known here.
"""

from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from devices import Pixels
from edge_runtime.exams.dicom.header import begin_object, date_of, moment_of, time_of
from edge_runtime.exams.identifiers import exam_uid
from edge_runtime.exams.report import read_still, result_of
from edge_runtime.exams.store import Exam, KeptStill, still_path

PICTURE_SERIES = ("pictures", 1, "Pictures")
"""Role, number and description of the series."""


def picture_objects(
    folder: Path, exam: Exam, stills: list[KeptStill]
) -> Iterator[tuple[KeptStill, Dataset | None]]:
    """Each kept picture of `folder`, None for a file that is missing or damaged.

    The pixels are uncompressed, and as they were kept.
    """
    for number, still in enumerate(stills, 1):
        pixels = read_still(still_path(folder, exam.id, still.number))
        if pixels is None:
            yield still, None
            continue
        result = result_of(still)
        at = moment_of(exam.last if result is None else result.captured_utc)
        uid = exam_uid(exam, f"picture {still.number}")
        content = begin_object(exam, SecondaryCaptureImageStorage, uid, PICTURE_SERIES, at, number)
        content.DateOfSecondaryCapture, content.TimeOfSecondaryCapture = date_of(at), time_of(at)
        content.ImageComments = picture_caption(still, number)
        describe_pixels(content, pixels)
        colours = pixels if pixels.ndim == 2 else pixels[:, :, 2::-1]  # DICOM has red first
        content.PixelData = _even(colours.tobytes())
        yield still, content


def picture_caption(still: KeptStill, number: int) -> str:
    """Which picture it is, in words."""
    why = "kept by the user" if still.kept == "person" else f"best picture of nodule {still.nodule}"
    result = result_of(still)
    if result is None:
        return f"Picture {number}: {why}"
    place = f"frame {result.frame}" if result.file is None else f"{result.file}, {result.frame}"
    return f"Picture {number}: {why}; {place}"


def describe_pixels(content: Dataset, pixels: Pixels) -> None:
    """Describes ``[h, w]`` or ``[h, w, c]`` pixels of a screen, 8 bits, in an object."""
    content.Modality = "US"
    content.ConversionType = "WSD"  # made by a workstation
    content.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    content.BurnedInAnnotation = "YES"  # a scanner may have written a name into the picture
    content.PatientOrientation = content.Laterality = ""  # not known here
    content.Rows, content.Columns = pixels.shape[:2]
    content.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    content.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        content.PlanarConfiguration = 0
    content.BitsAllocated = content.BitsStored = 8
    content.HighBit, content.PixelRepresentation = 7, 0


def _even(values: bytes) -> bytes:
    return values + b"\0" * (len(values) % 2)
