"""An exam as FHIR R4 (hl7.org/fhir/R4), for record systems: one Bundle of the type `collection`.

A DiagnosticReport names an Observation of each nodule, the pictures of the report as Media, and the
algorithm as a Device. A person stands there as a Patient where somebody typed who it is. Everything
is preliminary, marked as made by software, and carries the notice.
"""

from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from html import escape
from typing import Any

import msgspec

from devices import BadInput
from edge_runtime.exams.identifiers import exam_uuid, study_uid
from edge_runtime.exams.own_codes import (
    OwnCode,
    own_label,
    own_probability,
    own_range,
    own_reason,
    own_threshold,
)
from edge_runtime.exams.report import (
    REPORT_NOTICE,
    ExamReport,
    ReportPicture,
    common_reason,
    no_nodule_sentence,
    nodule_sentence,
)
from edge_runtime.exams.store import Exam, ExamDecision, ExamNodule
from edge_runtime.text import printable

OWN_SYSTEM = "urn:oid:2.25.163143874534572887377230109433710260962"
"""The URI of the project's own code system."""
_Json = dict[str, Any]


def _coding(system: str, code: str, display: str) -> _Json:
    return {"system": system, "code": code, "display": display}


def _own(code: OwnCode) -> _Json:
    return _coding(OWN_SYSTEM, code.value, code.meaning)


def _concept(*codings: _Json, text: str | None = None) -> _Json:
    return {"coding": list(codings), "text": text or codings[0]["display"]}


_TERMS = "http://terminology.hl7.org/CodeSystem"
_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
REPORT_CODE = _coding("http://loinc.org", "18748-4", "Diagnostic imaging study")
RADIOLOGY_ULTRASOUND = _coding(f"{_TERMS}/v2-0074", "RUS", "Radiology Ultrasound")
IMAGING = _coding(f"{_TERMS}/observation-category", "imaging", "Imaging")
ARTIFICIAL_INTELLIGENCE = _coding(_DICOM, "123110", "Artificial Intelligence")
US_MODALITY = _coding(_DICOM, "US", "Ultrasound")
IMAGE_TYPE = _coding(f"{_TERMS}/media-type", "image", "Image")
ABSENT = _coding(f"{_TERMS}/data-absent-reason", "unknown", "Unknown")
POSITIVE_FINDING = _coding(f"{_TERMS}/v3-ObservationInterpretation", "POS", "Positive")
NEGATIVE_FINDING = _coding(f"{_TERMS}/v3-ObservationInterpretation", "NEG", "Negative")
INDETERMINATE = _coding(f"{_TERMS}/v3-ObservationInterpretation", "IND", "Indeterminate")
"""How a probability lies to its threshold (POS, NEG), or that no label follows (IND); no more."""
ACCESSION = _coding(f"{_TERMS}/v2-0203", "ACSN", "Accession ID")
CLASSIFICATION_CODE = OwnCode("CLASSIFICATION", "Classification of a nodule by software")
FRAMES_CODE = OwnCode("FRAMES", "Frames that showed the nodule")
SOFTWARE_MADE = {
    "security": [
        _coding(f"{_TERMS}/v3-ObservationValue", "AIAST", "Artificial Intelligence asserted")
    ],
    "tag": [_own(OwnCode("NOTICE", REPORT_NOTICE))],
}
"""The `meta` of each resource."""


def exam_as_fhir(
    exam: Exam, nodules: list[ExamNodule], decisions: list[ExamDecision], report: ExamReport
) -> bytes:
    """The Bundle of an exam as JSON; `report` has the words and pictures of the same exam.

    Raises BadInput for an exam that runs, of which the Bundle would say something else later.
    """
    if exam.running:
        raise BadInput(f"exam {exam.id} is running; end it first")
    observations = {f"nodule {each.number}": _observation(exam, each) for each in nodules} or {
        "no nodule": _empty_observation(exam, decisions)
    }
    media = {
        f"media {number}": _media(exam, picture) for number, picture in enumerate(report.pictures)
    }
    resources = {
        "report": _report(exam, report, observations, media),
        **observations,
        **media,
        "algorithm": _algorithm(exam),
    }
    identity = exam.identity
    if identity.patient_id.strip() or identity.shown_name or identity.birth_date:
        for role in ("report", *observations, *media):
            resources[role]["subject"] = _reference(exam, "patient")
        resources["patient"] = _patient(exam)
    content = {
        "resourceType": "Bundle",
        "meta": SOFTWARE_MADE,
        "identifier": _identifier(exam, "bundle"),
        "type": "collection",
        "timestamp": exam.last,
        "entry": [
            {"fullUrl": _urn(exam, role), "resource": resource}
            for role, resource in resources.items()
        ],
    }
    return msgspec.json.format(msgspec.json.encode(content)) + b"\n"


def _report(
    exam: Exam, report: ExamReport, observations: dict[str, _Json], media: dict[str, _Json]
) -> _Json:
    """The DiagnosticReport. It names the study, and the order where somebody typed the number."""
    sentences = [each["note"][0]["text"] for each in observations.values()]
    lines = [*report.warnings, *sentences, *report.explanation]
    resource = _resource(exam, "report", "DiagnosticReport", [report.title, *lines]) | {
        "status": "preliminary",
        "category": [_concept(RADIOLOGY_ULTRASOUND)],
        "code": _concept(REPORT_CODE, text="Ultrasound judged by software"),
        "effectivePeriod": _period(exam.begun, exam.last),
        "issued": exam.last,
        "result": [_reference(exam, role) for role in observations],
        "imagingStudy": [_study(exam)],
        "conclusion": _plain(" ".join([f"{REPORT_NOTICE}.", *report.warnings, *sentences])),
    }
    if media:
        resource["media"] = [
            {"comment": picture["content"]["title"], "link": _reference(exam, role)}
            for role, picture in media.items()
        ]
    if number := exam.identity.accession.strip():
        order = {"type": _concept(ACCESSION), "value": number}
        resource["basedOn"] = [{"type": "ServiceRequest", "identifier": order}]
    return resource


def _observation(exam: Exam, nodule: ExamNodule) -> _Json:
    """What was decided about one nodule: a label, or the reason why there is none."""
    sentence = nodule_sentence(exam, nodule)
    return _observed(exam, f"nodule {nodule.number}", sentence, nodule.label, nodule.reason) | {
        "effectivePeriod": _period(nodule.first_seen, nodule.last_seen),
        "component": [*_components(exam, nodule)],
    }


def _empty_observation(exam: Exam, decisions: list[ExamDecision]) -> _Json:
    """The exam as a whole, where no nodule was judged."""
    reason = common_reason(decisions)
    sentence = no_nodule_sentence(reason)
    return _observed(exam, "no nodule", sentence, None, reason) | {
        "effectivePeriod": _period(exam.begun, exam.last)
    }


def _observed(exam: Exam, role: str, sentence: str, label: str | None, reason: str | None) -> _Json:
    resource = _resource(exam, role, "Observation", [sentence]) | {
        "status": "preliminary",
        "category": [_concept(IMAGING)],
        "code": _concept(_own(CLASSIFICATION_CODE)),
        "method": _concept(ARTIFICIAL_INTELLIGENCE),
        "device": _reference(exam, "algorithm"),
        "note": [{"text": _plain(sentence)}],
    }
    if label is not None:
        return resource | {"valueCodeableConcept": _concept(_own(own_label(label)))}
    codings = [ABSENT] if reason is None else [ABSENT, _own(own_reason(reason))]
    return resource | {"dataAbsentReason": _concept(*codings, text=reason)}


def _components(exam: Exam, nodule: ExamNodule) -> Iterator[_Json]:
    """Probabilities with their ranges, thresholds, and the number of frames."""
    thresholds = exam.provenance.thresholds
    for label, chance in nodule.probability.items():
        component = _component(own_probability(label), valueQuantity=_number(chance))
        if label in thresholds:
            component["interpretation"] = [_concept(_side(nodule, label))]
        yield component
        if nodule.interval is not None:
            low, high = map(_number, nodule.interval[label])
            yield _component(own_range(label), valueRange={"low": low, "high": high})
    for label, threshold in thresholds.items():
        yield _component(own_threshold(label), valueQuantity=_number(threshold))
    yield _component(FRAMES_CODE, valueInteger=nodule.frames)


def _component(code: OwnCode, **value: object) -> _Json:
    return {"code": _concept(_own(code)), **value}


def _side(nodule: ExamNodule, label: str) -> _Json:
    """Whether a label was given, another one was, or none."""
    if nodule.label is None:
        return INDETERMINATE
    return POSITIVE_FINDING if nodule.label == label else NEGATIVE_FINDING


def _media(exam: Exam, picture: ReportPicture) -> _Json:
    """A picture of the report, with the box drawn in."""
    return _resource(exam, None, "Media") | {
        "status": "completed",
        "type": _concept(IMAGE_TYPE),
        "modality": _concept(US_MODALITY),
        "device": _reference(exam, "algorithm"),
        "height": picture.height,
        "width": picture.width,
        "content": {
            "contentType": "image/jpeg",
            "data": b64encode(picture.jpeg).decode(),
            "title": _plain(picture.caption),
        },
        "note": [{"text": REPORT_NOTICE}],
    }


def _algorithm(exam: Exam) -> _Json:
    """The model, which is the same Device in all exams that it judged."""
    made = exam.provenance
    digest = {"type": {"text": "sha256 of the manifest"}, "value": made.digest}
    return _resource(exam, None, "Device") | {
        "identifier": [digest],
        "manufacturer": "sonolite",
        "deviceName": [{"name": _plain(made.bundle), "type": "model-name"}],
        "type": _concept(ARTIFICIAL_INTELLIGENCE),
        "version": [
            {"type": {"text": "model"}, "value": str(made.version)},
            {"type": {"text": "software"}, "value": _plain(made.software)},
        ],
        "note": [{"text": _plain(f"{REPORT_NOTICE}. It ran on {made.device}.")}],
    }


def _patient(exam: Exam) -> _Json:
    """Who was examined, as far as the exam tells."""
    identity = exam.identity
    resource = _resource(exam, None, "Patient")
    if number := identity.patient_id.strip():
        resource["identifier"] = [{"value": number}]
    if identity.shown_name:
        resource["name"] = [_name(exam)]
    if identity.birth_date:
        resource["birthDate"] = identity.birth_date
    return resource


def _name(exam: Exam) -> _Json:
    """The name for people, and the parts where it is one of DICOM (PS3.5, 6.2.1)."""
    parts = [part.strip() for part in exam.identity.name.partition("=")[0].split("^")]
    family, given, middle, prefix, suffix = [*parts, "", "", "", ""][:5]
    name: _Json = {"text": exam.identity.shown_name}
    if len(parts) == 1 or len(parts) > 5:  # typed freely: nobody knows which part is which
        return name
    if family:
        name["family"] = family
    lists = {"given": [given, middle], "prefix": [prefix], "suffix": [suffix]}
    return name | {key: kept for key, each in lists.items() if (kept := [*filter(None, each)])}


def _resource(exam: Exam, role: str | None, kind: str, lines: list[str] | None = None) -> _Json:
    """What resources share: the mark, the identifier of a `role`, and `lines` for people."""
    resource: _Json = {"resourceType": kind, "meta": SOFTWARE_MADE, "language": "en"}
    if lines is not None:
        notice, *rest = (escape(_plain(line)) for line in (f"{REPORT_NOTICE}.", *lines))
        body = f"<p><b>{notice}</b></p>" + "".join(f"<p>{line}</p>" for line in rest)
        div = f'<div xmlns="http://www.w3.org/1999/xhtml" lang="en">{body}</div>'
        resource["text"] = {"status": "generated", "div": div}
    if role is not None:
        resource["identifier"] = [_identifier(exam, role)]
    return resource


def _study(exam: Exam) -> _Json:
    """The study of the exam's DICOM objects."""
    identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{study_uid(exam)}"}
    return {"type": "ImagingStudy", "identifier": identifier}


def _identifier(exam: Exam, role: str) -> _Json:
    return {"system": "urn:ietf:rfc:3986", "value": _urn(exam, role)}


def _reference(exam: Exam, role: str) -> _Json:
    return {"reference": _urn(exam, role)}


def _urn(exam: Exam, role: str) -> str:
    return exam_uuid(exam, f"fhir {role}").urn


def _period(first: str, last: str) -> _Json:
    """A period; a clock that was set back does not turn it round."""
    start, end = sorted((first, last), key=datetime.fromisoformat)
    return {"start": start, "end": end}


def _number(value: float) -> _Json:
    return {"value": round(value, 6), "system": "http://unitsofmeasure.org", "code": "1"}


def _plain(text: str) -> str:
    """Text without the letters that XML and FHIR do not know."""
    return printable(text).strip() or "-"
