"""Exams to a PACS beside a session: all of them, none twice, and never at the session's cost."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("highdicom", reason="needs the extra `dicom`")

from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.exams import recorder as recorder_module
from edge_runtime.exams.dicom.objects import exam_objects
from edge_runtime.exams.recorder import open_exam_recorder
from edge_runtime.exams.schema import open_exams
from edge_runtime.exams.store import delete_exam
from edge_runtime.results.delivery import Delivery
from edge_runtime.sinks import dicom as module
from edge_runtime.sinks import outbox as outbox_module
from edge_runtime.sinks.open import SinkContext, open_sink
from tests.conftest import refused, sonolite
from tests.edge_runtime.exams.conftest import exams_in, wait_until
from tests.edge_runtime.exams.dicom.conftest import SURE, parts_of
from tests.edge_runtime.exams.dicom.orthanc import Orthanc, free_port
from tests.edge_runtime.exams.test_course import NOISE, result


@pytest.fixture(scope="module")
def found_bundle(shipped_path: Path) -> Bundle:
    return open_bundle(shipped_path)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "COMMIT_PAUSE", 0.01)
    monkeypatch.setattr(module, "LOW_PRIORITY", ())
    monkeypatch.setattr(module, "LAST_EXAM_SECONDS", 300.0)
    monkeypatch.setattr(outbox_module, "CLOSING_SECONDS", 60.0)


@pytest.fixture
def pacs(tmp_path: Path) -> Orthanc:
    """A PACS that is down until it is entered."""
    if shutil.which("Orthanc") is None:
        pytest.skip("Orthanc is not installed (make test-programs)")
    return Orthanc(tmp_path / "orthanc")


def session(folder: Path, bundle: Bundle, uri: str, exams: int) -> Delivery:
    """A session that keeps so many exams."""
    context = SinkContext(
        threading.Event(), True, 30.0, outboxes=folder.parent / "outbox", exam_sinks=[]
    )
    with ExitStack() as stack:
        stack.enter_context(open_sink(uri, context))
        assert context.exam_sinks is not None
        recorder = stack.enter_context(
            open_exam_recorder(folder, bundle, "phantom:", True, exam_sinks=context.exam_sinks)
        )
        for _ in range(exams):
            recorder.begin()
            for frame in range(10):
                recorder.write(result(frame, SURE), NOISE)
            recorder.end()
            wait_until(lambda: not recorder.status().waiting)
    return context.tallies[0].delivery()


def expected(folder: Path) -> list[str]:
    """The identifiers of the objects of all exams, sorted."""
    return sorted(
        str(content.SOPInstanceUID)
        for exam in exams_in(folder)
        for _, content in exam_objects(folder, *parts_of(folder, exam.id))
    )


KILLED = """
import sys, threading, time
from pathlib import Path
from edge_runtime.bundle.archive import open_bundle
from edge_runtime.exams.recorder import open_exam_recorder
from edge_runtime.sinks.open import SinkContext, open_sink
from tests.edge_runtime.exams.test_course import FOUND, NOISE, result
folder, bundle, uri = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
context = SinkContext(
    threading.Event(), True, 30.0, outboxes=folder.parent / "outbox", exam_sinks=[]
)
with open_sink(uri, context), open_exam_recorder(
    folder, open_bundle(bundle), "phantom:", True, exam_sinks=context.exam_sinks
) as recorder:
    for exam in range(2):
        recorder.begin()
        for frame in range(10):
            recorder.write(result(frame, FOUND), NOISE)
        if exam < 1:
            recorder.end()
        while recorder.status().waiting:
            time.sleep(0.01)
    while not context.tallies[0].delivery().last_error:
        time.sleep(0.01)
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_pacs_that_was_down_gets_every_exam_of_a_killed_session_once(
    tmp_path: Path, shipped_path: Path, found_bundle: Bundle, pacs: Orthanc
) -> None:
    """One exam had ended, and one was running; a third follows."""
    folder = tmp_path / "exams"
    running = subprocess.Popen(
        [sys.executable, "-c", KILLED, folder, shipped_path, pacs.uri], stdout=subprocess.PIPE
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
    with pacs:
        deliveries = [session(folder, found_bundle, pacs.uri, exams=1)]
        while deliveries[-1].waiting and len(deliveries) < 9:  # a machine with other work
            deliveries.append(session(folder, found_bundle, pacs.uri, exams=0))
        assert (sum(each.delivered for each in deliveries), deliveries[-1].waiting) == (3, 0)
        assert {each.given_up for each in deliveries} == {0}
        assert [exam.interrupted for exam in exams_in(folder)] == [False, True, False]
        assert pacs.identifiers() == expected(folder)
        flags = [each.CompletionFlag for each in pacs.objects() if each.Modality == "SR"]
        assert sorted(flags) == ["COMPLETE", "COMPLETE", "PARTIAL"]


def test_a_pacs_that_hangs_costs_the_session_nothing(
    tmp_path: Path, found_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exam stays on the disk."""
    monkeypatch.setattr(module, "SEND_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"dicom://127.0.0.1:{silent.getsockname()[1]}"
        delivery = session(tmp_path / "exams", found_bundle, uri, exams=1)
    assert (delivery.delivered, delivery.waiting, delivery.given_up) == (0, 1, 0)
    assert "takes too long" in (delivery.last_error or "")


def test_an_exam_that_was_deleted_is_given_up_and_told(
    tmp_path: Path, found_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "exams"
    uri = f"dicom://127.0.0.1:{free_port()}"
    assert session(folder, found_bundle, uri, exams=1).waiting == 1
    connection = open_exams(folder)
    delete_exam(connection, folder, 1)
    connection.close()
    delivery = session(folder, found_bundle, uri, exams=0)
    assert (delivery.waiting, delivery.given_up) == (0, 1)
    assert delivery.last_error == "exam 1 is not sent: there is no such exam"


def test_a_full_disk_is_told_and_raises_nothing(tiny_disk: Path) -> None:
    context = SinkContext(threading.Event(), True, 30.0, outboxes=tiny_disk, exam_sinks=[])
    with open_sink(f"dicom://127.0.0.1:{free_port()}", context):
        room = os.statvfs(tiny_disk)
        (tiny_disk / "fill").write_bytes(bytes(room.f_bavail * room.f_frsize))
        assert context.exam_sinks is not None
        (sink,) = context.exam_sinks
        sink.exam_begun(tiny_disk, 1)
        wait_until(lambda: context.tallies[0].delivery().given_up)
        sink.exam_ended()
    delivery = context.tallies[0].delivery()
    assert (delivery.delivered, delivery.waiting, delivery.given_up) == (0, 0, 1)
    assert "full" in (delivery.last_error or "")


def test_a_run_sends_the_exam(
    tmp_path: Path, demo_path: Path, pacs: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    words = ("--source", "phantom:?frames=40&live=no", "--roi", "167,190,108,100", "--any-picture")
    exam = ("--exam", tmp_path / "exams", "--exam-id", "PATIENT-4711")
    with pacs:
        done = sonolite("run", demo_path, *words, *exam, "--sink", pacs.uri)
        assert done.code == 0, done
        line = f"sink dicom://127.0.0.1:{pacs.port}: 1 delivered, 0 waiting, 0 given up"
        assert line in done.stderr
        assert pacs.identifiers() == expected(tmp_path / "exams")
        assert {each.PatientID for each in pacs.objects()} == {"PATIENT-4711"}
    assert "PATIENT-4711" not in done.stdout + done.stderr


def test_a_session_that_keeps_no_exams_is_refused(demo_path: Path) -> None:
    words = ("--source", "phantom:?frames=3", "--sink", "dicom://127.0.0.1:104")
    refused(sonolite("run", demo_path, *words), "takes exams, and none are kept here")


def test_a_wrong_address_is_refused_before_the_session(demo_path: Path, tmp_path: Path) -> None:
    words = ("--source", "phantom:?frames=3", "--exam", tmp_path / "exams")
    refused(sonolite("run", demo_path, *words, "--sink", "dicom://127.0.0.1"), "needs dicom://")
