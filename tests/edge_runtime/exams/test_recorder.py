"""The recorder keeps what was decided, through kills, full disks and locks, and holds up nobody."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from devices import BadInput, Pixels
from edge_runtime.exams import recorder as module
from edge_runtime.exams import store
from edge_runtime.exams.course import Course
from edge_runtime.exams.recorder import PICTURES_WAITING, ExamRecorder, NotKept
from edge_runtime.exams.schema import DATABASE, open_exams
from edge_runtime.exams.store import Identity, Retention, still_path
from edge_runtime.files import NICENESS
from edge_runtime.results.result import to_json
from edge_runtime.results.states import State
from tests.conftest import wait_until
from tests.edge_runtime.exams.conftest import Recording, exams_in
from tests.edge_runtime.exams.examples import FOUND, NOISE, result

WHO = Identity("4711", "Muster^Anna", "A-0042")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_PAUSE", 0.01)
    monkeypatch.setattr(module, "NEXT_ATTEMPT_SECONDS", 0.05)


def decisions(folder: Path, exam: int = 1) -> list[int | None]:
    with closing(open_exams(folder)) as connection:
        return [each.frame for each in store.read_decisions(connection, exam)]


def feed(recorder: ExamRecorder, frames: range) -> None:
    """One frame a second."""
    for frame in frames:
        recorder.write(replace(result(30 * frame, FOUND), frame=frame), NOISE)


def is_written(recorder: ExamRecorder) -> bool:
    status = recorder.status()
    return not status.waiting and status.trouble is None


def test_an_exam_is_kept_from_beginning_to_end(recorder: ExamRecorder, folder: Path) -> None:
    recorder.begin(WHO)
    feed(recorder, range(3))
    recorder.end()
    feed(recorder, range(5, 8))
    recorder.close()
    (exam,) = exams_in(folder)
    assert exam.identity == WHO
    assert (exam.running, exam.interrupted, exam.nodules, exam.lost) == (False, False, 1, 0)
    assert exam.ended is not None
    assert decisions(folder) == [0, 1, 2]


def test_the_model_the_device_and_the_software_are_named(
    recorder: ExamRecorder, folder: Path
) -> None:
    recorder.begin()
    recorder.close()
    provenance = exams_in(folder)[0].provenance
    assert (provenance.bundle, provenance.version, provenance.source) == ("demo", 4, "phantom:")
    assert len(provenance.digest) == 64
    assert provenance.live
    assert os.uname().nodename in provenance.device
    assert provenance.software.startswith("sonolite ")


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3)], ids=["gray", "colour"])
def test_a_kept_picture_has_every_pixel_and_its_result(
    recorder: ExamRecorder, folder: Path, shape: tuple[int, ...]
) -> None:
    pixels: Pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    still = result(4, FOUND)
    recorder.begin()
    recorder.keep_still(still, pixels)
    assert recorder.status().stills == 1
    recorder.close()
    with closing(open_exams(folder)) as connection:
        (row,) = store.read_stills(connection, 1)
    saved = cv2.imread(str(still_path(folder, 1, row.number)), cv2.IMREAD_UNCHANGED)
    assert saved is not None
    assert np.array_equal(saved, pixels)
    assert (row.kept, row.result.encode()) == ("person", to_json(still))


def test_a_picture_from_before_the_exam_is_not_kept(recorder: ExamRecorder) -> None:
    before, first = (replace(result(at, FOUND), sequence=at) for at in (1, 2))
    recorder.write(before, NOISE)
    recorder.begin()
    recorder.write(first, NOISE)
    with pytest.raises(BadInput, match=NotKept.NOT_OF_EXAM):
        recorder.keep_still(before, NOISE)
    recorder.keep_still(first, NOISE)
    assert recorder.status().stills == 1


def test_a_picture_of_a_file_is_kept_once_the_exam_has_it(recorder: ExamRecorder) -> None:
    sent = replace(result(1, FOUND), sequence=1, file="object 1")
    recorder.begin()
    with pytest.raises(BadInput, match=NotKept.NOT_OF_EXAM):
        recorder.keep_still(sent, NOISE)
    recorder.write(sent, NOISE)
    recorder.keep_still(sent, NOISE)
    assert recorder.status().stills == 1


def test_of_a_nodule_one_best_picture_is_left(recorder: ExamRecorder, folder: Path) -> None:
    recorder.begin()
    for frame, weak in enumerate([0.3, 0.5, 0.9]):
        recorder.write(result(30 * frame, replace(FOUND, locator_score=weak)), NOISE)
        wait_until(lambda: is_written(recorder))
    recorder.close()
    with closing(open_exams(folder)) as connection:
        (row,) = store.read_stills(connection, 1)
    assert (row.kept, row.nodule) == ("best", 1)
    assert '"frame":60' in row.result
    assert [path.name for path in (folder / "stills" / "1").iterdir()] == [f"{row.number}.png"]


def test_no_other_program_waits_while_a_picture_is_coded(
    recorder: ExamRecorder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[bool] = []
    encode = cv2.imencode

    def encode_and_look(*words: Any) -> Any:
        with closing(sqlite3.connect(folder / DATABASE, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        free.append(True)
        return encode(*words)

    monkeypatch.setattr(cv2, "imencode", encode_and_look)
    recorder.begin()
    recorder.keep_still(result(0, FOUND), NOISE)
    wait_until(lambda: is_written(recorder))
    assert free == [True]


def test_the_thread_that_writes_lets_the_session_go_first(recorder: ExamRecorder) -> None:
    recorder.begin()
    wait_until(lambda: is_written(recorder))
    thread = recorder._thread.native_id
    assert thread is not None
    nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert os.getpriority(os.PRIO_PROCESS, thread) == min(19, nice + NICENESS)


def test_the_name_of_a_picture_is_on_the_disk_before_its_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may lose the name of a file whose content was written."""
    synced: list[Path] = []
    sync = os.fsync

    def note(handle: int) -> None:
        sync(handle)
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fsync", note)
    folder.mkdir()
    path = still_path(folder, 1, 1)
    store.write_picture(path, b"PNG")
    stills = folder / "stills"
    assert synced == [folder, stills, path, path.parent]
    store.write_picture(still_path(folder, 1, 2), b"PNG")
    assert synced[4:] == [still_path(folder, 1, 2), path.parent]


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(folder: Path) -> None:
    open_exams(folder, create=True).close()
    os.mkfifo(folder / module.LOCK)
    assert exams_in(folder) == []


def test_an_exam_that_runs_is_told_from_one_that_was_cut_off(
    recorder: ExamRecorder, folder: Path
) -> None:
    recorder.begin()
    wait_until(lambda: recorder.status().exam)
    assert exams_in(folder)[0].running


KILLED = """
import sys, time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from edge_runtime.bundle.archive import open_bundle
from edge_runtime.exams.recorder import open_exam_recorder
from tests.edge_runtime.exams.examples import FOUND, NOISE, result

bundle = open_bundle(Path(sys.argv[2]))
with open_exam_recorder(Path(sys.argv[1]), bundle, "phantom:", True) as recorder:
    recorder.begin()
    for frame in range(10**6):
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        step = replace(result(30 * frame, FOUND), frame=frame, captured_utc=now)
        recorder.write(step, NOISE)
        while recorder.status().waiting > 100:
            time.sleep(0.01)
"""


def test_a_kill_loses_nothing_that_was_committed(
    folder: Path, shipped_path: Path, recording: Recording
) -> None:
    """Another program reads as many decisions after the kill as before it, or more."""
    running = subprocess.Popen([sys.executable, "-c", KILLED, folder, shipped_path])
    try:
        wait_until(lambda: (folder / DATABASE).exists())
        wait_until(lambda: exams_in(folder) and len(decisions(folder)) > 10)
        committed = decisions(folder)
        assert exams_in(folder)[0].running
    finally:
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    after = decisions(folder)
    assert after[: len(committed)] == committed
    assert after == [*range(len(after))]
    (exam,) = exams_in(folder)
    assert exam.interrupted
    assert exam.last > exam.begun
    with recording(folder) as recorder:
        recorder.begin()
        wait_until(lambda: recorder.status().exam)
        assert [(each.running, each.interrupted) for each in exams_in(folder)] == [
            (False, True),
            (True, False),
        ]
    with closing(open_exams(folder)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_is_told_and_what_was_committed_stays(
    small_disk: Path, recording: Recording
) -> None:
    folder = small_disk / "exams"
    with recording(folder) as recorder:
        recorder.begin()
        feed(recorder, range(5))
        wait_until(lambda: is_written(recorder))
        with open(small_disk / "fill", "wb") as fill:
            while os.statvfs(small_disk).f_bavail:
                fill.write(bytes(os.statvfs(small_disk).f_bavail * 4096))
                fill.flush()
        recorder.keep_still(result(9, FOUND), NOISE)
        feed(recorder, range(5, 8))
        wait_until(lambda: recorder.status().trouble)
        line = recorder.status().line()
        assert line is not None
        assert line.startswith("the exam is not being written: the disk is full; ")
        assert decisions(folder)[:5] == [0, 1, 2, 3, 4]
        (small_disk / "fill").unlink()
        wait_until(lambda: is_written(recorder))
    assert decisions(folder) == [*range(8)]
    (exam,) = exams_in(folder)
    assert (exam.stills, exam.lost, exam.interrupted) == (1, 0, False)


def test_a_locked_database_is_told_and_written_later(
    recorder: ExamRecorder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.exams.schema.LOCK_SECONDS", 0.1)
    recorder.begin()
    wait_until(lambda: is_written(recorder))
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        feed(recorder, range(3))
        wait_until(lambda: recorder.status().trouble)
        assert recorder.status().trouble == "another program holds the database"
        other.execute("ROLLBACK")
    wait_until(lambda: is_written(recorder))
    assert decisions(folder) == [0, 1, 2]


def test_a_removed_folder_is_told_and_the_next_exam_makes_it_again(
    recorder: ExamRecorder, folder: Path
) -> None:
    recorder.begin()
    feed(recorder, range(2))
    wait_until(lambda: is_written(recorder))
    shutil.rmtree(folder)
    feed(recorder, range(2, 4))
    wait_until(lambda: recorder.status().lost)
    assert recorder.status().trouble == "the folder was removed"
    with pytest.raises(BadInput, match="the folder was removed"):
        recorder.keep_still(result(3, FOUND), NOISE)
    recorder.end()
    recorder.begin()
    feed(recorder, range(4, 6))
    wait_until(lambda: is_written(recorder))
    assert decisions(folder) == [4, 5]
    assert exams_in(folder)[0].running


def test_what_the_queue_has_no_room_for_is_counted(
    recorder: ExamRecorder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEPS_WAITING", 5)
    recorder.begin()
    wait_until(lambda: is_written(recorder))
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        feed(recorder, range(20))
        assert recorder.status().lost
        assert recorder.status().waiting <= 10
        other.execute("ROLLBACK")
        recorder.close()
        lost = recorder.status().lost
    assert len(decisions(folder)) == 20 - lost
    assert exams_in(folder)[0].lost == lost


def test_the_end_does_not_wait_for_ever(
    recorder: ExamRecorder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 0.0)
    recorder.begin()
    wait_until(lambda: is_written(recorder))
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        feed(recorder, range(2))
        recorder.close()
        assert recorder.status().lost >= 2
    assert exams_in(folder)[0].ended is None


def test_pictures_that_wait_are_few(recorder: ExamRecorder, folder: Path) -> None:
    recorder.begin()
    wait_until(lambda: is_written(recorder))
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(PICTURES_WAITING):
            recorder.keep_still(result(0, FOUND), NOISE)
        with pytest.raises(BadInput, match="too much waits for the disk"):
            recorder.keep_still(result(0, FOUND), NOISE)
        assert recorder.status().stills == PICTURES_WAITING


def test_the_session_never_waits_for_the_disk(
    recorder: ExamRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes nothing until all was said."""
    disk = threading.Event()
    written = store.write_picture

    def slow(path: Path, content: bytes) -> None:
        assert disk.wait(60)
        written(path, content)

    monkeypatch.setattr(store, "write_picture", slow)
    recorder.begin()
    feed(recorder, range(200))
    recorder.keep_still(result(0, FOUND), NOISE)
    recorder.end()
    status = recorder.status()
    disk.set()
    assert status.waiting > 200
    assert (status.trouble, status.lost) == (None, 0)


def test_an_error_of_the_program_ends_the_recorder_and_not_the_session(
    recorder: ExamRecorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(store, "insert_decision", broken)
    recorder.begin()
    feed(recorder, range(1))
    wait_until(lambda: recorder.status().trouble)
    assert recorder.status().trouble == NotKept.FAILED
    assert "ZeroDivisionError" in caplog.text
    feed(recorder, range(1, 4))
    with pytest.raises(BadInput, match=NotKept.FAILED):
        recorder.keep_still(result(0, FOUND), NOISE)


def test_a_recorder_that_failed_keeps_its_trouble(
    recorder: ExamRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent session must not find that all is well again."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "IDLE_SECONDS", 0.02)
    recorder.begin()
    wait_until(lambda: is_written(recorder))
    monkeypatch.setattr(Course, "add", broken)
    feed(recorder, range(1))
    wait_until(lambda: not recorder._thread.is_alive(), 20)
    assert recorder.status().trouble == NotKept.FAILED


def test_a_disk_that_hangs_at_the_end_is_told(
    recorder: ExamRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, disk = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        hangs.set()
        assert disk.wait(60)

    monkeypatch.setattr(store, "write_picture", hang)
    monkeypatch.setattr(module, "END_SECONDS", 0.05)
    monkeypatch.setattr(module, "HANG_SECONDS", 0.05)
    recorder.begin()
    recorder.keep_still(result(0, FOUND), NOISE)
    assert hangs.wait(60)
    feed(recorder, range(2))
    recorder.close()
    status = recorder.status()
    disk.set()
    assert status.trouble == NotKept.SILENT
    assert status.lost > 2
    recorder._thread.join(60)
    assert recorder.status().lost == status.lost


def test_a_silent_session_moves_the_last_moment(
    recorder: ExamRecorder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.02)
    recorder.begin()
    wait_until(lambda: exams_in(folder))
    first = exams_in(folder)[0].last
    wait_until(lambda: exams_in(folder)[0].last > first)


def test_no_exam_begins_in_another(recorder: ExamRecorder) -> None:
    recorder.begin()
    with pytest.raises(BadInput, match="an exam is running"):
        recorder.begin()


def test_no_picture_is_kept_outside_an_exam(recorder: ExamRecorder) -> None:
    with pytest.raises(BadInput, match="no exam is running"):
        recorder.keep_still(result(0), NOISE)


def test_two_sessions_do_not_share_a_folder(
    recorder: ExamRecorder, folder: Path, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_ATTEMPTS", 1)
    with pytest.raises(BadInput, match="another session keeps exams there"), recording(folder):
        pass


def test_a_late_state_is_kept_without_a_frame(recorder: ExamRecorder, folder: Path) -> None:
    recorder.begin()
    gone = replace(result(0), frame=None, timestamp=None, state=State.LOST, reason="gone")
    recorder.write(gone, NOISE)
    recorder.close()
    with closing(open_exams(folder)) as connection:
        (row,) = store.read_decisions(connection, 1)
    assert (row.state, row.reason, row.frame, row.nodule) == ("LOST", "gone", None, None)


def test_a_file_name_need_not_be_text(folder: Path, recording: Recording) -> None:
    name = os.fsdecode(b"\xff.png")
    with recording(folder, source=name) as recorder:
        recorder.begin()
        recorder.write(result(0, FOUND, file=name), NOISE)
    with closing(open_exams(folder)) as connection:
        (decision,) = store.read_decisions(connection, 1)
        (nodule,) = store.read_nodules(connection, 1)
    assert (decision.file, nodule.file) == (r"\udcff.png", r"\udcff.png")
    assert exams_in(folder)[0].provenance.source == r"\udcff.png"


@pytest.mark.parametrize("wrong", [{"name": "a" * 65}, {"accession": "a\nb"}, {"patient_id": "\0"}])
def test_an_identity_is_short_and_printable(wrong: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="at most 64 printable letters") as refusal:
        Identity(**wrong)
    assert next(iter(wrong.values())) not in str(refusal.value)


@pytest.mark.parametrize(
    "typed", ["1980-13-41", "2026-02-29", "19800501", "1980-W18-4", "0000-01-01"]
)
def test_a_birth_date_is_a_day_of_the_calendar(typed: str) -> None:
    with pytest.raises(BadInput, match="birth date: YYYY-MM-DD is needed") as refusal:
        Identity(birth_date=typed)
    assert typed not in str(refusal.value)


def test_a_birth_date_that_is_no_day_reads_as_empty(recorder: ExamRecorder, folder: Path) -> None:
    """An earlier version kept such dates."""
    recorder.begin(WHO)
    recorder.end()
    wait_until(lambda: is_written(recorder))
    with closing(open_exams(folder)) as connection:
        connection.execute("UPDATE exam SET birth_date = '1980-13-41'")
    assert [exam.identity for exam in exams_in(folder)] == [WHO]


def test_nobody_is_named_in_a_log(
    folder: Path, recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"), recording(folder) as recorder:
        recorder.begin(WHO)
        wait_until(lambda: is_written(recorder))
        shutil.rmtree(folder)
        feed(recorder, range(2))
        wait_until(lambda: recorder.status().lost)
    assert "cannot be written" in caplog.text
    for word in ("4711", "Muster", "A-0042"):
        assert word not in caplog.text + repr(WHO)


class Calendar:
    """A wall clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def keep_exams(recorder: ExamRecorder, calendar: Calendar, days: list[int]) -> None:
    """One exam with a picture on each day."""
    for day in days:
        calendar.now = datetime(2026, 1, day, tzinfo=UTC)
        recorder.begin(Identity(name=f"patient {day}"))
        recorder.keep_still(result(0, FOUND), NOISE)
        recorder.end()
        wait_until(lambda: is_written(recorder))


def test_an_old_exam_goes_when_another_begins(folder: Path, recording: Recording) -> None:
    calendar = Calendar()
    with recording(folder, retention=Retention(days=10), utc=calendar) as recorder:
        keep_exams(recorder, calendar, [1, 5, 12])
    assert [exam.id for exam in exams_in(folder)] == [2, 3]
    assert {path.name for path in (folder / "stills").iterdir()} == {"2", "3"}


def test_the_oldest_exams_make_room(folder: Path, recording: Recording) -> None:
    calendar = Calendar()
    room = 2 * NOISE.size + 100_000
    with recording(folder, retention=Retention(bytes=room), utc=calendar) as recorder:
        keep_exams(recorder, calendar, [1, 2, 3, 4])
    assert [exam.id for exam in exams_in(folder)] == [2, 3, 4]


def test_the_exam_that_begins_is_kept_however_little_room_there_is(
    folder: Path, recording: Recording
) -> None:
    calendar = Calendar()
    with recording(folder, retention=Retention(bytes=0), utc=calendar) as recorder:
        keep_exams(recorder, calendar, [1, 2])
        recorder.begin()
        feed(recorder, range(2))
    assert [exam.id for exam in exams_in(folder)] == [3]
    assert decisions(folder, 3) == [0, 1]


def test_a_deleted_exam_leaves_no_byte(folder: Path, recording: Recording) -> None:
    with recording(folder) as recorder:
        recorder.begin(WHO)
        feed(recorder, range(300))
        recorder.keep_still(result(0, FOUND), NOISE)
    before = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    with closing(open_exams(folder)) as connection:
        store.delete_exam(connection, folder, 1)
        left = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert len(left) < before / 2
    for word in (b"Muster", b"4711", b"malignant", b"PNG"):
        assert word not in left


def test_a_picture_that_no_row_names_is_removed(folder: Path, recording: Recording) -> None:
    """A kill may come between the file and the row."""
    stray = still_path(folder, 7, 3)
    with recording(folder) as recorder:
        store.write_picture(stray, b"PNG")
        recorder.begin()
        wait_until(lambda: is_written(recorder))
    assert not stray.parent.exists()


def test_the_moment_of_retention_is_that_of_the_wall_clock(
    folder: Path, recording: Recording
) -> None:
    calendar = Calendar()
    with recording(folder, retention=Retention(days=1), utc=calendar) as recorder:
        keep_exams(recorder, calendar, [1])
        calendar.now += timedelta(hours=23)
        recorder.begin()
    assert len(exams_in(folder)) == 2
