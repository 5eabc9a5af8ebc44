"""An exam to a PACS: a real one gives it back, and one that refuses or hangs is told."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from devices import BadInput, CheckFailed, NotDelivered, SonoliteError
from edge_runtime.exams.dicom import dimse, stow
from edge_runtime.exams.dicom.objects import exam_objects
from edge_runtime.exams.dicom.send import send_objects
from edge_runtime.sinks.pacs import parse_pacs
from edge_runtime.sinks.sink_uri import SinkUri
from tests.conftest import free_port, refused, sonolite
from tests.edge_runtime.exams.conftest import parts_of
from tests.edge_runtime.exams.dicom.orthanc import CALLING, Orthanc
from tests.edge_runtime.sinks.receiver import make_certificate
from tests.fuzz.targets.exams import pacs_answers
from tests.fuzz.targets.pictures import answering as answering_server

UNCLOSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""pynetdicom leaves the socket of a refused connection to the collector."""


def send(uri: str, exams: Path) -> int:
    return send_objects(parse_pacs(SinkUri(uri)), exams, *parts_of(exams))


def made(exams: Path) -> dict[str, pydicom.Dataset]:
    """The objects as files, by identifier."""
    objects: dict[str, pydicom.Dataset] = {}
    for _, content in exam_objects(exams, *parts_of(exams)):
        file = BytesIO()
        content.save_as(file, enforce_file_format=True)
        file.seek(0)
        objects[str(content.SOPInstanceUID)] = pydicom.dcmread(file)
    return objects


@pytest.mark.parametrize("way", ["dimse", "web"])
def test_a_pacs_gives_back_the_report_and_the_pictures(
    way: str, pacs: Orthanc, exams: Path
) -> None:
    assert send(pacs.uri if way == "dimse" else pacs.web, exams) == 4
    stored = {str(each.SOPInstanceUID): each for each in pacs.objects()}
    for uid, content in made(exams).items():
        assert stored[uid] == content


@pytest.mark.parametrize("way", ["dimse", "web"])
def test_what_is_sent_again_is_there_once(way: str, pacs: Orthanc, exams: Path) -> None:
    for _ in range(2):
        send(pacs.uri if way == "dimse" else pacs.web, exams)
    identifiers = pacs.identifiers()
    assert len(identifiers) == len(set(identifiers)) == 4


@UNCLOSED
def test_an_exam_is_sent_over_tls(tmp_path: Path, exams: Path) -> None:
    make_certificate(tmp_path)
    files = f"certificate={tmp_path}/cert.pem&key={tmp_path}/key.pem"
    with Orthanc(tmp_path / "orthanc", tls=tmp_path) as orthanc:
        uri = orthanc.uri.replace("dicom:", "dicoms:")
        with pytest.raises(NotDelivered, match="cannot be reached"):
            send(f"{uri}&{files}", exams)  # nobody vouches for the certificate of the PACS
        assert send(f"{uri}&ca={tmp_path}/cert.pem&{files}", exams) == 4
        assert orthanc.identifiers() == sorted(made(exams))


def test_a_pacs_confirms_that_it_keeps_the_objects(pacs: Orthanc, exams: Path) -> None:
    assert send(f"{pacs.uri}&commit=1&listen={pacs.listen}", exams) == 4


def test_a_pacs_that_never_confirms_is_asked_again(
    pacs: Orthanc, exams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dimse, "COMMITMENT_SECONDS", 0.2)
    with pytest.raises(NotDelivered, match="has not confirmed"):
        send(f"{pacs.uri}&commit=1&listen={free_port()}", exams)


def test_a_port_that_is_taken_is_told(exams: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        uri = f"dicom://127.0.0.1:104?commit=1&listen={taken.getsockname()[1]}"
        with pytest.raises(BadInput, match="cannot be listened"):
            send(uri, exams)


def test_a_wrong_title_is_told(pacs: Orthanc, exams: Path) -> None:
    with pytest.raises(NotDelivered, match="refuses this device: Called AE title not recogni"):
        send(pacs.uri.replace("ORTHANC", "OTHER"), exams)


@UNCLOSED
def test_nobody_there_is_told(exams: Path) -> None:
    with pytest.raises(NotDelivered, match="cannot be reached"):
        send(f"dicom://127.0.0.1:{free_port()}", exams)
    with pytest.raises(NotDelivered, match="Connection refused"):
        send(f"dicomweb:http://127.0.0.1:{free_port()}/", exams)


@UNCLOSED
def test_a_pacs_that_hangs_is_left(exams: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimse, "ASSOCIATION_SECONDS", 0.2)
    monkeypatch.setattr(stow, "WEB_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(NotDelivered, match="cannot be reached"):
            send(f"dicom://127.0.0.1:{port}", exams)
        with pytest.raises(NotDelivered):
            send(f"dicomweb:http://127.0.0.1:{port}/", exams)


@contextmanager
def answering(take: Callable[[evt.Event], Any], *kinds: str) -> Iterator[str]:
    """A PACS that answers every C-STORE in its own way; yields the URI."""
    entity = AE("ODD")
    for each in kinds or (SecondaryCaptureImageStorage, Comprehensive3DSRStorage):
        entity.add_supported_context(each)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)]
    )
    assert server is not None
    try:
        yield f"dicom://127.0.0.1:{server.server_address[1]}?called=ODD&calling={CALLING}"
    finally:
        server.shutdown()


def test_a_transfer_syntax_that_was_not_offered_is_told(exams: Path) -> None:
    (sound,) = pacs_answers()
    offered = b"@\0\0\x111.2.840.10008.1.2"
    there = answering_server(sound.replace(offered, offered[:-1] + b"9"))
    with pytest.raises(NotDelivered, match="accepts a transfer syntax that was not offered"):
        send(f"dicom://127.0.0.1:{there.port}", exams)


def abort(event: evt.Event) -> int:
    event.assoc.abort()
    return 0


ANSWERS: dict[str, tuple[Callable[[evt.Event], Any], type[SonoliteError] | None, str]] = {
    "full": (lambda _: 0xA700, NotDelivered, "answers 0xa700"),
    "failure": (lambda _: 0x0110, NotDelivered, "answers 0x0110"),
    "unreadable": (lambda _: 0xC000, CheckFailed, "answers 0xc000"),
    "other data": (lambda _: 0xA900, CheckFailed, "refuses it"),
    "aborts": (abort, NotDelivered, "does not answer"),
    "had it before": (lambda _: 0x0111, None, ""),
    "warns": (lambda _: 0xB000, None, ""),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_answer_of_a_pacs_decides_whether_another_attempt_helps(
    answer: str, exams: Path
) -> None:
    take, error, words = ANSWERS[answer]
    with answering(take) as uri:
        if error is None:
            assert send(uri, exams) == 4
            return
        with pytest.raises(error, match=words):
            send(uri, exams)


def test_a_pacs_that_takes_no_report_is_told(exams: Path) -> None:
    with (
        answering(lambda _: 0, SecondaryCaptureImageStorage) as uri,
        pytest.raises(CheckFailed, match="does not take Comprehensive 3D SR"),
    ):
        send(uri, exams)


def test_a_pacs_without_storage_commitment_is_told(exams: Path) -> None:
    with (
        answering(lambda _: 0) as uri,
        pytest.raises(CheckFailed, match="leave out commit=1"),
    ):
        send(f"{uri}&commit=1", exams)


@contextmanager
def web_server(
    status: int, body: bytes = b"", hangs_up: bool = False
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    headers: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            headers.append(dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            if hangs_up:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"dicomweb:http://127.0.0.1:{server.server_address[1]}/pacs", headers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def failed(reason: int) -> bytes:
    return b'{"00081198":{"vr":"SQ","Value":[{"00081197":{"vr":"US","Value":[%d]}}]}}' % reason


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"", None),
        (202, b"{}", None),
        (409, failed(0x0111), None),
        (202, failed(0xC000), CheckFailed),
        (202, b'{"00081198":{"Value":[{"00081197":{"Value":[[1]]}}]}}', CheckFailed),
        (202, b"[" * 100_000, None),
        (409, b"", CheckFailed),
        (400, b"<html>", CheckFailed),
        (401, b"", NotDelivered),
        (503, b"", NotDelivered),
    ],
)
def test_the_answer_of_a_server_decides_whether_another_attempt_helps(
    status: int, body: bytes, error: type[SonoliteError] | None, exams: Path
) -> None:
    with web_server(status, body) as (uri, _):
        if error is None:
            assert send(uri, exams) == 4
            return
        with pytest.raises(error, match=f"answers {status} to Secondary Capture"):
            send(uri, exams)


def test_a_server_may_close_the_connection_after_an_object(exams: Path) -> None:
    with web_server(200, hangs_up=True) as (uri, headers):
        assert send(uri, exams) == 4
    assert len(headers) == 4


def test_a_server_gets_the_password_or_the_token(
    exams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORD", "open sesame")
    with web_server(200) as (uri, headers):
        send(f"{uri}#user=cart&password_env=WORD", exams)
        send(f"{uri}#token_env=WORD", exams)
    assert headers[0]["Authorization"] == "Basic Y2FydDpvcGVuIHNlc2FtZQ=="
    assert headers[-1]["Authorization"] == "Bearer open sesame"


def test_the_command_sends_an_exam(pacs: Orthanc, exams: Path) -> None:
    done = sonolite("exam", "send", "1", pacs.uri, "--folder", exams)
    assert done.code == 0, done
    assert f"sent 4 objects to dicom://127.0.0.1:{pacs.port}" in done.stderr


@UNCLOSED
def test_the_command_tells_what_a_later_attempt_may_mend(exams: Path) -> None:
    done = sonolite("exam", "send", "1", f"dicom://127.0.0.1:{free_port()}", "--folder", exams)
    assert (done.code, "cannot be reached" in done.stderr) == (3, True)


@pytest.mark.parametrize(("place", "code"), [("exams", 1), ("nowhere", 3)])
def test_only_a_folder_without_the_exam_is_beyond_mending(
    place: str, code: int, exams: Path
) -> None:
    """A folder that is missing may lie on a disk that is not mounted now."""
    done = sonolite("exam", "send", "9", "dicom://127.0.0.1:104", "--folder", exams.parent / place)
    assert (done.code, "exam 9 is not sent" in done.stderr) == (code, True)


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("dicom://127.0.0.1", "needs dicom://HOST:PORT"),
        ("dicom:127.0.0.1:104", "needs dicom://HOST:PORT"),
        (f"dicom://me:{SECRET}@127.0.0.1:104", "needs dicom://HOST:PORT"),
        ("dicom://127.0.0.1:104/path", "needs dicom://HOST:PORT"),
        ("dicom://127.0.0.1:99999", "needs dicom://HOST:PORT"),
        (f"dicom://127.0.0.1:104?{SECRET}=1", "option 1 is none of called"),
        ("dicom://127.0.0.1:104?called=" + "A" * 17, "called is a title"),
        ("dicom://127.0.0.1:104?called=A%5CB", "backslash"),
        ("dicom://127.0.0.1:104?commit=yes", "commit is one of 0, 1"),
        ("dicom://127.0.0.1:104?ca=a.pem", "need dicoms://"),
        ("dicoms://127.0.0.1:104?ca=no-such.pem", "the file that ca names"),
        ("dicoms://127.0.0.1:104?certificate=no-such.pem", "No such file"),
        ("dicomweb:http://elsewhere/x", "needs https"),
        (f"dicomweb:https://me:{SECRET}@host/x", "takes no user and password"),
        (f"dicomweb:https://host/x?token={SECRET}", "options stand behind #"),
        ("dicomweb:https://host/x#user=me", "a user needs password_env"),
        ("dicomweb:https://host/x#token_env=NO_SUCH_NAME", "is not set here"),
        ("mqtt://127.0.0.1/x", "no PACS; there are"),
        (SECRET, "no PACS; there are"),
    ],
)
def test_a_wrong_address_is_refused_without_a_secret(uri: str, words: str, exams: Path) -> None:
    done = sonolite("exam", "send", "1", uri, "--folder", exams)
    refused(done, words)
    assert SECRET not in done.stderr


def test_a_report_needs_a_pacs_that_is_installed_for(
    exams: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.capture.registry.find_spec", lambda _: None)
    words = "DICOM objects need highdicom: pip install 'sonolite[dicom]'"
    refused(sonolite("exam", "send", "1", "dicom://127.0.0.1:104", "--folder", exams), words)
    out = ("--out", tmp_path / "out", "--dicom")
    refused(sonolite("exam", "export", "1", "--folder", exams, *out), words)


def test_the_libraries_load_only_where_they_are_used() -> None:
    code = (
        "import sys, edge_runtime.commands.exam, edge_runtime.sinks.dicom; "
        "print([name for name in sys.modules if name in ('highdicom', 'pydicom', 'pynetdicom')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
