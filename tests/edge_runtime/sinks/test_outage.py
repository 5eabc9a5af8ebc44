"""A server and a broker that are away for minutes, and a power cut meanwhile, cost no message."""

import faulthandler
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import free_port, wait_until
from tests.edge_runtime.sinks.outboxes import NEWEST, ask, hook
from tests.edge_runtime.sinks.receiver import Broker, Receiver

CHILD = """
import sys, threading, time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
import numpy as np
from edge_runtime.sinks import outbox
from edge_runtime.sinks.open import SinkContext, open_sink
from tests.edge_runtime.results.examples import RESULT
folder, last_retry, *uris = sys.argv[1:]
outbox.LAST_RETRY = float(last_retry)
outbox.FIRST_RETRY = min(outbox.FIRST_RETRY, outbox.LAST_RETRY)
context = SinkContext(threading.Event(), True, 30.0, outboxes=Path(folder))
with ExitStack() as stack:
    sinks = [stack.enter_context(open_sink(uri, context)) for uri in uris]
    for line in sys.stdin:
        first, last, seconds = line.split()
        numbers = range(int(first), int(last))
        for number in numbers:
            for sink in sinks:
                sink.write(replace(RESULT, sequence=number), np.zeros((4, 4), np.uint8))
            time.sleep(float(seconds) / len(numbers))
        print("written", flush=True)
"""
RESULTS = 300
"""Results of each half of the time without a server."""


class Device:
    """A process with a webhook and a broker as its sinks."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def write(self, numbers: range, seconds: float) -> None:
        """Writes results, spread over so many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{numbers.start} {numbers.stop} {seconds}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "written\n"

    def cut_power(self) -> None:
        """Kills the process."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> None:
        """Ends the session, and waits for the end of the process."""
        self.process.communicate()
        assert self.process.returncode == 0


@contextmanager
def device(folder: Path, last_retry: float, uris: list[str]) -> Iterator[Device]:
    """A process with these sinks."""
    words = [sys.executable, "-c", CHILD, str(folder), str(last_retry), *uris]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield Device(child)
        finally:
            child.kill()


@pytest.mark.skipif(
    shutil.which("mosquitto") is None, reason="mosquitto is not installed (make test-programs)"
)
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("seconds", "last_retry"),
    [(1.0, 0.05), pytest.param(600.0, 30.0, marks=pytest.mark.slow)],
    ids=["second", "ten-minutes"],
)
def test_an_outage_with_a_power_cut_loses_and_doubles_no_message(
    tmp_path: Path, seconds: float, last_retry: float
) -> None:
    """Killed is the process when the disk has what it wrote: later messages may be lost."""
    faulthandler.cancel_dump_traceback_later()  # of 11 minutes: the longer one takes a little more
    outboxes, port = tmp_path / "outbox", free_port()
    broker = Broker(tmp_path, free_port())
    uris = [hook(port), broker.uri]
    before, cut, after = (range(n * RESULTS, (n + 1) * RESULTS) for n in range(3))

    def everywhere(statement: str, answer: int) -> bool:
        return {ask(path, statement) for path in outboxes.glob("*.sqlite3")} == {answer}

    began = time.monotonic()
    with device(outboxes, last_retry, uris) as first:
        with Receiver(port) as receiver, broker:
            first.write(before, 1.0)
            wait_until(lambda: len(receiver.messages) == len(broker.messages) == RESULTS)
            wait_until(lambda: everywhere("SELECT count(*) FROM message", 0))
        away = time.monotonic()
        first.write(cut, seconds / 2)
        wait_until(lambda: everywhere(NEWEST, 2 * RESULTS))
        first.cut_power()
    with device(outboxes, last_retry, uris) as second:
        second.write(after, seconds / 2)
        again = Receiver(port)
        again.last, again.messages = receiver.last, receiver.messages
        away = time.monotonic() - away
        with again, broker:
            wait_until(lambda: len(again.messages) == len(broker.messages) == 3 * RESULTS)
            second.end()
            wait_until(lambda: len(again.messages) == len(broker.messages) == 3 * RESULTS + 1)
    assert away >= seconds
    for place in (again, broker):
        assert place.sequences() == list(range(3 * RESULTS))
        assert place.messages[-1]["kind"] == "end"
        assert place.repeats == 0
    assert receiver.repeats == 0
    print(f"away for {away:.0f} s of {time.monotonic() - began:.0f} s")
