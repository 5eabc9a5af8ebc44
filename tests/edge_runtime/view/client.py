"""A client of a view without a browser: requests, a socket, and what comes through it."""

import http.client
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect


class Linked(Protocol):
    """A view, here or in another process."""

    @property
    def link(self) -> str: ...


def host_of(view: Linked) -> str:
    return urlsplit(view.link).netloc


def token_of(view: Linked) -> str:
    return urlsplit(view.link).fragment


def ask(
    view: Linked, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection(host_of(view), timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


def exchange(view: Linked, token: str) -> tuple[int, str]:
    """The status and the cookie for a token."""
    origin = f"http://{host_of(view)}"
    status, headers, _ = ask(view, "POST", "/cookie", token, origin=origin)
    return status, headers.get("set-cookie", "")


@contextmanager
def watch(view: Linked, token: str | None = None, **changes: str) -> Iterator[ClientConnection]:
    """The stream of an admitted viewer after the facts; the headers may be changed."""
    with join(view, token, **changes) as page:
        role = json.loads(page.recv(timeout=60))["facts"]["role"]
        assert role == ("viewer" if token is None else "operator")
        yield page


@contextmanager
def join(view: Linked, token: str | None = None, **changes: str) -> Iterator[ClientConnection]:
    """The stream of an admitted viewer from the beginning."""
    cookie = exchange(view, token or token_of(view))[1].partition(";")[0]
    headers = {"cookie": cookie, "origin": f"http://{host_of(view)}"} | changes
    origin = headers.pop("origin")
    with connect(
        f"ws://{host_of(view)}/stream",
        origin=origin or None,  # type: ignore[arg-type]
        additional_headers=headers,
        compression=None,
        open_timeout=60,
    ) as page:
        yield page


def receive_result(page: ClientConnection) -> Any:
    """The JSON of the next result; heartbeats are passed over."""
    while not isinstance(data := page.recv(timeout=60), bytes):
        pass
    (length,) = struct.unpack_from(">I", data)
    return json.loads(data[4 : 4 + length])
