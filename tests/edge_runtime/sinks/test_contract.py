"""The contract of every sink that sends results elsewhere."""

import csv
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from devices import BadInput, Pixels
from edge_runtime.results.delivery import Delivery
from edge_runtime.results.states import State
from edge_runtime.sinks.drift import Aggregates
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.sinks.queue import RECORD_CAPACITY, SinkQueue
from edge_runtime.sinks.sink import CountedSink
from tests.edge_runtime.sinks.receiver import Broker, Receiver
from tests.edge_runtime.sinks.test_overlay import RESULT

SCREEN: Pixels = np.ones((48, 64), np.uint8)
PASSWORD = "hunter2hunter2"


@dataclass
class Place:
    """One place for results, with the sink that sends them there."""

    uri: str
    received: Callable[[], list[int]]
    """The sequence numbers of the results that arrived, in their order."""
    look: Callable[[CountedSink], None] = lambda _: None
    """Looks at the place before the sink closes."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def json_lines(folder: Path) -> Iterator[Place]:
    path = folder / "a.jsonl"

    def received() -> list[int]:
        return [json.loads(line)["sequence"] for line in path.read_text().splitlines()]

    yield Place(f"jsonl:{path}?max_mb=1000", received)


@contextmanager
def rotated_json_lines(folder: Path) -> Iterator[Place]:
    path = folder / "a.jsonl"

    def received() -> list[int]:
        files = sorted(folder.glob("a.jsonl.*"), key=lambda file: -int(file.suffix[1:]))
        texts = [file.read_text() for file in [*files, path]]
        assert len(texts) > 2
        return [json.loads(line)["sequence"] for text in texts for line in text.splitlines()]

    yield Place(f"jsonl:{path}?max_mb=0.2&keep=1000", received)


@contextmanager
def csv_file(folder: Path) -> Iterator[Place]:
    path = folder / "a.csv"

    def received() -> list[int]:
        with open(path, newline="") as file:
            return [int(row["sequence"]) for row in csv.DictReader(file)]

    yield Place(f"csv:{path}", received)


@contextmanager
def prometheus(folder: Path) -> Iterator[Place]:
    """Counts alone arrive, so that their sum stands for the numbers."""
    port = free_port()
    scraped: list[int] = []

    def received() -> list[int]:
        return list(range(scraped[-1]))

    def look(sink: CountedSink) -> None:
        text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
        lines = re.findall(r"^sonolite_results_total\{.*\} (\S+)$", text, re.MULTILINE)
        scraped.append(int(sum(map(float, lines))))

    yield Place(f"prometheus:127.0.0.1:{port}", received, look)


@contextmanager
def drift(folder: Path) -> Iterator[Place]:
    """Counts alone arrive, so that their sum stands for the numbers of a session."""
    place = folder / "drift"
    totals = [0]

    def look(sink: CountedSink) -> None:
        assert isinstance(sink, Aggregates)
        sink.save()
        (path,) = place.glob("*.json")
        totals.append(sum(json.loads(path.read_text())["hours"]["00"]["state"].values()))

    def received() -> list[int]:
        return [n for before, after in pairwise(totals) for n in range(after - before)]

    yield Place(f"drift:{place}", received, look)


@contextmanager
def webhook(folder: Path) -> Iterator[Place]:
    with Receiver() as receiver:
        yield Place(
            f"webhook:http://127.0.0.1:{receiver.port}/hook#send=results", receiver.sequences
        )


@contextmanager
def mqtt(folder: Path) -> Iterator[Place]:
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not installed (make test-programs)")
    with Broker(folder, free_port()) as broker:

        def received() -> list[int]:
            """All: the broker passes them on a moment after it confirmed them."""
            until = time.monotonic() + 120
            while not broker.messages or broker.messages[-1]["kind"] != "end":
                assert time.monotonic() < until
                time.sleep(0.01)
            return broker.sequences()

        yield Place(broker.uri, received)


PLACES = [json_lines, rotated_json_lines, csv_file, drift, prometheus, webhook, mqtt]


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


def test_every_result_arrives_once_and_in_order(place: Place) -> None:
    delivery = send(place, 3000)
    assert place.received() == list(range(3000))
    ends = place.uri.startswith(
        ("webhook", "mqtt")
    )  # a message about the end of the session follows
    counts = delivery.delivered, delivery.waiting, delivery.given_up, delivery.last_error
    assert counts == (3000 + ends, 0, 0, None)


@pytest.mark.slow
def test_a_hundred_thousand_results_arrive_once_and_in_order(place: Place) -> None:
    delivery = send(place, 100_000)
    assert place.received() == list(range(100_000))
    assert delivery.delivered in (100_000, 100_001)
    assert (delivery.waiting, delivery.given_up) == (0, 0)


def test_a_second_session_goes_on_where_the_first_ended(place: Place) -> None:
    send(place, 800)
    send(place, 400)
    received = place.received()
    assert received in ([*range(800), *range(400)], [*range(400)])


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

        queue = SinkQueue(Slow(), live=True)
        queue.put(RESULT, SCREEN)
        assert asked.wait(60)
        for number in range(1, RECORD_CAPACITY + 11):
            queue.put(replace(RESULT, sequence=number), SCREEN)
        assert queue.tally.queued == RECORD_CAPACITY + 1
        let.set()
        queue.close()
    delivery = queue.tally.delivery()
    assert delivery.delivered in (RECORD_CAPACITY + 1, RECORD_CAPACITY + 2)
    assert delivery.waiting == 0
    assert delivery.given_up == 10
    assert "too slow" in (delivery.last_error or "")


def test_it_keeps_no_picture(place: Place) -> None:
    with open_sink(place.uri, SinkContext(threading.Event(), True, 30.0)) as sink:
        assert not sink.wants_pixels
