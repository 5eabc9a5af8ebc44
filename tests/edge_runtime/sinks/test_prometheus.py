"""Counts for Prometheus, checked by Prometheus."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import pytest

from devices import BadInput
from edge_runtime.results.states import State
from edge_runtime.sinks import prometheus
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.sinks.prometheus import MAX_REASONS, OTHER_REASON
from edge_runtime.sinks.sink import Sink
from tests.conftest import free_port, wait_until
from tests.edge_runtime.results.examples import NODULE, RESULT

PAGES = Path(__file__).parents[3] / "docs" / "prometheus"
SCREEN = np.zeros((4, 4), np.uint8)
needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="prometheus is not installed (make test-programs)"
)


def metrics(port: int) -> str:
    answer: bytes = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read()
    return answer.decode()


def is_served(port: int) -> bool:
    try:
        return "sonolite_state" in metrics(port)
    except OSError:
        return False


def write_some(sink: Sink) -> None:
    for number in range(30):
        sink.write(replace(RESULT, sequence=number), SCREEN)
    silent = replace(NODULE, label=None, reason="too close to the threshold")
    sink.write(replace(RESULT, sequence=30, nodules=(silent,)), SCREEN)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A sink that has had some results, beside a file."""
    port = free_port()
    context = SinkContext(threading.Event(), True, 30.0)
    with (
        open_sink(f"jsonl:{tmp_path}/a", context),
        open_sink(f"prometheus::{port}", context) as sink,
    ):
        write_some(sink)
        yield port


def test_results_labels_and_reasons_are_counted(port: int) -> None:
    text = metrics(port)
    for line in (
        'sonolite_results_total{state="LIVE"} 31.0',
        'sonolite_labels_total{label="malignant"} 30.0',
        'sonolite_abstentions_total{reason="too close to the threshold"} 1.0',
        'sonolite_state{state="LIVE"} 1.0',
        'sonolite_state{state="LOST"} 0.0',
        'sonolite_latency_seconds_bucket{le="0.01"} 31.0',
        "sonolite_latency_seconds_count 31.0",
        'name="demo"',
        'digest="0123456789ab"',
    ):
        assert line in text
    assert re.search(r'^sonolite_sink_waiting\{sink="jsonl:.*/a"\} 0', text, re.MULTILINE)


def test_probabilities_and_scores_are_counted_in_bins_and_in_live_alone() -> None:
    port = free_port()
    with open_sink(f"prometheus::{port}", SinkContext(threading.Event(), True, 30.0)) as sink:
        for state in (State.LIVE, State.STALE):
            for score in (0.4, 1.1):
                nodule = replace(NODULE, out_of_scope_score=score)
                sink.write(replace(RESULT, state=state, nodules=(nodule,)), SCREEN)
        text = metrics(port)
    for line in (
        'sonolite_probability_ratio_bucket{label="malignant",le="0.7"} 0.0',
        'sonolite_probability_ratio_bucket{label="malignant",le="0.8"} 2.0',
        'sonolite_out_of_scope_score_ratio_bucket{le="1.0"} 1.0',
        "sonolite_out_of_scope_score_ratio_count 2.0",
    ):
        assert line in text
    assert 'label="benign"' not in text


def test_many_reasons_are_one_in_the_end() -> None:
    port = free_port()
    with open_sink(f"prometheus::{port}", SinkContext(threading.Event(), True, 30.0)) as sink:
        for number in range(MAX_REASONS + 5):
            silent = replace(NODULE, label=None, reason=f"reason {number}")
            sink.write(replace(RESULT, nodules=(silent,)), SCREEN)
        text = metrics(port)
    assert f'sonolite_abstentions_total{{reason="{OTHER_REASON}"}} 5.0' in text


@pytest.mark.parametrize(
    "place",
    [
        *("", "9108", "host", "[::1", "host:0", "host:99999", "a:b@c:1", "a..b:1", "[::1::2]:1"),
        f"{64 * 'a'}:1",
    ],
)
def test_what_is_no_address_is_refused(place: str) -> None:
    with (
        pytest.raises(BadInput, match="needs HOST:PORT"),
        open_sink(f"prometheus:{place}", SinkContext(threading.Event(), True, 30.0)),
    ):
        pass


def test_clients_that_say_nothing_take_no_thread_after_another_and_are_not_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "SCRAPE_SECONDS", 1)
    port, context = free_port(), SinkContext(threading.Event(), True, 30.0)
    with open_sink(f"prometheus::{port}", context), ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
            for _ in range(prometheus.MAX_SCRAPES + 1)
        ]
        assert silent[-1].recv(1) == b""
        assert {connection.recv(1) for connection in silent} == {b""}
        wait_until(lambda: is_served(port))
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken_is_one_line(port: int) -> None:
    with (
        pytest.raises(BadInput, match="cannot listen there: Address already in use"),
        open_sink(f"prometheus::{port}", SinkContext(threading.Event(), True, 30.0)),
    ):
        pass


@needs_prometheus
def test_promtool_finds_no_fault(port: int) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=metrics(port),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    for words in (("rules", PAGES / "alerts.yml"), ("config", PAGES / "prometheus.yml")):
        done = subprocess.run(
            ["promtool", "check", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done


def expressions() -> list[str]:
    board = json.loads((PAGES / "dashboard.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_there_are(port: int) -> None:
    known = set(re.findall(r"^(\w+)", metrics(port), re.MULTILINE))
    text = " ".join((*expressions(), (PAGES / "alerts.yml").read_text()))
    named = set(re.findall(r"\bsonolite_\w+", text))
    assert len(named) > 10
    assert named <= known


def wait_for(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            if answer := condition():
                return answer
        except URLError:
            pass
        time.sleep(0.1)
    raise AssertionError("it never happened")


@needs_prometheus
def test_a_real_prometheus_scrapes_and_answers_the_dashboard(port: int, tmp_path: Path) -> None:
    config = (PAGES / "prometheus.yml").read_text()
    config = config.replace("15s", "200ms").replace("9108", str(port))
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(PAGES / "alerts.yml", tmp_path)
    there = f"127.0.0.1:{free_port()}"
    words = ["prometheus", f"--config.file={tmp_path}/prometheus.yml"]
    words += [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={there}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(expression: str) -> list[Any]:
        query = urlencode({"query": expression})
        answer = json.load(urlopen(f"http://{there}/api/v1/query?{query}", timeout=60))
        assert answer["status"] == "success"
        result: list[Any] = answer["data"]["result"]
        return result

    try:
        series = wait_for(lambda: ask('sonolite_results_total{state="LIVE"}'))
        assert series[0]["value"][1] == "31"
        for expression in expressions():
            asked = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
            ask(asked)
        assert ask("count(count by (name, digest) (sonolite_bundle_info))")[0]["value"][1] == "1"
    finally:
        process.kill()
        process.wait()
