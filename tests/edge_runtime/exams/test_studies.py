"""The exams of what a scanner sends: one a study, whoever or whatever comes between."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from devices import BadInput
from devices.capture.dicom_identity import DicomIdentity
from devices.capture.phantom import Phantom
from edge_runtime.exams.recorder import ExamRecorder, NotKept
from edge_runtime.exams.store import Identity
from edge_runtime.exams.studies import STUDY_SECONDS, StudyExams
from tests.edge_runtime.exams.conftest import Recording, exams_in
from tests.edge_runtime.results.examples import RESULT

SCREEN = Phantom(live=False).render(0)
RECEIVED = {
    "object 1": DicomIdentity("4711", study="1.2.1"),
    "object 2": DicomIdentity("4712", study="1.2.2"),
    "object 3": DicomIdentity("4711"),
    "object 4": DicomIdentity("4712"),
    "object 5": DicomIdentity("4712", study="1.2.1"),
}


class Arriving:
    """The sink, a recorder of a folder, and a clock."""

    def __init__(self, recorder: ExamRecorder) -> None:
        self.recorder, self.now = recorder, 0.0
        self.exams = StudyExams(recorder, RECEIVED, lambda: self.now)

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.exams.write(replace(RESULT, file=f"object {number}", timestamp=None), SCREEN)


@pytest.fixture
def arriving(recording: Recording, folder: Path) -> Iterator[Arriving]:
    with recording(folder) as recorder:
        yield Arriving(recorder)


def patients(arriving: Arriving, folder: Path) -> list[str]:
    """Of all exams, once they are written."""
    arriving.recorder.close()
    return [exam.identity.patient_id for exam in exams_in(folder)]


def test_another_study_begins_another_exam(arriving: Arriving, folder: Path) -> None:
    arriving.send(1, 1, 2, 1)
    assert patients(arriving, folder) == ["4711", "4712", "4711"]


def test_objects_without_a_study_are_told_apart_by_the_patient(
    arriving: Arriving, folder: Path
) -> None:
    arriving.send(3, 3, 4)
    assert patients(arriving, folder) == ["4711", "4712"]


def test_one_study_of_two_patients_is_two_exams(arriving: Arriving, folder: Path) -> None:
    arriving.send(1, 5)
    assert patients(arriving, folder) == ["4711", "4712"]


def test_an_exam_ends_when_nothing_comes(arriving: Arriving, folder: Path) -> None:
    arriving.send(1)
    arriving.now = STUDY_SECONDS - 1
    arriving.exams.look()
    assert arriving.recorder.status().begun
    arriving.now = STUDY_SECONDS
    arriving.exams.look()
    assert not arriving.recorder.status().begun
    arriving.send(1)
    assert patients(arriving, folder) == ["4711", "4711"]


def test_an_exam_that_somebody_began_gets_no_picture_of_another_patient(
    arriving: Arriving, folder: Path
) -> None:
    arriving.recorder.begin(Identity("typed"))
    arriving.send(1)
    assert patients(arriving, folder) == ["typed", "4711"]
    assert [exam.nodules for exam in exams_in(folder)] == [0, 1]


def test_an_exam_that_somebody_began_within_a_study_gets_no_more_of_the_study(
    arriving: Arriving, folder: Path
) -> None:
    arriving.send(1)
    arriving.recorder.end()
    arriving.recorder.begin(Identity("typed"))
    arriving.send(1)
    assert patients(arriving, folder) == ["4711", "typed", "4711"]
    assert [exam.nodules for exam in exams_in(folder)] == [1, 0, 1]


def test_silence_of_the_scanner_ends_no_exam_that_somebody_began(arriving: Arriving) -> None:
    arriving.send(1)
    arriving.recorder.end()
    arriving.recorder.begin(Identity("typed"))
    arriving.now = STUDY_SECONDS
    arriving.exams.look()
    assert arriving.recorder.status().begun


def test_an_exam_that_somebody_ended_is_not_begun_again(arriving: Arriving, folder: Path) -> None:
    arriving.send(1)
    arriving.recorder.end()
    arriving.send(1)
    assert not arriving.recorder.status().begun
    assert patients(arriving, folder) == ["4711"]


def test_a_picture_of_the_patient_before_is_not_kept_in_the_next_exam(arriving: Arriving) -> None:
    sent = [
        replace(RESULT, sequence=number, file=f"object {number}", timestamp=None)
        for number in (1, 2)
    ]
    for each in sent:
        arriving.exams.write(each, SCREEN)
    with pytest.raises(BadInput, match=NotKept.NOT_OF_EXAM):
        arriving.recorder.keep_still(sent[0], SCREEN)
    arriving.recorder.keep_still(sent[1], SCREEN)
    assert arriving.recorder.status().stills == 1
