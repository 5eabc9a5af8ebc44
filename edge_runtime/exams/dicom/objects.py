"""All DICOM objects of an exam, one after the other: the kept pictures, a clip, the report."""

from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from devices import BadInput
from edge_runtime.exams.dicom.clip import clip_object
from edge_runtime.exams.dicom.pictures import picture_objects
from edge_runtime.exams.dicom.structured_report import report_object
from edge_runtime.exams.store import Exam, ExamDecision, ExamNodule, KeptStill


def exam_objects(
    folder: Path,
    exam: Exam,
    nodules: list[ExamNodule],
    stills: list[KeptStill],
    decisions: list[ExamDecision],
    clip: str | None = None,
) -> Iterator[tuple[str, Dataset]]:
    """Each object with a name for a file. Only one holds pixels at a time: let go of it.

    A picture that is missing or damaged is left out. `clip` names a recording of the exam. Raises
    BadInput for an exam that runs, whose report would say something else later, and for a recording
    that cannot be used.
    """
    if exam.running:
        raise BadInput(f"exam {exam.id} is running; end it first")
    pictures = []
    for still, content in picture_objects(folder, exam, stills):
        if content is not None:
            yield f"picture-{still.number}.dcm", content
            del content.PixelData
            pictures.append((still, content))
    if clip is not None:
        yield "clip.dcm", clip_object(exam, clip)
    yield "report.dcm", report_object(exam, nodules, decisions, pictures)


def write_objects(out: Path, objects: Iterator[tuple[str, Dataset]]) -> None:
    """Writes objects into the new folder `out`, as DICOM files (PS3.10)."""
    out.mkdir()
    for name, content in objects:
        content.save_as(out / name, enforce_file_format=True)
