"""Words of the command line, requests to the live view, and the exams."""

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path

from devices import SonoliteError
from devices.capture.camera import parse_camera
from devices.capture.igtl import _parse as parse_igtl
from devices.capture.phantom import open_phantom
from devices.capture.source_uri import SourceUri, without_secrets
from devices.capture.stream import _scheme
from edge_runtime.bundle import preprocess
from edge_runtime.models.backends import parse_backend
from edge_runtime.nodules.prevalence import parse_prevalence
from edge_runtime.screen.region import Region, parse_roi
from edge_runtime.sinks.rotating_file import parse_rotation
from edge_runtime.sinks.sink_uri import SinkUri
from edge_runtime.view.address import Address, parse_address
from edge_runtime.view.commands import AskWorklist, open_envelope, read_command
from edge_runtime.view.operator import Operator
from edge_runtime.view.sink import View, open_view
from tests.fuzz.target import target
from tests.fuzz.targets.bundles import shipped

SECRET = "hunter2"
"""A password in some of the seeds; no word that is told of an input may hold it."""
OPTIONS = ("max_mb", "keep", "password_env", "username")


def secretless(told: str, text: str) -> str:
    """Asserts that a password that stands where passwords do is not told."""
    assert f":{SECRET}@" not in told, (text, told)
    return told


@target(
    lambda: [
        b"rtsp://user:hunter2@host:554/live?x=1",
        b"igtl://user:hunter2@host:18944/Name?crc=ignore",
        b"v4l2:///dev/video0?size=640x480&fps=30&format=MJPG",
        b"phantom:?frames=20&live=no&seed=3&size=320x240",
        b"http://${NAME}@[::1]:80/a",
        b"0",
        b"sweep.mp4",
    ]
)
def source_uri(content: bytes) -> object:
    text = content.decode(errors="surrogateescape")
    uri = SourceUri(text)
    for told in (str(uri), repr(uri), uri.key, without_secrets(f"x {text} y", [text])):
        secretless(told, text)
    for parse in (parse_camera, parse_igtl, lambda each: _scheme(each.reveal(), each)):
        ends_in_a_line(parse, uri, text)
    return open_phantom(uri) if text.startswith("phantom:") else uri


def ends_in_a_line(parse: Callable[..., object], value: object, text: str) -> None:
    """Parses a value, which may be refused in a line without the password."""
    try:
        parse(value)
    except SonoliteError as error:
        line = secretless(str(error), text)
        assert len(line.splitlines()) == 1, line


@target(
    lambda: [
        b"mqtts://user:hunter2@host:8883/topic?password_env=X",
        b"csv:results.csv?max_mb=10&keep=3",
        b"webhook:https://host/x?rate=1",
        b"prometheus:127.0.0.1:9108",
        b"jsonl:-",
    ]
)
def sink_uri(content: bytes) -> object:
    text = content.decode(errors="surrogateescape")
    uri = SinkUri(text)
    secretless(str(uri), text)
    place, options = uri.split(OPTIONS)
    ends_in_a_line(parse_rotation, options, text)
    return place, options.text("username")


WORDS: dict[str, Callable[[str], object]] = {
    "cpu": parse_backend,
    "/usr/lib/libx.so?a=1&b=two": parse_backend,
    "1,2,30,40": parse_roi,
    "0.25": lambda text: parse_prevalence(text, shipped().manifest.classifier, "--prevalence"),
    "benign=0.3,malignant=0.7": lambda text: parse_prevalence(
        text, shipped().manifest.classifier, "--prevalence"
    ),
    "gray|crop(context=1.6)|resize(128)": preprocess.parse,
    "127.0.0.1:8765": parse_address,
    "[::1]:0": parse_address,
}
"""Sound words, each with the function that reads it."""


@target(lambda: [word.encode() for word in WORDS])
def option(content: bytes) -> object:
    text = content.decode(errors="surrogateescape")
    for parse in {*WORDS.values()}:
        ends_in_a_line(parse, text, text)
    return text


COMMANDS = [
    b'{"id": 1, "command": {"do": "mark", "box": [1, 2, 30, 40], "screen": [640, 480], '
    b'"remember": false, "follow": true}}',
    b'{"id": 2, "command": {"do": "clear", "screen": [640, 480]}}',
    b'{"id": 3, "command": {"do": "still", "sequence": 7}}',
    b'{"id": 4, "command": {"do": "begin", "identity": {"patient_id": "1", "name": "", '
    b'"accession": ""}}}',
    b'{"id": 5, "command": {"do": "end"}}',
]


@target(lambda: COMMANDS)
def view_command(content: bytes) -> object:
    envelope = open_envelope(content.decode(errors="surrogateescape"))
    if envelope is None:
        return None
    command = read_command(envelope)
    operator = Operator(Region(), SourceUri("phantom:"), Path("sectors.toml"))
    if not isinstance(command, AskWorklist):
        operator._carry_out(command)
    operator._refresh()
    return operator.status


KEPT: list[ExitStack] = []
"""What stays open to the end of the process."""


@cache
def view() -> View:
    """A view on loopback, which stays open."""
    facts = {"live": True, "budget": 60.0, "margin": 0.05, "evidence": True, "exams": False}
    operator = Operator(Region(), SourceUri("phantom:"), Path("sectors.toml"))
    opened = ExitStack()
    KEPT.append(opened)
    return opened.enter_context(open_view(Address("127.0.0.1", 0), facts, operator))


def ask(content: bytes, ended: bool = True) -> bytes:
    """The beginning of the answer to a request, after which no more comes where it is `ended`."""
    port = int(view().link.partition("/#")[0].rpartition(":")[2])
    with closing(socket.create_connection(("127.0.0.1", port), 5.0)) as page:
        page.settimeout(5.0)
        try:
            page.sendall(content)
            if ended:
                page.shutdown(socket.SHUT_WR)
            return page.recv(4096)
        except (ConnectionError, TimeoutError):
            return b""


def requests() -> Sequence[bytes]:
    port = view().link.partition("/#")[0].rpartition(":")[2].encode()
    host = b"Host: 127.0.0.1:" + port + b"\r\n"
    origin = b"Origin: http://127.0.0.1:" + port + b"\r\n"
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: sonolite_view_%b=x\r\n" % port
    )
    return [
        b"GET / HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
        b"POST /cookie HTTP/1.1\r\n" + host + origin + b"Content-Length: 5\r\n\r\ntoken",
        b"GET /stream HTTP/1.1\r\n" + host + origin + upgrade + b"\r\n\x81\x85abcdefghi",
    ]


@target(requests, inputs=25)
def view_request(content: bytes) -> object:
    answer = ask(content)
    assert not answer.startswith(b"HTTP/1.1 500"), answer
    assert ask(requests()[0], ended=False).startswith(b"HTTP/1.1 200"), "it serves no page any more"
    return view
