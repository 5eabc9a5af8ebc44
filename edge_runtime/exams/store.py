"""What is kept of an exam, and how it is written, read and deleted."""

import os
import re
import shutil
import sqlite3
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from devices import BadInput, Box
from devices.capture.dicom_identity import DICOM_UID
from edge_runtime.exams.schema import DATABASE, STILLS
from edge_runtime.files import state_folder
from edge_runtime.release.layout import sync_folder

Keeper = Literal["person", "best"]
"""Whether somebody kept a picture, or it is the best one of a nodule so far."""
_Kind = TypeVar("_Kind")
_Shares = dict[str, float]
_TEXTS = (str, str | None, Keeper)
"""Types of entries that are kept as they are; other text is JSON."""
_TIMES = ("at", "begun", "last", "ended", "first_seen", "last_seen")
"""Entries that are UTC, ISO 8601."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
MAX_IDENTITY = 64
"""Letters of each part of an identity, as of a long string in DICOM (PS3.5, 6.2)."""


@dataclass(frozen=True)
class Identity:
    """Who was examined, as somebody typed it, or a worklist or a picture tells it; each part may be
    empty. Never print or log it.

    Raises BadInput for a part that is too long or holds control characters, and for an invalid
    birth date or UID of a study.
    """

    patient_id: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    """YYYY-MM-DD."""
    study: str = field(default="", repr=False)
    """The UID of the study in the department's systems."""

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if not isinstance(value, str) or len(value) > MAX_IDENTITY or not value.isprintable():
                words = part.name.replace("_", " ")
                raise BadInput(f"{words}: at most {MAX_IDENTITY} printable letters are needed")
        if self.birth_date and not _is_day(self.birth_date):
            raise BadInput("birth date: YYYY-MM-DD is needed")
        if self.study and not DICOM_UID.fullmatch(self.study):
            raise BadInput("study: a UID has digits and points")

    @property
    def shown_name(self) -> str:
        """The name for people: DICOM writes `^` between its parts, and `=` between scripts."""
        return self.name.replace("^", " ").replace("=", " = ").strip()


@dataclass(frozen=True)
class Provenance:
    """The model, the device and the software that made the decisions of an exam."""

    source: str
    """The name of the capture device or of the recording, without secrets."""
    live: bool
    bundle: str
    version: int
    digest: str
    """sha256 of the manifest of the bundle."""
    thresholds: dict[str, float]
    prevalence: dict[str, float]
    device: str
    """Name, processor and system of the machine."""
    software: str


@dataclass(frozen=True)
class ExamDecision:
    """What was decided of one nodule in one frame, or of a frame without a nodule."""

    at: str
    """UTC, ISO 8601."""
    seconds: float | None
    """Since the exam began; in a recording the position there; None for a still."""
    frame: int | None
    file: str | None
    state: str
    reason: str | None
    """Why there is no label."""
    backend: str
    fallback: str | None
    nodule: int | None = None
    """The number of the nodule in the exam."""
    track: int | None = None
    label: str | None = None
    probability: dict[str, float] | None = None
    """Over the frames so far; the label follows it."""
    frame_probability: dict[str, float] | None = None
    """In this frame alone."""
    interval: dict[str, tuple[float, float]] | None = None
    box: Box | None = None
    """Pixels of the screen."""


@dataclass(frozen=True)
class ExamNodule:
    """One nodule over a whole exam."""

    number: int
    """Counts from 1 in an exam."""
    track: int
    file: str | None
    first_seen: str
    """UTC, ISO 8601."""
    last_seen: str
    frames: int
    """Frames that showed the nodule."""
    label: str | None
    """What all frames together say."""
    reason: str | None
    probability: dict[str, float]
    interval: dict[str, tuple[float, float]] | None
    """None where the nodule was marked, or seen in a still."""
    box: Box
    """The last box, in pixels of the screen."""
    best: tuple[int, ...]
    """The indices of the best frames, the best first."""


@dataclass(frozen=True)
class KeptStill:
    """One kept picture, with its result as JSON. The picture is a PNG without loss."""

    number: int
    """Counts over all exams of a folder."""
    kept: Keeper
    nodule: int | None
    """The nodule that a best picture is of."""
    result: str
    """A line of `edge_runtime.results.result.to_json`."""
    bytes: int
    """The size of the file."""


@dataclass(frozen=True)
class Exam:
    """One exam. The times are UTC, ISO 8601."""

    id: int
    begun: str
    last: str
    """The last moment that was recorded."""
    ended: str | None
    """None while the exam runs, and of an exam that was interrupted."""
    identity: Identity
    provenance: Provenance
    lost: int
    """Steps that could not be written."""
    running: bool
    stills: int
    """Pictures that somebody kept."""
    pictures: int
    """All pictures that are kept, the best one of each nodule among them."""
    nodules: int

    @property
    def interrupted(self) -> bool:
        """Whether the exam was cut off, as by a power cut; `last` is the last moment."""
        return self.ended is None and not self.running


def own_exams_folder() -> Path:
    """The folder of the user's exams; the folder above it is made where it is missing."""
    state_folder().mkdir(parents=True, exist_ok=True)
    return state_folder() / "exams"


def still_path(folder: Path, exam: int, number: int) -> Path:
    """Where a picture lies."""
    return folder / STILLS / str(exam) / f"{number}.png"


# Writing. Each of these belongs into a transaction.


def insert_exam(
    connection: sqlite3.Connection, begun: str, identity: Identity, provenance: Provenance
) -> int:
    """Adds an exam that runs, and returns its number."""
    row = {"begun": begun, "last": begun, **asdict(identity), **_plain(provenance)}
    return _insert(connection, "exam", row)


def insert_decision(connection: sqlite3.Connection, exam: int, decision: ExamDecision) -> None:
    """Adds a decision; the exam lasts until its moment."""
    _insert(connection, "decision", {"exam": exam, **_plain(decision)})
    set_last(connection, exam, decision.at)


def put_nodule(connection: sqlite3.Connection, exam: int, nodule: ExamNodule) -> None:
    """Adds a nodule, or replaces what was known of it."""
    _insert(connection, "nodule", {"exam": exam, **_plain(nodule)}, "INSERT OR REPLACE")


def insert_still(
    connection: sqlite3.Connection,
    exam: int,
    kept: Keeper,
    nodule: int | None,
    result: str,
    size: int,
) -> int:
    """Adds the row of a picture, whose file must be written before the row is committed."""
    row = {"exam": exam, "kept": kept, "nodule": nodule, "result": result, "bytes": size}
    return _insert(connection, "still", row)


def remove_best(connection: sqlite3.Connection, exam: int, nodule: int | None) -> list[int]:
    """Removes the row of the best picture of a nodule so far; returns the numbers of the files."""
    rows = connection.execute(
        "DELETE FROM still WHERE exam = ? AND kept = 'best' AND nodule = ? RETURNING number",
        (exam, nodule),
    )
    return [number for (number,) in rows.fetchall()]


def write_picture(path: Path, content: bytes) -> None:
    """Writes the file of a picture to the disk, so that the row may be written. Raises OSError."""
    for parent in (path.parent.parent, path.parent):
        if not parent.is_dir():
            parent.mkdir(mode=0o700)
            sync_folder(parent.parent)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def set_last(connection: sqlite3.Connection, exam: int, at: str) -> None:
    """Moves the last moment of an exam."""
    connection.execute("UPDATE exam SET last = max(last, ?) WHERE id = ?", (at, exam))


def set_ended(connection: sqlite3.Connection, exam: int, at: str, lost: int) -> None:
    """Ends an exam, of which `lost` steps could not be written."""
    connection.execute(
        "UPDATE exam SET last = max(last, ?), ended = ?, lost = ? WHERE id = ?",
        (at, at, lost, exam),
    )


def mark_interrupted(connection: sqlite3.Connection) -> None:
    """Marks the exams without an end. Only while no exam runs."""
    connection.execute("UPDATE exam SET interrupted = 1 WHERE ended IS NULL")


# Reading.


def read_exams(
    connection: sqlite3.Connection, running: int | None, exam: int | None = None
) -> list[Exam]:
    """All exams, or the one of that number; the oldest first. `running` is the one that runs."""
    rows = connection.execute(
        "SELECT *, (SELECT count(*) FROM still WHERE exam = exam.id AND kept = 'person') AS stills,"
        " (SELECT count(*) FROM still WHERE exam = exam.id) AS pictures,"
        " (SELECT count(*) FROM nodule WHERE exam = exam.id) AS nodules"
        " FROM exam WHERE ?1 IS NULL OR id = ?1 ORDER BY id",
        (exam,),
    )
    return [_exam(row, running) for row in _dicts(rows)]


def read_decisions(connection: sqlite3.Connection, exam: int) -> list[ExamDecision]:
    """The decisions of an exam in their order."""
    rows = connection.execute("SELECT * FROM decision WHERE exam = ? ORDER BY id", (exam,))
    return _judged(connection, exam, ExamDecision, rows)


def read_nodules(connection: sqlite3.Connection, exam: int) -> list[ExamNodule]:
    """The nodules of an exam by their numbers."""
    rows = connection.execute("SELECT * FROM nodule WHERE exam = ? ORDER BY number", (exam,))
    return _judged(connection, exam, ExamNodule, rows)


def read_stills(connection: sqlite3.Connection, exam: int) -> list[KeptStill]:
    """The pictures of an exam by their numbers."""
    rows = connection.execute("SELECT * FROM still WHERE exam = ? ORDER BY number", (exam,))
    stills = [_made(KeptStill, row) for row in _dicts(rows)]
    for each in stills:
        line = _value({"result": each.result}, "result", dict[str, Any])  # of any version
        _value({"file": None, **line}, "file", str | None)
    return stills


def unfinished_exam(connection: sqlite3.Connection) -> int | None:
    """The exam that has no end and was not marked as interrupted; None where there is none."""
    row = connection.execute(
        "SELECT max(id) FROM exam WHERE ended IS NULL AND NOT interrupted"
    ).fetchone()
    return None if row[0] is None else int(row[0])


# Deleting.


@dataclass(frozen=True)
class Retention:
    """How long exams are kept; None keeps them for ever."""

    days: float | None = None
    """Days since the last moment of an exam."""
    bytes: int | None = None
    """Bytes of all exams together, before a new one begins."""


def delete_exam(connection: sqlite3.Connection, folder: Path, exam: int) -> None:
    """Deletes an exam with its pictures.

    The files are removed first: a full disk then has room for the rest. The rows are overwritten
    with zeros, the write-ahead log is emptied, and the database shrinks. Raises sqlite3.Error and
    OSError.
    """
    if (pictures := folder / STILLS / str(exam)).exists():
        shutil.rmtree(pictures)
    connection.execute("DELETE FROM exam WHERE id = ?", (exam,))
    connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free a single page
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def apply_retention(
    connection: sqlite3.Connection,
    folder: Path,
    retention: Retention,
    now: datetime,
    running: int | None = None,
) -> list[int]:
    """Deletes exams that are too old, and then the oldest until the others fit.

    The exam that runs is spared. Returns the numbers of the deleted exams. Raises sqlite3.Error and
    OSError.
    """
    deleted = []
    rows = connection.execute("SELECT id, last FROM exam WHERE id IS NOT ? ORDER BY id", (running,))
    for exam, last in rows.fetchall():
        age = now - datetime.fromisoformat(_value({"last": last}, "last", str))
        is_old = retention.days is not None and age > timedelta(days=retention.days)
        is_over = retention.bytes is not None and size_of_exams(connection) > retention.bytes
        if is_old or is_over:
            delete_exam(connection, folder, exam)
            deleted.append(exam)
    return deleted


def size_of_exams(connection: sqlite3.Connection) -> int:
    """Bytes of the database without free pages, and of all pictures."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    pictures = connection.execute("SELECT coalesce(sum(bytes), 0) FROM still").fetchone()[0]
    return int((pages - free) * size + pictures)


def sweep_stills(connection: sqlite3.Connection, folder: Path) -> None:
    """Removes pictures that belong to no row: a kill may come between a file and its row.

    Only the recorder may do so, which alone writes pictures.
    """
    rows = connection.execute("SELECT exam, number FROM still").fetchall()
    known = {still_path(folder, exam, number) for exam, number in rows}
    for path in (folder / STILLS).glob("*/*"):
        if path not in known:
            path.unlink(missing_ok=True)
    for path in (folder / STILLS).glob("*"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def database_identity(folder: Path) -> tuple[int, int] | None:
    """Tells one database file from another at the same place; None where there is none."""
    try:
        status = (folder / DATABASE).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_day(text: str) -> bool:
    """Whether it is a day of the calendar, as YYYY-MM-DD."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return _DATE.fullmatch(text) is not None


def _insert(
    connection: sqlite3.Connection, table: str, row: dict[str, Any], verb: str = "INSERT"
) -> int:
    """Inserts a row; what is neither text nor a number is kept as JSON. Returns its number."""
    places = ", ".join("?" * len(row))
    done = connection.execute(
        f"{verb} INTO {table} ({', '.join(row)}) VALUES ({places})", [*map(_column, row.values())]
    )
    return int(done.lastrowid or 0)


def _plain(record: Any) -> dict[str, Any]:
    return {part.name: getattr(record, part.name) for part in fields(record)}


def _column(value: object) -> object:
    if isinstance(value, str):  # names of files are bytes to the system, and need not be UTF-8
        return value.encode(errors="backslashreplace").decode()
    return value if value is None or isinstance(value, int | float) else _json(value)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _dicts(rows: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in rows.description]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _exam(row: dict[str, Any], running: int | None) -> Exam:
    day = _value(row, "birth_date", str)
    provenance = _made(Provenance, row)
    if not provenance.thresholds or provenance.thresholds.keys() - provenance.prevalence.keys():
        raise _damaged("thresholds")
    return Exam(
        id=_value(row, "id", int),
        begun=_value(row, "begun", str),
        last=_value(row, "last", str),
        ended=_value(row, "ended", str | None),
        identity=_made(Identity, row | {"birth_date": day if _is_day(day) else ""}),
        provenance=provenance,
        lost=_value(row, "lost", int),
        running=row["id"] == running,
        stills=row["stills"],
        pictures=row["pictures"],
        nodules=row["nodules"],
    )


def _made(kind: type[_Kind], row: dict[str, Any]) -> _Kind:
    """The record of a row: each column as the type of its entry demands.

    Raises sqlite3.DatabaseError, without the value, for a column that is otherwise or missing.
    """
    return kind(**{part.name: _value(row, part.name, part.type) for part in fields(kind)})  # type: ignore[arg-type]


def _judged(
    connection: sqlite3.Connection, exam: int, kind: type[_Kind], rows: sqlite3.Cursor
) -> list[_Kind]:
    """The records of rows, which tell of each label of the exam. Raises as `_made` does."""
    records = [_made(kind, row) for row in _dicts(rows)]
    of_exam = connection.execute("SELECT prevalence FROM exam WHERE id = ?", (exam,))
    labels = {label for row in _dicts(of_exam) for label in _value(row, "prevalence", _Shares)}
    for record in records:
        for name in ("probability", "frame_probability", "interval"):
            shares = getattr(record, name, None)
            if shares is not None and shares.keys() != labels:
                raise _damaged(name)
    return records


def _damaged(name: str) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(f"{name} of a row is damaged")


def _value(row: dict[str, Any], name: str, kind: Any) -> Any:
    """A column as the type of an entry. Raises as `_made` does."""
    try:
        value = row[name]
        if isinstance(value, str) and kind not in _TEXTS:
            return msgspec.json.decode(value, type=kind)
        value = msgspec.convert(bool(value) if kind is bool else value, kind)
        if name in _TIMES and value is not None and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("a time without its zone")
    except (KeyError, ValueError, RecursionError) as error:  # MsgspecError is a ValueError
        raise _damaged(name) from error
    return value
