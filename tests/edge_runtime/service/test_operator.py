"""An operator of the deployed service marks regions and keeps exams, session after session."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from devices import BadInput, Box
from edge_runtime.exams.schema import DATABASE, open_exams
from edge_runtime.exams.store import read_exams, read_stills
from edge_runtime.release.config import Config, ExamSettings, SinkConfig, write_config
from edge_runtime.release.layout import (
    EXAMINATION_LOCK,
    EXAMS,
    OPERATOR_TOKEN,
    SINK_COUNTS,
    Layout,
    is_locked,
    set_link,
)
from edge_runtime.screen.saved_regions import REGIONS_FILE
from edge_runtime.service.service import run_service
from edge_runtime.service.update_lock import UpdateLock
from edge_runtime.sinks.dicom import LAST_EXAM_SECONDS
from edge_runtime.view.commands import Refusal
from tests.conftest import wait_until
from tests.edge_runtime.exams.dicom.orthanc import Orthanc
from tests.edge_runtime.exams.worklist_server import (
    TITLE,
    WLMSCPFS,
    worklist_server,
    write_step,
)
from tests.edge_runtime.service.conftest import NAME
from tests.edge_runtime.service.test_live_view import LOOPBACK, linked, serving
from tests.edge_runtime.view.client import join, receive_result, watch

ROI, SCREEN = Box(100, 120, 80, 60), (640, 480)
MARK = {"do": "mark", "box": list(ROI), "screen": list(SCREEN), "remember": True}
BEGIN = {"do": "begin", "identity": {"patient_id": "4711", "name": "Q. Secret"}}


def operator_token(layout: Layout) -> str:
    wait_until(layout.state(OPERATOR_TOKEN).exists)
    return layout.state(OPERATOR_TOKEN).read_text().strip()


def give(page: ClientConnection, command: object) -> str | None:
    """The answer to a command: None where it was carried out, else the reason why not."""
    page.send(json.dumps({"id": 7, "command": command}))
    while isinstance(message := page.recv(timeout=60), bytes) or "answer" not in message:
        page.send("drawn")
    refused: str | None = json.loads(message)["answer"]["refused"]
    return refused


def result_until(page: ClientConnection, right: Callable[[Any], bool]) -> Any:
    while True:
        result = receive_result(page)["result"]
        page.send("drawn")
        if right(result):
            return result


def facts_of_session(layout: Layout) -> Any:
    """The facts that a page gets of a session that runs."""
    while True:
        with join(linked(layout)) as page:
            facts = json.loads(page.recv(timeout=60))["facts"]
        if "live" in facts:
            return facts


def events(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_region_is_judged_from_the_next_frame_on_and_remembered_for_later_sessions(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(layout, monkeypatch) as hears:
        hears("LIVE")
        with watch(linked(layout), operator_token(layout)) as page:
            assert give(page, MARK) is None
            result_until(page, lambda result: result["box"] == list(ROI))
    assert layout.state(REGIONS_FILE).is_file()
    with serving(layout, monkeypatch), watch(linked(layout)) as page:
        assert result_until(page, lambda result: result["box"] is not None)["box"] == list(ROI)


def test_a_remembered_region_keeps_the_outline_that_was_deployed_beside_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = '[[sector]]\nsource = "phantom:"\nscreen = [640, 480]\n'
    (layout.root / REGIONS_FILE).write_text(f"{entry}box = [100, 50, 440, 380]\n")
    with serving(layout, monkeypatch) as hears:
        hears("LIVE")
        with watch(linked(layout), operator_token(layout)) as page:
            result_until(page, lambda result: result["box"] == [100, 50, 440, 380])
            assert give(page, MARK) is None
    with serving(layout, monkeypatch) as hears:
        hears("LIVE")
        with watch(linked(layout), operator_token(layout)) as page:
            result_until(page, lambda result: result["box"] == list(ROI))
            assert give(page, {"do": "clear", "screen": SCREEN}) is None
            result_until(page, lambda result: result["box"] == [100, 50, 440, 380])


def test_a_viewer_changes_nothing(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(layout, monkeypatch) as hears:
        hears("LIVE")
        with watch(linked(layout)) as page:
            assert give(page, MARK) == give(page, BEGIN) == Refusal.VIEWER
    assert not layout.state(REGIONS_FILE).exists()


def test_damaged_remembered_regions_are_set_aside_and_told(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout.state(REGIONS_FILE).write_bytes(b"\0\0\0")
    with serving(layout, monkeypatch) as hears:
        hears("LIVE")
    assert layout.state(f"{REGIONS_FILE}.damaged").read_bytes() == b"\0\0\0"
    told = [line["event"] for line in events(capsys.readouterr().out)]
    assert told.count("regions not remembered") == 1


def test_without_a_scanner_there_is_no_picture_to_mark_and_no_exam(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(layout, monkeypatch, source="igtl://127.0.0.1:1/x", exam=ExamSettings()) as hears:
        hears("LOST")
        with watch(linked(layout), operator_token(layout)) as page:
            assert "no picture" in str(give(page, MARK))
            assert give(page, BEGIN) == Refusal.NO_EXAMS


def test_an_exam_is_kept_on_the_device_for_its_user_alone_and_in_no_journal(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(layout, monkeypatch, exam=ExamSettings()) as hears:
        hears("LIVE")
        assert facts_of_session(layout)["exams"] is True
        with watch(linked(layout), operator_token(layout)) as page:
            assert give(page, BEGIN) is None
            sequence = receive_result(page)["result"]["sequence"]
            assert give(page, {"do": "still", "sequence": sequence}) is None
            assert give(page, {"do": "end"}) is None
    folder = layout.state(EXAMS)
    with closing(open_exams(folder)) as connection:
        (exam,) = read_exams(connection, None)
        stills = [still.kept for still in read_stills(connection, exam.id)]
    assert exam.identity.patient_id == "4711"
    assert exam.ended is not None
    assert "person" in stills
    assert (folder.stat().st_mode | (folder / DATABASE).stat().st_mode) & 0o077 == 0
    journal = capsys.readouterr()
    assert "4711" not in journal.out + journal.err
    assert "Secret" not in journal.out + journal.err


def test_an_exam_that_runs_ends_with_the_service(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(layout, monkeypatch, exam=ExamSettings()) as hears:
        hears("LIVE")
        with watch(linked(layout), operator_token(layout)) as page:
            assert give(page, BEGIN) is None
    with closing(open_exams(layout.state(EXAMS))) as connection:
        assert [exam.ended is not None for exam in read_exams(connection, None)] == [True]


def test_without_a_setting_no_exam_is_kept(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(layout, monkeypatch) as hears:
        hears("LIVE")
        assert facts_of_session(layout)["exams"] is False
    assert not layout.state(EXAMS).exists()


def test_exams_that_cannot_be_kept_cost_no_picture_and_are_told(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_link(layout, "good", NAME)
    layout.state(EXAMS).write_text("in the way")
    with serving(layout, monkeypatch, exam=ExamSettings()) as hears:
        hears("LIVE")
        assert facts_of_session(layout)["exams"] is False
    (told,) = [line for line in events(capsys.readouterr().out) if "exams" in line["event"]]
    assert "exams cannot be kept there" in told["why"]


def test_an_exam_holds_an_update_up_although_the_picture_is_frozen(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sonographer freezes the picture to measure in it."""
    monkeypatch.setattr(UpdateLock, "PAUSE", 0.0)
    lock = layout.state(EXAMINATION_LOCK)
    source = "script:frames 20, still 100000"
    with serving(layout, monkeypatch, source=source, exam=ExamSettings()) as hears:
        hears("FROZEN")
        wait_until(lambda: not is_locked(lock))
        with watch(linked(layout), operator_token(layout)) as page:
            assert give(page, BEGIN) is None
            wait_until(lambda: is_locked(lock))
            assert give(page, {"do": "end"}) is None
            wait_until(lambda: not is_locked(lock))


def keep_exam(layout: Layout) -> None:
    """Begins an exam on the page and ends it."""
    with watch(linked(layout), operator_token(layout)) as page:
        assert give(page, BEGIN) is None
        receive_result(page)
        assert give(page, {"do": "end"}) is None


@pytest.mark.slow
def test_an_exam_goes_to_the_pacs_of_the_configuration(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if shutil.which("Orthanc") is None:
        pytest.skip("Orthanc is not installed (make test-programs)")
    pytest.importorskip("highdicom", reason="needs the extra `dicom`")
    with Orthanc(tmp_path / "orthanc") as pacs:
        sinks = (SinkConfig(pacs.uri),)
        with serving(layout, monkeypatch, exam=ExamSettings(), sinks=sinks) as hears:
            hears("LIVE")
            keep_exam(layout)
            wait_until(pacs.identifiers)
        assert {each.PatientID for each in pacs.objects()} == {"4711"}


def test_the_service_ends_at_once_although_a_pacs_hangs_and_sends_the_exam_later(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sinks = (SinkConfig(f"dicom://127.0.0.1:{silent.getsockname()[1]}"),)
        with serving(layout, monkeypatch, exam=ExamSettings(), sinks=sinks) as hears:
            hears("LIVE")
            keep_exam(layout)
            connection, _ = silent.accept()
            began = time.monotonic()
        assert time.monotonic() - began < LAST_EXAM_SECONDS / 2
        connection.close()
    (count,) = json.loads(layout.state(SINK_COUNTS).read_text())["sinks"]
    assert (count["delivered"], count["waiting"]) == (0, 1)


def test_a_pacs_without_exams_fails_the_trial(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config("phantom:", sink=(SinkConfig("dicom://127.0.0.1:1"),))
    (layout.root / "config.toml").write_text(write_config(config))
    with pytest.raises(BadInput, match=r"takes exams, and none are kept here; .* or \[exam\]"):
        run_service(layout, NAME, threading.Event())


@pytest.mark.skipif(WLMSCPFS is None, reason="no wlmscpfs: apt install dcmtk")
def test_the_page_offers_the_patients_of_the_worklist_of_the_configuration(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_step(tmp_path / "steps", "early", PatientName="Wang^Xiao")
    with worklist_server(tmp_path / "steps") as port:
        exam = ExamSettings(worklist=f"127.0.0.1:{port}?called={TITLE}")
        with serving(layout, monkeypatch, exam=exam) as hears:
            hears("LIVE")
            assert facts_of_session(layout)["worklist"] is True
            with watch(linked(layout), operator_token(layout)) as page:
                page.send(json.dumps({"id": 3, "command": {"do": "worklist"}}))
                while isinstance(heard := page.recv(timeout=60), bytes) or "answer" not in heard:
                    page.send("drawn")
    (step,) = json.loads(heard)["answer"]["given"]["steps"]
    assert step["name"] == "Wang^Xiao"


def test_a_worklist_that_is_none_fails_the_trial_and_costs_no_picture_later(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exam = ExamSettings(worklist="nowhere")
    (layout.root / "config.toml").write_text(
        write_config(Config("phantom:", view=LOOPBACK, exam=exam))
    )
    with pytest.raises(BadInput, match="worklist: HOST:PORT is expected"):
        run_service(layout, NAME, threading.Event())
    set_link(layout, "good", NAME)
    with serving(layout, monkeypatch, exam=exam) as hears:
        hears("LIVE")
        assert facts_of_session(layout)["worklist"] is False
    assert [
        line["why"] for line in events(capsys.readouterr().out) if line["event"] == "no worklist"
    ]
