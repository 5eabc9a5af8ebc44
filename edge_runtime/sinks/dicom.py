"""Exams to a PACS: a sink that sends the exams of a session, and no single result.

The outbox holds the number of an exam from its beginning, so that a kill or a power cut cannot come
between the end of an exam and the note that it is to be sent. Another process makes the objects and
sends them: `sonolite exam send`. So neither the libraries nor a PACS that hangs burden the session.
"""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from devices import BadInput, CheckFailed, Pixels
from devices.own_process import module_command
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import Result
from edge_runtime.sinks.outbox import Message, NotSent, Outbox, Rejected, outbox_path, read_message
from edge_runtime.sinks.pacs import PACS_VARIABLE, parse_pacs
from edge_runtime.sinks.sink_uri import SinkUri

MAX_OUTBOX = 1_000_000
"""Bytes of the outbox: the numbers of some ten thousand exams."""
SEND_SECONDS = 600.0
"""Seconds that the sending of one exam may take."""
MAX_CRASHES = 8
"""Crashes in a row, in about two minutes, after which an exam is given up, so that those after it
are sent."""
LAST_EXAM_SECONDS = 60.0
"""Seconds that the end of a session waits for the exams that are being sent."""
CLOSING_POLL_SECONDS = 0.1
LOW_PRIORITY = ("nice", "-n", "10")
"""A live picture matters more; see nice(1)."""
ERROR_MARK = "sonolite: "
"""Begins the line of a known error; see `edge_runtime.cli.main`."""


class QueuedExam(msgspec.Struct, frozen=True):
    """An exam that is to be sent."""

    folder: str
    exam: int


class PacsSink:
    """Sends each exam once it has ended; results do nothing here."""

    wants_pixels, latest_only = False, False

    def __init__(self, uri: SinkUri, tally: Tally, path: Path) -> None:
        """Raises BadInput where the outbox at `path` cannot be used."""
        self._uri, self.tally = uri, tally
        self._changed = threading.Condition()
        self._running: QueuedExam | None = None
        self._failed = False
        """Whether the last attempt failed; the outbox then waits before the next one."""
        self._crashes = 0
        """How often in a row the process that sends crashed."""
        self._outbox = Outbox(path, tally, self._send, MAX_OUTBOX, batch=1)

    def write(self, result: Result, pixels: Pixels) -> None:
        """Does nothing; see `Sink.write`."""

    def exam_begun(self, folder: Path, exam: int) -> None:
        """Notes that an exam is to be sent once it has ended."""
        with self._changed:
            self._running = QueuedExam(str(folder.absolute()), exam)
        try:
            self._outbox.put(msgspec.json.encode(self._running), at_once=True)
        except BadInput as error:
            self.tally.give_up(1, str(error))

    def exam_ended(self) -> None:
        """Sends the exam that ran."""
        with self._changed:
            self._running = None
            self._changed.notify_all()

    def unsent(self) -> int:
        """Exams whose sending failed; see `ExamSink.unsent`."""
        waiting = self.tally.kept - (self._running is not None) if self._failed else 0
        return waiting + self.tally.delivery().given_up

    def close(self, patient: bool = True) -> None:
        """Ends the session; what is not sent stays on the disk.

        Where it is `patient` it sends until an attempt fails.
        """
        self.exam_ended()
        until = time.monotonic() + (LAST_EXAM_SECONDS if patient else 0)
        while self.tally.kept and not self._failed and time.monotonic() < until:
            time.sleep(CLOSING_POLL_SECONDS)
        self._outbox.close()

    def _send(self, _: str, messages: list[Message]) -> None:
        """Sends the exam of one message. Raises NotSent or Rejected."""
        (message,) = messages
        queued = read_message(message.body, QueuedExam)
        with self._changed:
            self._changed.wait_for(lambda: self._running != queued)
        try:
            self._run(queued)
        except Rejected:  # the next exam follows at once
            self._failed = False
            raise
        except Exception:
            self._failed = True
            raise
        self._failed = False

    def _run(self, queued: QueuedExam) -> None:
        """Has another process send an exam."""
        words = [*LOW_PRIORITY, *module_command("edge_runtime")]
        words += ["exam", "send", str(queued.exam), "--folder", queued.folder]
        address = {PACS_VARIABLE: f"{self._uri.kind}:{self._uri.rest}"}
        try:
            done = subprocess.run(  # noqa: S603
                words,
                env=os.environ | address,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=SEND_SECONDS,
                start_new_session=True,  # Ctrl-C is meant for the session
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotSent(f"{self._uri}: the PACS takes too long") from None
        line = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
        if done.returncode == 0 or line.startswith(ERROR_MARK):
            self._crashes = 0
        if done.returncode == 0:
            return
        if not line.startswith(ERROR_MARK):  # a crash, whose text may name a patient
            self._crashes += 1
            if self._crashes < MAX_CRASHES:
                raise NotSent(f"exit code {done.returncode}")
            self._crashes = 0
            raise Rejected(f"exam {queued.exam} is not sent: exit code {done.returncode}")
        failure = Rejected if done.returncode == CheckFailed.exit_code else NotSent
        raise failure(line.removeprefix(ERROR_MARK))


@contextmanager
def open_pacs(uri: SinkUri, tally: Tally, outboxes: Path, patient: bool) -> Iterator[PacsSink]:
    """A sink for the exams of a session; see `edge_runtime.sinks.pacs` for the address.

    `patient` is whether the end of the session waits for exams that are being sent.
    Raises BadInput for a wrong address or option, or where the outbox cannot be used.
    """
    parse_pacs(uri)
    sink = PacsSink(uri, tally, outbox_path(outboxes, uri))
    try:
        yield sink
    finally:
        sink.close(patient)
