"""The OpenIGTLink server, to the project's own client and to pyigtl's, in a process of its own."""

import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyigtl
import pytest

from devices import BadInput, Box, DeviceLost, Pixels
from devices.capture.igtl import Igtl
from devices.capture.phantom import Phantom
from devices.openigtlink import HEADER
from edge_runtime.results.delivery import Tally
from edge_runtime.results.states import State
from edge_runtime.sinks import igtl
from edge_runtime.sinks.igtl import CLIENT_TOO_SLOW, MAX_IGTL_CLIENTS, QUEUE_RESULTS, IgtlServer
from edge_runtime.sinks.open import SinkContext, open_sink
from tests.conftest import free_port
from tests.edge_runtime.results.examples import NODULE, RESULT

GREY: Pixels = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
FOUND = replace(
    RESULT, nodules=(replace(NODULE, track=3, box=Box(10, 20, 30, 40)),), file="Doe.png"
)
PYIGTL = """
import json, sys, time, pyigtl
client = pyigtl.OpenIGTLinkClient("127.0.0.1", int(sys.argv[1]))
messages, until = {}, time.monotonic() + 100
while len(messages) < 3 and time.monotonic() < until:
    for message in client.get_latest_messages():
        messages[message.message_type] = message
    time.sleep(0.01)
print(json.dumps({
    "names": {kind: message.device_name for kind, message in messages.items()},
    "times": [message.timestamp for message in messages.values()],
    "image": messages["IMAGE"].image.tolist(),
    "matrix": messages["IMAGE"].ijk_to_world_matrix.tolist(),
    "coordinates": messages["IMAGE"].world_coordinate_system,
    "names of points": list(messages["POINT"].names),
    "places": [list(map(float, each)) for each in messages["POINT"].positions],
    "result": json.loads(messages["STRING"].string),
}))
client.stop()
"""


@contextmanager
def serving(live: bool = True, port: int | None = None) -> Iterator[tuple[IgtlServer, int]]:
    port = port or free_port()
    with open_sink(f"igtl::{port}", SinkContext(threading.Event(), live, 30.0)) as sink:
        assert isinstance(sink, IgtlServer)
        yield sink, port


def wait_for_clients(sink: IgtlServer, count: int) -> None:
    until = time.monotonic() + 60
    while sink.clients != count:
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("pixels", [GREY, Phantom(live=False).render(3)], ids=["grey", "colour"])
def test_the_source_of_the_project_reads_the_picture_as_it_was(pixels: Pixels) -> None:
    with serving() as (sink, port), Igtl(f"igtl://127.0.0.1:{port}/sonolite%20picture") as source:
        wait_for_clients(sink, 1)
        sink.write(RESULT, pixels)
        assert np.array_equal(source.read(60).pixels, pixels)


def test_another_program_gets_picture_boxes_labels_and_result_of_one_moment() -> None:
    with serving() as (sink, port):
        child = subprocess.Popen(
            [sys.executable, "-c", PYIGTL, str(port)], stdout=subprocess.PIPE, text=True
        )
        wait_for_clients(sink, 1)
        sink.write(FOUND, GREY)
        answer = json.loads(child.communicate(timeout=120)[0])
    assert answer["names"].items() <= igtl.NAMES.items()
    assert len(set(answer["times"])) == 1
    assert np.array_equal(answer["image"][0], GREY)
    assert answer["coordinates"] == "ras"
    centre = np.array(answer["matrix"]) @ [25, 40, 0, 1]  # of the box, in the room
    assert np.allclose(answer["places"], [centre[:3]])
    assert answer["names of points"] == ["3 malignant 0.80"]
    assert answer["result"]["nodules"][0]["track"] == 3
    assert answer["result"]["file"] is None


def test_boxes_are_closed_lines_as_another_program_writes_them() -> None:
    """pyigtl writes a POLYDATA, and reads none."""
    with serving() as (sink, port):
        reader = Reader(port)
        wait_for_clients(sink, 1)
        sink.write(FOUND, GREY)
    reader.results()
    corners = [(-10, -20, 0), (-40, -20, 0), (-40, -60, 0), (-10, -60, 0)]
    expected = pyigtl.PolyDataMessage(
        points=np.array(corners, np.float32), lines=np.array([5, 0, 1, 2, 3, 0], np.int32)
    )
    assert reader.bodies[reader.kinds.index("POLYDATA")] == expected._pack_content()


class Reader:
    """Takes all messages of one client until the server ends the connection."""

    def __init__(self, port: int) -> None:
        self.kinds: list[str] = []
        self.bodies: list[bytes] = []
        self._client = socket.create_connection(("127.0.0.1", port), 60)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with self._client, self._client.makefile("rb") as stream:
            while head := stream.read(HEADER.size):
                _, kind, _, _, size, _ = HEADER.unpack(head)
                self.kinds.append(kind.rstrip(b"\0").decode())
                self.bodies.append(stream.read(size))

    def results(self) -> list[dict[str, Any]]:
        """Those that came, once the server has ended the connection."""
        self._thread.join()
        pairs = zip(self.kinds, self.bodies, strict=True)
        return [json.loads(body[4:]) for kind, body in pairs if kind == "STRING"]


def test_nothing_is_coded_while_nobody_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(igtl, "pack_picture", refuse)
    monkeypatch.setattr(igtl, "pack_result", refuse)
    with serving() as (sink, _):
        sink.write(RESULT, GREY)
        assert sink.tally.delivery().delivered == 0


def test_without_a_nodule_the_last_one_is_taken_away() -> None:
    with serving() as (sink, port):
        reader = Reader(port)
        wait_for_clients(sink, 1)
        sink.write(replace(RESULT, nodules=()), GREY)
    reader.results()
    contents = dict(zip(reader.kinds, reader.bodies, strict=True))
    assert contents["POINT"] == b""
    assert not any(contents["POLYDATA"])


def test_a_result_without_a_frame_has_no_picture() -> None:
    with serving() as (sink, port):
        reader = Reader(port)
        wait_for_clients(sink, 1)
        sink.write(replace(RESULT, frame=None, state=State.LOST, nodules=()), GREY)
    assert reader.results()[0]["state"] == "LOST"
    assert "IMAGE" not in reader.kinds


def test_a_client_that_takes_nothing_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(igtl, "CLIENT_SECONDS", 0.5)
    large = np.zeros((720, 1280), np.uint8)
    with serving() as (sink, port):
        stalled = socket.create_connection(("127.0.0.1", port), 60)
        wait_for_clients(sink, 1)
        reader = Reader(port)
        wait_for_clients(sink, 2)
        count = QUEUE_RESULTS + 100
        for sequence in range(count):
            sink.write(replace(RESULT, sequence=sequence), large)
            until = time.monotonic() + 60
            while reader.kinds.count("STRING") < sequence + 1:
                assert time.monotonic() < until
                time.sleep(0.0005)
        wait_for_clients(sink, 1)
        stalled.close()
    assert [result["sequence"] for result in reader.results()] == list(range(count))
    delivery = sink.tally.delivery()
    assert delivery.given_up > 0
    assert delivery.waiting == 0


def test_the_oldest_results_make_room_where_a_live_client_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tally = Tally("igtl:")
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = igtl._Client(ours, tally, live=True, count=lambda: None)
    for _ in range(QUEUE_RESULTS + 50):
        client.put(igtl._Waiting(b"", bytes(8192)))
    assert CLIENT_TOO_SLOW in (tally.delivery().last_error or "")
    theirs.close()
    client.end()
    client.join()


def test_a_client_that_takes_a_little_now_and_then_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It never takes nothing for so long that it is disconnected."""
    monkeypatch.setattr(igtl, "LAST_SECONDS", 0.2)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    tally = Tally("igtl:")
    client = igtl._Client(ours, tally, live=True, count=lambda: None)
    for _ in range(QUEUE_RESULTS):
        client.put(igtl._Waiting(b"", bytes(10_000)))
    client.end()
    taken = 0
    with theirs:
        while part := theirs.recv(1000):
            taken += len(part)
            time.sleep(0.005)
    client.join()
    assert taken < QUEUE_RESULTS * 10_000
    delivery = tally.delivery()
    assert delivery.given_up > 0
    assert delivery.delivered + delivery.given_up == QUEUE_RESULTS


def test_a_client_that_is_slow_and_steady_gets_the_whole_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes longer for the whole than a client may take nothing."""
    monkeypatch.setattr(igtl, "CLIENT_SECONDS", 1.5)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    tally = Tally("igtl:")
    client = igtl._Client(ours, tally, live=True, count=lambda: None)
    client.put(igtl._Waiting(bytes(100_000), b"rest"))
    begun = time.monotonic()
    taken = 0
    while taken < 100_004:
        part = theirs.recv(1000)
        assert part
        taken += len(part)
        time.sleep(max(0.0, begun + 2.5 * taken / 100_004 - time.monotonic()))
    client.end()
    client.join()
    theirs.close()
    assert (tally.delivery().delivered, tally.delivery().given_up) == (1, 0)


def test_what_a_client_has_got_waits_no_more() -> None:
    with serving() as (sink, port):
        reader = Reader(port)
        wait_for_clients(sink, 1)
        sink.write(RESULT, GREY)
        until = time.monotonic() + 60
        while sink.tally.delivery().waiting or not sink.tally.delivery().delivered:
            assert time.monotonic() < until
            time.sleep(0.005)
    assert len(reader.results()) == 1


def test_a_recording_waits_once_for_a_client_that_makes_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(igtl, "LAST_SECONDS", 0.3)
    tally = Tally("igtl:")
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = igtl._Client(ours, tally, live=False, count=lambda: None)
    begun = time.monotonic()
    for _ in range(QUEUE_RESULTS + 100):
        client.put(igtl._Waiting(b"", bytes(8192)))
    assert time.monotonic() - begun < 10  # one wait, and not a hundred
    assert CLIENT_TOO_SLOW in (tally.delivery().last_error or "")
    theirs.close()
    client.end()
    client.join()


def test_the_server_goes_on_where_a_client_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (sink, port):
        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as client:
            client.settimeout(60)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))  # no file can be opened now
            try:
                client.connect(("127.0.0.1", port))
                until = time.monotonic() + 60
                while "cannot connect" not in (sink.tally.delivery().last_error or ""):
                    assert time.monotonic() < until
                    time.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
            wait_for_clients(sink, 1)


def test_clients_are_limited() -> None:
    with serving() as (sink, port):
        clients = [
            socket.create_connection(("127.0.0.1", port), 60) for _ in range(MAX_IGTL_CLIENTS)
        ]
        wait_for_clients(sink, MAX_IGTL_CLIENTS)
        with socket.create_connection(("127.0.0.1", port), 60) as one_more:
            assert one_more.recv(1) == b""
        for client in clients:
            client.close()


def test_the_end_of_the_session_ends_the_connection() -> None:
    with serving() as (sink, port), Igtl(f"igtl://127.0.0.1:{port}") as source:
        wait_for_clients(sink, 1)
        sink.write(RESULT, GREY)
        source.read(60)
        sink.close()
        with pytest.raises(DeviceLost):
            source.read(60)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("igtl:0.0.0.0:18944", "unprotected=yes"),
        ("igtl:192.0.2.1:18944", "everybody who reaches this address would see the screen"),
        ("igtl:host:99999", "needs HOST:PORT"),
        ("igtl:127.0.0.1", "needs HOST:PORT"),
        ("igtl:127.0.0.1:0", "needs HOST:PORT"),
        ("igtl::18944?unprotected=maybe", "is one of no, yes"),
        ("igtl:192.0.2.1:18944?unprotected=yes", "cannot listen there"),
    ],
)
def test_an_address_that_cannot_be_served_is_refused_in_one_line(uri: str, words: str) -> None:
    with (
        pytest.raises(BadInput, match=words) as raised,
        open_sink(uri, SinkContext(threading.Event(), True, 30.0)),
    ):
        pass
    assert "\n" not in str(raised.value)


def test_a_port_that_is_taken_is_refused() -> None:
    with serving() as (_, port), pytest.raises(BadInput, match="in use"), serving(port=port):
        pass


def test_a_long_result_is_cut_to_what_a_string_holds() -> None:
    many = replace(RESULT, nodules=(NODULE,) * 400)
    assert len(igtl.pack_result(many, 0.0)) < 400 * 136 + 400 * 80 + igtl.MAX_STRING + 1000
