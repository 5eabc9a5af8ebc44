"""The identifiers of the parts of an exam, the same in DICOM and in FHIR."""

import json
from uuid import UUID, uuid5

from edge_runtime.exams.store import Exam

_NAMESPACE = UUID("6f2b1f0e-53a8-4d0b-9f6e-0f6b7c1d2a55")


def exam_uuid(exam: Exam, role: str) -> UUID:
    """The identifier of a part of an exam, such as `report`.

    It follows from the exam, so that whoever makes an object again makes the same one. An exam
    without identity has identifiers of its own: the objects differ.
    """
    made, identity = exam.provenance, exam.identity
    origin = [exam.id, exam.begun, made.device, made.digest, made.source]
    person = [identity.patient_id, identity.name, identity.accession]
    return uuid5(_NAMESPACE, json.dumps([*origin, *person, role]))


def exam_uid(exam: Exam, role: str) -> str:
    """The same for DICOM (PS3.5, B.2)."""
    return f"2.25.{exam_uuid(exam, role).int}"


def study_uid(exam: Exam) -> str:
    """The study of an exam: the department's, or a new one."""
    return exam.identity.study or exam_uid(exam, "study")
