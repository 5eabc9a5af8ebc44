"""Opens a sink by its URI, as `devices.capture` opens a source.

To send results to a new place, write the sink in a new file and add its scheme to SINK_SCHEMES.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from devices import BadInput
from edge_runtime.sinks.json_lines import open_json_lines
from edge_runtime.sinks.sink import Sink
from edge_runtime.sinks.video import overlay_file


@dataclass(frozen=True)
class SinkContext:
    """The facts of a session that a sink may need to open."""

    stop: threading.Event
    """Ends the session when it is set."""
    live: bool
    """Whether the source is live."""
    fps: float
    """The frame rate of the source, frames a second."""
    evidence: bool = False
    """Whether a video shows the evidence map."""


def open_sink(uri: str, context: SinkContext) -> AbstractContextManager[Sink]:
    """Opens the sink of a URI: `jsonl:-`, `jsonl:results.jsonl`, `video:seen.mp4`, `terminal:`.

    Raises BadInput for a scheme that is not known, and as the sink does.
    """
    scheme, separator, rest = uri.partition(":")
    if not separator or scheme not in SINK_SCHEMES:
        known = ", ".join(f"{name}:" for name in SINK_SCHEMES)
        raise BadInput(f"--sink {uri}: no such kind of sink; there are {known}")
    return SINK_SCHEMES[scheme](rest, context)


def _json_lines(rest: str, context: SinkContext) -> AbstractContextManager[Sink]:
    return open_json_lines(rest, context.stop)


def _video(rest: str, context: SinkContext) -> AbstractContextManager[Sink]:
    return overlay_file(Path(rest), context.live, context.fps, context.evidence)


@contextmanager
def _terminal(rest: str, context: SinkContext) -> Iterator[Sink]:  # noqa: ARG001
    from rich.console import Console  # here: a session without a terminal does not load rich

    from edge_runtime.sinks.terminal import Terminal

    with Terminal(Console(stderr=True)) as terminal:
        yield terminal


SINK_SCHEMES: dict[str, Callable[[str, SinkContext], AbstractContextManager[Sink]]] = {
    "jsonl": _json_lines,
    "video": _video,
    "terminal": _terminal,
}
"""The sinks by the scheme of their URI."""
