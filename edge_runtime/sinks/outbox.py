"""Messages on the disk until the receiver has them, in their order.

A thread sends the oldest messages first. Where the receiver is away it tries again after 1, 2, 4
and up to 30 seconds. Each message has a number, which rises by one, so that a receiver knows a
repeat: after a crash between the answer and the note of it, a message is sent again with the same
number.
"""

import fcntl
import logging
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from devices import BadInput
from edge_runtime.results.delivery import Tally

_LOGGER = logging.getLogger(__name__)

COMMIT_SECONDS = 0.5
"""A power cut costs the messages of so many seconds at most."""
FIRST_RETRY, LAST_RETRY = 1.0, 30.0
"""Seconds before the first, and between later attempts to send."""
CLOSING_SECONDS = 15.0
"""Seconds without progress after which the end of a session leaves the rest on the disk."""
DAMAGED_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Errors of a damaged file. After any other error the messages may be whole."""
PRIMARY_CODE = 0xFF
"""The bits of an error of SQLite that tell the kind; see https://sqlite.org/rescode.html."""
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
        self._lock = _hold(path)
        try:
            try:
                self._open(path)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE not in DAMAGED_CODES:
                    raise
                tally.fail(f"the outbox was damaged; its messages lie in {_set_aside(path)}")
                self._open(path)
        except (OSError, sqlite3.Error) as error:
            os.close(self._lock)
            raise BadInput(f"{tally.name}: the outbox {path} cannot be used: {error}") from error
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, body: bytes) -> None:
        """Keeps one message. Raises BadInput where the disk takes none."""
        with self._changed:
            self._make_room(len(body))
            try:
                self._base.execute("INSERT INTO message (body) VALUES (?)", (body,))
            except sqlite3.Error as error:
                self._check_transaction(str(error))
                raise BadInput(f"{self._tally.name}: the outbox: {error}") from error
            self._uncommitted += 1
            self._bytes += len(body)
            self._tally.kept += 1
            self._changed.notify_all()

    def sync(self) -> None:
        """Writes all messages to the disk now."""
        with self._changed:
            self._commit()

    def close(self) -> None:
        """Sends what can be sent without another attempt; the rest stays on the disk."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        before = -1
        while self._thread.is_alive() and before != self._tally.kept:
            before = self._tally.kept
            self._thread.join(CLOSING_SECONDS)
        with self._changed:
            self._commit()
        if not self._thread.is_alive():  # else it goes on to the end of the process
            self._base.close()
            os.close(self._lock)

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
        except sqlite3.Error:
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

    def _commit(self) -> None:
        """Writes the open transaction to the disk, and begins the next."""
        try:
            self._base.execute("COMMIT")
            self._uncommitted = 0
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            self._check_transaction(str(error))
        if not self._base.in_transaction:
            self._base.execute("BEGIN")

    def _check_transaction(self, why: str) -> None:
        """Counts the messages of a transaction that a full disk took back."""
        if self._base.in_transaction:
            return
        self._tally.give_up(self._uncommitted, why)
        self._uncommitted = 0
        count, size = self._base.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM message WHERE number > ?",
            (self._sent,),
        ).fetchone()
        self._tally.kept, self._bytes = int(count), int(size)
        self._base.execute("BEGIN")

    def _run(self) -> None:
        """Sends the oldest messages until the outbox closes."""
        retry, alone = 0.0, 0
        while True:
            with self._changed:
                if retry and self._closing:
                    return
                self._commit()
                messages = self._oldest(1 if alone else self._batch)
                if not messages:
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing or self._uncommitted)
                    continue
                self._in_flight = messages[-1].number
            why = None
            try:
                self._send(self._name, messages)
            except NotSent as error:
                self._tally.fail(str(error))
                retry = min(max(FIRST_RETRY, 2 * retry), LAST_RETRY)
                self._wait(retry)
                continue
            except Rejected as error:
                if len(messages) > 1:  # one of them may be at fault
                    alone = len(messages)
                    continue
                why = str(error)
            except Exception as error:
                _LOGGER.warning("the outbox failed: %s", type(error).__name__)
                why = type(error).__name__
            retry, alone = 0.0, max(0, alone - 1)
            with self._changed:
                self._remove(messages)
                if why is None:
                    self._tally.deliver(len(messages))
                else:
                    self._tally.give_up(len(messages), why)

    def _oldest(self, limit: int) -> list[Message]:
        rows = self._base.execute(
            "SELECT number, body FROM message WHERE number > ? ORDER BY number LIMIT ?",
            (self._sent, limit),
        )
        return [Message(*row) for row in rows]

    def _remove(self, messages: list[Message]) -> None:
        """Removes what was sent. Where a full disk keeps it, the number is remembered."""
        self._sent = messages[-1].number
        self._bytes -= sum(len(message.body) for message in messages)
        self._tally.kept -= len(messages)
        with suppress(sqlite3.Error):
            self._base.execute("DELETE FROM message WHERE number <= ?", (self._sent,))

    def _wait(self, seconds: float) -> None:
        """Waits for the next attempt; writes new messages to the disk meanwhile."""
        with self._changed:
            while seconds > 0 and not self._closing:
                self._changed.wait_for(lambda: self._closing, COMMIT_SECONDS)
                self._commit()
                seconds -= COMMIT_SECONDS


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
