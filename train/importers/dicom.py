"""What the header of a DICOM file tells the importers: whose it is, and which frames to take."""

from pathlib import Path

from devices import BadInput
from devices.capture.dicom import Header, is_dicom, read_header

SECONDS_APART = 1.0
"""Between the frames that are taken of a moving file: neighbouring ones are near duplicates, which
would weigh a long clip over a short one and teach nothing."""


def patient_of(path: Path) -> str | None:
    """Stands for the patient of a DICOM file; None for other files, and where it does not say."""
    if not is_dicom(path):
        return None
    try:
        return read_header(path).patient
    except BadInput:  # said when its pixels are read
        return None


def spaced_frames(header: Header) -> list[int]:
    """The frames of a DICOM file to be samples, in order; only the first where no time is told."""
    taken = [0]
    for frame, seconds in enumerate(header.times):
        if seconds - header.times[taken[-1]] >= SECONDS_APART:
            taken.append(frame)
    return taken
