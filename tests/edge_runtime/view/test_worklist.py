"""An operator chooses a patient from a real worklist, on the page in a real Chromium."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import ClientConnection

from devices.capture.phantom import Phantom
from edge_runtime.bundle.archive import Bundle
from edge_runtime.exams.recorder import open_exam_recorder
from edge_runtime.exams.schema import open_exams
from edge_runtime.exams.store import Exam, Identity, read_exams
from edge_runtime.exams.worklist import WorklistAddress, ask_worklist
from edge_runtime.screen.region import Region
from edge_runtime.view.commands import Refusal
from edge_runtime.view.operator import Operator
from edge_runtime.view.sink import View
from tests.conftest import wait_until
from tests.edge_runtime.exams.test_worklist import serving
from tests.edge_runtime.exams.worklist_server import (
    STUDY,
    TITLE,
    WLMSCPFS,
    worklist_server,
    write_step,
)
from tests.edge_runtime.results.examples import RESULT
from tests.edge_runtime.view.browsing import serious, take, wait_for, wait_for_text
from tests.edge_runtime.view.client import watch
from tests.edge_runtime.view.conftest import LARGE, NO_REGIONS, Feed, Running, opened
from tests.edge_runtime.view.test_commands import SOURCE, token
from tests.edge_runtime.view.test_controls import operate

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.skipif(WLMSCPFS is None, reason="no wlmscpfs: apt install dcmtk")


@dataclass
class Department:
    """A view whose operator may ask a worklist."""

    view: View
    exams: Path

    def exam(self) -> Exam:
        """The newest exam, once it is written."""
        kept: list[Exam] = []

        def written() -> bool:
            with closing(open_exams(self.exams)) as connection:
                kept[:] = read_exams(connection, None)
            return bool(kept)

        wait_until(written)
        return kept[-1]


@pytest.fixture
def department(demo_bundle: Bundle, tmp_path: Path) -> Iterator[Department]:
    write_step(tmp_path / "steps", "early", PatientName="Wang^Xiao=王^小")
    write_step(
        tmp_path / "steps",
        "late",
        PatientID="4712",
        PatientName="Doe^Jane",
        ScheduledProcedureStepStartTime="1430",
    )
    with (
        worklist_server(tmp_path / "steps") as port,
        open_exam_recorder(tmp_path / "exams", demo_bundle, str(SOURCE), True) as recorder,
    ):
        ask = partial(ask_worklist, WorklistAddress("127.0.0.1", port, TITLE))
        operator = Operator(Region(), SOURCE, NO_REGIONS, recorder=recorder, worklist=ask)
        with opened(operator, exams=True, worklist=True) as view:
            yield Department(view, tmp_path / "exams")


def ask(page: ClientConnection) -> Any:
    """The answer to the question who is to be examined."""
    page.send(json.dumps({"id": 3, "command": {"do": "worklist"}}))
    while "answer" not in (heard := json.loads(page.recv(timeout=60))):
        pass
    return heard["answer"]


def test_an_operator_chooses_a_patient(
    page: "Page", department: Department, screenshots: Path
) -> None:
    with Feed(department.view):
        operate(page, department.view)
        page.click("#exam")
        lines = "#worklist option"
        page.wait_for_function(f"() => document.querySelectorAll('{lines}').length === 3")
        texts = page.locator(lines).all_inner_texts()
        assert texts[1] == "08:30 · Wang Xiao = 王 小 · 4711 · A-17 · Thyroid"
        assert serious(page) == []
        page.select_option("#worklist", "0")
        assert page.input_value("#patient-id") == "4711"
        take(page, screenshots, "worklist", LARGE)
        page.click("#exam-ok")
        wait_for_text(page, "#answer", "exam begun")
    expected = Identity("4711", "Wang^Xiao=王^小", "A-17", "1980-05-01", STUDY)
    assert department.exam().identity == expected


def test_what_is_typed_belongs_to_no_study_of_the_worklist(
    page: "Page", department: Department
) -> None:
    with Feed(department.view):
        operate(page, department.view)
        page.click("#exam")
        page.locator("#worklist option").nth(2).wait_for(state="attached")
        page.select_option("#worklist", "1")
        page.fill("#patient-id", "9999")
        assert page.input_value("#worklist") == ""
        page.click("#exam-ok")
        wait_for_text(page, "#answer", "exam begun")
    identity = department.exam().identity
    assert (identity.patient_id, identity.birth_date, identity.study) == ("9999", "", "")


def test_a_worklist_that_is_away_is_told_and_the_exam_begins_all_the_same(
    page: "Page", demo_bundle: Bundle, tmp_path: Path
) -> None:
    ask = partial(ask_worklist, WorklistAddress("127.0.0.1", 9))
    with open_exam_recorder(tmp_path / "exams", demo_bundle, str(SOURCE), True) as recorder:
        operator = Operator(Region(), SOURCE, NO_REGIONS, recorder=recorder, worklist=ask)
        with opened(operator, exams=True, worklist=True) as view, Feed(view):
            operate(page, view)
            page.click("#exam")
            wait_for_text(page, "#worklist-note", Refusal.WORKLIST_AWAY)
            assert page.inner_text("#worklist option") == "no patient to choose: type below"
            assert serious(page) == []
            page.fill("#patient-id", "9999")
            page.click("#exam-ok")
            wait_for_text(page, "#answer", "exam begun")


def test_answers_that_cannot_be_read_are_told(
    page: "Page", demo_bundle: Bundle, tmp_path: Path
) -> None:
    def answers(_: Any) -> Iterator[tuple[int, None]]:
        yield 0xFF00, None

    with (
        serving(answers) as port,
        open_exam_recorder(tmp_path / "exams", demo_bundle, str(SOURCE), True) as recorder,
    ):
        ask = partial(ask_worklist, WorklistAddress("127.0.0.1", port, TITLE))
        operator = Operator(Region(), SOURCE, NO_REGIONS, recorder=recorder, worklist=ask)
        with opened(operator, exams=True, worklist=True) as view, Feed(view):
            operate(page, view)
            page.click("#exam")
            wait_for_text(page, "#worklist-note", "answers that could not be read: 1")
            assert page.inner_text("#worklist option") == "no patient to choose: type below"


def test_identities_go_to_operators_alone_and_to_no_log(
    department: Department, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    view = department.view
    with watch(view) as viewer, watch(view, token(view)) as page:
        assert ask(viewer) == {"id": 3, "refused": Refusal.VIEWER, "given": None}
        answer = ask(page)
        assert [step["patient_id"] for step in answer["given"]["steps"]] == ["4711", "4712"]
        view.write(replace(RESULT, captured_at=time.monotonic()), Phantom(live=False).render(0))
        while isinstance(heard := viewer.recv(timeout=60), str):
            assert "4711" not in heard
        assert b"4711" not in heard
    assert "4711" not in caplog.text
    assert "Wang" not in caplog.text


def test_without_a_worklist_none_is_asked() -> None:
    with opened(Operator(Region(), SOURCE, NO_REGIONS)) as view, watch(view, token(view)) as page:
        assert ask(page)["refused"] == Refusal.NO_WORKLIST


def test_a_picture_that_was_sent_stays_and_does_not_pass_for_live(
    page: "Page", screenshots: Path
) -> None:
    with opened(live=False, received=True) as view:
        page.goto(view.link)
        page.wait_for_function("() => document.querySelector('#state').textContent !== ''")
        view.write(replace(RESULT, captured_at=time.monotonic()), Phantom(live=False).render(0))
        wait_for(page, "RECEIVED")
        later = page.evaluate("() => performance.now()") + 1500  # a live picture is silent by now
        page.wait_for_function("later => performance.now() > later", arg=later)
        assert page.inner_text("#state") == "RECEIVED"
        assert page.get_attribute("#picture", "data-frame") is not None
        take(page, screenshots, "received")


def test_a_run_offers_the_worklist_to_operators(
    running: Callable[..., Running], tmp_path: Path
) -> None:
    write_step(tmp_path / "steps", "one")
    with worklist_server(tmp_path / "steps") as port:
        words = ("--exam", str(tmp_path / "exams"), "--worklist", f"127.0.0.1:{port}?called=MWL")
        run = running("phantom:", *words)
        with watch(run, urlsplit(run.operator_link).fragment) as page:
            page.send(json.dumps({"id": 3, "command": {"do": "worklist"}}))
            while not (
                isinstance(heard := page.recv(timeout=60), str) and "answer" in json.loads(heard)
            ):
                pass
        (step,) = json.loads(heard)["answer"]["given"]["steps"]
        assert step["patient_id"] == "4711"
