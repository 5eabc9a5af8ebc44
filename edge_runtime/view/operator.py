"""Carries out the commands of the page, one after the other.

Commands wait in a queue of bounded length for a thread of their own, so that neither the frames nor
the server wait for a disk.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from devices import BadInput, Box, Pixels, SonoliteError
from devices.capture.source_uri import SourceUri
from edge_runtime.exams.recorder import ExamRecorder, NotKept
from edge_runtime.results.result import Result
from edge_runtime.screen.region import Region
from edge_runtime.screen.saved_regions import ScreenSize, save_roi, saved_regions_of
from edge_runtime.view.commands import (
    BeginExam,
    ClearRegion,
    Command,
    EndExam,
    KeepStill,
    MarkRegion,
    Refusal,
)

if TYPE_CHECKING:
    from edge_runtime.exams.worklist import Worklist

_LOGGER = logging.getLogger(__name__)

MAX_WAITING_COMMANDS = 8
MAX_SHOWN_STEPS = 100
"""Scheduled examinations that a page gets."""
MAX_HELD = 16
"""Pictures that are held while exams are kept: a page asks for the still of a moment ago."""
REFRESH_SECONDS = 1.0
"""Seconds after which the status is read again."""

Answer = Callable[[str | None], None]
"""Takes None where the command was carried out, else the reason why not; from any thread."""
WorklistAnswer = Callable[[str | None, object], None]
"""Takes None and the scheduled steps, for JSON, or the reason why there are none, and None."""


class Operator:
    """The parts of a session that an operator changes; of one session after the other."""

    def __init__(
        self,
        region: Region,
        source: SourceUri,
        regions_file: Path,
        celsius: Callable[[], float | None] = lambda: None,
        recorder: ExamRecorder | None = None,
        worklist: Callable[[], "Worklist"] | None = None,
    ) -> None:
        """`celsius` reads the temperature of the device. `recorder` keeps exams, if they are kept;
        `worklist` asks who is to be examined.

        Raises BadInput where the saved regions in `regions_file` cannot be read.
        """
        self._region, self._source, self._regions_file = region, source, regions_file
        self._celsius, self._recorder, self._worklist = celsius, recorder, worklist
        self._turn = threading.Lock()
        """Held while a command is carried out: the session does not change meanwhile."""
        self._asking = threading.Lock()
        self._held: deque[tuple[Result, Pixels]] = deque(maxlen=MAX_HELD)
        saved = saved_regions_of(regions_file, source)
        self._remembered = {screen: entry.roi for screen, entry in saved.items()}
        self._waiting: queue.Queue[tuple[Command, Answer] | None] = queue.Queue(
            MAX_WAITING_COMMANDS
        )
        self._stop = threading.Event()
        self.status = ""
        """What every page shows beside the results, as JSON."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to carry out commands; again, after `stop`."""
        self._stop = threading.Event()
        self._refresh()
        self._thread = threading.Thread(
            target=self._run, args=[self._stop], name="operator", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ends; commands that still wait are given up."""
        self._stop.set()
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        if self._thread is not None:
            self._thread.join(2 * REFRESH_SECONDS)

    @contextmanager
    def attending(self, region: Region, recorder: ExamRecorder | None) -> Iterator[None]:
        """Changes the parts of another session inside the block, and then none."""
        self._attend(region, recorder)
        try:
            yield
        finally:
            self._attend(Region(), None)

    def _attend(self, region: Region, recorder: ExamRecorder | None) -> None:
        with self._turn:
            self._region, self._recorder = region, recorder
            self._held.clear()

    def hold(self, result: Result, pixels: Pixels) -> None:
        """Holds a picture that goes to the page, which may ask for it as a still."""
        if self._recorder is not None:
            self._held.append((result, pixels))

    def submit(self, command: Command, answer: Answer) -> bool:
        """Puts a command into the queue; False where the queue is full."""
        try:
            self._waiting.put_nowait((command, answer))
        except queue.Full:
            return False
        return True

    def ask_worklist(self, answer: WorklistAnswer) -> bool:
        """Asks for the scheduled steps; False while an earlier question waits for its answer.

        A thread of its own waits for the answer, so that commands do not.
        """
        if not self._asking.acquire(blocking=False):
            return False
        threading.Thread(target=self._ask, args=[answer], name="worklist", daemon=True).start()
        return True

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                waiting = self._waiting.get(timeout=REFRESH_SECONDS)
            except queue.Empty:
                waiting = None
            if waiting is not None:
                command, answer = waiting
                with self._turn:
                    refusal = self._carry_out(command)
                self._refresh()
                answer(refusal)
            else:
                self._refresh()

    def _carry_out(self, command: Command) -> str | None:
        """Carries out a command; returns why it cannot be done, else None."""
        try:
            match command:
                case MarkRegion():
                    self._mark(command.box, command.screen, command.remember, command.follow)
                case ClearRegion():
                    self._mark(None, command.screen, remember=False, follow=None)
                case KeepStill():
                    self._keep_still(command.sequence)
                case BeginExam():
                    self._exams().begin(command.identity)
                case EndExam():
                    self._end_exam()
        except BadInput as error:
            return str(error)
        except Exception as error:  # whatever fails here must not end the session
            _LOGGER.warning("a command failed: %s", type(error).__name__)
            return Refusal.FAILED
        return None

    def _ask(self, answer: WorklistAnswer) -> None:
        """Asks the worklist, and answers the page. What the worklist says is never logged."""
        try:
            if self._worklist is None:
                answer(Refusal.NO_WORKLIST, None)
                return
            asked = self._worklist()
            steps = [
                {"at": step.at, "description": step.description, **asdict(step.identity)}
                for step in asked.steps[:MAX_SHOWN_STEPS]
            ]
            more = asked.more or len(steps) < len(asked.steps)
            answer(None, {"steps": steps, "more": more, "unread": asked.unread})
        except SonoliteError:
            answer(Refusal.WORKLIST_AWAY, None)
        except Exception as error:
            _LOGGER.warning("a command failed: %s", type(error).__name__)
            answer(Refusal.FAILED, None)
        finally:
            self._asking.release()

    def _mark(
        self, roi: Box | None, screen: ScreenSize, remember: bool, follow: bool | None
    ) -> None:
        """Raises BadInput where the region cannot be taken, or remembered."""
        was_remembered = self._is_remembered(screen)
        self._region.mark(roi, screen, follow)
        if not (remember or was_remembered):
            return
        kept = roi if remember else None
        try:
            save_roi(self._regions_file, self._source, screen, kept)
        except (BadInput, OSError) as error:
            raise BadInput(Refusal.NOT_REMEMBERED) from error
        self._remembered[screen] = kept

    def _keep_still(self, sequence: int) -> None:
        """Raises BadInput where the picture cannot be kept."""
        recorder = self._exams()
        for result, pixels in [*self._held]:
            if result.sequence == sequence:
                recorder.keep_still(result, pixels)
                return
        raise BadInput(Refusal.GONE)

    def _end_exam(self) -> None:
        """Raises BadInput where no exam runs."""
        recorder = self._exams()
        if recorder.status().begun is None:
            raise BadInput(NotKept.NO_EXAM)
        recorder.end()

    def _exams(self) -> ExamRecorder:
        """The recorder. Raises BadInput where there is none."""
        if self._recorder is None:
            raise BadInput(Refusal.NO_EXAMS)
        return self._recorder

    def _is_remembered(self, screen: ScreenSize) -> bool:
        roi = self._region.next_roi
        return roi is not None and self._remembered.get(screen) == roi

    def _refresh(self) -> None:
        """Reads the status again."""
        region, recorder, celsius, exam = self._region, self._recorder, self._celsius(), None
        if recorder is not None:
            recorded = recorder.status()
            exam = {
                "begun": recorded.begun,
                "first": recorded.first,
                "stills": recorded.stills,
                "trouble": recorded.trouble,
                "lost": recorded.lost,
                "unsent": recorded.unsent,
            }
        status = {
            "region": region.next_roi,
            "follow": region.next_follow,
            "remembered": self._is_remembered(region.screen),
            "celsius": None if celsius is None else round(celsius),
            "exam": exam,
        }
        self.status = msgspec.json.encode({"status": status}).decode()
