"""A server for messages, as a user writes one: it takes each number once."""

import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edge_runtime.sinks.webhook import SIGNATURE_HEADER


class _Server(ThreadingHTTPServer):
    """Remembers the connections: a server that is away answers at none of them."""

    request_queue_size = 64

    def __init__(self, place: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(place, handler)
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, client = super().get_request()
        self.connections.append(connection)
        return connection, client


class Receiver:
    """Takes messages over HTTP; refuses them while `status` is no 200."""

    def __init__(self, port: int = 0, tls: Path | None = None) -> None:
        """`tls` is a file with a key and a certificate."""
        self.status = 200
        self.messages: list[dict[str, Any]] = []
        self.repeats = 0
        self.last: dict[str, int] = defaultdict(int)
        """The highest number of each outbox."""
        self.bodies: list[tuple[bytes, str | None]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(body, self.headers.get(SIGNATURE_HEADER))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def take(self, body: bytes, signature: str | None) -> int:
        if self.status != 200:
            return self.status
        self.bodies.append((body, signature))
        for message in json.loads(body):
            if message["number"] <= self.last[message["outbox"]]:
                self.repeats += 1
                continue
            self.last[message["outbox"]] = message["number"]
            self.messages.append(message)
        return 200

    def sequences(self) -> list[int]:
        """The sequence numbers of the results, in the order of arrival."""
        return [each["result"]["sequence"] for each in self.messages if each["kind"] == "result"]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in self._server.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def make_certificate(folder: Path) -> Path:
    """A file with a key and a certificate of this machine, which signs itself."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    words += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(words, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


USER, PASSWORD = "cart", "hunter2hunter2"


class Broker:
    """A mosquitto on loopback, with TLS and a password, and a client that takes every message."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self._folder = port, folder
        self.certificate = folder / "cert.pem"
        if not self.certificate.exists():
            make_certificate(folder)
            words = ["mosquitto_passwd", "-c", "-b", str(folder / "users"), USER, PASSWORD]
            subprocess.run(words, check=True, capture_output=True)
            (folder / "password").write_text(PASSWORD)
            (folder / "password").chmod(0o600)
        lines = [
            f"listener {port} 127.0.0.1",
            "user root",
            "allow_anonymous false",
            f"password_file {folder}/users",
            f"certfile {folder}/cert.pem",
            f"keyfile {folder}/key.pem",
            "max_queued_messages 0",
            "max_inflight_messages 0",
        ]
        (folder / "mosquitto.conf").write_text("\n".join(lines))
        self.messages: list[dict[str, Any]] = []
        self.retained: dict[str, bytes] = {}
        """The last message of each other topic."""
        self.repeats = 0
        self._last: dict[str, int] = defaultdict(int)

    @property
    def uri(self) -> str:
        files = f"ca={self.certificate}&password_file={self._folder}/password"
        return f"mqtts://{USER}@127.0.0.1:{self.port}/ward/bed-1?send=results&{files}"

    def sequences(self) -> list[int]:
        """The sequence numbers of the results, in the order of arrival."""
        return [each["result"]["sequence"] for each in self.messages if each["kind"] == "result"]

    def take(self, topic: str, body: bytes) -> None:
        if not topic.endswith("/result"):
            self.retained[topic] = body
            return
        message = json.loads(body)
        if message["number"] <= self._last[message["outbox"]]:
            self.repeats += 1
            return
        self._last[message["outbox"]] = message["number"]
        self.messages.append(message)

    def __enter__(self) -> Self:
        words = ["mosquitto", "-c", str(self._folder / "mosquitto.conf")]
        self._process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(USER, PASSWORD)
        self._client.tls_set(str(self.certificate))
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _, data, got: self.take(got.topic, bytes(got.payload))
        until = time.monotonic() + 120
        while True:
            try:
                self._client.connect("127.0.0.1", self.port)
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
        self._client.subscribe("#", qos=1)
        self._client.loop_start()
        assert subscribed.wait(120)
        return self

    def pause(self) -> None:
        """Stops the broker; the connections stay."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets the broker go on."""
        self._process.send_signal(signal.SIGCONT)

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._process.kill()
        self._process.wait()


def _serve(folder: Path, port: int) -> None:
    """Serves until stdin ends; prints the port of the receiver and the URI of the broker."""
    with Receiver() as receiver, Broker(folder, port) as broker:
        print(receiver.port, broker.uri, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
