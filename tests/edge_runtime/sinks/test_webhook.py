"""Messages to a server arrive in order and once, whatever happens to the server or to this side."""

import hashlib
import hmac
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from devices import BadInput
from edge_runtime.results.delivery import Tally
from edge_runtime.results.states import State
from edge_runtime.sinks import outbox
from edge_runtime.sinks.outbox import Message, Outbox, outbox_path
from edge_runtime.sinks.sink_uri import SinkUri
from tests.conftest import free_port, wait_until
from tests.edge_runtime.results.examples import NODULE, RESULT
from tests.edge_runtime.sinks.outboxes import (
    CHILD,
    NEWEST,
    SCREEN,
    ask,
    hook,
    opened,
    outbox_file,
    send,
)
from tests.edge_runtime.sinks.receiver import Receiver, make_certificate

SECRET = "hunter2hunter2"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(outbox, "LAST_RETRY", 0.05)
    monkeypatch.setattr(outbox, "COMMIT_SECONDS", 0.05)


def test_only_changes_are_sent_and_the_end_of_the_session(tmp_path: Path) -> None:
    with Receiver() as receiver, opened(hook(receiver.port, "send=changes"), tmp_path) as (sink, _):
        send(sink, range(10))
        sink.write(replace(RESULT, sequence=10, state=State.STALE, nodules=()), SCREEN)
        send(sink, range(11, 20))
    assert receiver.sequences() == [0, 10, 11]
    end = receiver.messages[-1]
    assert (end["kind"], end["frames"]) == ("end", 20)
    assert end["states"] == {"LIVE": 19, "STALE": 1}
    assert end["nodules"][0]["label"] == "malignant"
    assert {message["session"] for message in receiver.messages} == {end["session"]}
    assert [message["number"] for message in receiver.messages] == [1, 2, 3, 4]


def test_each_session_has_a_name_and_an_end(tmp_path: Path) -> None:
    with Receiver() as receiver, opened(hook(receiver.port), tmp_path) as (sink, _):
        send(sink, range(2))
        send(sink, range(2))
    kinds = [message["kind"] for message in receiver.messages]
    assert kinds == ["result", "result", "end", "result", "result", "end"]
    sessions = [message["session"] for message in receiver.messages]
    assert sessions[0] == sessions[2] != sessions[3] == sessions[5]


def test_what_waits_for_a_server_is_sent_in_order_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    with opened(hook(port), tmp_path) as (sink, tally):
        send(sink, range(500))
        wait_until(lambda: tally.delivery().last_error)
        assert tally.delivery().waiting == 500
        assert "Connection refused" in str(tally.delivery().last_error)
        with Receiver(port) as receiver:
            wait_until(lambda: not tally.delivery().waiting)
            assert receiver.sequences() == list(range(500))
            assert (receiver.repeats, tally.delivery().delivered) == (0, 500)


def test_what_a_session_could_not_send_the_next_one_sends(tmp_path: Path) -> None:
    port = free_port()
    with opened(hook(port), tmp_path) as (sink, tally):
        send(sink, range(100))
    assert tally.delivery().waiting == 101
    with Receiver(port) as receiver:
        with opened(hook(port), tmp_path) as (sink, tally):
            send(sink, range(100))
        assert tally.delivery().waiting == 0
    assert receiver.sequences() == [*range(100), *range(100)]


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404])
def test_a_server_that_refuses_for_now_is_asked_again(tmp_path: Path, status: int) -> None:
    with Receiver() as receiver:
        receiver.status = status
        with opened(hook(receiver.port), tmp_path) as (sink, tally):
            send(sink, range(10))
            wait_until(lambda: tally.delivery().last_error)
            assert f"answers {status}" in str(tally.delivery().last_error)
            receiver.status = 200
            wait_until(lambda: not tally.delivery().waiting)
    assert receiver.sequences() == list(range(10))


def test_one_message_that_the_server_cannot_use_holds_up_no_other(tmp_path: Path) -> None:
    class Picky(Receiver):
        def take(self, body: bytes, signature: str | None) -> int:
            return 422 if b'"sequence":3,' in body else super().take(body, signature)

    with Picky() as receiver, opened(hook(receiver.port), tmp_path) as (sink, tally):
        send(sink, range(10))
        wait_until(lambda: not tally.delivery().waiting)
    assert receiver.sequences() == [0, 1, 2, *range(4, 10)]
    assert tally.delivery().given_up == 1


def test_the_outbox_is_bounded_and_the_oldest_make_room(tmp_path: Path) -> None:
    port = free_port()
    with opened(hook(port, "send=results&max_mb=0.05"), tmp_path) as (sink, tally):
        send(sink, range(300))
        delivery = tally.delivery()
        assert delivery.waiting + delivery.given_up == 300
        assert delivery.given_up > 100
        with Receiver(port) as receiver:
            wait_until(lambda: not tally.delivery().waiting)
        # Those that an attempt is about stay until it ends.
        assert receiver.sequences()[-delivery.waiting // 2 :][-1] == 299
        assert receiver.sequences() == sorted(set(receiver.sequences()))
        assert tally.delivery().delivered + tally.delivery().given_up == 300


def test_a_full_disk_is_counted_and_what_fitted_arrives(tiny_disk: Path) -> None:
    port = free_port()
    with opened(hook(port), tiny_disk) as (sink, tally):
        refused: list[str] = []
        for number in range(1000):
            try:
                sink.write(replace(RESULT, sequence=number), SCREEN)
            except BadInput as error:
                refused.append(str(error))
        wait_until(lambda: tally.delivery().last_error)
        with Receiver(port) as receiver:
            wait_until(lambda: not tally.delivery().waiting)
            sink.write(replace(RESULT, sequence=1000), SCREEN)
            wait_until(lambda: not tally.delivery().waiting)
        delivery = tally.delivery()
    assert len(refused) + delivery.given_up > 0
    assert len(refused) + delivery.given_up + delivery.delivered == 1001
    assert all("full" in why for why in refused)
    assert receiver.sequences() == sorted(set(receiver.sequences()))
    assert len(receiver.sequences()) == delivery.delivered


def test_messages_are_written_to_the_disk_while_the_server_does_not_answer(tmp_path: Path) -> None:
    asked, let = threading.Event(), threading.Event()

    class Silent(Receiver):
        def take(self, body: bytes, signature: str | None) -> int:
            asked.set()
            assert let.wait(300)
            return super().take(body, signature)

    with Silent() as receiver, opened(hook(receiver.port), tmp_path) as (sink, _):
        send(sink, range(1))
        assert asked.wait(120)
        send(sink, range(1, 10))
        wait_until(lambda: ask(outbox_file(tmp_path), NEWEST) == 10)
        let.set()
    assert receiver.sequences() == list(range(10))


def test_a_message_that_was_sent_leaves_the_disk_even_if_no_other_follows(tmp_path: Path) -> None:
    with Receiver() as receiver, opened(hook(receiver.port), tmp_path) as (sink, tally):
        send(sink, range(1))
        wait_until(lambda: tally.delivery().delivered == 1)
        path = outbox_file(tmp_path)
        wait_until(lambda: ask(path, "SELECT count(*) FROM message") == 0)


def test_after_an_attempt_the_oldest_messages_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FIRST_RETRY", 600.0)
    monkeypatch.setattr(outbox, "LAST_RETRY", 600.0)
    uri = hook(free_port(), "send=results&max_mb=0.05")
    with opened(uri, tmp_path) as (sink, tally):
        send(sink, range(20))
        wait_until(lambda: tally.delivery().last_error)
        send(sink, range(20, 300))
    with Receiver(int(uri.partition("/hook")[0].rpartition(":")[2])) as receiver:
        with opened(uri, tmp_path):
            pass
        first = receiver.sequences()[0]
        assert receiver.sequences() == list(range(first, 300))


def test_results_that_come_together_are_one_request(tmp_path: Path) -> None:
    with Receiver() as receiver, opened(hook(receiver.port), tmp_path) as (sink, tally):
        send(sink, range(50))
        wait_until(lambda: tally.delivery().delivered == 50)
        assert len(receiver.bodies) < 10


def test_an_outbox_that_cannot_be_read_for_a_while_goes_on(tmp_path: Path) -> None:
    port = free_port()
    with opened(hook(port), tmp_path) as (sink, tally):
        send(sink, range(10))
        path = outbox_file(tmp_path)
        wait_until(lambda: ask(path, "SELECT count(*) FROM message") == 10)
        ask(path, "ALTER TABLE message RENAME TO away")
        wait_until(lambda: "no such table" in str(tally.delivery().last_error))
        with pytest.raises(BadInput, match="no such table"):
            send(sink, range(1))
        ask(path, "ALTER TABLE away RENAME TO message")
        with Receiver(port) as receiver:
            wait_until(lambda: not tally.delivery().waiting)
            assert receiver.sequences() == list(range(10))


def test_an_outbox_that_cannot_be_read_at_the_end_is_closed(tmp_path: Path) -> None:
    with opened(hook(free_port()), tmp_path) as (sink, tally):
        send(sink, range(10))
        path = outbox_file(tmp_path)
        wait_until(lambda: ask(path, "SELECT count(*) FROM message") == 10)
        ask(path, "ALTER TABLE message RENAME TO away")
        wait_until(lambda: "no such table" in str(tally.delivery().last_error))
    ask(path, "ALTER TABLE away RENAME TO message")
    with Receiver() as receiver:
        place = SinkUri(hook(receiver.port))
        path.rename(outbox_path(path.parent, place))
        with opened(hook(receiver.port), tmp_path) as (_, tally):
            wait_until(lambda: not tally.delivery().waiting)
        assert receiver.sequences() == list(range(10))


def test_an_error_that_nobody_expected_is_told_and_loses_no_message(tmp_path: Path) -> None:
    sent: list[int] = []

    def send_late(_: str, messages: list[Message]) -> None:
        if tally.delivery().last_error is None:
            raise UnicodeError("label empty or too long")
        sent.extend(message.number for message in messages)

    tally = Tally("webhook:there", counts_itself=True)
    box = Outbox(tmp_path / "outbox" / "a.sqlite3", tally, send_late, 10**6, 100)
    box.put(b"{}")
    wait_until(lambda: sent)
    box.close()
    assert (sent, tally.delivery().given_up) == ([1], 0)
    assert "UnicodeError" in str(tally.delivery().last_error)


def test_a_message_may_be_on_the_disk_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill right after it costs nothing."""
    monkeypatch.setattr(outbox, "COMMIT_SECONDS", 60.0)
    monkeypatch.setattr(outbox, "GATHER_SECONDS", 60.0)
    path = tmp_path / "outbox" / "a.sqlite3"
    box = Outbox(path, Tally("webhook:there", counts_itself=True), lambda *_: None, 10**6, 100)
    box.put(b"{}", at_once=True)
    with closing(sqlite3.connect(path)) as seen:
        assert seen.execute("SELECT body FROM message").fetchall() == [(b"{}",)]
    box.close()


@pytest.mark.parametrize("away", [True, False], ids=["server-away", "while-sending"])
def test_a_killed_process_loses_nothing_and_repeats_are_known(tmp_path: Path, away: bool) -> None:
    port = free_port()
    uri = hook(port, "send=results&batch=5")
    words = [sys.executable, "-c", CHILD, uri, str(tmp_path)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"written\n"
    wait_until(lambda: ask(outbox_file(tmp_path), NEWEST) == 2000)

    def kill() -> None:
        child.send_signal(signal.SIGKILL)
        child.communicate()

    if away:
        kill()
    with Receiver(port) as receiver:
        if not away:
            wait_until(lambda: len(receiver.messages) > 100)
            kill()
            assert len(receiver.messages) < 2000
        with opened(uri, tmp_path):
            pass
    assert receiver.sequences() == list(range(2000))


def test_the_body_is_signed_with_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with (
        Receiver() as receiver,
        opened(hook(receiver.port, "secret_env=HOOK_SECRET"), tmp_path) as (sink, _),
    ):
        send(sink, range(3))
    assert receiver.bodies
    for body, signature in receiver.bodies:
        digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert signature == f"sha256={digest}"
        assert SECRET.encode() not in body


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(mode)
    with (
        pytest.raises(BadInput, match="mode 600") as raised,
        opened(hook(1, f"secret_file={file}"), tmp_path),
    ):
        pass
    assert SECRET not in str(raised.value)
    file.chmod(0o600)
    with opened(hook(1, f"secret_file={file}"), tmp_path):
        pass


@pytest.fixture(params=["pipe", "device", "large", "folder", "empty"])
def no_secret(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """What is no file with a secret or a certificate."""
    path = tmp_path / "no-secret"
    if request.param == "pipe":
        os.mkfifo(path, 0o600)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    elif request.param == "folder":
        path.mkdir()
    else:
        path.write_bytes(bytes(2 << 20 if request.param == "large" else 0))
        path.chmod(0o600)
    return path


@pytest.mark.parametrize("option", ["secret_file", "ca"])
def test_what_is_no_file_with_a_secret_is_one_line(
    tmp_path: Path, no_secret: Path, option: str
) -> None:
    uri = f"webhook:https://127.0.0.1:1/x#{option}={no_secret}"
    with (
        pytest.raises(BadInput, match=f"the file that {option} names") as raised,
        opened(uri, tmp_path),
    ):
        pass
    assert str(no_secret) not in str(raised.value)


def test_the_outbox_is_for_its_owner_alone(tmp_path: Path) -> None:
    with opened(hook(1), tmp_path) as (sink, _):
        send(sink, range(3))
        for path in (tmp_path / "outbox").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        with pytest.raises(BadInput, match="another session sends"), opened(hook(1), tmp_path):
            pass


def break_schema(content: bytes) -> bytes:
    """SQLite tells such a fault in words that are no UTF-8."""
    return content.replace(b"CREATE TABLE", b"CREATE \xc1ABLE")


@pytest.mark.parametrize("damage", [lambda _: os.urandom(8192), break_schema])
def test_a_damaged_outbox_is_put_aside_and_told(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    with opened(hook(1), tmp_path) as (sink, _):
        send(sink, range(3))
    (path,) = (tmp_path / "outbox").glob("*.sqlite3")
    path.write_bytes(damage(path.read_bytes()))
    with Receiver() as receiver, opened(hook(1), tmp_path) as (sink, tally):
        assert "damaged" in str(tally.delivery().last_error)
        assert receiver.messages == []
    assert list((tmp_path / "outbox").glob("*.damaged"))


def fill(file: Path) -> None:
    """Takes all room of a disk."""
    with suppress(OSError), file.open("wb", buffering=0) as opened_file:
        while opened_file.write(bytes(4096)):
            pass


@pytest.mark.parametrize("trouble", ["no-log", "full"])
def test_an_outbox_that_cannot_be_opened_now_keeps_its_messages(
    tiny_disk: Path, trouble: str
) -> None:
    with opened(hook(1), tiny_disk) as (sink, _):
        send(sink, range(3))
    (path,) = (tiny_disk / "outbox").glob("*.sqlite3")
    log, ballast = path.with_name(f"{path.name}-wal"), tiny_disk / "ballast"
    if trouble == "no-log":
        log.mkdir()
    else:
        fill(ballast)
    with pytest.raises(BadInput, match="cannot be used"), opened(hook(1), tiny_disk):
        pass
    assert not list((tiny_disk / "outbox").glob("*.damaged"))
    if trouble == "no-log":
        log.rmdir()
    ballast.unlink(missing_ok=True)
    with opened(hook(1), tiny_disk) as (_, tally):
        assert tally.delivery().waiting == 4


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("webhook:", "needs webhook:https://HOST/PATH"),
        ("webhook:https://", "needs webhook:https://HOST/PATH"),
        ("webhook:ftp://host/x", "needs webhook:https://HOST/PATH"),
        ("webhook:https://host:0/x", "needs webhook:https://HOST/PATH"),
        ("webhook:http://host/x", "needs https"),
        (f"webhook:https://me:{SECRET}@host/x", "takes no user and password"),
        ("webhook:https://host/x?send=results", "send stands behind #"),
        ("webhook:https://host/x#send=all", "send is one of changes, results"),
        (f"webhook:https://host/{SECRET}#{SECRET}=1", "option 1 is none of send, batch"),
        (f"webhook:https://host/x#secret_env={SECRET}", "is not set here"),
        (f"webhook:https://host/x?{SECRET}=${{NO_SUCH}}", "the variable NO_SUCH is not set"),
        ("webhook:https://host/x#ca=/nowhere", "the file that ca names: No such file"),
        ("webhook:https://host:99999/x", "needs webhook:https://HOST/PATH"),
        ("webhook:https://[::1/x", "needs webhook:https://HOST/PATH"),
        ("webhook:https://[::1::2]/x", "needs webhook:https://HOST/PATH"),
        ("webhook:https://a..b/x", "needs webhook:https://HOST/PATH"),
        (f"webhook:https://{64 * 'a'}.org/x", "needs webhook:https://HOST/PATH"),
        ("webhook:https://host/a b", "needs webhook:https://HOST/PATH"),
    ],
)
def test_a_wrong_address_is_one_line_without_a_secret(tmp_path: Path, uri: str, why: str) -> None:
    with pytest.raises(BadInput) as raised, opened(uri, tmp_path):
        pass
    assert why in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, and a certificate for localhost that signs itself."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_over_tls_a_server_has_to_prove_who_it_is(tmp_path: Path, certificate: Path) -> None:
    with Receiver(tls=certificate) as receiver:
        there = f"webhook:https://127.0.0.1:{receiver.port}/hook?token=abc#send=results"
        with opened(there, tmp_path) as (sink, tally):
            send(sink, range(5))
            wait_until(lambda: tally.delivery().last_error)
            assert tally.delivery().delivered == 0
        with opened(f"{there}&ca={certificate}", tmp_path) as (_, tally):
            wait_until(lambda: not tally.delivery().waiting)
        assert receiver.sequences() == list(range(5))
    assert json.loads(receiver.bodies[0][0])[0]["result"]["notice"]


def test_a_nodule_is_told_as_it_was_seen_last(tmp_path: Path) -> None:
    with Receiver() as receiver, opened(hook(receiver.port, "send=changes"), tmp_path) as (sink, _):
        send(sink, range(2))
        silent = replace(NODULE, label=None, reason="too close to the threshold")
        sink.write(replace(RESULT, sequence=2, nodules=(silent,)), SCREEN)
    (nodule,) = receiver.messages[-1]["nodules"]
    assert (nodule["frames"], nodule["label"]) == (3, None)
    assert nodule["reason"] == "too close to the threshold"


def test_two_places_of_a_host_have_outboxes_of_their_own_though_one_name(tmp_path: Path) -> None:
    one, other = (SinkUri(f"webhook:https://results.example/{word}") for word in "ab")
    assert str(one) == str(other) == "webhook:https://results.example/..."
    assert outbox_path(tmp_path, one) != outbox_path(tmp_path, other)
