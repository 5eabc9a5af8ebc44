"""The database of the exams: its tables, its versions, and how it is opened.

A folder of exams holds `exams.sqlite` and `stills/EXAM/NUMBER.png`. SQLite writes ahead (WAL) and
waits for the disk at every commit, so that a kill or a power cut loses nothing that was committed.
"""

import os
import sqlite3
from pathlib import Path

from devices import BadInput

DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises: of a damaged schema, a message that it cannot decode."""
DATABASE = "exams.sqlite"
STILLS = "stills"
APPLICATION_ID = 0x536F6E6F
"""Marks the file as ours: "Sono" in ASCII; see https://sqlite.org/pragma.html#pragma_application_id."""
LOCK_SECONDS = 2.0
"""Seconds that a writer waits for another program that writes."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE exam (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            begun TEXT NOT NULL, last TEXT NOT NULL, ended TEXT,
            interrupted INTEGER NOT NULL DEFAULT 0,
            patient_id TEXT NOT NULL, name TEXT NOT NULL, accession TEXT NOT NULL,
            source TEXT NOT NULL, live INTEGER NOT NULL,
            bundle TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL,
            thresholds TEXT NOT NULL, prevalence TEXT NOT NULL,
            device TEXT NOT NULL, software TEXT NOT NULL,
            lost INTEGER NOT NULL DEFAULT 0)""",
        """CREATE TABLE nodule (
            exam INTEGER NOT NULL REFERENCES exam ON DELETE CASCADE,
            number INTEGER NOT NULL, track INTEGER NOT NULL, file TEXT,
            first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, frames INTEGER NOT NULL,
            label TEXT, reason TEXT, probability TEXT NOT NULL, interval TEXT,
            box TEXT NOT NULL, best TEXT NOT NULL,
            PRIMARY KEY (exam, number))""",
        """CREATE TABLE still (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            exam INTEGER NOT NULL REFERENCES exam ON DELETE CASCADE,
            kept TEXT NOT NULL, nodule INTEGER, result TEXT NOT NULL, bytes INTEGER NOT NULL)""",
        "CREATE INDEX still_of_exam ON still (exam)",
        """CREATE TABLE decision (
            id INTEGER PRIMARY KEY,
            exam INTEGER NOT NULL REFERENCES exam ON DELETE CASCADE,
            at TEXT NOT NULL, seconds REAL, frame INTEGER, file TEXT, state TEXT NOT NULL,
            nodule INTEGER, track INTEGER, label TEXT, reason TEXT,
            probability TEXT, frame_probability TEXT, interval TEXT, box TEXT,
            backend TEXT NOT NULL, fallback TEXT)""",
        "CREATE INDEX decision_of_exam ON decision (exam)",
    ),
    (
        "ALTER TABLE exam ADD COLUMN birth_date TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE exam ADD COLUMN study TEXT NOT NULL DEFAULT ''",
    ),
)
"""The statements that lead from each version of the schema to the next; the first makes it. Only
ever add to the end: databases in the field have gone through the others."""


def open_exams(folder: Path, create: bool = False) -> sqlite3.Connection:
    """Opens the exams of a folder, and brings an older schema up to date.

    With `create` the folder and the database are made where they are missing; only the owner may
    read them. The connection commits each statement, unless BEGIN was executed.
    Raises BadInput where there are no exams, where the file cannot be read or is no database of
    exams, and where a newer version of sonolite made it.
    """
    path = folder / DATABASE
    try:
        if create:
            folder.mkdir(mode=0o700, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        elif not path.is_file():
            raise BadInput(f"{folder}: no exams are kept there")
    except OSError as error:
        raise BadInput(f"{folder}: exams cannot be kept there: {error.strerror}") from error
    connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
    try:
        _prepare(connection, path)
    except DATABASE_ERRORS as error:
        connection.close()
        raise BadInput(f"{path}: cannot be opened: {error}") from error
    except BadInput:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Sets what holds for a connection, and migrates. Raises BadInput and sqlite3.Error."""
    version, mark = _version(connection), _pragma(connection, "application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and mark != APPLICATION_ID:
        raise BadInput(f"{path}: a database, but not of exams")
    if version > len(MIGRATIONS):
        raise BadInput(
            f"{path}: made by a newer sonolite (schema {version}; this one reads up to "
            f"{len(MIGRATIONS)}); install that version"
        )
    connection.execute("PRAGMA secure_delete = ON")  # zeros in the place of deleted rows
    connection.execute("PRAGMA foreign_keys = ON")
    if version < len(MIGRATIONS):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # heeded before the first table
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(connection)
    connection.execute("PRAGMA synchronous = FULL")


def _migrate(connection: sqlite3.Connection) -> None:
    """Executes the migrations that are missing, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[_version(connection) :]:  # another process may have migrated
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return _pragma(connection, "user_version")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
