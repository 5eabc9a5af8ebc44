"""Exams of what a scanner sends: one for each study, begun and ended by the pictures themselves.

The results of a session go through here to the recorder. A picture ends every exam that runs but
the own exam of the same study and patient: no picture lies in the exam of another patient.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from devices import BadInput, Clock, Pixels
from devices.capture.dicom_identity import DicomIdentity
from edge_runtime.exams.recorder import ExamRecorder
from edge_runtime.exams.store import Identity
from edge_runtime.results.result import Result

_LOGGER = logging.getLogger(__name__)

STUDY_SECONDS = 600.0
"""Seconds without a picture of a study after which the exam ends."""
LOOK_SECONDS = 5.0
"""Seconds between two looks at the clock."""


class StudyExams:
    """A sink that begins and ends the exams of a recorder."""

    wants_pixels, latest_only = True, False

    def __init__(
        self,
        recorder: ExamRecorder,
        received: Mapping[str, DicomIdentity],
        clock: Clock = time.monotonic,
    ) -> None:
        """`received` as for `CaptureDevice`."""
        self._recorder, self._received, self._clock = recorder, received, clock
        self._identity: DicomIdentity | None = None
        """Of the last picture; None where the next picture begins an exam."""
        self._own = 0
        """Which exam of the recorder was begun for that picture, counted from 1."""
        self._last = clock()

    def write(self, result: Result, pixels: Pixels) -> None:
        """Takes one result of the session; see `Sink.write`. Raises nothing."""
        identity = None if result.file is None else self._received.get(result.file)
        with self._recorder.undisturbed():
            if identity is not None:
                self._last = self._clock()
                self._turn_to(identity)
            self._recorder.write(result, pixels)

    def look(self) -> None:
        """Ends the own exam where nothing of the study came for STUDY_SECONDS."""
        with self._recorder.undisturbed():
            if self._identity is not None and self._clock() - self._last >= STUDY_SECONDS:
                self._identity = None
                if not self._another_runs():
                    self._recorder.end()

    def _turn_to(self, identity: DicomIdentity) -> None:
        if identity == self._identity and not self._another_runs():
            return
        self._identity = None
        self._recorder.end()
        try:
            self._recorder.begin(Identity(**asdict(identity)))
        except BadInput:  # tried again with the next picture
            _LOGGER.warning("no exam could be begun")
        else:
            self._identity, self._own = identity, self._recorder.status().count

    def _another_runs(self) -> bool:
        """Whether an exam runs that somebody else began."""
        status = self._recorder.status()
        return status.begun is not None and status.count != self._own


@contextmanager
def study_exams(
    recorder: ExamRecorder, received: Mapping[str, DicomIdentity]
) -> Iterator[StudyExams]:
    """The sink, and the thread that looks at the clock for it."""
    exams, closed = StudyExams(recorder, received), threading.Event()

    def watch() -> None:
        while not closed.wait(LOOK_SECONDS):
            exams.look()

    thread = threading.Thread(target=watch, name="studies", daemon=True)
    thread.start()
    try:
        yield exams
    finally:
        closed.set()
        thread.join()
