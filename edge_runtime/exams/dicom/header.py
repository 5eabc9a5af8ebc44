"""What all DICOM objects of one exam share: identifiers, patient, study, equipment."""

from datetime import UTC, datetime

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from edge_runtime.exams.identifiers import exam_uid, study_uid
from edge_runtime.exams.store import Exam
from edge_runtime.results.result import NOTICE

MAX_LONG, MAX_SHORT = 64, 16
"""Letters of a long (LO) and of a short (SH) string; see PS3.5, 6.2."""
MANUFACTURER = "sonolite"
STUDY_DESCRIPTION = "Ultrasound judged by software"
CHARACTER_SET = "ISO_IR 192"
"""UTF-8."""


def moment_of(utc: str) -> datetime:
    """A moment of an exam, in UTC."""
    return datetime.fromisoformat(utc).astimezone(UTC)


def date_of(moment: datetime) -> str:
    """A date (DA)."""
    return f"{moment:%Y%m%d}"


def time_of(moment: datetime) -> str:
    """A time of day (TM)."""
    return f"{moment:%H%M%S.%f}"


def begin_object(
    exam: Exam, sop_class: str, uid: str, series: tuple[str, int, str], at: datetime, number: int
) -> Dataset:
    """An object with what all share. `series` is the role, the number and the description.

    `at` is the moment of the content, `number` the number in the series.
    """
    made = exam.provenance
    role, series_number, description = series
    begun = moment_of(exam.begun)
    content = Dataset()
    content.SpecificCharacterSet = CHARACTER_SET
    content.SOPClassUID, content.SOPInstanceUID = sop_class, uid
    content.TimezoneOffsetFromUTC = "+0000"
    content.InstanceCreationDate, content.InstanceCreationTime = date_of(at), time_of(at)
    content.ContentDate, content.ContentTime = date_of(at), time_of(at)
    content.PatientID = _plain(exam.identity.patient_id)
    content.PatientName = _person_name(exam.identity.name)
    content.PatientBirthDate, content.PatientSex = exam.identity.birth_date.replace("-", ""), ""
    content.StudyInstanceUID = study_uid(exam)
    content.StudyDate, content.StudyTime = date_of(begun), time_of(begun)
    content.StudyID = "" if exam.identity.study else str(exam.id)
    content.AccessionNumber = accession_number(exam) or ""
    content.ReferringPhysicianName = ""
    if not exam.identity.study:  # else the department has described it
        content.StudyDescription = STUDY_DESCRIPTION
    content.SeriesInstanceUID = exam_uid(exam, f"series {role}")
    content.SeriesNumber = series_number
    content.SeriesDescription = series_description(description)
    content.Manufacturer = MANUFACTURER
    content.ManufacturerModelName = _plain(f"{made.bundle} {made.version}")
    content.DeviceSerialNumber = _plain(made.device.partition(",")[0])
    content.SoftwareVersions = _plain(made.software)
    content.InstanceNumber = number
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return content


def series_description(about: str) -> str:
    """What a worklist of a PACS shows of a series, with the notice."""
    return f"{about}; {NOTICE}"[:MAX_LONG]


def accession_number(exam: Exam) -> str | None:
    """The accession number; None where there is none, or where it is too long for DICOM."""
    number = _plain(exam.identity.accession)
    return number if 0 < len(number) <= MAX_SHORT else None


def _plain(text: str) -> str:
    """Text without the letter that separates values (PS3.5, 6.4), cut to a long string."""
    return text.replace("\\", "/").strip()[:MAX_LONG]


def _person_name(name: str) -> str:
    """A name as DICOM writes it (PS3.5, 6.2.1); without separators it is a family name alone."""
    text = _plain(name)
    groups = text.split("=")
    if len(groups) > 3 or any(group.count("^") > 4 for group in groups):
        text = text.replace("=", " ").replace("^", " ")
    return text if not text or "^" in text else f"{text[: MAX_LONG - 1]}^"
