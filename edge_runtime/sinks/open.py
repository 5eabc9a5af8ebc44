"""Opens a sink by its URI, as `devices.capture` opens a source.

To send results to a new place, write the sink in a new file and add its scheme to SINK_SCHEMES.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from devices import BadInput
from devices.capture.registry import Library
from edge_runtime.files import state_folder
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import to_json
from edge_runtime.sinks.json_lines import JsonLines, result_file
from edge_runtime.sinks.sink import ExamSink, Sink
from edge_runtime.sinks.sink_uri import SinkUri
from edge_runtime.sinks.video import overlay_file

METRICS = Library("metrics", "prometheus-client", ("prometheus_client",), "prometheus")
DICOM_OBJECTS = Library("DICOM objects", "highdicom", ("highdicom", "pynetdicom"), "dicom")
PAHO = Library("MQTT messages", "paho-mqtt", ("paho.mqtt",), "mqtt")
PACS_KINDS = ("dicom", "dicoms", "dicomweb")
SINK_LIBRARIES = {
    "prometheus": METRICS,
    "mqtt": PAHO,
    "mqtts": PAHO,
    **dict.fromkeys(PACS_KINDS, DICOM_OBJECTS),
}
"""What sinks need beside the base install, by the scheme of their URI."""


@dataclass(frozen=True)
class SinkContext:
    """The facts of a session that a sink may need to open."""

    stop: threading.Event
    """Ends the session when it is set."""
    live: bool
    """Whether the source is live, or plays in a service: a sink that is counted delays and ends no
    session."""
    fps: float
    """The frame rate of the source, frames a second."""
    evidence: bool = False
    """Whether a video shows the evidence map."""
    tallies: list[Tally] = field(default_factory=list)
    """The counts of the sinks that were opened."""
    outboxes: Path = field(default_factory=lambda: state_folder() / "outbox")
    """The folder for messages that wait for their receiver."""
    exam_sinks: list[ExamSink] | None = None
    """The sinks that take exams; None where none are kept."""
    serves: bool = False
    """Whether a service runs the session: it begins again by itself, so its end waits for no exam
    that is being sent."""

    def tally(self, uri: SinkUri, counts_itself: bool = False) -> Tally:
        """The counts of a sink that is opened now."""
        tally = Tally(uri.name, counts_itself, may_lose=self.live)
        self.tallies.append(tally)
        return tally


def is_counted(uri: SinkUri) -> bool:
    """Whether a URI is of a kind of sink that counts, as a service needs it."""
    return uri.kind in COUNTED_KINDS and uri.rest != "-"


def open_sink(uri: str, context: SinkContext) -> AbstractContextManager[Sink]:
    """Opens the sink of a URI: `jsonl:-`, `csv:results.csv?max_mb=10`, `video:seen.mp4`.

    Raises BadInput for a scheme that is not known, and as the sink does.
    """
    parsed = SinkUri(uri)
    if parsed.kind not in SINK_SCHEMES:
        known = ", ".join(f"{name}:" for name in SINK_SCHEMES)
        raise BadInput(f"--sink {parsed}: no such kind of sink; there are {known}")
    if is_counted(parsed) and parsed.is_misplaced:  # the errors of a file quote the name
        raise BadInput(f"--sink {parsed}: an address, where a file is needed")
    return SINK_SCHEMES[parsed.kind](parsed, context)


def _json_lines(uri: SinkUri, context: SinkContext) -> AbstractContextManager[Sink]:
    if uri.rest == "-":
        if sys.stdout is None:
            raise BadInput("results cannot be written: stdout is closed")
        return nullcontext(JsonLines(sys.stdout.buffer, "stdout", context.stop))
    return result_file(uri, to_json, context.tally(uri))


def _csv(uri: SinkUri, context: SinkContext) -> AbstractContextManager[Sink]:
    from edge_runtime.sinks.csv_rows import open_csv

    return open_csv(uri, context.tally(uri))


def _drift(uri: SinkUri, context: SinkContext) -> AbstractContextManager[Sink]:
    from edge_runtime.sinks.drift import open_aggregates

    return open_aggregates(uri, context.tally(uri))


def _prometheus(uri: SinkUri, context: SinkContext) -> AbstractContextManager[Sink]:
    METRICS.require()
    from edge_runtime.sinks.prometheus import open_prometheus

    return open_prometheus(uri, context.tally(uri), context.tallies)


def _igtl(uri: SinkUri, context: SinkContext) -> AbstractContextManager[Sink]:
    from edge_runtime.sinks.igtl import open_igtl

    return open_igtl(uri, context.tally(uri, counts_itself=True), context.live)


def _webhook(uri: SinkUri, context: SinkContext) -> AbstractContextManager[Sink]:
    from edge_runtime.sinks.webhook import open_webhook

    return open_webhook(uri, context.tally(uri, counts_itself=True), context.outboxes)


def _mqtt(uri: SinkUri, context: SinkContext) -> AbstractContextManager[Sink]:
    PAHO.require()
    from edge_runtime.sinks.mqtt import open_mqtt

    return open_mqtt(uri, context.tally(uri, counts_itself=True), context.outboxes)


@contextmanager
def _pacs(uri: SinkUri, context: SinkContext) -> Iterator[Sink]:
    if context.exam_sinks is None:
        raise BadInput(
            f"{uri}: takes exams, and none are kept here; `run --exam` or [exam] keeps them"
        )
    DICOM_OBJECTS.require()
    from edge_runtime.sinks.dicom import open_pacs

    tally, patient = context.tally(uri, counts_itself=True), not context.serves
    with open_pacs(uri, tally, context.outboxes, patient) as sink:
        context.exam_sinks.append(sink)
        yield sink


def _video(uri: SinkUri, context: SinkContext) -> AbstractContextManager[Sink]:
    return overlay_file(Path(uri.rest), context.live, context.fps, context.evidence)


@contextmanager
def _terminal(uri: SinkUri, context: SinkContext) -> Iterator[Sink]:  # noqa: ARG001
    from rich.console import Console  # here: a session without a terminal does not load rich

    from edge_runtime.sinks.terminal import Terminal

    with Terminal(Console(stderr=True)) as terminal:
        yield terminal


COUNTED_KINDS = (
    *("jsonl", "csv", "drift", "prometheus", "igtl", "webhook", "mqtt", "mqtts"),
    *PACS_KINDS,
)
SINK_SCHEMES: dict[str, Callable[[SinkUri, SinkContext], AbstractContextManager[Sink]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "drift": _drift,
    "prometheus": _prometheus,
    "igtl": _igtl,
    "webhook": _webhook,
    "mqtt": _mqtt,
    "mqtts": _mqtt,
    "dicom": _pacs,
    "dicoms": _pacs,
    "dicomweb": _pacs,
    "video": _video,
    "terminal": _terminal,
}
"""The sinks by the scheme of their URI."""
