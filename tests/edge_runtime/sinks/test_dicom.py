"""Exams to a PACS beside a session: all of them, none twice, and never at the session's cost."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

pytest.importorskip("highdicom", reason="needs the extra `dicom`")

from devices.capture.dicom_listen import AWAITED
from devices.capture.phantom import Phantom
from edge_runtime.bundle.archive import Bundle
from edge_runtime.exams import recorder as recorder_module
from edge_runtime.exams.dicom.objects import exam_objects
from edge_runtime.exams.recorder import open_exam_recorder
from edge_runtime.exams.schema import open_exams
from edge_runtime.exams.store import delete_exam
from edge_runtime.results.delivery import Delivery
from edge_runtime.sinks import dicom as module
from edge_runtime.sinks import outbox as outbox_module
from edge_runtime.sinks.open import SinkContext, open_sink
from tests.conftest import free_port, refused, sonolite, wait_until
from tests.devices.capture.dicom_files import write_dicom
from tests.devices.capture.storescu import STILL, send, storescu
from tests.edge_runtime.exams.conftest import exams_in, parts_of
from tests.edge_runtime.exams.dicom.conftest import SURE
from tests.edge_runtime.exams.dicom.orthanc import Orthanc
from tests.edge_runtime.exams.examples import NOISE, result


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "COMMIT_PAUSE", 0.01)
    monkeypatch.setattr(module, "LOW_PRIORITY", ())
    monkeypatch.setattr(module, "LAST_EXAM_SECONDS", 300.0)


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


TELLS_ITS_WORDS = """
import os, sys
known = os.environ["SONOLITE_PACS"] == "dicomweb:https://127.0.0.1:1/hunter2"
sys.exit(f"sonolite: {sys.argv[-5:]}: the address is {'known' if known else 'lost'}")
"""

KILLED = """
import sys, threading, time
from pathlib import Path
from edge_runtime.bundle.archive import open_bundle
from edge_runtime.exams.recorder import open_exam_recorder
from edge_runtime.sinks.open import SinkContext, open_sink
from tests.edge_runtime.exams.examples import FOUND, NOISE, result
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


def test_no_list_of_processes_tells_the_address(
    tmp_path: Path, found_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path may be a password."""
    monkeypatch.setattr(module, "LOW_PRIORITY", (sys.executable, "-c", TELLS_ITS_WORDS))
    uri = "dicomweb:https://127.0.0.1:1/hunter2"
    told = session(tmp_path / "exams", found_bundle, uri, exams=1).last_error
    assert told is not None
    assert "'send', '1', '--folder'" in told
    assert "hunter2" not in told
    assert "the address is known" in told


@pytest.mark.parametrize("body", [7, b'{"folder":"/ex\xe1ms","exam":1}'])
def test_a_damaged_message_makes_room_for_the_next(
    body: object, tmp_path: Path, found_bundle: Bundle
) -> None:
    folder, uri = tmp_path / "exams", f"dicom://127.0.0.1:{free_port()}"
    assert session(folder, found_bundle, uri, exams=2).waiting == 2
    (path,) = (tmp_path / "outbox").glob("*.sqlite3")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE message SET body = ? WHERE number = 1", (body,))
    delivery = session(folder, found_bundle, uri, exams=0)
    assert (delivery.waiting, delivery.given_up) == (1, 1)


def test_an_exam_that_was_deleted_is_given_up_and_told(
    tmp_path: Path, found_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "exams"
    uri = f"dicom://127.0.0.1:{free_port()}"
    assert session(folder, found_bundle, uri, exams=1).waiting == 1
    with closing(open_exams(folder)) as connection:
        delete_exam(connection, folder, 1)
    delivery = session(folder, found_bundle, uri, exams=0)
    assert (delivery.waiting, delivery.given_up) == (0, 1)
    assert delivery.last_error == "exam 1 is not sent: there is no such exam"


@pytest.mark.slow
def test_an_exam_that_is_given_up_costs_the_next_one_no_time(
    tmp_path: Path, found_bundle: Bundle, pacs: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the session waits while the next exam is being sent."""
    folder = tmp_path / "exams"
    assert session(folder, found_bundle, pacs.uri, exams=1).waiting == 1
    with closing(open_exams(folder)) as connection:
        delete_exam(connection, folder, 1)
    monkeypatch.setattr(outbox_module, "CLOSING_SECONDS", 0.01)
    with pacs:
        delivery = session(folder, found_bundle, pacs.uri, exams=1)
    assert (delivery.delivered, delivery.waiting, delivery.given_up) == (1, 0, 1)


def test_an_exam_on_a_disk_that_is_not_mounted_waits(tmp_path: Path, found_bundle: Bundle) -> None:
    folder = tmp_path / "exams"
    uri = f"dicom://127.0.0.1:{free_port()}"
    assert session(folder, found_bundle, uri, exams=1).waiting == 1
    folder.rename(tmp_path / "elsewhere")
    context = SinkContext(
        threading.Event(), True, 30.0, outboxes=tmp_path / "outbox", exam_sinks=[]
    )
    with open_sink(uri, context):
        wait_until(lambda: context.tallies[0].delivery().last_error)
    delivery = context.tallies[0].delivery()
    assert (delivery.waiting, delivery.given_up) == (1, 0)
    assert delivery.last_error == f"exam 1 is not sent: no exams are kept in {folder}"


def test_a_crash_keeps_the_exam_and_tells_nothing_of_it(
    tmp_path: Path, found_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = (sys.executable, "-c", "raise ValueError('PATIENT-4711')")
    monkeypatch.setattr(module, "LOW_PRIORITY", crash)
    delivery = session(tmp_path / "exams", found_bundle, "dicom://127.0.0.1:104", exams=1)
    assert (delivery.waiting, delivery.given_up) == (1, 0)
    assert delivery.last_error == "exit code 1"


def test_an_exam_that_crashes_again_and_again_makes_room_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first exam ends the process that sends it; of the second the PACS is away."""
    crash = "import sys; two = sys.argv[6] == '2'; two and sys.stderr.write('sonolite: away')"
    crash += "; sys.exit(2 if two else 3)"
    monkeypatch.setattr(module, "LOW_PRIORITY", (sys.executable, "-c", crash))
    monkeypatch.setattr(module, "module_command", lambda _: ["-", "-", "-"])
    monkeypatch.setattr(outbox_module, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(outbox_module, "LAST_RETRY", 0.01)
    folder = tmp_path / "exams"
    context = SinkContext(
        threading.Event(), True, 30.0, outboxes=tmp_path / "outbox", exam_sinks=[]
    )
    with open_sink("dicom://127.0.0.1:104", context):
        assert context.exam_sinks is not None
        (sink,) = context.exam_sinks
        for exam in (1, 2):
            sink.exam_begun(folder, exam)
        sink.exam_ended()
        wait_until(lambda: "away" in (context.tallies[0].delivery().last_error or ""))
    delivery = context.tallies[0].delivery()
    assert (delivery.delivered, delivery.waiting, delivery.given_up) == (0, 1, 1)


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


@pytest.mark.slow
def test_a_picture_from_the_scanner_is_answered_with_a_report_in_the_same_study(
    tmp_path: Path, demo_path: Path, pacs: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    if storescu is None:
        pytest.skip("storescu is not installed (make test-programs)")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    study = {"PatientID": "4711", "PatientName": "Doe^Jane", "StudyInstanceUID": "1.2.826.0.1.1"}
    still = write_dicom(tmp_path / "still.dcm", Phantom(live=False).render(0), **(STILL | study))
    port = free_port()
    words = ["--source", f"dicom-listen:{port}", "--exam", str(tmp_path / "exams"), "--json"]
    words += ["--roi", "167,190,108,100", "--any-picture", "--sink", pacs.uri]
    with pacs, (tmp_path / "stdout").open("wb") as out, (tmp_path / "stderr").open("wb") as err:
        running = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime", "run", str(demo_path), *words],
            stdout=out,
            stderr=err,
        )
        try:
            wait_until(lambda: AWAITED in (tmp_path / "stdout").read_text())
            assert send(port, still).returncode == 0
            wait_until(lambda: "object 1" in (tmp_path / "stdout").read_text())
            running.send_signal(signal.SIGINT)
            assert running.wait(300) == 0
        finally:
            running.kill()
            running.wait()
        wait_until(lambda: len(pacs.identifiers()) == 2, 300)  # it is sent at low priority
        objects = pacs.objects()
    assert {each.StudyInstanceUID for each in objects} == {"1.2.826.0.1.1"}
    assert {str(each.PatientName) for each in objects} == {"Doe^Jane"}
    assert sorted(each.Modality for each in objects) == ["SR", "US"]


def test_a_session_that_keeps_no_exams_is_refused(demo_path: Path) -> None:
    words = ("--source", "phantom:?frames=3", "--sink", "dicom://127.0.0.1:104")
    refused(sonolite("run", demo_path, *words), "takes exams, and none are kept here")


def test_a_wrong_address_is_refused_before_the_session(demo_path: Path, tmp_path: Path) -> None:
    words = ("--source", "phantom:?frames=3", "--exam", tmp_path / "exams")
    refused(sonolite("run", demo_path, *words, "--sink", "dicom://127.0.0.1"), "needs dicom://")
