"""The certificate of an encrypted view, over real TLS on loopback and in a real Chromium."""

import http.client
import logging
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from devices import BadInput
from edge_runtime.view.address import MAX_VIEW_CONNECTIONS, Address
from edge_runtime.view.certificate import (
    VALID_DAYS,
    Certificate,
    make_certificate,
    own_certificate,
    read_certificate,
)
from edge_runtime.view.sink import View, open_view
from tests.edge_runtime.view.browsing import wait_for
from tests.edge_runtime.view.conftest import FACTS, Feed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NOW = datetime.now(UTC)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return tmp_path / "view.pem"


@pytest.fixture
def certificate(pem: Path) -> Certificate:
    return own_certificate(pem)


@pytest.fixture
def encrypted(certificate: Certificate) -> Iterator[View]:
    with open_view(Address("127.0.0.1", 0), FACTS, None, certificate) as view:
        yield view


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_certificate_is_made_once_for_this_user_alone(pem: Path) -> None:
    first = own_certificate(pem)
    assert pem.stat().st_mode & 0o777 == 0o600
    assert own_certificate(pem).fingerprint == first.fingerprint


def test_a_view_at_every_address_goes_by_the_name_of_its_given_certificate(pem: Path) -> None:
    """A browser refuses the certificate for any other name, and the address of the machine."""
    key, given = pem.with_name("key.pem"), pem.with_name("given.pem")
    names = "subjectAltName=DNS:*.ward.example,DNS:Bed-1.hospital.example,IP:10.0.0.1"
    made = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=a"
    )
    words = [*made.split(), "-addext", names, "-keyout", str(key), "-out", str(given)]
    subprocess.run(words, check=True, capture_output=True)
    certificate = read_certificate(given, key)
    assert certificate.names == ("*.ward.example", "bed-1.hospital.example")
    with open_view(Address("0.0.0.0", 0), FACTS, None, certificate) as view:
        place = urlsplit(view.link)
        assert place.hostname == "bed-1.hospital.example"
        for host, code in (
            ("bed-1.hospital.example", 403),
            ("bed-2.ward.example", 403),
            ("bed-2.other.example", 421),
            ("a.bed-2.ward.example", 421),
        ):
            assert answer_code(place.port, host) == code


def answer_code(port: int | None, host: str) -> int:
    """The code with which a view answers a request for a host: 403 where the host is admitted."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    with closing(connection):
        origin = f"https://{host}:{port}"
        connection.request("POST", "/cookie", b"x", {"Host": f"{host}:{port}", "Origin": origin})
        return connection.getresponse().status


@pytest.mark.parametrize("what", ["expired", "damaged"])
def test_a_certificate_of_its_own_that_is_of_no_use_is_made_anew(pem: Path, what: str) -> None:
    pem.write_bytes(
        make_certificate(NOW - timedelta(days=VALID_DAYS)) if what == "expired" else b"x"
    )
    own_certificate(pem)
    assert read_certificate(pem)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (NOW - timedelta(days=VALID_DAYS), "the certificate expired on"),
        (NOW + timedelta(days=9), "the certificate is not valid before"),
    ],
)
def test_a_certificate_that_is_not_valid_now_is_refused(
    pem: Path, made: datetime, words: str
) -> None:
    write(pem, make_certificate(made))
    with pytest.raises(BadInput, match=words):
        read_certificate(pem)


def test_the_key_of_another_certificate_is_refused(pem: Path, tmp_path: Path) -> None:
    write(pem, make_certificate(NOW))
    other = write(tmp_path / "other.pem", make_certificate(NOW))
    with pytest.raises(BadInput, match=f"other.pem: not the key of the certificate {pem}"):
        read_certificate(pem, other)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(pem: Path, tmp_path: Path) -> None:
    content = make_certificate(NOW)
    key = serialization.load_pem_private_key(content, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    write(pem, content)
    with pytest.raises(BadInput, match=r"key.pem: the key has a password; give one without"):
        read_certificate(pem, write(tmp_path / "key.pem", locked))


@pytest.mark.parametrize("content", [b"", b"no PEM", bytes(range(256)) * 99])
def test_what_is_no_certificate_is_refused(pem: Path, content: bytes) -> None:
    with pytest.raises(BadInput, match="no certificate in PEM"):
        read_certificate(write(pem, content))


VERSION = b"\xa0\x03\x02\x01\x02"
SERIAL = VERSION + b"\x02\x14"
"""The head of a serial number of 20 bytes."""
KEY_KIND = b"\x06\x07\x2a\x86\x48\xce\x3d\x02"
USAGE, NAMES = b"\x06\x03\x55\x1d\x25", b"\x06\x03\x55\x1d\x11"


def changed(old: bytes, new: bytes) -> bytes:
    """A certificate with the bytes `new` from where `old` begins, and the key."""
    text = make_certificate(NOW)
    key = text[text.index(b"-----BEGIN PRIVATE") :]
    content = x509.load_pem_x509_certificate(text).public_bytes(serialization.Encoding.DER)
    place = content.index(old)
    content = content[:place] + new + content[place + len(new) :]
    return ssl.DER_cert_to_PEM_cert(content).encode() + key


@pytest.mark.parametrize(
    ("old", "new"),
    [(VERSION, VERSION[:-1] + b"\x0e"), (KEY_KIND, KEY_KIND + b"\x7f"), (USAGE, NAMES)],
)
def test_a_certificate_of_an_unknown_kind_is_refused(pem: Path, old: bytes, new: bytes) -> None:
    with pytest.raises(BadInput, match="no certificate in PEM, or of an unknown kind"):
        read_certificate(write(pem, changed(old, new)))


def test_a_serial_number_that_is_not_positive_is_taken_without_a_warning(pem: Path) -> None:
    content = changed(SERIAL, SERIAL + b"\x80")
    fingerprint = sha256(
        ssl.PEM_cert_to_DER_cert(content.decode().partition("-----BEGIN PRIVATE")[0])
    )
    assert (
        read_certificate(write(pem, content)).fingerprint == fingerprint.digest().hex(":").upper()
    )


def test_a_certificate_without_a_key_is_refused(pem: Path) -> None:
    content = make_certificate(NOW)
    write(pem, content.partition(b"-----BEGIN PRIVATE")[0])
    with pytest.raises(BadInput, match="no private key in PEM"):
        read_certificate(pem)


def test_files_that_cannot_be_read_are_named(pem: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none.pem: No such file"):
        read_certificate(tmp_path / "none.pem")
    write(pem, make_certificate(NOW))
    with pytest.raises(BadInput, match=r"none.pem: No such file"):
        read_certificate(pem, tmp_path / "none.pem")
    with pytest.raises(BadInput, match="not a regular file"):
        read_certificate(tmp_path)


def test_the_certificate_holds_for_this_machine_and_the_fingerprint_is_its(
    encrypted: View, certificate: Certificate, pem: Path
) -> None:
    place = urlsplit(encrypted.link)
    assert place.scheme == "https"
    context = ssl.create_default_context(cafile=str(pem))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trusted for itself, as by a browser
    connection = http.client.HTTPSConnection(place.netloc, context=context, timeout=60)
    connection.request("POST", "/cookie", place.fragment, {"origin": f"https://{place.netloc}"})
    answer = connection.getresponse()
    assert answer.status == 204
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-sonolite_view_")
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Secure"} <= set(cookie.split("; "))
    der = connection.sock.getpeercert(binary_form=True)
    connection.close()
    assert isinstance(der, bytes)
    assert sha256(der).hexdigest().upper() == certificate.fingerprint.replace(":", "")


def test_connections_that_never_speak_tls_are_limited_and_nothing_is_logged(
    encrypted: View, caplog: pytest.LogCaptureFixture
) -> None:
    place = urlsplit(encrypted.link)
    port = place.port or 0
    with caplog.at_level(logging.DEBUG):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP")
        idle = [
            socket.create_connection(("127.0.0.1", port), timeout=60)
            for _ in range(2 * MAX_VIEW_CONNECTIONS)
        ]
        assert idle[-1].recv(1) == b""
        for each in idle:
            each.close()
    assert caplog.records == []


def test_a_viewer_that_leaves_as_the_view_ends_is_cut(certificate: Certificate) -> None:
    """The viewer says that it closes its page, and then no more: its machine sleeps."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with ExitStack() as stack:
        with open_view(Address("127.0.0.1", 0), FACTS, None, certificate) as view:
            place = urlsplit(view.link)
            origin = f"https://{place.netloc}"
            with closing(http.client.HTTPSConnection(place.netloc, context=trusting)) as asking:
                asking.request("POST", "/cookie", place.fragment, {"origin": origin})
                cookie = asking.getresponse().headers["set-cookie"].partition(";")[0]
            plain = socket.create_connection(("127.0.0.1", place.port or 0), timeout=60)
            page = stack.enter_context(trusting.wrap_socket(plain))
            protocol = ClientProtocol(parse_uri(f"wss://{place.netloc}/stream"))
            request = protocol.connect()
            request.headers.update({"cookie": cookie, "origin": origin})
            protocol.send_request(request)
            page.sendall(b"".join(protocol.data_to_send()))
            while protocol.state is State.CONNECTING:
                protocol.receive_data(page.recv(4096))
            assert protocol.state is State.OPEN
            protocol.send_close(1001)
            page.sendall(b"".join(protocol.data_to_send()))
            while protocol.close_rcvd is None:
                protocol.receive_data(page.recv(4096))
        with suppress(OSError):
            assert page.recv(4096) == b""


def test_the_page_is_live_over_tls(browser: "Browser", encrypted: View) -> None:
    context = browser.new_context(ignore_https_errors=True, locale="en-GB")
    page = context.new_page()
    with Feed(encrypted):
        page.goto(encrypted.link)
        wait_for(page, "LIVE")
        page.reload()
        wait_for(page, "LIVE")
    (cookie,) = context.cookies()
    assert (cookie["secure"], cookie["httpOnly"]) == (True, True)
    context.close()
