"""Exams of what a scanner sends: one for each study, begun and ended by the pictures themselves.

The results of a session go through here to the recorder. A picture of another study ends the exam
that runs, whoever began it: no picture lies in the exam of another patient.
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
"""For so long nothing of a study may come before the exam ends; what comes later begins another."""
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
        self._lock = threading.Lock()
        self._study: str | DicomIdentity | None = None
        """The study of the exam: its UID, or all that is known where it has none."""
        self._last = clock()

    def write(self, result: Result, pixels: Pixels) -> None:
        """Takes one result of the session; see `Sink.write`. Raises nothing."""
        identity = None if result.file is None else self._received.get(result.file)
        with self._lock:
            if identity is not None:
                self._last = self._clock()
                self._turn_to(identity)
            self._recorder.write(result, pixels)

    def look(self) -> None:
        """Ends the exam where nothing of the study came for STUDY_SECONDS."""
        with self._lock:
            if self._study is not None and self._clock() - self._last >= STUDY_SECONDS:
                self._study = None
                self._recorder.end()

    def _turn_to(self, identity: DicomIdentity) -> None:
        study = identity.study or identity
        if study == self._study:
            return
        self._study = None
        self._recorder.end()
        try:
            self._recorder.begin(Identity(**asdict(identity)))
        except BadInput:  # tried again with the next picture
            _LOGGER.warning("no exam could be begun")
        else:
            self._study = study


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
