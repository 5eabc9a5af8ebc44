"""A recording of an exam as one moving Secondary Capture image, with JPEG frames."""

import hashlib
import time

import numpy as np
import simplejpeg
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEGBaseline8Bit,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)

from devices import BadInput, EndOfRecording, Pixels
from devices.capture import open_device
from devices.capture.source_uri import SourceUri
from edge_runtime.exams.dicom.header import begin_object, moment_of
from edge_runtime.exams.dicom.pictures import describe_pixels
from edge_runtime.exams.identifiers import exam_uid
from edge_runtime.exams.store import Exam

CLIP_SERIES = ("clip", 3, "Clip")
"""Role, number and description of the series."""
MAX_CLIP_FRAMES = 600
"""The first frames of a longer recording are taken: twenty seconds at thirty a second."""
CLIP_QUALITY = 90
"""Of JPEG."""
CLIP_READ_SECONDS = 10.0


def clip_object(exam: Exam, source: str) -> Dataset:
    """The first frames of a recording, such as a video, a record or a DICOM clip.

    All frames have the size and the colours of the first one. Raises BadInput for a source
    without an end, for a recording without a frame, and for frames of several sizes.
    """
    frames: list[bytes] = []
    shape = None
    with open_device(SourceUri(source), time.monotonic) as device:
        if device.endless:
            raise BadInput(f"--clip {SourceUri(source)}: a recording is needed")
        fps = device.fps
        while len(frames) < MAX_CLIP_FRAMES:
            try:
                pixels = device.read(CLIP_READ_SECONDS).pixels
            except EndOfRecording:
                break
            if shape is None:
                shape, first = pixels.shape, pixels
            if pixels.shape != shape:
                raise BadInput(f"--clip {SourceUri(source)}: the frames have several sizes")
            frames.append(_coded(pixels))
    if not frames:
        raise BadInput(f"--clip {SourceUri(source)}: there is no frame")
    kind = (
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage
        if first.ndim == 2
        else MultiFrameTrueColorSecondaryCaptureImageStorage
    )
    at = moment_of(exam.begun)
    uid = exam_uid(exam, f"clip {hashlib.sha256(b''.join(frames)).hexdigest()}")
    content = begin_object(exam, kind, uid, CLIP_SERIES, at, 1)
    describe_pixels(content, first)
    if first.ndim == 3:
        content.PhotometricInterpretation = "YBR_FULL_422"
    else:
        content.PresentationLUTShape = "IDENTITY"
        content.RescaleIntercept, content.RescaleSlope, content.RescaleType = 0, 1, "US"
    content.LossyImageCompression, content.LossyImageCompressionMethod = "01", "ISO_10918_1"
    ratio = first.nbytes * len(frames) / sum(map(len, frames))
    content.LossyImageCompressionRatio = f"{ratio:.2f}"
    content.NumberOfFrames = len(frames)
    if len(frames) > 1:
        content.FrameTime = f"{1000 / fps:.3f}"
        content.FrameIncrementPointer = 0x00181063  # Frame Time
    content.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    content.PixelData = encapsulate(frames)
    content["PixelData"].is_undefined_length = True
    return content


def _coded(pixels: Pixels) -> bytes:
    space, sampling = ("GRAY", "Gray") if pixels.ndim == 2 else ("BGR", "422")
    coded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels[..., np.newaxis] if pixels.ndim == 2 else pixels),
        CLIP_QUALITY,
        space,
        sampling,
    )
    return coded
