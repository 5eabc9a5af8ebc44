"""The worklist of a department: the real server of dcmtk, and servers that answer badly."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt

from devices import BadInput, HardwareMissing
from edge_runtime.exams import worklist
from edge_runtime.exams.store import Identity
from edge_runtime.exams.worklist import (
    MAX_STEPS,
    WORKLIST_FIND,
    ScheduledStep,
    WorklistAddress,
    ask_worklist,
    parse_worklist,
)
from tests.conftest import free_port
from tests.edge_runtime.exams.worklist_server import (
    STUDY,
    TITLE,
    WLMSCPFS,
    today,
    worklist_server,
    write_step,
)
from tests.fuzz.targets.exams import worklists
from tests.fuzz.targets.pictures import answering

dcmtk = pytest.mark.skipif(WLMSCPFS is None, reason="no wlmscpfs: apt install dcmtk")


@dcmtk
def test_the_steps_of_the_day_come_in_the_order_of_their_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write_step(tmp_path, "late", ScheduledProcedureStepStartTime="143000", PatientID="late")
    write_step(tmp_path, "early")
    write_step(tmp_path, "other-day", ScheduledProcedureStepStartDate="20200101")
    write_step(tmp_path, "other-room", Modality="MR")
    with worklist_server(tmp_path) as port:
        answer = ask_worklist(WorklistAddress("127.0.0.1", port, TITLE), today())
        everything = ask_worklist(WorklistAddress("127.0.0.1", port, TITLE, modality=""))
    early, late = answer.steps
    identity = Identity("4711", "Wang^Xiao", "A-17", "1980-05-01", STUDY)
    assert early == ScheduledStep(identity, f"{today()} 08:30", "Thyroid")
    assert late.identity.patient_id == "late"
    assert len(everything.steps) == 4
    assert "Wang" not in caplog.text + repr(answer)
    assert "4711" not in caplog.text + repr(answer)


@dcmtk
@pytest.mark.parametrize("charset", ["GB18030", "ISO_IR 100", None])
def test_a_wrong_character_set_hides_no_patient(tmp_path: Path, charset: str | None) -> None:
    path = write_step(tmp_path, "one", PatientName="Wang^Xiao=王^小")
    if charset is not None:
        wrong = charset.ljust(10).encode()
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", wrong))
    with worklist_server(tmp_path) as port:
        (step,) = ask_worklist(WorklistAddress("127.0.0.1", port, TITLE), today()).steps
    assert step.identity.patient_id == "4711"
    if charset is None:
        assert step.identity.shown_name == "Wang Xiao = 王 小"


@dcmtk
def test_a_wrong_title_is_refused_in_a_line(tmp_path: Path) -> None:
    write_step(tmp_path, "one")
    with worklist_server(tmp_path) as port, pytest.raises(HardwareMissing) as refusal:
        ask_worklist(WorklistAddress("127.0.0.1", port, "OTHER"), today())
    assert str(refusal.value) == f"worklist 127.0.0.1:{port}: it refuses the titles"


def test_a_worklist_that_is_away_is_told_in_a_line() -> None:
    port = free_port()
    with pytest.raises(HardwareMissing) as refusal:
        ask_worklist(WorklistAddress("127.0.0.1", port))
    assert str(refusal.value) == f"worklist 127.0.0.1:{port}: Connection refused"


def test_a_host_without_a_name_is_told_in_a_line() -> None:
    with pytest.raises(HardwareMissing, match=r"^worklist no-such-host.invalid:104: "):
        ask_worklist(WorklistAddress("no-such-host.invalid", 104))


@contextmanager
def silent(first: bytes) -> Iterator[int]:
    """A server that sends a few bytes to whoever calls, and then nothing more."""
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return
            held[-1].sendall(first)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in held:
                each.close()


@pytest.mark.parametrize("first", [b"", b"\x02\x00\x00\x00\xff\xff", b"HTTP/1.1 400\r\n"])
def test_a_worklist_that_hangs_is_told_in_time(
    first: bytes, monkeypatch: pytest.MonkeyPatch, within: Callable[[float], float]
) -> None:
    monkeypatch.setattr(worklist, "WORKLIST_SECONDS", 0.6)
    began, others = time.monotonic(), set(threading.enumerate())
    with silent(first) as port, pytest.raises(HardwareMissing, match="no answer"):
        ask_worklist(WorklistAddress("127.0.0.1", port))
    assert time.monotonic() - began < within(5)
    while left := set(threading.enumerate()) - others:
        assert time.monotonic() - began < within(10), left


def answer_with(count: int, **attributes: Any) -> Callable[[Any], Iterator[tuple[int, Dataset]]]:
    def answers(event: Any) -> Iterator[tuple[int, Dataset]]:
        for number in range(count):
            dataset = Dataset()
            dataset.PatientID = str(number)
            for keyword, value in attributes.items():
                setattr(dataset, keyword, value)
            yield 0xFF00, dataset

    return answers


@contextmanager
def serving(answers: Callable[[Any], Any]) -> Iterator[int]:
    entity = AE(TITLE)
    entity.add_supported_context(WORKLIST_FIND)
    handlers: list[Any] = [(evt.EVT_C_FIND, answers)]
    server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1]
    finally:
        entity.shutdown()


def test_ten_thousand_answers_are_cut_off() -> None:
    with serving(answer_with(10_000)) as port:
        answer = ask_worklist(WorklistAddress("127.0.0.1", port))
    assert len(answer.steps) == MAX_STEPS
    assert answer.more


def test_answers_that_never_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worklist, "WORKLIST_SECONDS", 0.6)
    over = threading.Event()

    def answers(event: Any) -> Iterator[tuple[int, Dataset]]:
        while not over.wait(0.2):
            yield from answer_with(1)(event)

    with serving(answers) as port:
        with pytest.raises(HardwareMissing, match=r"no answer within 0.6 s"):
            ask_worklist(WorklistAddress("127.0.0.1", port))
        over.set()


def test_too_large_answers_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worklist, "MAX_WORKLIST_BYTES", 10_000)
    comments = {"PatientComments": "x" * 9000}
    with serving(answer_with(5, **comments)) as port, pytest.raises(HardwareMissing):
        ask_worklist(WorklistAddress("127.0.0.1", port))


def test_an_answer_that_makes_no_sense_is_counted_and_the_others_are_read() -> None:
    def answers(event: Any) -> Iterator[tuple[int, Dataset]]:
        for birth in ("19800501", "yesterday"):
            yield from answer_with(1, PatientBirthDate=birth, StudyInstanceUID="no uid")(event)

    with serving(answers) as port:  # a warning, which may quote the answer, would be an error here
        answer = ask_worklist(WorklistAddress("127.0.0.1", port))
    assert [step.identity.birth_date for step in answer.steps] == ["1980-05-01", ""]
    assert [step.identity.study for step in answer.steps] == ["", ""]


def test_a_failure_of_the_server_is_told() -> None:
    def fails(event: Any) -> Iterator[tuple[int, None]]:
        yield 0xA700, None

    with (
        serving(fails) as port,
        pytest.raises(HardwareMissing, match="could not answer: status A7"),
    ):
        ask_worklist(WorklistAddress("127.0.0.1", port))


@pytest.mark.parametrize(
    "text",
    [
        *("", "host", "host:", "host:0", "host:99999", "user@host:104", "host:104/MWL"),
        *("host:104?title=MWL", "host:104?called=", "host:104?called=MORE-THAN-16-LETTERS"),
        *("host:104?modality=us", "host:104?called=A&called=B", "host:104?called"),
    ],
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"^worklist: "):
        parse_worklist(text)


def test_an_address_names_titles_and_modality() -> None:
    expected = WorklistAddress("192.168.1.5", 104, "MWL", "CART 3", "")
    assert parse_worklist("192.168.1.5:104?called=MWL&calling=CART%203&modality=") == expected


OFFERED = b"@\0\0\x111.2.840.10008.1.2"
"""The part of the acceptance with the transfer syntax."""


def test_a_transfer_syntax_that_was_not_offered_is_told() -> None:
    (sound,) = worklists()
    address = WorklistAddress("127.0.0.1", answering(sound).port)
    assert len(ask_worklist(address).steps) == 2
    answering(sound.replace(OFFERED, OFFERED[:-1] + b"9"))
    with pytest.raises(HardwareMissing, match="accepts a transfer syntax that was not offered"):
        ask_worklist(address)


def test_a_server_that_accepts_and_goes_is_told() -> None:
    (sound,) = worklists()
    accepted = sound[: 6 + int.from_bytes(sound[2:6])]
    address = WorklistAddress("127.0.0.1", answering(accepted).port)
    for _ in range(20):
        with pytest.raises(HardwareMissing, match=f"^{address}: (no answer|the answer is not)"):
            ask_worklist(address)
