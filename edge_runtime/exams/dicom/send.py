"""An exam to a PACS, by the way that the address of the PACS names."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.exams.store import Exam, ExamDecision, ExamNodule, KeptStill
from edge_runtime.sinks.pacs import DicomNode, DicomWeb

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def send_objects(
    pacs: DicomNode | DicomWeb,
    folder: Path,
    exam: Exam,
    nodules: list[ExamNodule],
    stills: list[KeptStill],
    decisions: list[ExamDecision],
    clip: str | None = None,
) -> int:
    """Sends the objects of an exam of `folder`, and returns how many; see `exam_objects`.

    Raises NotDelivered where a later attempt may help, CheckFailed where none will, and BadInput
    for an exam that runs.
    """

    def objects() -> Iterator[tuple[str, "Dataset"]]:
        from edge_runtime.exams.dicom.objects import exam_objects  # slow: once the PACS is there

        yield from exam_objects(folder, exam, nodules, stills, decisions, clip)

    if isinstance(pacs, DicomWeb):
        from edge_runtime.exams.dicom.stow import post_objects

        return post_objects(pacs, objects())
    from edge_runtime.exams.dicom.dimse import store_objects

    return store_objects(pacs, objects())
