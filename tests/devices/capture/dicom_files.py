"""DICOM files: published ones of ultrasound scanners, and made ones for each rule."""

from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

GREY = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60)

PATIENT = "DOE-JANE-4711"


def published(name: str) -> Path:
    """A file of the package pydicom-data, or of pydicom itself."""
    path = Path(str(resources.files("data_store") / "data" / name))
    return (
        path if path.exists() else Path(str(resources.files("pydicom") / "data/test_files" / name))
    )


def write_dicom(path: Path, pixels: NDArray[Any], **attributes: object) -> Path:
    """Writes pixels `[H, W]` or `[H, W, 3]`, or several with `NumberOfFrames`, uncoded.

    Attributes are added or replace others; None takes one away.
    """
    colour = pixels.shape[-1] == 3
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = uid.UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=[path.name])
    dataset.PatientID = PATIENT
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        if name == "TransferSyntaxUID":
            dataset.file_meta.TransferSyntaxUID = uid.UID(str(value))
        elif value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_jpegs(path: Path, pictures: list[NDArray[np.uint8]], **attributes: object) -> Path:
    """Writes grey pictures as JPEG Baseline."""
    streams = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    coded: dict[str, object] = {
        "TransferSyntaxUID": uid.JPEGBaseline8Bit,
        "NumberOfFrames": len(streams),
        "PixelData": encapsulate(streams),
    }
    return write_dicom(path, np.stack(pictures), **coded | attributes)


def region(x0: int, y0: int, x1: int, y1: int, spatial: int = 1, data: int = 1) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = spatial, data
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    return item
