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
"""Letters of an identifier, a long string and one group of a name (PS3.5, 6.2)."""
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
    study = _identifier(dataset, "StudyInstanceUID")
    return DicomIdentity(
        patient_id=_identifier(dataset, "PatientID"),
        name=dicom_text(dataset, "PatientName"),
        birth_date=iso_date(dicom_text(dataset, "PatientBirthDate")),
        accession=_identifier(dataset, "AccessionNumber"),
        study=study if DICOM_UID.fullmatch(study) else "",
    )


def _identifier(dataset: Any, keyword: str) -> str:
    """An identifier; empty where it is too long, since a part of it is another identifier."""
    words = _words(dataset, keyword)
    return words if len(words) <= MAX_DICOM_TEXT else ""


def dicom_text(dataset: Any, keyword: str) -> str:
    """A name, a description or a date without control characters, cut at MAX_DICOM_TEXT letters."""
    words = _words(dataset, keyword)
    if len(words) > MAX_DICOM_TEXT and keyword == "PatientName":
        words = words.partition("=")[0]
    return words[:MAX_DICOM_TEXT].strip()


def _words(dataset: Any, keyword: str) -> str:
    """An attribute as text without control characters; several values as the object has them."""
    from pydicom.multival import MultiValue

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = dataset.get(keyword) or ""
            words = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
        except Exception:  # a value that its character set does not have, or of another type
            return ""
    return "".join(letter for letter in words if letter.isprintable()).strip()


def iso_date(text: str) -> str:
    """YYYYMMDD as YYYY-MM-DD; nothing where it is no date."""
    try:
        return datetime.strptime(text, "%Y%m%d").date().isoformat()
    except ValueError:
        return ""
