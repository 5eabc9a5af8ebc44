"""Messages to a server: POST of JSON over HTTPS, kept on the disk until the server has answered."""

import hashlib
import hmac
import http.client
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult

from devices import BadInput
from devices.capture.source_uri import SourceUri
from edge_runtime.release.address import is_loopback
from edge_runtime.results.delivery import Tally
from edge_runtime.sinks.messages import CHANGES, RESULTS, Messages
from edge_runtime.sinks.outbox import (
    Message,
    NotSent,
    Outbox,
    OutboxSink,
    Rejected,
    numbered,
    outbox_path,
)
from edge_runtime.sinks.sink_uri import Options, SinkUri, parse_place

WEBHOOK_OPTIONS = ("send", "batch", "max_mb", "secret_env", "secret_file", "ca")
SIGNATURE_HEADER = "X-Sonolite-Signature-256"
"""The header with `sha256=` and the HMAC of the body, RFC 2104, in hexadecimal digits."""
ANSWER_SECONDS = 10.0
"""Seconds that the server may take to answer."""
MAX_ANSWER = 65536
"""Bytes of an answer that are read, so that the connection can go on."""
MAX_CERTIFICATES = 1 << 20
"""Bytes of a file of certificates; those of a system have a fifth of it."""
_PRINTED = re.compile(r"[!-~]+")
"""Letters that an address over HTTP may have (RFC 3986)."""
REFUSING_STATUSES = (400, 413, 415, 422)
"""Statuses of an answer that no other attempt will change."""


class _Server:
    """A connection to the server, which is opened again where it broke."""

    def __init__(
        self, url: SplitResult, name: str, secret: str | None, tls: ssl.SSLContext | None
    ) -> None:
        self._name, self._secret = name, secret
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        host = url.hostname or ""
        self._connection = (
            http.client.HTTPConnection(host, url.port, timeout=ANSWER_SECONDS)
            if tls is None
            else http.client.HTTPSConnection(host, url.port, timeout=ANSWER_SECONDS, context=tls)
        )

    def post(self, outbox: str, messages: list[Message]) -> None:
        """Sends messages as one array. Raises NotSent or Rejected."""
        body = b"[" + b",".join(numbered(outbox, message) for message in messages) + b"]"
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{outbox}-{messages[0].number}-{messages[-1].number}",
            "User-Agent": "sonolite",
        }
        if self._secret is not None:
            digest = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers[SIGNATURE_HEADER] = f"sha256={digest}"
        idle = self._connection.sock is not None
        try:
            try:
                status = self._request(body, headers)
            except (OSError, http.client.HTTPException):
                if not idle:
                    raise
                status = self._request(body, headers)  # the server had closed the idle connection
        except (OSError, http.client.HTTPException) as error:
            known = isinstance(error, OSError) and error.strerror
            raise NotSent(f"{self._name}: {known or type(error).__name__}") from error
        if 200 <= status < 300:
            return
        self._connection.close()
        if status in REFUSING_STATUSES:
            raise Rejected(f"{self._name}: the server answers {status} and refuses the messages")
        raise NotSent(f"{self._name}: the server answers {status}")

    def _request(self, body: bytes, headers: dict[str, str]) -> int:
        """Posts the body; returns the status of the server's answer."""
        try:
            self._connection.request("POST", self._target, body, headers)
            answer = self._connection.getresponse()
            if len(answer.read(MAX_ANSWER)) == MAX_ANSWER:
                self._connection.close()
        except BaseException:
            self._connection.close()
            raise
        return answer.status

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


@contextmanager
def open_webhook(uri: SinkUri, tally: Tally, outboxes: Path) -> Iterator[OutboxSink]:
    """A sink that posts to `https://HOST/PATH#OPTIONS`; plain HTTP reaches this machine alone.

    Options follow `#`, because what follows `?` belongs to the server.
    Raises BadInput for a wrong address or option, or where the outbox cannot be used.
    """
    place, options = uri.split(WEBHOOK_OPTIONS, "#")
    url = _parse(uri, SourceUri(place).reveal())
    tls = None if url.scheme == "http" else tls_context(uri, options)
    server = _Server(url, uri.name, options.secret("secret"), tls)
    messages = Messages(options.choice("send", (CHANGES, RESULTS)))
    max_bytes = int(1e6 * options.number("max_mb", 64, 0.001, 1e5))
    batch = int(options.number("batch", 100, 1, 1000))
    outbox = Outbox(outbox_path(outboxes, uri), tally, server.post, max_bytes, batch)
    sink = OutboxSink(messages, outbox, tally)
    try:
        yield sink
    finally:
        sink.close()
        server.close()


def _parse(uri: SinkUri, text: str) -> SplitResult:
    url = parse_server(uri, text)
    misplaced = [key for key in WEBHOOK_OPTIONS if f"&{key}=" in f"&{url.query}"]
    if misplaced:
        raise BadInput(f"{uri}: {misplaced[0]} stands behind #, as #send=results&batch=10")
    return url


def parse_server(uri: SinkUri, text: str) -> SplitResult:
    """The address of a server: HTTPS, or HTTP on this machine. Raises BadInput for any other."""
    form = f"{uri.kind}:https://HOST/PATH"
    url = parse_place(uri, text, form)
    if url.scheme not in ("https", "http") or not _PRINTED.fullmatch(text):
        raise BadInput(f"{uri}: needs {form}")
    if url.username is not None:
        raise BadInput(f"{uri}: takes no user and password; an option names the secret")
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        raise BadInput(f"{uri}: needs https; http reaches this machine alone")
    return url


def tls_context(uri: SinkUri, options: Options) -> ssl.SSLContext:
    """What checks a server: the certificates of the system, or those that the option `ca` names.

    Raises BadInput where these cannot be read.
    """
    content = options.file("ca", MAX_CERTIFICATES)
    if content is None:
        return ssl.create_default_context()
    try:
        text = content.decode("ascii", "replace") or "-"  # without a text it takes the system's
        return ssl.create_default_context(cadata=text)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{uri}: the file that ca names holds no certificate") from error
