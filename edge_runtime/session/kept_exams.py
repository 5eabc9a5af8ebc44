"""The exams of a session: a page begins them, or the pictures that are sent."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devices.capture.source_uri import SourceUri
from edge_runtime.exams.recorder import ExamRecorder, open_exam_recorder
from edge_runtime.exams.store import Retention
from edge_runtime.exams.studies import study_exams
from edge_runtime.session.assemble import Session
from edge_runtime.sinks.sink import ExamSink, Sink


@contextmanager
def keep_exams(
    session: Session,
    source: SourceUri,
    folder: Path,
    retention: Retention,
    exam_sinks: Sequence[ExamSink] = (),
) -> Iterator[tuple[ExamRecorder, Sink]]:
    """The recorder, and the sink that gets the results of the session for it.

    Where pictures are sent, each study is an exam. Raises as `open_exam_recorder` does.
    """
    with open_exam_recorder(
        folder,
        session.chain.bundle,
        str(source),
        session.device.live,
        retention,
        exam_sinks=exam_sinks,
    ) as recorder:
        if session.device.received is None:
            yield recorder, recorder
        else:
            with study_exams(recorder, session.device.received) as studies:
                yield recorder, studies
