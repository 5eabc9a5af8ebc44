"""Rows of a damaged database are told, and quote nothing."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from devices import Box
from edge_runtime.exams.schema import open_exams
from edge_runtime.exams.store import (
    ExamNodule,
    Identity,
    Provenance,
    insert_exam,
    insert_still,
    put_nodule,
    read_exams,
    read_nodules,
    read_stills,
)

AT = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The exams of a folder, with one exam of one nodule."""
    shares, box = {"b": 0.25, "m": 0.75}, Box(1, 2, 30, 40)
    provenance = Provenance("phantom:", True, "n", 1, "0" * 64, {"m": 0.5}, shares, "x", "0.1")
    with closing(open_exams(tmp_path / "exams", create=True)) as connection:
        exam = insert_exam(connection, AT, Identity("4711", "Doe", ""), provenance)
        nodule = ExamNodule(1, 1, None, AT, AT, 3, "m", None, shares, None, box, (1, 2))
        put_nodule(connection, exam, nodule)
        insert_still(connection, exam, "best", 1, "{}", 10)
        yield connection


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("probability", '{"b":"Doe'),
        ("probability", '{"b":"Doe"}'),
        ("probability", '{"b":0.25,"Doe":0.75}'),
        ("interval", '{"b":[0,1],"Doe":[0,1]}'),
        ("box", "[1]"),
        ("best", "[" * 100_000),
        ("label", b"Doe"),
        ("frames", "Doe"),
        ("frames", 0.5),
        ("first_seen", "2026-01-01T00:00:-1+00:00"),
        ("last_seen", "2026-01-01T00:00:00"),
    ],
)
def test_a_damaged_nodule_is_told(
    column: str, value: object, connection: sqlite3.Connection
) -> None:
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(f"UPDATE nodule SET {column} = ?", (value,))
    with pytest.raises(sqlite3.DatabaseError, match=f"{column} of a row is damaged") as fault:
        read_nodules(connection, 1)
    assert "Doe" not in str(fault.value)


@pytest.mark.parametrize("thresholds", ["{}", '{"Doe":0.5}'])
def test_a_threshold_of_another_label_is_told(
    thresholds: str, connection: sqlite3.Connection
) -> None:
    connection.execute("UPDATE exam SET thresholds = ?", (thresholds,))
    with pytest.raises(sqlite3.DatabaseError, match=r"^thresholds of a row is damaged$"):
        read_exams(connection, None)


@pytest.mark.parametrize(
    ("line", "column"),
    [
        *(("", "result"), ("[]", "result"), ('{"a":', "result"), ('{"a":1e999}', "result")),
        ('{"file":["Doe"]}', "file"),
    ],
)
def test_the_damaged_result_of_a_picture_is_told(
    line: str, column: str, connection: sqlite3.Connection
) -> None:
    connection.execute("UPDATE still SET result = ?", (line,))
    with pytest.raises(sqlite3.DatabaseError, match=rf"^{column} of a row is damaged$"):
        read_stills(connection, 1)


@pytest.mark.parametrize(
    "column", ["thresholds", "version", "begun", "last", "ended", "lost", "birth_date"]
)
def test_a_damaged_exam_is_told(column: str, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(f"UPDATE exam SET {column} = ?", (b"Doe",))
    with pytest.raises(sqlite3.DatabaseError, match=f"{column} of a row is damaged"):
        read_exams(connection, None)


def test_a_column_that_is_missing_is_told(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE nodule RENAME COLUMN box TO fox")
    with pytest.raises(sqlite3.DatabaseError, match="box of a row is damaged"):
        read_nodules(connection, 1)
