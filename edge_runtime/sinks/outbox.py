"""Messages on the disk until the receiver has them, in their order.

A thread sends the oldest messages first. Where the receiver is away it tries again after 1, 2, 4
and up to 30 seconds. Each message has a number, which rises by one, so that a receiver knows a
repeat: after a crash between the answer and the note of it, a message is sent again with the same
number.
"""

import fcntl
import hashlib
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from devices import BadInput, Pixels
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import Result
from edge_runtime.sinks.messages import Messages
from edge_runtime.sinks.sink_uri import SinkUri

_Kind = TypeVar("_Kind")
COMMIT_SECONDS = 0.5
"""Seconds of messages that a power cut costs at most."""
GATHER_SECONDS = 0.2
"""Seconds in which messages are gathered: each write to the disk wears out a card."""
FIRST_RETRY, LAST_RETRY = 1.0, 30.0
"""Seconds before the first, and between later attempts to send."""
CLOSING_SECONDS = 2.0
"""Seconds without progress after which the end of a session leaves the rest on the disk."""
DAMAGED_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Errors of a damaged file. After any other error the messages may be whole."""
PRIMARY_CODE = 0xFF
"""The bits of an error of SQLite that tell the kind; see https://sqlite.org/rescode.html."""
DAMAGED_MESSAGE = "a message was damaged on the disk"
OUTBOX_FULL = "the outbox is full, and the oldest messages made room"


class Message(NamedTuple):
    """One message of an outbox."""

    number: int
    """Counts from 1, without a gap but for messages that were given up."""
    body: bytes


class NotSent(Exception):
    """The receiver did not take the messages; it may later."""


class Rejected(Exception):
    """The receiver will never take these messages."""


def read_message(body: bytes, kind: type[_Kind]) -> _Kind:
    """The body of a message as a type. Raises Rejected where it was damaged on the disk."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or of another form
        raise Rejected(DAMAGED_MESSAGE) from None


class Outbox:
    """A queue on the disk with a thread that sends; one process uses a file at a time."""

    def __init__(
        self,
        path: Path,
        tally: Tally,
        send: Callable[[str, list[Message]], None],
        max_bytes: int,
        batch: int,
    ) -> None:
        """`send` takes the name of the outbox and up to `batch` messages; it raises NotSent or
        Rejected. More than `max_bytes` of messages are not kept: the oldest make room.

        Raises BadInput where the file cannot be used now. A damaged file is renamed.
        """
        self._tally, self._send, self._max_bytes, self._batch = tally, send, max_bytes, batch
        self._changed = threading.Condition()
        self._closing = False
        self._uncommitted, self._sent, self._in_flight = 0, 0, 0
        """Messages that no commit holds yet; the last number that was sent, and that is sent now.
        """
        self._changes = False
        """Whether there is anything to commit."""
        self._lock = _hold(path)
        try:
            try:
                self._open(path)
            except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: a damaged schema
                code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE
                if isinstance(error, sqlite3.Error) and code not in DAMAGED_CODES:
                    raise
                tally.fail(f"the outbox was damaged; its messages lie in {_set_aside(path)}")
                self._open(path)
        except (OSError, sqlite3.Error) as error:
            os.close(self._lock)
            raise BadInput(f"{tally.name}: the outbox {path} cannot be used: {error}") from error
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()
        threading.Thread(target=self._keep, name="outbox disk", daemon=True).start()

    def put(self, body: bytes, at_once: bool = False) -> None:
        """Keeps one message; `at_once` writes it to the disk before this returns.

        Raises BadInput where the disk takes none.
        """
        with self._changed:
            try:
                self._begin()
                self._make_room(len(body))
                self._base.execute("INSERT INTO message (body) VALUES (?)", (body,))
            except sqlite3.Error as error:
                self._count_losses(str(error))
                raise BadInput(f"{self._tally.name}: the outbox: {error}") from error
            self._uncommitted += 1
            self._changes = True
            self._bytes += len(body)
            self._tally.kept += 1
            if at_once:
                self._commit()
            self._changed.notify_all()

    def close(self) -> None:
        """Sends what can be sent without another attempt; the rest stays on the disk."""
        with self._changed:
            self._closing = True
            self._commit()
            self._changed.notify_all()
        before = -1
        while self._thread.is_alive() and before != self._tally.kept:
            before = self._tally.kept
            self._thread.join(CLOSING_SECONDS)

    def _open(self, path: Path) -> None:
        self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.execute("CREATE TABLE IF NOT EXISTS outbox (name TEXT NOT NULL)")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS message "
                "(number INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)"
            )
            row = self._base.execute("SELECT name FROM outbox").fetchone()
            if row is None:
                row = (uuid.uuid4().hex,)
                self._base.execute("INSERT INTO outbox VALUES (?)", row)
            self._name = str(row[0])
            count, size = self._base.execute(
                "SELECT count(*), coalesce(sum(length(body)), 0) FROM message"
            ).fetchone()
            self._base.execute("BEGIN")
        except (sqlite3.Error, UnicodeDecodeError):
            self._base.close()
            raise
        self._tally.kept, self._bytes = int(count), int(size)

    def _make_room(self, coming: int) -> None:
        """Gives up the oldest messages that are not being sent."""
        while self._bytes + coming > self._max_bytes and self._tally.kept:
            oldest = self._base.execute(
                "SELECT number, length(body) FROM message WHERE number > ? ORDER BY number LIMIT 1",
                (max(self._sent, self._in_flight),),
            ).fetchone()
            if oldest is None:
                return
            self._base.execute("DELETE FROM message WHERE number = ?", (oldest[0],))
            self._bytes -= oldest[1]
            self._tally.kept -= 1
            self._tally.give_up(1, OUTBOX_FULL)

    def _begin(self) -> None:
        """Begins a transaction, and counts anew, where an error ended the one before."""
        if not self._base.in_transaction:
            count, size = self._base.execute(
                "SELECT count(*), coalesce(sum(length(body)), 0) FROM message WHERE number > ?",
                (self._sent,),
            ).fetchone()
            self._tally.kept, self._bytes = int(count), int(size)
            self._base.execute("BEGIN")

    def _commit(self) -> None:
        """Writes the open transaction to the disk, and begins the next; tells an error."""
        try:
            self._begin()
            self._base.execute("COMMIT")
            self._uncommitted, self._changes = 0, False
            self._base.execute("BEGIN")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            self._count_losses(str(error))

    def _count_losses(self, why: str) -> None:
        """Tells an error, and gives up the messages of a transaction that it took back."""
        self._tally.fail(why)
        if not self._base.in_transaction:
            self._tally.give_up(self._uncommitted)
            self._uncommitted = 0
            with suppress(sqlite3.Error):
                self._begin()

    def _keep(self) -> None:
        """Writes changes to the disk within COMMIT_SECONDS, even while a receiver is silent."""
        with self._changed:
            while not self._closing:
                self._changed.wait_for(lambda: self._closing or self._changes)
                self._changed.wait_for(lambda: self._closing, COMMIT_SECONDS)
                if self._changes and not self._closing:
                    self._commit()

    def _run(self) -> None:
        """Sends until the outbox closes, and closes the file."""
        try:
            self._send_all()
        finally:
            with self._changed, suppress(sqlite3.Error):
                self._commit()
                self._base.close()
            os.close(self._lock)

    def _send_all(self) -> None:
        """Sends the oldest messages first. After an error it waits, unless the outbox closes."""
        retry, alone = 0.0, 0
        while not (retry and self._closing):
            messages: list[Message] = []
            try:
                messages = self._take(1 if alone else self._batch)
                if not messages:
                    return
                self._send(self._name, messages)
            except Rejected as error:
                if len(messages) > 1:  # one of them may be at fault
                    alone = len(messages)
                    continue
                self._remove(messages, str(error))
            except Exception as error:
                known = isinstance(error, NotSent | sqlite3.Error)
                self._tally.fail(str(error) if known else type(error).__name__)
                retry = min(max(FIRST_RETRY, 2 * retry), LAST_RETRY)
                with self._changed:
                    self._in_flight = self._sent
                    self._changed.wait_for(lambda: self._closing, retry)
                continue
            else:
                self._remove(messages)
            retry, alone = 0.0, max(0, alone - 1)

    def _take(self, limit: int) -> list[Message]:
        """The oldest messages, gathered for GATHER_SECONDS; none where the outbox closes."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closing or self._tally.kept)
                self._changed.wait_for(
                    lambda: self._closing or self._tally.kept >= limit, GATHER_SECONDS
                )
                self._commit()  # a number that was sent must not come again for another message
                rows = self._base.execute(
                    "SELECT number, CAST(coalesce(body, '') AS BLOB) FROM message "
                    "WHERE number > ? ORDER BY number LIMIT ?",  # damage may change the type
                    (self._sent, limit),
                )
                messages = [Message(*row) for row in rows]
                if messages:
                    self._in_flight = messages[-1].number
                if messages or self._closing:
                    return messages

    def _remove(self, messages: list[Message], why: str | None = None) -> None:
        """Removes what was sent, or what was given up and `why`.

        Where a full disk keeps it, the number is remembered.
        """
        with self._changed:
            self._sent = messages[-1].number
            self._bytes -= sum(len(message.body) for message in messages)
            self._tally.kept -= len(messages)
            try:
                self._base.execute("DELETE FROM message WHERE number <= ?", (self._sent,))
                self._changes = True
                self._changed.notify_all()
            except sqlite3.Error as error:
                self._count_losses(str(error))
            if why is None:
                self._tally.deliver(len(messages))
            else:
                self._tally.give_up(len(messages), why)


class OutboxSink:
    """Puts the messages of each result into an outbox."""

    wants_pixels, latest_only = False, False

    def __init__(self, messages: Messages, outbox: Outbox, tally: Tally) -> None:
        self._messages, self._outbox, self.tally = messages, outbox, tally

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Keeps the messages of one result; see `Sink.write`. Raises BadInput on a full disk."""
        for body in self._messages.of(result):
            self._outbox.put(body)

    def close(self) -> None:
        """Ends the session, and sends what can be sent now."""
        try:
            for body in self._messages.end():
                self._outbox.put(body)
        except BadInput as error:
            self.tally.give_up(1, str(error))
        finally:
            self._outbox.close()


def numbered(outbox: str, message: Message) -> bytes:
    """The JSON object of a message, with the number by which a receiver knows a repeat."""
    head = f'{{"outbox":"{outbox}","number":{message.number},'
    return head.encode() + message.body[1:]


def outbox_path(outboxes: Path, uri: SinkUri) -> Path:
    """The file of a sink's outbox. It follows the key, so that a new token does not change it."""
    return outboxes / f"{uri.kind}-{hashlib.sha256(uri.key.encode()).hexdigest()[:16]}.sqlite3"


def _set_aside(path: Path) -> Path:
    """Renames a damaged outbox with its log, from which SQLite may recover messages."""
    damaged = path.with_name(f"{path.name}.damaged")
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    for tail in ("", "-wal"):
        part, kept = path.with_name(path.name + tail), damaged.with_name(damaged.name + tail)
        kept.unlink(missing_ok=True)  # the log of an earlier file must not stay beside this one
        if part.exists():
            part.rename(kept)
    return damaged


def _hold(path: Path) -> int:
    """Locks an outbox for this process, and makes the file for the owner alone.

    Raises BadInput where another process has it, or where the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BadInput(f"{path}: the outbox cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise BadInput(f"{path}: another session sends from this outbox") from error
    return lock
