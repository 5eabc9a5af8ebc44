"""Who is to be examined: the department's worklist, asked by DICOM (C-FIND), with pynetdicom.

Attributes are named by their keywords; the query is that of PS3.4, annex K (dicom.nema.org). What
the server answers is held to limits, and none of it is ever logged.
"""

import re
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from devices import BadInput, HardwareMissing
from devices.capture.dicom_identity import dicom_text, identity_of, iso_date
from devices.capture.dicom_listen import AE_TITLE, OWN_TITLE
from devices.capture.dicom_network import accepts_what_was_offered, end_quietly, keep_silent
from devices.capture.registry import PYNETDICOM
from edge_runtime.exams.store import Identity
from edge_runtime.sinks.pacs import CALLED

if TYPE_CHECKING:
    from pydicom import Dataset

ULTRASOUND_MODALITY = "US"
WORKLIST_SECONDS = 10.0
"""Seconds that the server may take for all of its answers."""
MAX_STEPS = 200
"""Answers that are read; the connection is closed where more come."""
MAX_WORKLIST_BYTES = 16 << 20
"""Bytes of all answers."""
WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
"""The SOP class of the question (PS3.4, K.6.1.2)."""
ANSWER_FOLLOWS = (0xFF00, 0xFF01)
"""Statuses of an answer that others follow (PS3.4, K.4.1.1.4)."""
WORKLIST_KEYS = ("called", "calling", "modality")

_TIME = re.compile(r"(\d\d)(\d\d).*")


@dataclass(frozen=True)
class WorklistAddress:
    """Where a worklist is, and how it is asked. Raises BadInput for an invalid title."""

    host: str
    port: int
    called: str = CALLED
    calling: str = OWN_TITLE
    modality: str = ULTRASOUND_MODALITY
    """Of the steps that are asked for; empty for all."""

    def __post_init__(self) -> None:
        if not (AE_TITLE.fullmatch(self.called) and AE_TITLE.fullmatch(self.calling)):
            raise BadInput("worklist: a title has 1 to 16 letters of ASCII")
        if not re.fullmatch(r"[A-Z]{0,16}", self.modality):
            raise BadInput("worklist: a modality is written like US")

    def __str__(self) -> str:
        return f"worklist {self.host}:{self.port}"


@dataclass(frozen=True)
class ScheduledStep:
    """One examination that is scheduled."""

    identity: Identity
    at: str
    """`YYYY-MM-DD HH:MM`, the day alone, or empty."""
    description: str
    """Of the examination, in the words of the department."""


@dataclass(frozen=True)
class Worklist:
    """The answer of a worklist."""

    steps: tuple[ScheduledStep, ...]
    """In the order of their times."""
    more: bool
    """Whether there are more than MAX_STEPS."""
    unread: int
    """Answers that made no sense."""


def parse_worklist(text: str) -> WorklistAddress:
    """Reads `HOST:PORT?called=TITLE&calling=TITLE&modality=US`.

    Raises BadInput for another text.
    """
    place, _, query = text.partition("?")
    try:
        parts = urlsplit(f"//{place}")
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        values = dict(pairs)
        host, port = parts.hostname, parts.port
        if not host or not port or parts.path or parts.username is not None:
            raise ValueError
        if len(values) < len(pairs) or not set(values) <= set(WORKLIST_KEYS):
            raise ValueError
    except ValueError:
        raise BadInput(
            "worklist: HOST:PORT is expected; the options after ? are " + ", ".join(WORKLIST_KEYS)
        ) from None
    return WorklistAddress(host, port, **values)


def question_of_today(text: str) -> Callable[[], Worklist]:
    """A function that asks the worklist of `parse_worklist` for the steps of the day.

    Raises BadInput for another text, and where the library is missing.
    """
    PYNETDICOM.require()
    address = parse_worklist(text)
    return lambda: ask_worklist(address, datetime.now().astimezone().date().isoformat())


def ask_worklist(address: WorklistAddress, day: str = "") -> Worklist:
    """Asks for the steps of a day, `YYYY-MM-DD`, or of all days.

    Raises HardwareMissing where the server does not answer in time, or refuses.
    """
    PYNETDICOM.require()
    from pynetdicom import AE, evt

    keep_silent()
    entity = AE(address.calling)
    entity.connection_timeout = entity.acse_timeout = WORKLIST_SECONDS
    entity.dimse_timeout = entity.network_timeout = WORKLIST_SECONDS
    entity.add_requested_context(WORKLIST_FIND)
    came, out_of_time = 0, threading.Event()
    with ExitStack() as stack:

        def begin(event: Any) -> None:
            """Ends the connection when the time is over, whatever waits for the server then."""
            connection: socket.socket = event.assoc.dul.socket.socket

            def end() -> None:
                out_of_time.set()
                _shut(connection)

            timer = threading.Timer(WORKLIST_SECONDS, end)
            timer.daemon = True
            stack.callback(connection.close)  # pynetdicom forgets it now and then
            stack.callback(event.assoc.dul.join, WORKLIST_SECONDS)
            stack.callback(_shut, connection)
            stack.callback(timer.cancel)
            timer.start()

        def count(event: Any) -> None:
            nonlocal came
            came += len(event.data)
            if came > MAX_WORKLIST_BYTES:
                _shut(event.assoc.dul.socket.socket)

        try:  # a refusal has a reason here, and pynetdicom tells none
            socket.create_connection((address.host, address.port), WORKLIST_SECONDS).close()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "no answer"
            raise HardwareMissing(f"{address}: {reason}") from error
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, begin),
            (evt.EVT_CONN_OPEN, end_quietly),
            (evt.EVT_DATA_RECV, count),
        ]
        association = entity.associate(
            address.host, address.port, ae_title=address.called, evt_handlers=handlers
        )
        try:
            if not association.is_established:
                refused = association.is_rejected
                raise ConnectionError("it refuses the titles" if refused else "no answer")
            if not accepts_what_was_offered(association):
                raise ConnectionError("it accepts a transfer syntax that was not offered")
            answer = _read(association, _query(address, day))
        except ConnectionError as error:
            why = f"no answer within {WORKLIST_SECONDS:g} s" if out_of_time.is_set() else error
            raise HardwareMissing(f"{address}: {why}") from error
        if not answer.more:
            association.release()
        return answer


def _shut(connection: socket.socket | None) -> None:
    """Ends a connection; whatever waits for it goes on."""
    with suppress(AttributeError, OSError):  # it has ended
        connection.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


def _read(association: Any, query: "Dataset") -> Worklist:
    """Reads the answers. Raises ConnectionError where they end too early."""
    steps: list[ScheduledStep] = []
    unread, more = 0, False
    for answer in _answers(association, query):
        more = len(steps) + unread == MAX_STEPS
        if more:
            break
        step = _step_of(answer)
        if step is None:
            unread += 1
        else:
            steps.append(step)
    return Worklist(tuple(sorted(steps, key=lambda step: step.at)), more, unread)


def _answers(association: Any, query: "Dataset") -> Iterator["Dataset | None"]:
    """Each answer; None for one that cannot be decoded. Raises ConnectionError as `_read` does."""
    try:
        answers = association.send_c_find(query, WORKLIST_FIND)
    except RuntimeError as error:  # it went before the question
        raise ConnectionError("no answer") from error
    for status, answer in answers:
        if "Status" not in status:
            raise ConnectionError("the answer is not whole")
        if status.Status == 0x0000:
            return
        if status.Status in ANSWER_FOLLOWS:
            yield answer
        elif status.Status == 0xC312:  # of pynetdicom, for an answer that it cannot decode
            yield None
        else:
            raise ConnectionError(f"it could not answer: status {status.Status:04X}")


def _query(address: WorklistAddress, day: str) -> "Dataset":
    from pydicom import Dataset

    step = Dataset()
    step.Modality = address.modality
    step.ScheduledStationAETitle = ""
    step.ScheduledProcedureStepStartDate = day.replace("-", "")
    step.ScheduledProcedureStepStartTime = ""
    step.ScheduledProcedureStepDescription = ""
    query = Dataset()
    query.ScheduledProcedureStepSequence = [step]
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID"),
        "RequestedProcedureDescription",
    ):
        setattr(query, keyword, "")
    return query


def _step_of(answer: "Dataset | None") -> ScheduledStep | None:
    """The step of an answer; None where it makes no sense."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote what they stumble on
            assert answer is not None
            step = (answer.get("ScheduledProcedureStepSequence") or [{}])[0]
            day = iso_date(dicom_text(step, "ScheduledProcedureStepStartDate"))
            at = _TIME.fullmatch(dicom_text(step, "ScheduledProcedureStepStartTime"))
            words = (
                dicom_text(step, "ScheduledProcedureStepDescription"),
                dicom_text(answer, "RequestedProcedureDescription"),
            )
            return ScheduledStep(
                Identity(**asdict(identity_of(answer))),
                f"{day} {at[1]}:{at[2]}" if at and day else day,
                next(filter(None, words), ""),
            )
    except Exception:  # whatever an answer holds, the others are read
        return None
