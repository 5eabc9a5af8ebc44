"""The view of the service outlives sessions, and whatever fails of it costs no session."""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devices import Pixels
from devices.capture.source_uri import SourceUri
from edge_runtime.release.config import Config, ExamSettings, SinkConfig, ViewSettings, write_config
from edge_runtime.release.layout import VIEW_RECORD, VIEW_TOKEN, Layout, read_record
from edge_runtime.release.notify import NOTIFY_VARIABLE, Listener
from edge_runtime.screen.region import Region
from edge_runtime.service import live_view
from edge_runtime.service.live_view import ServiceView, kept_token
from edge_runtime.service.service import run_service
from edge_runtime.view.operator import Operator
from edge_runtime.view.sink import View
from tests.conftest import wait_until
from tests.edge_runtime.results.examples import RESULT
from tests.edge_runtime.service.conftest import NAME
from tests.edge_runtime.view.client import join, receive_result, watch

LOOPBACK = ViewSettings("127.0.0.1:0")


@contextmanager
def serving(
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    settings: ViewSettings = LOOPBACK,
    source: str = "phantom:",
    exam: ExamSettings | None = None,
    sinks: tuple[SinkConfig, ...] = (),
) -> Iterator[Callable[[str], None]]:
    """A service at work; the function waits until the supervisor hears a state."""
    config = Config(source, view=settings, exam=exam, sink=sinks)
    (layout.root / "config.toml").write_text(write_config(config))
    layout.state(VIEW_RECORD).unlink(missing_ok=True)  # as the supervisor does at each start
    stop = threading.Event()
    with Listener() as listener:
        monkeypatch.setenv(NOTIFY_VARIABLE, listener.address)
        thread = threading.Thread(target=run_service, args=(layout, NAME, stop))
        thread.start()
        try:
            yield lambda state: wait_until(
                lambda: (listener.receive(1) or {}).get("STATUS") == state
            )
        finally:
            stop.set()
            thread.join(60)
    assert not thread.is_alive()


def record(layout: Layout) -> dict[str, Any]:
    """What the service notes of its view, once it does."""
    wait_until(lambda: read_record(layout.state(VIEW_RECORD)))
    return read_record(layout.state(VIEW_RECORD))


def linked(layout: Layout) -> View:
    """Stands for the view of the service, as its link does."""
    view = View(lambda: False, lambda _: None, lambda _: None)
    view.link = f"{record(layout)['link']}#{layout.state(VIEW_TOKEN).read_text().strip()}"
    return view


def test_the_service_shows_its_results_on_a_page(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(layout, monkeypatch), watch(linked(layout)) as page:
        results = [receive_result(page)["result"]]
        while results[-1]["state"] != "LIVE":
            page.send("drawn")
            results.append(receive_result(page)["result"])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (line,) = [each for each in events if each["event"] == "view"]
    assert line["link"].startswith("http://127.0.0.1:")
    assert layout.state(VIEW_TOKEN).read_text().strip() not in str(events)


def test_the_facts_of_a_session_say_whether_the_model_has_evidence(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(layout, monkeypatch) as hears:
        hears("LIVE")
        with join(linked(layout)) as page:
            facts = json.loads(page.recv(timeout=60))["facts"]
    assert (facts["live"], facts["evidence"]) == (True, True)


def test_without_a_scanner_the_page_says_why(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "igtl://nurse:secret@127.0.0.1:1/x"
    with serving(layout, monkeypatch, source=source) as hears:
        hears("LOST")
        with join(linked(layout)) as page:
            facts = json.loads(page.recv(timeout=60))["facts"]
    assert facts["waiting"] == "no scanner"
    assert "127.0.0.1:1" in facts["why"]
    assert "secret" not in facts["why"]


def test_a_taken_port_costs_no_picture_and_is_told_and_tried_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_view, "VIEW_RETRY_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = ViewSettings(f"127.0.0.1:{other.getsockname()[1]}")
        with serving(layout, monkeypatch, settings) as hears:
            hears("LIVE")
            assert "in use" in record(layout)["trouble"]
            other.close()
            wait_until(lambda: record(layout).get("link"))
            hears("LIVE")
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert (events.count("no view"), events.count("view")) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ViewSettings("127.0.0.1:0", certificate="/none.pem"), "/none.pem: No such file"),
        (LOOPBACK, "live views need starlette"),
    ],
)
def test_a_view_that_cannot_be_opened_costs_no_picture(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, settings: ViewSettings, words: str
) -> None:
    if settings == LOOPBACK:
        monkeypatch.setitem(sys.modules, "starlette", None)
    with serving(layout, monkeypatch, settings) as hears:
        hears("LIVE")
        assert words in record(layout)["trouble"]


def test_an_encrypted_view_has_a_certificate_of_the_device(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(layout, monkeypatch, ViewSettings("0.0.0.0:0", tls=True)):
        note = record(layout)
    assert note["link"].startswith("https://")
    assert note["local_link"].startswith("https://127.0.0.1:")
    assert len(note["fingerprint"].split(":")) == 32
    assert layout.state("view.pem").stat().st_mode & 0o777 == 0o600


def test_a_result_that_cannot_be_shown_is_told_beside_the_link_until_others_are_shown(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, screen: Pixels
) -> None:
    monkeypatch.setattr(live_view, "VIEW_RETRY_SECONDS", 0)
    told: list[str] = []
    operator = Operator(Region(), SourceUri("phantom:"), layout.state("none.toml"))

    def report(event: str, **_: object) -> None:
        told.append(event)

    with ServiceView(LOOPBACK, layout, report, operator) as view:
        wait_until(lambda: told)
        for _ in range(3):
            view.write(None, screen)  # type: ignore[arg-type]  # as if its code were wrong
        broken = record(layout)
        view.write(RESULT, screen)
        whole = record(layout)
    assert told == ["view", "no view", "view"]
    assert broken["trouble"].startswith("AttributeError")
    assert whole == broken | {"trouble": None}
    assert whole["link"].startswith("http://")


def test_a_token_is_kept_for_one_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = kept_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept_token(path) == token


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 40, b"\xff" * 40, b"a" * 40 + b" b"])
def test_a_damaged_token_is_made_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    token = kept_token(path)
    assert path.read_text() == f"{token}\n"
    assert kept_token(path) == token


def test_a_token_that_others_could_read_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = kept_token(path)
    path.chmod(0o644)
    assert kept_token(path) != token
