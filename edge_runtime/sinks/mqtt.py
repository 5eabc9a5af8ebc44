"""Messages to an MQTT broker, kept on the disk until the broker has confirmed them (QoS 1).

Below TOPIC there are `result` with every message, `state` with the newest state (retained), and
`status`, which is `online`, and by the last will `offline`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from devices import BadInput
from devices.capture.source_uri import SourceUri
from edge_runtime.release.address import is_loopback
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import NOTICE, label_rank
from edge_runtime.sinks.messages import CHANGES, RESULTS, Messages
from edge_runtime.sinks.outbox import (
    Message,
    NotSent,
    Outbox,
    OutboxSink,
    numbered,
    outbox_path,
    read_message,
)
from edge_runtime.sinks.sink_uri import SinkUri, parse_place
from edge_runtime.sinks.webhook import tls_context

MQTT_OPTIONS = ("send", "max_mb", "password_env", "password_file", "ca", "home_assistant")
CONFIRM_SECONDS = 10.0
"""Seconds that the broker may take to confirm a message, or to let this client in."""
KEEPALIVE_SECONDS = 30
"""The broker publishes the last will when nothing came for one and a half times as long."""
MAX_IN_FLIGHT = 100
MAX_TOPIC = 200
PORTS = {"mqtt": 1883, "mqtts": 8883}
DISCOVERY = "homeassistant"
"""The topic under which Home Assistant looks for devices."""


class _Broker:
    """A connection to a broker; paho opens it again where it broke."""

    def __init__(self, client: Client, topic: str, name: str, home_assistant: bool) -> None:
        self._client, self._topic, self._name = client, topic, name
        self._home_assistant = home_assistant
        self._changed = threading.Condition()
        self._connected = False
        self._refusal = "the broker is away"
        self._published: dict[tuple[int, str], int] = {}
        """What paho has, by number and topic: the number that it gave. After a break it sends that
        again by itself."""
        self._confirmed: set[int] = set()
        """Numbers of paho that the broker has confirmed."""
        client.on_connect = lambda _, __, ___, reason, ____: self._enter(reason)
        client.on_disconnect = lambda *_: self._leave()
        client.on_publish = lambda _, __, number, *___: self._confirm(number)
        client.will_set(f"{topic}/status", "offline", qos=1, retain=True)

    def send(self, outbox: str, messages: list[Message]) -> None:
        """Publishes messages, and waits until the broker has confirmed them. Raises NotSent."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._connected, CONFIRM_SECONDS):
                raise NotSent(f"{self._name}: {self._refusal}")
            first = messages[0].number  # those before it were given up
            self._published = {key: n for key, n in self._published.items() if key[0] >= first}
            self._confirmed &= set(self._published.values())
        for message in messages:
            if (key := (message.number, "result")) not in self._published:
                self._published[key] = self._publish("result", numbered(outbox, message)).mid
        if (key := (messages[-1].number, "state")) not in self._published:
            self._published[key] = self._publish("state", newest_state(messages[-1].body), True).mid
        last = messages[-1].number
        waiting = {n for key, n in self._published.items() if key[0] <= last}
        with self._changed:
            if not self._changed.wait_for(
                lambda: waiting <= self._confirmed or not self._connected, CONFIRM_SECONDS
            ):
                raise NotSent(f"{self._name}: the broker does not confirm")
            if not waiting <= self._confirmed:
                raise NotSent(f"{self._name}: the broker went away")

    def close(self) -> None:
        """Says that this client goes, and disconnects."""
        if self._connected:
            self._publish("status", b"offline", retain=True).wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self, leaf: str, body: bytes, retain: bool = False) -> MQTTMessageInfo:
        return self._client.publish(f"{self._topic}/{leaf}", body, qos=1, retain=retain)

    def _enter(self, reason: ReasonCode) -> None:
        """Says that this client is there; notes why where the broker refuses it."""
        if reason.is_failure:
            self._refusal = f"the broker refuses: {reason}"
            return
        self._publish("status", b"online", retain=True)
        if self._home_assistant:
            for topic, body in discovery(self._topic).items():
                self._client.publish(topic, body, qos=1, retain=True)
        with self._changed:
            self._connected = True
            self._changed.notify_all()

    def _leave(self) -> None:
        with self._changed:
            self._connected = False
            self._changed.notify_all()

    def _confirm(self, number: int) -> None:
        """Notes what the broker has. paho holds a lock meanwhile that publishing needs, too."""
        with self._changed:
            self._confirmed.add(number)
            self._changed.notify_all()


class _KeptNodule(msgspec.Struct):
    label: str | None
    reason: str | None
    thresholds: dict[str, float]


class _KeptResult(msgspec.Struct):
    state: str
    reason: str | None
    captured_utc: str
    nodules: list[_KeptNodule]


class _KeptMessage(msgspec.Struct):
    """What a message on the disk says of the state."""

    result: _KeptResult | None = None


def newest_state(body: bytes) -> bytes:
    """The newest state, from a message. Raises Rejected for a damaged one."""
    result = read_message(body, _KeptMessage).result
    state: dict[str, Any] = {"state": "ENDED", "label": None, "reason": None, "notice": NOTICE}
    if result is not None:
        leading = min(
            result.nodules,
            key=lambda each: label_rank(each.label, each.thresholds),
            default=_KeptNodule(None, result.reason, {}),
        )
        state |= {"state": result.state, "captured_utc": result.captured_utc}
        state |= {"label": leading.label, "reason": result.reason or leading.reason}
    return msgspec.json.encode(state)


def discovery(topic: str) -> dict[str, bytes]:
    """What Home Assistant needs to show the state and the label, by topic."""
    node = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in topic)
    device = {"identifiers": [f"sonolite_{node}"], "name": f"sonolite {topic}", "model": NOTICE}
    return {
        f"{DISCOVERY}/sensor/sonolite_{node}/{key}/config": msgspec.json.encode(
            {
                "name": key,
                "unique_id": f"sonolite_{node}_{key}",
                "state_topic": f"{topic}/state",
                "value_template": f"{{{{ value_json.{key} or 'none' }}}}",
                "availability_topic": f"{topic}/status",
                "payload_available": "online",
                "payload_not_available": "offline",
                "device": device,
            }
        )
        for key in ("state", "label")
    }


@contextmanager
def open_mqtt(uri: SinkUri, tally: Tally, outboxes: Path) -> Iterator[OutboxSink]:
    """A sink that publishes below a topic: `mqtts://USER@HOST:PORT/TOPIC?option=value`.

    Raises BadInput for a wrong address or option, or where the outbox cannot be used.
    """
    place, options = uri.split(MQTT_OPTIONS)
    host, port, user, topic = _parse(uri, SourceUri(f"{uri.kind}:{place}").reveal())
    password = options.secret("password")
    if (user is None) != (password is None):
        raise BadInput(f"{uri}: a user needs password_env or password_file, and they need a user")
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect_timeout = CONFIRM_SECONDS
    client.max_inflight_messages_set(MAX_IN_FLIGHT)
    client.reconnect_delay_set(1, 30)
    if user is not None:
        client.username_pw_set(user, password)
    if uri.kind == "mqtts":
        client.tls_set_context(tls_context(uri, options))
    messages = Messages(options.choice("send", (CHANGES, RESULTS)))
    wants_discovery = options.choice("home_assistant", ("no", "yes")) == "yes"
    max_bytes = int(1e6 * options.number("max_mb", 64, 0.001, 1e5))
    broker = _Broker(client, topic, uri.name, wants_discovery)
    outbox = Outbox(outbox_path(outboxes, uri), tally, broker.send, max_bytes, MAX_IN_FLIGHT)
    sink = OutboxSink(messages, outbox, tally)
    try:
        client.connect_async(host, port, KEEPALIVE_SECONDS)
        client.loop_start()
        yield sink
    finally:
        sink.close()
        broker.close()


def _parse(uri: SinkUri, text: str) -> tuple[str, int, str | None, str]:
    """Host, port, user and topic of an address."""
    form = f"{uri.kind}://HOST/TOPIC"
    url = parse_place(uri, text, form)
    host, topic = url.hostname or "", unquote(url.path).strip("/")
    if not topic or set(topic) & set("#+\0") or len(topic) > MAX_TOPIC:
        raise BadInput(f"{uri}: needs {form}")
    if url.password is not None:
        raise BadInput(f"{uri}: takes no password; password_env or password_file names it")
    if uri.kind == "mqtt" and not is_loopback(host):
        raise BadInput(f"{uri}: needs mqtts://; mqtt:// reaches this machine alone")
    if uri.kind == "mqtt" and url.username is not None:
        raise BadInput(f"{uri}: a user needs mqtts://; mqtt:// sends the password in the clear")
    user = None if url.username is None else unquote(url.username)
    return host, url.port or PORTS[uri.kind], user, topic
