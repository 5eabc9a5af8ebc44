"""The contract of every sink that sends results elsewhere."""

import csv
import json
import re
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import numpy as np
import pytest

from devices import BadInput, Pixels
from devices.openigtlink import HEADER
from edge_runtime.results.delivery import Delivery
from edge_runtime.results.states import State
from edge_runtime.sinks.drift import Aggregates
from edge_runtime.sinks.igtl import IgtlServer
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.sinks.queue import PIXEL_CAPACITY, RECORD_CAPACITY, SinkQueue
from edge_runtime.sinks.sink import CountedSink
from tests.conftest import free_port
from tests.edge_runtime.results.examples import RESULT
from tests.edge_runtime.sinks.receiver import Broker, Receiver

SCREEN: Pixels = np.ones((48, 64), np.uint8)
PASSWORD = "hunter2hunter2"


class Arrived(NamedTuple):
    """What a place tells of one result."""

    sequence: int
    state: str


@dataclass
class Place:
    """One place for results, with the sink that sends them there."""

    uri: str
    received: Callable[[], list[Arrived]]
    """The results that arrived, in their order."""
    kept: bool = True
    """Whether the place keeps what earlier sessions sent there."""
    messages: bool = False
    """Whether the place gets messages: one about the end of a session follows."""
    join: Callable[[CountedSink], None] = lambda _: None
    """Waits until the place can receive."""
    look: Callable[[CountedSink], None] = lambda _: None
    """Looks at the place before the sink closes."""
    pictures: bool = False
    """Whether the place gets the picture."""


def arrived(record: dict[str, Any]) -> Arrived:
    return Arrived(int(record["sequence"]), record["state"])


def results_of(messages: list[dict[str, Any]]) -> list[Arrived]:
    return [arrived(each["result"]) for each in messages if each["kind"] == "result"]


@contextmanager
def json_lines(folder: Path) -> Iterator[Place]:
    path = folder / "a.jsonl"

    def received() -> list[Arrived]:
        return list(map(arrived, map(json.loads, path.read_text().splitlines())))

    yield Place(f"jsonl:{path}?max_mb=1000", received)


@contextmanager
def rotated_json_lines(folder: Path) -> Iterator[Place]:
    path = folder / "a.jsonl"

    def received() -> list[Arrived]:
        files = sorted(folder.glob("a.jsonl.*"), key=lambda file: -int(file.suffix[1:]))
        texts = [file.read_text() for file in [*files, path]]
        assert len(texts) > 2
        return [arrived(json.loads(line)) for text in texts for line in text.splitlines()]

    yield Place(f"jsonl:{path}?max_mb=0.1&keep=1000", received)


@contextmanager
def csv_file(folder: Path) -> Iterator[Place]:
    path = folder / "a.csv"

    def received() -> list[Arrived]:
        with open(path, newline="") as file:
            return list(map(arrived, csv.DictReader(file)))

    yield Place(f"csv:{path}", received)


@contextmanager
def prometheus(folder: Path) -> Iterator[Place]:
    """Counts alone arrive, so that the place numbers the results itself."""
    port = free_port()
    scraped: list[Arrived] = []

    def look(sink: CountedSink) -> None:
        text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
        counts = re.findall(r'^sonolite_results_total\{state="(\w+)"\} (\S+)$', text, re.MULTILINE)
        states = [state for state, count in counts for _ in range(int(float(count)))]
        scraped[:] = [Arrived(number, state) for number, state in enumerate(states)]

    yield Place(f"prometheus:127.0.0.1:{port}", lambda: scraped, kept=False, look=look)


@contextmanager
def drift(folder: Path) -> Iterator[Place]:
    """Counts alone arrive, so that the place numbers the results of a session itself."""
    place = folder / "drift"
    totals = [Counter[str]()]

    def look(sink: CountedSink) -> None:
        assert isinstance(sink, Aggregates)
        sink.save()
        (path,) = place.glob("*.json")
        counts = json.loads(path.read_text())["hours"]["00"]["state"]
        totals.append(Counter({name.partition(",")[0]: count for name, count in counts.items()}))

    def received() -> list[Arrived]:
        last = totals[-1] - totals[-2]
        return [Arrived(number, state) for number, state in enumerate(last.elements())]

    yield Place(f"drift:{place}", received, kept=False, look=look)


@contextmanager
def webhook(folder: Path) -> Iterator[Place]:
    with Receiver() as receiver:
        uri = f"webhook:http://127.0.0.1:{receiver.port}/hook#send=results"
        yield Place(uri, lambda: results_of(receiver.messages), messages=True)


@contextmanager
def mqtt(folder: Path) -> Iterator[Place]:
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not installed (make test-programs)")
    with Broker(folder, free_port()) as broker:

        def received() -> list[Arrived]:
            """All: the broker passes them on a moment after it confirmed them."""
            until = time.monotonic() + 120
            while not broker.messages or broker.messages[-1]["kind"] != "end":
                assert time.monotonic() < until
                time.sleep(0.01)
            return results_of(broker.messages)

        yield Place(broker.uri, received, messages=True)


@contextmanager
def igtl(folder: Path) -> Iterator[Place]:
    """A client of the server, which receives until the server ends the connection."""
    port = free_port()
    texts: list[bytes] = []
    clients: list[threading.Thread] = []

    def receive(client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            while head := stream.read(HEADER.size):
                _, kind, _, _, size, _ = HEADER.unpack(head)
                body = stream.read(size)
                if kind.startswith(b"STRING"):
                    texts.append(body[4:])

    def join(sink: CountedSink) -> None:
        client = socket.create_connection(("127.0.0.1", port), 60)
        clients.append(threading.Thread(target=receive, args=[client]))
        clients[-1].start()
        assert isinstance(sink, IgtlServer)
        while not sink.clients:
            time.sleep(0.01)

    def received() -> list[Arrived]:
        for client in clients:
            client.join()
        return [arrived(json.loads(text)) for text in texts]

    yield Place(f"igtl::{port}", received, join=join, pictures=True)


PLACES = [json_lines, rotated_json_lines, csv_file, drift, prometheus, igtl, webhook, mqtt]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with request.param(tmp_path) as opened:
        yield opened


def send(place: Place, count: int, live: bool = False) -> Delivery:
    """Sends results through a queue, as a session does; every third has another state."""
    context = SinkContext(threading.Event(), live, 30.0)
    with open_sink(place.uri, context) as sink:
        assert isinstance(sink, CountedSink)
        queue = SinkQueue(sink, live)
        place.join(sink)
        for number in range(count):
            if number % 3:
                queue.put(replace(RESULT, sequence=number, frame=number), SCREEN)
            else:
                other = replace(RESULT, sequence=number, state=State.SEARCHING, nodules=())
                queue.put(other, SCREEN)
        queue.close()
        assert queue.error is None
        place.look(sink)
        counts = queue.tally
    assert counts.delivery().waiting == 0
    return queue.tally.delivery()


def assert_sent(place: Place, count: int) -> None:
    """Every result that `send` sent has arrived, in order and with its state."""
    received = place.received()
    assert [each.sequence for each in received] == list(range(count))
    searching = -(-count // 3)
    states = {"LIVE": count - searching, "SEARCHING": searching}
    assert Counter(each.state for each in received) == states


def test_every_result_arrives_once_and_in_order(place: Place) -> None:
    delivery = send(place, 3000)
    assert_sent(place, 3000)
    counts = delivery.delivered, delivery.waiting, delivery.given_up, delivery.last_error
    assert counts == (3000 + place.messages, 0, 0, None)


@pytest.mark.slow
def test_a_hundred_thousand_results_arrive_once_and_in_order(place: Place) -> None:
    delivery = send(place, 100_000)
    assert_sent(place, 100_000)
    counts = delivery.delivered, delivery.waiting, delivery.given_up, delivery.last_error
    assert counts == (100_000 + place.messages, 0, 0, None)


def test_a_second_session_goes_on_where_the_first_ended(place: Place) -> None:
    send(place, 800)
    send(place, 400)
    numbers = [each.sequence for each in place.received()]
    assert numbers == [*range(800 * place.kept), *range(400)]


def test_an_unknown_option_is_refused_with_those_that_are_known(place: Place) -> None:
    mark = "&" if {"?", "#"} & set(place.uri) else "?"
    with pytest.raises(BadInput, match=r"option \d is none of ") as raised:
        send(replace(place, uri=f"{place.uri}{mark}{PASSWORD}={PASSWORD}"), 1)
    assert PASSWORD not in str(raised.value)


def test_a_live_session_waits_for_no_sink_and_every_result_is_counted(place: Place) -> None:
    """The sink is stopped at the first result, as by a disk that hangs."""
    let, asked = threading.Event(), threading.Event()
    context = SinkContext(threading.Event(), True, 30.0)
    with open_sink(place.uri, context) as sink:
        assert isinstance(sink, CountedSink)
        counts = sink.tally

        class Slow:
            wants_pixels, latest_only = sink.wants_pixels, sink.latest_only
            tally = counts

            def write(self, result: object, pixels: Pixels) -> None:
                asked.set()
                assert let.wait(60)
                sink.write(result, pixels)  # type: ignore[arg-type]

        place.join(sink)
        queue = SinkQueue(Slow(), live=True)
        capacity = PIXEL_CAPACITY if place.pictures else RECORD_CAPACITY
        queue.put(RESULT, SCREEN)
        assert asked.wait(60)
        for number in range(1, capacity + 11):
            queue.put(replace(RESULT, sequence=number), SCREEN)
        assert queue.tally.queued == capacity + 1
        let.set()
        queue.close()
        place.look(sink)
    numbers = [each.sequence for each in place.received()]
    if place.kept:
        assert numbers == [0, *range(11, capacity + 11)]
    assert len(numbers) == capacity + 1
    delivery = queue.tally.delivery()
    assert delivery.delivered == capacity + 1 + place.messages
    assert delivery.waiting == 0
    assert delivery.given_up == 10
    assert "too slow" in (delivery.last_error or "")


def test_it_takes_a_picture_only_to_send_it(place: Place) -> None:
    with open_sink(place.uri, SinkContext(threading.Event(), True, 30.0)) as sink:
        assert sink.wants_pixels is place.pictures
