"""Whom a DICOM object shows, and to which study it belongs.

None of it is ever printed or logged. Attributes are named by their keywords; PS3.3 and PS3.5 are
parts of the standard (dicom.nema.org).
"""

import re
import warnings
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

MAX_DICOM_TEXT = 64
"""Letters of a long string and of one group of a name (PS3.5, 6.2); what is longer is cut."""
KEYWORDS = ("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID")
DICOM_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+", re.ASCII)
"""Of an identifier (PS3.5, 9.1)."""


@dataclass(frozen=True)
class DicomIdentity:
    """The patient and the study of an object; each part may be empty."""

    patient_id: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    """As DICOM writes it, with `^` between family name and given name."""
    birth_date: str = field(default="", repr=False)
    """YYYY-MM-DD."""
    accession: str = field(default="", repr=False)
    study: str = field(default="", repr=False)
    """The UID of the study."""


def read_identity(path: Path) -> DicomIdentity:
    """The identity in a DICOM file that is known to be one; what cannot be read is empty."""
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its warnings quote what they stumble on
        return identity_of(dcmread(path, stop_before_pixels=True, specific_tags=[*KEYWORDS]))


def identity_of(dataset: Any) -> DicomIdentity:
    """The identity in a dataset of pydicom; what cannot be read is empty."""
    text = {keyword: dicom_text(dataset, keyword) for keyword in KEYWORDS}
    study = text["StudyInstanceUID"]
    return DicomIdentity(
        patient_id=text["PatientID"],
        name=text["PatientName"],
        birth_date=iso_date(text["PatientBirthDate"]),
        accession=text["AccessionNumber"],
        study=study if DICOM_UID.fullmatch(study) else "",
    )


def dicom_text(dataset: Any, keyword: str) -> str:
    """An attribute as text without control characters, at most MAX_DICOM_TEXT letters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            words = str(dataset.get(keyword) or "")
        except Exception:  # a value that its character set does not have, or of another type
            return ""
    words = "".join(letter for letter in words if letter.isprintable()).strip()
    if len(words) > MAX_DICOM_TEXT and keyword == "PatientName":
        words = words.partition("=")[0]
    return words[:MAX_DICOM_TEXT].strip()


def iso_date(text: str) -> str:
    """YYYYMMDD as YYYY-MM-DD; nothing where it is no date."""
    try:
        return datetime.strptime(text, "%Y%m%d").date().isoformat()
    except ValueError:
        return ""
