"""The web server of a view, over real connections on loopback."""

import json
import logging
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from devices import Pixels
from edge_runtime.view import server
from edge_runtime.view.address import MAX_VIEW_CONNECTIONS
from edge_runtime.view.admission import MAX_ATTEMPTS
from edge_runtime.view.assets import read_assets
from edge_runtime.view.sink import View
from edge_runtime.view.viewers import MAX_VIEWERS, WINDOW
from tests.edge_runtime.results.examples import RESULT
from tests.edge_runtime.view.client import (
    ask,
    exchange,
    host_of,
    receive_result,
    token_of,
    watch,
)


def test_every_file_of_the_page_is_served_and_hardened(view: View) -> None:
    for path, (kind, content) in read_assets().items():
        status, headers, body = ask(view, "GET", path)
        assert (status, body) == (200, content)
        assert headers["content-type"].startswith(kind)
        assert headers.items() >= server.SECURITY_HEADERS.items()
        assert "server" not in headers


def test_the_page_asks_for_nothing_elsewhere() -> None:
    for path, (_, content) in read_assets().items():
        text = content.decode().replace("//${location.host}", "")
        assert "//" not in text.replace("// ", ""), path
        assert "style=" not in text
        assert "onclick=" not in text


def test_the_right_token_gives_a_cookie_that_no_script_and_no_other_site_can_use(
    view: View,
) -> None:
    status, cookie = exchange(view, token_of(view))
    assert status == 204
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert token_of(view) not in cookie


def test_a_wrong_token_is_refused_and_many_are_held_up(view: View) -> None:
    answers = [exchange(view, "wrong") for _ in range(MAX_ATTEMPTS)]
    assert answers == [(403, "")] * MAX_ATTEMPTS
    assert exchange(view, token_of(view)) == (429, "")


@pytest.mark.parametrize("origin", ["http://attacker.example", "null", "http://127.0.0.1:1"])
def test_another_site_gets_no_cookie(view: View, origin: str) -> None:
    status, headers, _ = ask(view, "POST", "/cookie", token_of(view), origin=origin)
    assert status == 403
    assert "set-cookie" not in headers


def test_nothing_is_changed_by_get(view: View) -> None:
    assert ask(view, "GET", "/cookie")[0] == 405


def test_a_request_for_another_host_is_refused(view: View) -> None:
    status, headers, _ = ask(view, "GET", "/", host="attacker.example")
    assert status == 421
    assert headers.items() >= server.SECURITY_HEADERS.items()


@pytest.mark.parametrize(
    "changes",
    [
        {"cookie": ""},
        {"origin": "http://attacker.example"},
        {"origin": ""},
    ],
)
def test_a_stream_needs_the_cookie_and_the_own_origin(view: View, changes: dict[str, str]) -> None:
    with pytest.raises(InvalidStatus) as refusal, watch(view, **changes):
        pass
    assert refusal.value.response.status_code == 403


def test_a_cookie_with_another_value_is_refused(view: View) -> None:
    name = exchange(view, token_of(view))[1].partition("=")[0]
    with pytest.raises(InvalidStatus) as refusal, watch(view, cookie=f"{name}=wrong"):
        pass
    assert refusal.value.response.status_code == 403


def test_a_stream_for_another_host_is_refused(view: View) -> None:
    """As by a name that its owner makes lead to this machine, from a browser with the cookie."""
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    cookie = {"cookie": exchange(view, token_of(view))[1].partition(";")[0]}
    own = {"host": host_of(view), "origin": f"http://{host_of(view)}"}
    upgrade = {"connection": "upgrade", "upgrade": "websocket"}
    version = {"sec-websocket-version": "13", "sec-websocket-key": key}
    for changes, status in (({}, 101), ({"host": "attacker.example"}, 403)):
        headers = cookie | own | upgrade | version | changes
        assert ask(view, "GET", "/stream", None, **headers)[0] == status


def test_a_viewer_too_many_is_told_to_come_later(view: View) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_VIEWERS):
            stack.enter_context(watch(view))
        with pytest.raises(ConnectionClosed), watch(view):
            pass


@pytest.mark.parametrize("message", ["x" * 2000, "hello", "", "clock x", b"drawn"])
def test_a_message_of_no_page_ends_the_stream(view: View, message: str | bytes) -> None:
    with watch(view) as page:
        page.send(message)
        with suppress(ConnectionClosed):
            for sign in page:
                assert json.loads(sign).keys() <= {"status"}
        assert page.close_code == (1009 if len(message) > 1024 else 1008)
    with watch(view):
        pass


def test_a_long_request_is_refused(view: View) -> None:
    origin = f"http://{host_of(view)}"
    assert ask(view, "POST", "/cookie", "x" * 100_000, origin=origin)[0] == 413


def test_connections_are_limited_and_the_stream_goes_on(view: View, screen: Pixels) -> None:
    place = view.link.split("/")[2].split(":")
    with watch(view) as page, ExitStack() as stack:
        for _ in range(3 * MAX_VIEW_CONNECTIONS):
            idle = socket.create_connection((place[0], int(place[1])), timeout=60)
            stack.callback(idle.close)
        assert idle.recv(1) == b""
        view.write(RESULT, screen)
        assert receive_result(page)["result"]["sequence"] == 0
    assert ask_until_admitted(view) == 200


def ask_until_admitted(view: View) -> int:
    """The status of the page, once the server has noticed that connections ended."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask(view, "GET", "/")[0]
        except OSError:
            assert time.monotonic() < deadline


def test_a_connection_that_asks_nothing_is_ended(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.05)
    host, port = host_of(view).split(":")
    with socket.create_connection((host, int(port)), timeout=60) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\n")
        with suppress(ConnectionResetError):
            assert idle.recv(1) == b""


def test_a_viewer_who_reads_nothing_costs_the_others_no_message(view: View, screen: Pixels) -> None:
    with watch(view) as stalled, watch(view) as page:
        for sequence in range(100):
            view.write(replace(RESULT, sequence=sequence), screen)
            assert receive_result(page)["result"]["sequence"] == sequence
            page.send("drawn")
        got = [receive_result(stalled)["result"]["sequence"] for _ in range(WINDOW)]
        assert got == sorted(got)
        for _ in got:
            stalled.send("drawn")
        assert receive_result(stalled)["result"]["sequence"] == 99


def test_there_is_a_sign_of_life_without_results(view: View) -> None:
    with watch(view) as page:
        assert "status" in json.loads(page.recv(timeout=60))
        assert [json.loads(page.recv(timeout=60)) for _ in range(3)] == [{}, {}, {}]


def test_the_clock_is_that_of_the_frames(view: View) -> None:
    with watch(view) as page:
        before = time.monotonic()
        page.send("clock 123")
        while "clock" not in (answer := json.loads(page.recv(timeout=60))):
            pass
        moment, clock = answer["clock"]
        assert moment == 123
        assert before <= clock <= time.monotonic()


def test_the_server_logs_nothing(
    view: View, screen: Pixels, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        exchange(view, "wrong")
        ask(view, "GET", "/")
        with watch(view) as page:
            view.write(RESULT, screen)
            receive_result(page)
    assert [record for record in caplog.records if record.name != "websockets.client"] == []
