"""A sink takes results through one method; `edge_runtime.sinks.open` opens a sink by URI."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from devices import Pixels
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import Result

NO_PIXELS: Pixels = np.zeros((1, 1), np.uint8)
"""Stands for the screen where a sink wants no pixels."""


class Sink(Protocol):
    """A place for the results of a session."""

    wants_pixels: bool
    """Whether the sink needs the screen of a result."""
    latest_only: bool
    """Whether the sink needs only the newest result of a live session, as a display does."""

    def write(self, result: Result, pixels: Pixels) -> None:
        """Takes one result; `pixels` may be read, not changed.

        Any error ends the session of a recording. A live session goes on while another sink works.
        """


class ExamSink(Protocol):
    """A sink that takes whole exams, as a recorder keeps them. It raises nothing."""

    def exam_begun(self, folder: Path, exam: int) -> None:
        """Takes the number of an exam that began, and is kept in `folder`."""

    def exam_ended(self) -> None:
        """The exam is complete on the disk."""

    def unsent(self) -> int:
        """Exams whose sending failed: they wait for another attempt, or were given up."""


@runtime_checkable
class CountedSink(Sink, Protocol):
    """A sink that sends results elsewhere. The summary tells the counts.

    An error costs a live session one result, which is counted; the sink gets the next result.
    """

    tally: Tally
