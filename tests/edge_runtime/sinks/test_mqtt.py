"""Messages to a real broker, with TLS and a password."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices import BadInput
from edge_runtime.sinks import mqtt, outbox
from edge_runtime.sinks.messages import Messages
from tests.conftest import free_port, wait_until
from tests.edge_runtime.results.examples import NODULE, RESULT
from tests.edge_runtime.sinks.outboxes import CHILD, NEWEST, ask, opened, outbox_file, send
from tests.edge_runtime.sinks.receiver import Broker

SECRET = "hunter2hunter2"
needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto") is None, reason="mosquitto is not installed (make test-programs)"
)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(outbox, "LAST_RETRY", 0.05)
    monkeypatch.setattr(mqtt, "CONFIRM_SECONDS", 1.0)


@pytest.mark.parametrize(
    "damage",
    [(b'"label":"m', b'"label":"\xe1'), (b'"nodules"', b'"nodulus"'), (b'"label"', b'"labil"')],
)
def test_a_damaged_message_is_given_up(damage: tuple[bytes, bytes]) -> None:
    """Else it would be tried for ever, and those after it would wait."""
    (message,) = Messages("changes").of(RESULT)
    with pytest.raises(outbox.Rejected, match="a message was damaged on the disk"):
        mqtt.newest_state(message.replace(*damage))


@needs_mosquitto
def test_the_state_is_retained_and_the_client_says_that_it_is_there(tmp_path: Path) -> None:
    with Broker(tmp_path, free_port()) as broker:
        with opened(f"{broker.uri}&home_assistant=yes", tmp_path) as (sink, tally):
            send(sink, range(3))
            wait_until(lambda: tally.delivery().delivered == 3)
            wait_until(lambda: broker.retained.get("ward/bed-1/status") == b"online")
            wait_until(lambda: "ward/bed-1/state" in broker.retained)
            state = json.loads(broker.retained["ward/bed-1/state"])
            assert (state["state"], state["label"]) == ("LIVE", "malignant")
            assert state["notice"] == "research use only, not for diagnosis"
            wait_until(lambda: len(broker.retained) == 4)
            topic = "homeassistant/sensor/sonolite_ward_bed_1/label/config"
            entity = json.loads(broker.retained[topic])
            assert entity["state_topic"] == "ward/bed-1/state"
        wait_until(lambda: broker.retained["ward/bed-1/status"] == b"offline")
        wait_until(lambda: b"ENDED" in broker.retained["ward/bed-1/state"])


def test_the_state_speaks_of_the_leading_nodule() -> None:
    benign, silent = (
        replace(NODULE, label="benign"),
        replace(NODULE, track=2, label=None, reason="not enough"),
    )
    for nodules, label, reason in (
        ((benign, replace(NODULE, track=3)), "malignant", None),
        ((benign, silent), None, "not enough"),
        ((benign,), "benign", None),
    ):
        (message,) = Messages("changes").of(replace(RESULT, nodules=nodules))
        state = json.loads(mqtt.newest_state(message))
        assert (state["label"], state["reason"]) == (label, reason)


@needs_mosquitto
def test_what_waits_for_a_broker_is_sent_in_order_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    broker = Broker(tmp_path, port)
    with opened(broker.uri, tmp_path) as (sink, tally):
        send(sink, range(300))
        wait_until(lambda: tally.delivery().last_error)
        assert tally.delivery().waiting == 300
        with broker:
            wait_until(lambda: not tally.delivery().waiting)
            wait_until(lambda: len(broker.messages) == 300)
    assert broker.sequences() == list(range(300))
    assert broker.repeats == 0


@needs_mosquitto
def test_a_killed_process_loses_nothing_and_the_last_will_is_told(tmp_path: Path) -> None:
    with Broker(tmp_path, free_port()) as broker:
        words = [sys.executable, "-c", CHILD, broker.uri, str(tmp_path)]
        child = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        wait_until(lambda: ask(outbox_file(tmp_path), NEWEST) == 2000)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        wait_until(lambda: broker.retained.get("ward/bed-1/status") == b"offline")
        with opened(broker.uri, tmp_path) as (_, tally):
            wait_until(lambda: not tally.delivery().waiting)
            wait_until(lambda: len(broker.messages) == 2000)
    assert broker.sequences() == list(range(2000))
    assert broker.repeats <= mqtt.MAX_IN_FLIGHT


@needs_mosquitto
def test_a_broker_that_is_slow_to_confirm_gets_each_message_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process takes bytes, as a broker does that has too much to do."""
    monkeypatch.setattr(mqtt, "CONFIRM_SECONDS", 0.2)
    with Broker(tmp_path, free_port()) as broker, opened(broker.uri, tmp_path) as (sink, tally):
        send(sink, range(10))
        wait_until(lambda: tally.delivery().delivered == 10)
        broker.pause()
        send(sink, range(10, 300))
        wait_until(lambda: "does not confirm" in str(tally.delivery().last_error))
        broker.resume()
        wait_until(lambda: tally.delivery().delivered == 300)
        wait_until(lambda: len(broker.messages) == 300)
    assert broker.sequences() == list(range(300))
    assert broker.repeats == 0


# paho leaves the socket of a refused certificate to Python.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@needs_mosquitto
@pytest.mark.parametrize("wrong", ["password", "certificate"])
def test_a_broker_that_does_not_fit_is_told_and_gets_nothing(tmp_path: Path, wrong: str) -> None:
    with Broker(tmp_path, free_port()) as broker:
        uri = broker.uri
        if wrong == "password":
            (tmp_path / "password").write_text("another")
        else:
            uri = uri.replace(f"ca={broker.certificate}&", "")
        with opened(uri, tmp_path) as (sink, tally):
            sink.write(RESULT, np.zeros((4, 4), np.uint8))
            wait_until(lambda: tally.delivery().last_error)
        error = str(tally.delivery().last_error)
        assert ("Not authorized" if wrong == "password" else "the broker is away") in error
        assert SECRET not in error
    assert broker.messages == []


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("mqtt:host/topic", "needs mqtt://HOST/TOPIC"),
        ("mqtt://", "needs mqtt://HOST/TOPIC"),
        ("mqtt://host", "needs mqtt://HOST/TOPIC"),
        ("mqtt://host:0/topic", "needs mqtt://HOST/TOPIC"),
        ("mqtt://host/a/+/b", "needs mqtt://HOST/TOPIC"),
        (f"mqtts://me:{SECRET}@host/topic", "takes no password"),
        ("mqtts://me@host/topic", "a user needs password_env"),
        (f"mqtts://host/topic?{SECRET}=1", "option 1 is none of send"),
        ("mqtts://host/topic?home_assistant=1", "home_assistant is one of no, yes"),
        ("mqtt://host/topic", "needs mqtts://; mqtt:// reaches this machine alone"),
        ("mqtt://me@127.0.0.1/topic", "a user needs mqtts://"),
        ("mqtts:///topic", "needs mqtts://HOST/TOPIC"),
        ("mqtts://host:99999/topic", "needs mqtts://HOST/TOPIC"),
        ("mqtts://[::1/topic", "needs mqtts://HOST/TOPIC"),
        (f"mqtts://{64 * 'a'}/topic", "needs mqtts://HOST/TOPIC"),
        ("mqtts://me@host/topic?password_file=/dev/zero", "names: not a regular file"),
    ],
)
def test_a_wrong_address_is_one_line_without_a_secret(tmp_path: Path, uri: str, why: str) -> None:
    with pytest.raises(BadInput) as raised, opened(uri, tmp_path):
        pass
    assert why in str(raised.value)
    assert SECRET not in str(raised.value)
