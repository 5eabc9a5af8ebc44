"""Sinks with an outbox, what is written to them, and what waits on the disk."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_runtime.results.delivery import Tally
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.sinks.sink import Sink
from tests.edge_runtime.results.examples import RESULT

SCREEN = np.zeros((4, 4), np.uint8)


@contextmanager
def opened(uri: str, folder: Path) -> Iterator[tuple[Sink, Tally]]:
    context = SinkContext(threading.Event(), True, 30.0, outboxes=folder / "outbox")
    with open_sink(uri, context) as sink:
        yield sink, context.tallies[-1]


def send(sink: Sink, numbers: range) -> None:
    for number in numbers:
        sink.write(replace(RESULT, sequence=number), SCREEN)


def hook(port: int, options: str = "send=results") -> str:
    return f"webhook:http://127.0.0.1:{port}/hook#{options}"


def outbox_file(folder: Path) -> Path:
    (path,) = (folder / "outbox").glob("*.sqlite3")
    return path


def ask(path: Path, statement: str) -> int:
    """What another process sees of an outbox."""
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        row = base.execute(statement).fetchone()
    return 0 if row is None else int(row[0])


NEWEST = "SELECT seq FROM sqlite_sequence WHERE name = 'message'"
"""The number of the newest message that a power cut would leave."""

CHILD = """
import sys, threading
from dataclasses import replace
from pathlib import Path
import numpy as np
from edge_runtime.sinks import outbox
from edge_runtime.sinks.open import SinkContext, open_sink
from tests.edge_runtime.results.examples import RESULT
outbox.FIRST_RETRY = outbox.LAST_RETRY = 0.05
uri, folder = sys.argv[1:]
context = SinkContext(threading.Event(), True, 30.0, outboxes=Path(folder) / "outbox")
with open_sink(uri, context) as sink:
    for number in range(2000):
        sink.write(replace(RESULT, sequence=number), np.zeros((4, 4), np.uint8))
    print("written", flush=True)
    threading.Event().wait(600)
"""
