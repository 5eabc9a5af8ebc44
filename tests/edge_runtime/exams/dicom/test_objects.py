"""The DICOM objects of an exam: valid, the same whenever they are made, and plain to read."""

import json
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from highdicom.sr import ImageRegion, MeasurementReport, srread

from devices import BadInput
from edge_runtime.bundle.archive import Bundle
from edge_runtime.exams.dicom import codes
from edge_runtime.exams.dicom.objects import exam_objects, write_objects
from edge_runtime.exams.export import export_exam, without_identity
from edge_runtime.exams.own_codes import REASON_CODES
from edge_runtime.exams.store import Identity, still_path
from edge_runtime.nodules import decide, pooling
from edge_runtime.results.result import from_json
from tests.edge_runtime.exams.conftest import parts_of
from tests.edge_runtime.exams.dicom.conftest import WHO, keep_exam


def files_of(folder: Path, *parts: Any) -> dict[str, bytes]:
    made = {}
    for name, content in exam_objects(folder, *parts):
        file = BytesIO()
        content.save_as(file, enforce_file_format=True)
        made[name] = file.getvalue()
    return made


@pytest.fixture(scope="module")
def files(exams: Path) -> dict[str, bytes]:
    return files_of(exams, *parts_of(exams))


@pytest.fixture(scope="module")
def report(files: dict[str, bytes]) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(files["report.dcm"]))


@pytest.fixture(scope="module")
def content(files: dict[str, bytes]) -> MeasurementReport:
    made: MeasurementReport = srread(BytesIO(files["report.dcm"])).content  # type: ignore[assignment]
    return made


def pictures_of(files: dict[str, bytes]) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(BytesIO(files[name])) for name in files if name != "report.dcm"]


def errors_in(path: Path) -> list[str]:
    """What dciodvfy finds wrong in an object."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (make test-programs)")
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert any("SCImage" in line or "Comprehensive3DSR" in line for line in lines), lines
    return [line for line in lines if line.startswith("Error")]


def odd(parts: Any, **changes: Any) -> Any:
    exam, *rest = parts
    return (replace(exam, **changes), *rest)


KINDS: dict[str, Any] = {
    "whole": lambda parts: parts,
    "without identity": lambda parts: without_identity(*parts),
    "interrupted": lambda parts: odd(parts, ended=None),
    "evil identity": lambda parts: odd(
        parts, identity=Identity("a\\b" * 20, "A=B=C=D^E^F^G^H^I", "x" * 64)
    ),
    "of a worklist": lambda parts: odd(
        parts, identity=replace(WHO, study="1.2.3", birth_date="1980-05-01")
    ),
    "other letters": lambda parts: odd(parts, identity=Identity("ÄÖ-李", "李^娜=1+1", "é")),
    "without nodules and pictures": lambda parts: (parts[0], [], [], parts[3]),
    "without anything": lambda parts: (parts[0], [], [], []),
    "without pictures": lambda parts: (parts[0], parts[1], [], parts[3]),
    "long words": lambda parts: odd(
        parts,
        provenance=replace(
            parts[0].provenance, device="d" * 300, software="s" * 300, bundle="b" * 300
        ),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error(kind: str, exams: Path, tmp_path: Path) -> None:
    parts = KINDS[kind](parts_of(exams))
    write_objects(tmp_path / "dicom", exam_objects(exams, *parts))
    paths = sorted((tmp_path / "dicom").iterdir())
    assert len(paths) == 1 + len(parts[2])
    assert {path.name: errors_in(path) for path in paths} == {path.name: [] for path in paths}


def test_dciodvfy_finds_an_error_where_there_is_one(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    broken = pydicom.dcmread(BytesIO(files["report.dcm"]))
    del broken.CompletionFlag
    broken.save_as(tmp_path / "broken.dcm")
    assert errors_in(tmp_path / "broken.dcm")


def dumped(path: Path) -> str:
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump is not installed (make test-programs)")
    words = ["dsrdump", "--print-long-values", str(path)]
    done = subprocess.run(words, capture_output=True, check=True)
    assert b"E:" not in done.stderr
    return done.stdout.decode()


def test_a_report_says_in_plain_words_what_was_decided(
    files: dict[str, bytes], tmp_path: Path, exams: Path
) -> None:
    (tmp_path / "report.dcm").write_bytes(files["report.dcm"])
    text = " ".join(dumped(tmp_path / "report.dcm").split())
    digest = parts_of(exams)[0].provenance.digest
    for words in (
        "Research use only, not for diagnosis.",
        "Decided by the model demo, version 4, with sonolite",
        f"sha256 of the manifest of the bundle: {digest}",
        "Nodule 1: the pictures resemble those that are labelled malignant. "
        "Probability of malignant 0.98, between 0.9",
        "Nodule 2: not assessable: too close to the threshold. Probability of malignant 0.80",
        "The box is in picture ",
        '"Modality")=(US,DCM,"Ultrasound")',
        "Verification Flag : UNVERIFIED",
        "Preliminary Flag : PRELIMINARY",
        "Completion Flag : COMPLETE",
    ):
        assert words in text


def test_a_report_and_the_pictures_agree_on_the_modality(files: dict[str, bytes]) -> None:
    assert {each.Modality for each in pictures_of(files)} == {"US"}


def test_no_code_says_that_a_nodule_is_malignant(report: pydicom.Dataset) -> None:
    meanings = [
        item.CodeMeaning
        for element in report.iterall()
        if element.VR == "SQ"
        for item in element.value
        if "CodeMeaning" in item
    ]
    assert "Nodule" in meanings
    assert "Resembles pictures labelled malignant" in meanings
    assert not {"Malignant", "Benign", "malignant", "benign"} & set(meanings)


def test_a_reader_of_the_template_gets_each_nodule_with_region_and_algorithm(
    content: MeasurementReport, files: dict[str, bytes], exams: Path
) -> None:
    _, nodules, stills, _ = parts_of(exams)
    groups = content.get_planar_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Nodule 1", "Nodule 2"]
    pictures = {each.SOPInstanceUID: each for each in pictures_of(files)}
    for group, nodule in zip(groups, nodules, strict=True):
        region = group.roi
        assert isinstance(region, ImageRegion)
        uid = region.ContentSequence[0].referenced_sop_instance_uid
        still = stills[pictures[uid].InstanceNumber - 1]
        (seen,) = from_json(still.result).nodules
        assert (still.nodule, seen.track) == (nodule.number, nodule.track)
        x, y, w, h = seen.box
        assert region.value[:4].tolist() == [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]


def test_a_probability_comes_with_the_bounds(content: MeasurementReport, exams: Path) -> None:
    first = content.get_planar_roi_measurement_groups()[0]
    (chance,) = first.get_measurements(name=codes.probability_name("malignant"))
    (_, nodules, _, _) = parts_of(exams)
    low, high = nodules[0].interval["malignant"]
    value = chance.value
    assert value == pytest.approx(nodules[0].probability["malignant"], abs=1e-6)
    bounds = {
        item.name.meaning: float(item.value)
        for item in chance[0].ContentSequence
        if item.relationship_type.value == "HAS PROPERTIES"
    }
    assert bounds == {
        "+, range of upper measurement uncertainty": pytest.approx(high - value, abs=2e-6),
        "-, range of lower measurement uncertainty": pytest.approx(value - low, abs=2e-6),
    }


def test_an_abstention_is_coded_with_the_reason(content: MeasurementReport) -> None:
    second = content.get_planar_roi_measurement_groups()[1]
    coded = {each.name: each.value for each in second.get_qualitative_evaluations()}
    assert coded[codes.CLASSIFICATION] == codes.NOT_ASSESSABLE
    assert coded[codes.REASON_NAME] == codes.reason_code("too close to the threshold")
    assert codes.reason_code("too close to the threshold").value == "TOOCLOSE"


def test_every_reason_of_a_nodule_has_a_code() -> None:
    words = {
        value
        for module in (decide, pooling)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }
    assert len(words) >= 5
    assert words <= set(REASON_CODES)


@pytest.mark.parametrize("label", ["malignant", "a b", "é", "x" * 200, "COVID-19", "benign_2"])
def test_every_label_has_a_code_that_fits(label: str) -> None:
    made = [codes.label_code(label), codes.probability_name(label), codes.threshold_name(label)]
    assert len({code.value for code in made}) == 3
    for code in made:
        assert len(code.value) <= 16
        assert len(code.meaning) <= 64
        assert code.value.isascii()
    assert codes.label_code(label).value != codes.label_code(f"{label}!").value


def test_a_picture_is_the_one_that_was_kept(files: dict[str, bytes], exams: Path) -> None:
    _, _, stills, _ = parts_of(exams)
    pictures = pictures_of(files)
    assert len(pictures) == len(stills) == 3
    for picture, still in zip(pictures, stills, strict=True):
        kept = cv2.imread(str(still_path(exams, 1, still.number)), cv2.IMREAD_UNCHANGED)
        assert kept is not None
        assert np.array_equal(picture.pixel_array, kept)
        assert picture.BurnedInAnnotation == "YES"
        assert "research use only" in picture.SeriesDescription


def test_colours_stay(exams: Path, tmp_path: Path) -> None:
    shutil.copytree(exams, tmp_path / "exams")
    exam, nodules, stills, decisions = parts_of(exams)
    blue = np.zeros((3, 5, 3), np.uint8)
    blue[:, :, 0] = 200  # of OpenCV
    cv2.imwrite(str(still_path(tmp_path / "exams", 1, stills[0].number)), blue)
    made = files_of(tmp_path / "exams", exam, nodules, stills, decisions)
    picture = pictures_of(made)[0]
    assert picture.pixel_array[0, 0].tolist() == [0, 0, 200]
    assert picture.PhotometricInterpretation == "RGB"


def test_a_damaged_picture_is_left_out(exams: Path, tmp_path: Path) -> None:
    shutil.copytree(exams, tmp_path / "exams")
    parts = parts_of(exams)
    still_path(tmp_path / "exams", 1, parts[2][0].number).write_bytes(b"no PNG")
    assert len(files_of(tmp_path / "exams", *parts)) == 3


def test_a_result_of_another_version_leaves_the_picture_without_a_region(
    exams: Path, tmp_path: Path
) -> None:
    exam, nodules, stills, decisions = parts_of(exams)
    other = [replace(still, result='{"version": 9}') for still in stills]
    made = files_of(exams, exam, nodules, other, decisions)
    assert len(made) == 4
    (tmp_path / "report.dcm").write_bytes(made["report.dcm"])
    assert errors_in(tmp_path / "report.dcm") == []
    assert "No kept picture tells where it lies." in dumped(tmp_path / "report.dcm")


def test_a_second_export_makes_the_same_objects(exams: Path, files: dict[str, bytes]) -> None:
    assert files_of(exams, *parts_of(exams)) == files


def test_the_identity_stands_in_the_objects(files: dict[str, bytes]) -> None:
    for content in map(pydicom.dcmread, map(BytesIO, files.values())):
        assert content.PatientID == WHO.patient_id
        assert content.PatientName == WHO.name
        assert content.AccessionNumber == WHO.accession


def test_an_exam_of_a_study_of_the_department_belongs_to_that_study(
    exams: Path, tmp_path: Path
) -> None:
    identity = Identity("4711", "Doe^Jane", "A-17", "1980-05-01", "1.2.826.0.1.4711")
    made = files_of(exams, *odd(parts_of(exams), identity=identity))
    for content in map(pydicom.dcmread, map(BytesIO, made.values())):
        assert content.StudyInstanceUID == "1.2.826.0.1.4711"
        assert content.PatientBirthDate == "19800501"
        assert not content.get("StudyDescription")
        assert not content.get("StudyID")


def test_objects_without_identity_name_nobody_and_are_others(
    exams: Path, files: dict[str, bytes]
) -> None:
    hidden = files_of(exams, *without_identity(*parts_of(exams)))
    for content in map(pydicom.dcmread, map(BytesIO, hidden.values())):
        assert (content.PatientID, content.PatientName, content.AccessionNumber) == ("", "", "")
        assert content.StudyInstanceUID
    blob = b"".join(hidden.values())
    for word in (WHO.patient_id, "Weiß", WHO.accession):
        assert word.encode() not in blob
    made = {pydicom.dcmread(BytesIO(each)).SOPInstanceUID for each in files.values()}
    assert not made & {pydicom.dcmread(BytesIO(each)).SOPInstanceUID for each in hidden.values()}


def test_a_nodule_without_identity_has_no_box_of_another_recording(exams: Path) -> None:
    exam, nodules, stills, decisions = parts_of(exams)
    of_first = [
        replace(still, result=json.dumps(json.loads(still.result) | {"file": "first.mp4"}))
        for still in stills
    ]
    of_second = [replace(nodule, file="second.mp4") for nodule in nodules]
    hidden = files_of(exams, *without_identity(exam, of_second, of_first, decisions))
    report = hidden["report.dcm"]
    assert report.count(b"No kept picture tells where it lies.") == len(nodules) == 2


def test_two_exams_share_no_identifier(
    exams: Path, tmp_path: Path, found_bundle: Bundle, files: dict[str, bytes]
) -> None:
    folder = tmp_path / "exams"
    keep_exam(folder, found_bundle, frames=31)
    other = files_of(folder, *parts_of(folder))
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        first, second = (
            {getattr(pydicom.dcmread(BytesIO(each)), name) for each in made.values()}
            for made in (files, other)
        )
        assert not first & second


def test_an_accession_number_that_does_not_fit_is_told_in_the_report(
    exams: Path, tmp_path: Path
) -> None:
    parts = odd(parts_of(exams), identity=Identity(accession="A" * 20))
    made = files_of(exams, *parts)
    (tmp_path / "report.dcm").write_bytes(made["report.dcm"])
    assert pydicom.dcmread(tmp_path / "report.dcm").AccessionNumber == ""
    assert "A" * 20 in dumped(tmp_path / "report.dcm")


def test_an_interrupted_exam_is_partial_and_says_so(exams: Path, tmp_path: Path) -> None:
    made = files_of(exams, *odd(parts_of(exams), ended=None))
    (tmp_path / "report.dcm").write_bytes(made["report.dcm"])
    assert pydicom.dcmread(tmp_path / "report.dcm").CompletionFlag == "PARTIAL"
    assert "The exam was interrupted" in dumped(tmp_path / "report.dcm")


def test_an_exam_without_a_nodule_says_why(exams: Path, tmp_path: Path) -> None:
    exam, _, _, decisions = parts_of(exams)
    empty = [each for each in decisions if each.nodule is None]
    made = files_of(exams, exam, [], [], empty)
    (tmp_path / "report.dcm").write_bytes(made["report.dcm"])
    text = dumped(tmp_path / "report.dcm")
    assert "No nodule was judged. Most often the reason was: no nodule in view." in text
    assert '(NOTASSESSABLE,99SONOLITE,"Not assessable")' in text


def test_an_exam_that_runs_is_refused(exams: Path) -> None:
    with pytest.raises(BadInput, match="exam 1 is running"):
        files_of(exams, *odd(parts_of(exams), running=True))


def test_an_export_has_the_objects_where_they_are_wanted(exams: Path, tmp_path: Path) -> None:
    parts = parts_of(exams)
    export_exam(exams, tmp_path / "with", *parts, dicom=True)
    names = sorted(path.name for path in (tmp_path / "with" / "dicom").iterdir())
    assert names == ["picture-1.dcm", "picture-2.dcm", "picture-3.dcm", "report.dcm"]
    export_exam(exams, tmp_path / "without", *parts)
    assert not (tmp_path / "without" / "dicom").exists()
