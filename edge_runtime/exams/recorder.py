"""Keeps exams beside a session, in a thread of its own.

A session gives its results to the recorder as to any sink; a page begins and ends exams, and keeps
pictures:

    with open_exam_recorder(folder, bundle, str(source), device.live) as recorder:
        recorder.begin(Identity(patient_id="4711"))
        session.run([recorder, ...], stop)          # calls recorder.write(result, pixels)
        recorder.keep_still(result, pixels)         # from any thread
        recorder.end()
        recorder.status().line()

`begin` and `keep_still` raise BadInput with a `NotKept` where they make no sense now. Nothing else
is raised, and nothing waits for the disk: what cannot be written waits in a queue of bounded length
and is tried again; what the queue has no room for is counted. `status` tells the trouble. Outside
an exam `write` does nothing.
"""

import errno
import fcntl
import logging
import os
import platform
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import cv2

from devices import BadInput, Clock, Pixels
from edge_runtime.bundle.archive import Bundle
from edge_runtime.exams import store
from edge_runtime.exams.course import Course, CourseStep
from edge_runtime.exams.schema import DATABASE_ERRORS, open_exams
from edge_runtime.exams.store import Identity, Provenance, Retention
from edge_runtime.files import make_thread_nicer
from edge_runtime.results.result import Result, to_json
from edge_runtime.sinks.sink import ExamSink
from edge_runtime.text import program_version

_LOGGER = logging.getLogger(__name__)

STEPS_WAITING = 1024
"""Steps of an exam that may wait for the disk: a quarter of an hour of a quiet exam."""
PICTURES_WAITING = 8
COMMIT_PAUSE = 0.5
"""Between two commits, so that a flickering label does not wear out a memory card."""
NEXT_ATTEMPT_SECONDS = 1.0
"""From a failure to the next attempt."""
IDLE_SECONDS = 10.0
"""Seconds without a result after which the last moment of the exam is moved all the same."""
END_SECONDS = 10.0
"""Seconds that the end of a session waits for a disk that takes nothing."""
HANG_SECONDS = 10.0
"""Seconds that the end then waits for a write that has begun."""
LOCK = "recorder.lock"
LOCK_ATTEMPTS = 10

Write = Callable[[sqlite3.Connection, int], None]
"""Writes something of the exam of that number; only ever called within a transaction."""


class NotKept(StrEnum):
    """Why something of an exam cannot be kept, now or at all."""

    NO_EXAM = "no exam is running; begin one first"
    EXAM_RUNS = "an exam is running; end it first"
    NOT_OF_EXAM = "that picture is not of the exam that runs"
    TOO_MUCH = "too much waits for the disk: try again"
    FULL = "the disk is full"
    SILENT = "the disk does not answer"
    LOCKED = "another program holds the database"
    UNREADABLE = "the database cannot be opened"
    REMOVED = "the folder was removed"
    """The exam cannot be completed: what would be written is lost."""
    FAILED = "the recorder of exams failed"


@dataclass(frozen=True)
class ExamStatus:
    """How the recorder is doing."""

    begun: str | None
    """When the exam that runs began, UTC, ISO 8601; None where none runs."""
    first: int
    """The sequence of the first result that may be of the exam."""
    count: int
    """Exams that began in this session."""
    exam: int | None
    """The number of the exam that was written last; None before the first is written."""
    stills: int
    """Pictures that somebody kept in this exam."""
    waiting: int
    """Steps that wait for the disk."""
    lost: int
    """Steps of the exams of the session that could not be written."""
    unsent: int
    """Exams that could not be sent so far."""
    trouble: str | None
    """Why nothing can be written now."""

    def line(self) -> str | None:
        """The trouble in words for a person; None where all is well."""
        words = []
        if self.trouble is not None:
            words.append(f"the exam is not being written: {self.trouble}; {self.waiting} wait")
        if self.lost:
            words.append(f"{self.lost} steps of exams were lost")
        return ", ".join(words) or None


@dataclass
class _Job:
    """Something that waits to be written."""

    write: Write | None = None
    begin: tuple[str, Identity] | None = None
    """Begins an exam at that moment."""
    ends: bool = False
    code: Callable[[], None] | None = None
    """Codes the picture; long work, which must not hold the database."""
    may_be_lost: bool = True


class ExamRecorder:
    """A sink that keeps exams; see the text of the module. `open_exam_recorder` makes it."""

    wants_pixels, latest_only = True, False

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        provenance: Provenance,
        retention: Retention,
        clock: Clock,
        utc: Callable[[], datetime],
        lock: ExitStack,
        exam_sinks: Sequence[ExamSink],
    ) -> None:
        """`lock` holds the lock of the folder, and takes another one where the folder is made
        again.
        """
        locator = bundle.manifest.locator
        self._stage = bundle.manifest.classifier
        self._policy = None if locator is None else locator.pooling
        self._folder, self._provenance, self._retention = folder, provenance, retention
        self._clock, self._utc, self._exam_sinks = clock, utc, exam_sinks
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._taken = 0
        """Jobs that are being written."""
        self._closed = False
        self._gives_up: float | None = None
        """Monotonic seconds after which the closed recorder stops trying."""
        self._course: Course | None = None
        self._begun: str | None = None
        self._count = 0
        """Exams that began."""
        self._first, self._last = 0, -1
        """Sequence of the first result that may be of the exam, and of the last that was taken."""
        self._exam: int | None = None
        self._stills = self._lost = self._lost_before = self._pictures = 0
        self._trouble: str | None = None
        self._failed = False
        """Whether the recorder gave up; it then takes nothing more."""
        self._connection: sqlite3.Connection | None = None
        self._database, self._lock = store.database_identity(folder), lock
        self._removed: list[Path] = []
        """Files that no row names once the transaction is committed."""
        self._thread = threading.Thread(target=self._work, name="exams", daemon=True)
        self._thread.start()

    # What sessions and pages call.

    def begin(self, identity: Identity | None = None) -> None:
        """Begins an exam. Raises BadInput where one runs, and where nothing can be kept."""
        with self._changed:
            if self._course is not None:
                raise BadInput(NotKept.EXAM_RUNS)
            self._require_room(len(self._jobs) < STEPS_WAITING)
            self._begun = self._now()
            self._count += 1
            self._first = self._last + 1
            self._course = Course(self._stage, self._policy, self._provenance.live, self._clock())
            self._stills, self._lost_before = 0, self._lost
            begin = self._begun, identity or Identity()
            self._put(_Job(begin=begin, may_be_lost=False))

    def end(self) -> None:
        """Ends the exam; does nothing where none runs."""
        with self._changed:
            if self._course is None:
                return
            self._keep_step(CourseStep((), self._course.changed_nodules()), all_pictures=True)
            self._course = self._begun = None
            at, before = self._now(), self._lost_before

            def write(to: sqlite3.Connection, exam: int) -> None:
                store.set_ended(to, exam, at, self._lost - before)

            self._put(_Job(write, ends=True, may_be_lost=False))

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Within, no other thread begins or ends an exam, or adds to it."""
        with self._changed:
            yield

    def keep_still(self, result: Result, pixels: Pixels) -> None:
        """Keeps a picture with its result; `pixels` must not be changed afterwards.

        Raises BadInput where no exam runs, for a picture from before the exam, for a picture of a
        file that `write` has not taken, where too many pictures wait for the disk, and where the
        folder was removed.
        """
        with self._changed:
            if self._course is None:
                raise BadInput(NotKept.NO_EXAM)
            last = result.sequence if result.file is None else self._last
            if not self._first <= result.sequence <= last:
                raise BadInput(NotKept.NOT_OF_EXAM)
            if self._trouble == NotKept.REMOVED:
                raise BadInput(NotKept.REMOVED)
            self._require_room(self._pictures < PICTURES_WAITING)
            self._keep_picture(result, pixels, "person", None)
            self._stills += 1

    def write(self, result: Result, pixels: Pixels) -> None:
        """Takes one result of the session; see `Sink.write`. Raises nothing."""
        with self._changed:
            self._last = result.sequence
            if self._course is None or self._failed:
                return
            try:
                step = self._course.add(result, pixels)
            except Exception as error:
                self._fail(error)
                return
            if step is not None:
                self._keep_step(step)

    def status(self) -> ExamStatus:
        """How the recorder is doing now."""
        with self._changed:
            return ExamStatus(
                self._begun,
                self._first,
                self._count,
                self._exam,
                self._stills,
                len(self._jobs) + self._taken,
                self._lost,
                sum(sink.unsent() for sink in self._exam_sinks),
                self._trouble,
            )

    def lines(self) -> list[str]:
        """For a person at the end of a session: which exam was kept, and any trouble."""
        status = self.status()
        kept = f"exam {status.exam} is kept in {self._folder}" if status.exam else None
        return [line for line in (kept, status.line()) if line is not None]

    def close(self) -> None:
        """Ends the exam, and waits until all is written, at most END_SECONDS for a silent disk.

        What is not written after HANG_SECONDS more counts as lost.
        """
        self.end()
        with self._changed:
            self._closed, self._gives_up = True, self._clock() + END_SECONDS
            self._changed.notify_all()
        self._thread.join(END_SECONDS + HANG_SECONDS)
        with self._changed:
            if self._thread.is_alive() and not self._failed:
                self._give_up(NotKept.SILENT)

    # What waits for the disk. All of this is called with the condition held.

    def _require_room(self, has_room: bool) -> None:
        if self._failed:
            raise BadInput(self._trouble or NotKept.FAILED)
        if not has_room:
            raise BadInput(NotKept.TOO_MUCH)

    def _keep_step(self, step: CourseStep, all_pictures: bool = False) -> None:
        assert self._course is not None
        # Half of the room is for people.
        room = PICTURES_WAITING if all_pictures else PICTURES_WAITING // 2 - self._pictures
        for picture in self._course.take_pictures(max(0, room)):
            self._keep_picture(picture.result, picture.pixels, "best", picture.nodule)

        def write(to: sqlite3.Connection, exam: int) -> None:
            for decision in step.decisions:
                store.insert_decision(to, exam, decision)
            for nodule in step.nodules:
                store.put_nodule(to, exam, nodule)

        self._put(_Job(write, may_be_lost=bool(step.decisions)))

    def _keep_picture(
        self, result: Result, pixels: Pixels, kept: store.Keeper, nodule: int | None
    ) -> None:
        held: list[Pixels] = [pixels]
        coded: list[bytes] = []

        def code() -> None:
            if not coded:  # once, although a full disk has it tried often
                coded.append(cv2.imencode(".png", held.pop())[1].tobytes())

        def write(to: sqlite3.Connection, exam: int) -> None:
            self._write_still(to, exam, coded[0], result, kept, nodule)

        self._pictures += 1
        self._put(_Job(write, code=code, may_be_lost=False))

    def _put(self, job: _Job) -> None:
        """Adds a job. A full queue gives up its oldest job that may be lost."""
        if self._failed:
            return
        if len(self._jobs) + self._taken >= STEPS_WAITING:
            oldest = next((each for each in self._jobs if each.may_be_lost), None)
            if oldest is not None:
                self._jobs.remove(oldest)
                self._lost += 1
        self._jobs.append(job)
        self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        """Gives up for good after an error of the program; the session goes on."""
        _LOGGER.warning("the recorder of exams failed: %s", type(error).__name__)
        self._give_up(NotKept.FAILED)

    def _give_up(self, trouble: str) -> None:
        """Takes nothing more; what waits, or is being written, counts as lost."""
        self._failed, self._trouble = True, trouble
        self._lost += len(self._jobs) + self._taken
        self._taken = 0
        self._jobs.clear()
        self._changed.notify_all()

    # The thread that writes.

    def _work(self) -> None:
        make_thread_nicer()
        try:
            while self._turn():
                pass
        except Exception as error:
            with self._changed:
                self._fail(error)
        finally:
            if self._connection is not None:
                self._connection.close()

    def _turn(self) -> bool:
        """Writes what waits; returns False at the end."""
        with self._changed:
            ready = self._changed.wait_for(
                lambda: self._jobs or self._closed or self._failed, IDLE_SECONDS
            )
            if self._failed:
                return False
            if not ready and self._course is not None:  # long without a result: LOST, or withheld
                at = self._now()
                self._jobs.append(_Job(lambda to, exam: store.set_last(to, exam, at)))
            batch = self._batch()
            if not batch:
                return not self._closed
            self._taken = len(batch)
        trouble = self._store(batch)
        with self._changed:
            if self._failed:
                return False
            self._taken = 0
            if trouble not in (None, self._trouble):
                _LOGGER.warning("exams cannot be written: %s", trouble)
            self._trouble = trouble
            if trouble in (None, NotKept.REMOVED):
                self._pictures -= sum(job.code is not None for job in batch)
                self._lost += 0 if trouble is None else len(batch)
                self._changed.wait_for(lambda: self._closed, COMMIT_PAUSE)
                return True
            self._jobs.extendleft(reversed(batch))
            if self._gives_up is not None and self._clock() >= self._gives_up:
                self._lost += len(self._jobs)
                self._jobs.clear()
                return False
            if not self._changed.wait_for(lambda: self._closed, NEXT_ATTEMPT_SECONDS):
                return True
            self._changed.wait(NEXT_ATTEMPT_SECONDS / 10)
            return True

    def _batch(self) -> list[_Job]:
        """Takes the waiting jobs of one exam."""
        batch: list[_Job] = []
        while self._jobs and not (batch and self._jobs[0].begin):
            batch.append(self._jobs.popleft())
        return batch

    def _store(self, batch: list[_Job]) -> str | None:
        """Writes a batch in one transaction; returns why it cannot be written, None where it is."""
        try:
            connection = self._opened(create=batch[0].begin is not None)
            if batch[0].begin is not None:
                store.sweep_stills(connection, self._folder)
                store.apply_retention(connection, self._folder, self._retention, self._utc())
            for job in batch:
                if job.code is not None:
                    job.code()
            self._removed.clear()
            connection.execute("BEGIN IMMEDIATE")
            try:
                exam = self._exam
                for job in batch:
                    if job.begin is not None:
                        exam = store.insert_exam(connection, *job.begin, self._provenance)
                    if job.write is not None:
                        assert exam is not None
                        job.write(connection, exam)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk may have rolled back already
                    connection.execute("ROLLBACK")
                raise
        except (*DATABASE_ERRORS, OSError, BadInput) as error:
            return _words(error)
        self._exam = exam
        for path in self._removed:
            path.unlink(missing_ok=True)
        for sink in self._exam_sinks:
            if batch[0].begin is not None and exam is not None:
                sink.exam_begun(self._folder, exam)
            if any(job.ends for job in batch):
                sink.exam_ended()
        return None

    def _opened(self, create: bool) -> sqlite3.Connection:
        """The connection to the database, as long as the file is still there.

        SQLite would go on writing to a file that was removed, and the lock of a folder that was
        removed protects nothing. Raises BadInput, OSError, sqlite3.Error.
        """
        there = store.database_identity(self._folder)
        if there is None or there != self._database:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if not create:
                raise BadInput(NotKept.REMOVED)
            self._lock.close()
            _take_folder(self._folder, self._lock)
            self._database = store.database_identity(self._folder)
        if self._connection is None:
            self._connection = open_exams(self._folder)
        return self._connection

    def _write_still(
        self,
        connection: sqlite3.Connection,
        exam: int,
        png: bytes,
        result: Result,
        kept: store.Keeper,
        nodule: int | None,
    ) -> None:
        """Writes a picture and the row of it. A better picture replaces the best one."""
        if kept == "best":
            before = store.remove_best(connection, exam, nodule)
            self._removed += [store.still_path(self._folder, exam, number) for number in before]
        line = to_json(result).decode()
        number = store.insert_still(connection, exam, kept, nodule, line, len(png))
        store.write_picture(store.still_path(self._folder, exam, number), png)

    def _now(self) -> str:
        return self._utc().isoformat(timespec="milliseconds")


def _words(error: Exception) -> str:
    """Why something cannot be written. The text of another error may hold the path of a folder."""
    if isinstance(error, BadInput):
        return NotKept.REMOVED if str(error) == NotKept.REMOVED else NotKept.UNREADABLE
    text = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
    return {
        os.strerror(errno.ENOSPC): NotKept.FULL,
        "database or disk is full": NotKept.FULL,
        "database is locked": NotKept.LOCKED,
    }.get(text, text)


def provenance_of(bundle: Bundle, source: str, live: bool) -> Provenance:
    """The model, this device and this software; `source` is a name without secrets."""
    manifest = bundle.manifest
    return Provenance(
        source=source,
        live=live,
        bundle=manifest.name,
        version=manifest.version,
        digest=bundle.digest,
        thresholds=manifest.classifier.operating_point.thresholds,
        prevalence=manifest.classifier.prevalence,
        device=f"{platform.node()}, {platform.machine()}, {platform.system()} {platform.release()}",
        software=f"sonolite {program_version()}, Python {platform.python_version()}",
    )


@contextmanager
def open_exam_recorder(
    folder: Path,
    bundle: Bundle,
    source: str,
    live: bool,
    retention: Retention | None = None,
    clock: Clock = time.monotonic,
    utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    exam_sinks: Sequence[ExamSink] = (),
) -> Iterator[ExamRecorder]:
    """A recorder for a session; no exam runs yet. The folder is made where it is missing.

    `source` is the name of the source without secrets, `live` whether it is live. `retention` is
    applied when an exam begins. `exam_sinks` take the exams. Raises BadInput where exams cannot be
    kept in the folder, or another session keeps them there.
    """
    with ExitStack() as lock:
        _take_folder(folder, lock)
        recorder = ExamRecorder(
            folder,
            bundle,
            provenance_of(bundle, source, live),
            retention or Retention(),
            clock,
            utc,
            lock,
            exam_sinks,
        )
        try:
            yield recorder
        finally:
            recorder.close()


def _take_folder(folder: Path, lock: ExitStack) -> None:
    """Makes the folder where it is missing, puts its lock into `lock`, and marks exams as cut off.

    Raises BadInput where exams cannot be kept there, or another session keeps them there.
    """
    with closing(open_exams(folder, create=True)) as connection:
        lock.enter_context(_lock(folder))
        store.mark_interrupted(connection)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds the lock of the one session that keeps exams in a folder; see flock(2).

    Raises BadInput where another session holds it. A program that looks whether an exam runs holds
    it for a moment.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(LOCK_ATTEMPTS):
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        else:
            raise BadInput(f"{folder}: another session keeps exams there; name another folder")
        yield
    finally:
        os.close(handle)


def running_exam(folder: Path, connection: sqlite3.Connection) -> int | None:
    """The number of the exam that runs; None where no session keeps one."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK)  # it may be a pipe
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return store.unfinished_exam(connection)
    else:
        return None
    finally:
        os.close(handle)
