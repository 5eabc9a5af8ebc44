"""A recorder in a folder, and results as a session gives them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle.archive import Bundle
from edge_runtime.exams.recorder import ExamRecorder, open_exam_recorder, running_exam
from edge_runtime.exams.schema import open_exams
from edge_runtime.exams.store import (
    Exam,
    read_decisions,
    read_exams,
    read_nodules,
    read_stills,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "exams"


Recording = Callable[..., AbstractContextManager[ExamRecorder]]


@pytest.fixture
def recording(found_bundle: Bundle) -> Recording:
    """`recording(folder)` opens a recorder of a live session."""

    def opened(
        folder: Path, source: str = "phantom:", **options: object
    ) -> AbstractContextManager[ExamRecorder]:
        return open_exam_recorder(folder, found_bundle, source, True, **options)  # type: ignore[arg-type]

    return opened


@pytest.fixture
def recorder(recording: Recording, folder: Path) -> Iterator[ExamRecorder]:
    with recording(folder) as recorder:
        yield recorder


def parts_of(folder: Path, number: int = 1) -> Any:
    """An exam with its nodules, stills and decisions."""
    with closing(open_exams(folder)) as connection:
        (exam,) = read_exams(connection, None, number)
        return (
            exam,
            read_nodules(connection, number),
            read_stills(connection, number),
            read_decisions(connection, number),
        )


def exams_in(folder: Path) -> list[Exam]:
    with closing(open_exams(folder)) as connection:
        return read_exams(connection, running_exam(folder, connection))
