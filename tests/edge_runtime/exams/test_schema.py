"""The database of exams: made once, brought up to date, and never opened by an older program."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from devices import BadInput
from edge_runtime.exams import schema
from edge_runtime.exams.schema import DATABASE, MIGRATIONS, open_exams


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_only_the_owner_may_read_exams(tmp_path: Path) -> None:
    folder = tmp_path / "exams"
    open_exams(folder, create=True).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_what_is_committed_is_on_the_disk_and_what_is_deleted_is_zeroed(tmp_path: Path) -> None:
    open_exams(tmp_path, create=True).close()
    with closing(open_exams(tmp_path)) as connection:
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == 2
        assert pragma(connection, "foreign_keys") == 1
        assert pragma(connection, "secure_delete") == 1


def test_a_folder_without_exams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no exams are kept there"):
        open_exams(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_a_folder_is_not_made_below_one_that_is_missing(tmp_path: Path) -> None:
    """As where a drive is not mounted: the exams would go onto another."""
    with pytest.raises(BadInput, match="cannot be kept there: No such file"):
        open_exams(tmp_path / "drive" / "exams", create=True)


def test_a_newer_schema_is_refused_in_one_line(tmp_path: Path) -> None:
    with closing(open_exams(tmp_path, create=True)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(BadInput, match="made by a newer sonolite") as refusal:
        open_exams(tmp_path)
    assert "\n" not in str(refusal.value)


def test_another_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as other:
        other.execute("CREATE TABLE songs (name TEXT)")
    with pytest.raises(BadInput, match="not of exams"):
        open_exams(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("no database" * 1000)
    with pytest.raises(BadInput, match="file is not a database"):
        open_exams(tmp_path)


def test_a_damaged_schema_is_refused(tmp_path: Path) -> None:
    open_exams(tmp_path, create=True).close()
    content = (tmp_path / DATABASE).read_bytes()
    (tmp_path / DATABASE).write_bytes(content.replace(b"CREATE TABLE", b"CREATE \xc1ABLE"))
    with pytest.raises(BadInput, match="cannot be opened") as refusal:
        open_exams(tmp_path)
    assert "\n" not in str(refusal.value)


MORE = (*MIGRATIONS, ("ALTER TABLE exam ADD COLUMN room TEXT NOT NULL DEFAULT 'one'",))


def add_exam(folder: Path) -> None:
    with closing(open_exams(folder, create=True)) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(exam)") if row[1] != "id"]
        places = ", ".join("?" * len(names))
        columns = ", ".join(names)
        connection.execute(f"INSERT INTO exam ({columns}) VALUES ({places})", ["0"] * len(names))


def test_an_older_schema_is_migrated_with_the_exams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_exam(tmp_path)
    monkeypatch.setattr(schema, "MIGRATIONS", MORE)
    with closing(open_exams(tmp_path)) as connection:
        assert connection.execute("SELECT id, room FROM exam").fetchall() == [(1, "one")]
        assert pragma(connection, "user_version") == len(MORE)
    open_exams(tmp_path).close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_exam(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*MORE, ("no SQL",)))
        with pytest.raises(BadInput, match="cannot be opened"):
            open_exams(tmp_path)
    with closing(open_exams(tmp_path)) as connection:
        assert pragma(connection, "user_version") == len(MIGRATIONS)
        assert connection.execute("SELECT count(*) FROM exam").fetchone() == (1,)
