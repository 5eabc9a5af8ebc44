"""A session at work: one thread captures and prepares, one judges, and this one watches them.

    device -> capture, prepare -> Slot -> infer, conclude -> Outbox -> sink
              thread "capture"            thread "judge"     a thread for each sink

Decoding, preparing and inference so overlap on two cores, and none of them waits for a sink. Of a
long recording the thread that captures judges a frame itself where the other is behind, so that
both cores are busy. The thread that watches computes nothing: it sees an inference that hangs, and
can still be interrupted.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

import numpy as np

from devices import (
    BadInput,
    CaptureDevice,
    Clock,
    DeviceLost,
    DeviceStalled,
    EndOfRecording,
    Frame,
    HardwareMissing,
    NoSignal,
    Pixels,
    SonoliteError,
)
from devices.patience import Patience
from edge_runtime import watched
from edge_runtime.ahead import Ahead
from edge_runtime.classify import Classifier
from edge_runtime.flaws import Flaw
from edge_runtime.judge import Session, now
from edge_runtime.outbox import Outbox, Sink
from edge_runtime.pace import Pace
from edge_runtime.release.awake import Awake
from edge_runtime.result import Result
from edge_runtime.sector import Region
from edge_runtime.session import Event, State
from edge_runtime.slot import Slot
from edge_runtime.summary import Summary
from edge_runtime.view import View, Viewer
from edge_runtime.watched import Watched
from edge_runtime.ways import Ways

READ_TIMEOUT = 1.0
"""Seconds that one read of a device may wait for its frame."""
BUDGET = 0.25
"""Seconds from capture to result after which a live result is stale."""
TAKEN = 0.002
"""Seconds that the judging thread usually takes to begin with a live frame, and more."""
PULSE = 0.05
"""Seconds between two looks at the threads."""
SILENCES, LONGEST_SILENCE = 3, 3.0
"""After so many time-outs without a frame a device counts as gone: with the usual budget a pulled
cable is LOST within a second, whatever its protocol takes to notice. One whose frames come slower
than its rate says has twice the time that they take, up to so many seconds."""
RESTARTS = 3
"""How often a hung inference is begun anew before the session ends."""

DAMAGED = "damaged, or of a kind that cannot be used"
HOT = "held back because the device is hot"


def run_session(
    device: CaptureDevice,
    ways: Ways,
    region: Region,
    sinks: Sequence[Sink],
    stop: threading.Event,
    budget: float = BUDGET,
    clock: Clock = time.monotonic,
    utc: Callable[[], datetime] = now,
    beat: Callable[[State], None] = lambda _: None,
    pace: Pace | None = None,
) -> tuple[Summary, SonoliteError | None]:
    """Judges frames until `stop` is set or the device ends; returns the account.

    The second answer is why a live session ended, None after an ordinary end. `beat` is called
    with the state, many times a second, as long as frames or their absence are dealt with: its
    silence tells that they are not. `pace` makes a hot device judge fewer frames.
    Raises BadInput for a recording that turns out to be damaged, and what a sink raised: what was
    made of it is not to be kept.
    """
    viewer = Viewer(device.live, region, ways.opened().preprocessing, clock)
    pace = pace or Pace()
    session = Session(device.live, ways.stage, ways.bundle.id, region, budget, pace, clock, utc)
    outboxes = [Outbox(sink, device.live) for sink in sinks]
    session.computes(ways.classifier, "; ".join(ways.refused))
    work = _Work(device, viewer, session, ways, outboxes, stop, budget, pace, clock)
    capture = threading.Thread(target=work.capture, name="capture", daemon=True)
    started = clock()
    capture.start()
    try:
        ended = _watch(work, beat)
    finally:
        stop.set()
        work.slot.close(EndOfRecording("stopped"))
        capture.join(timeout=2 * READ_TIMEOUT + 2)
        for outbox in outboxes:
            outbox.close()
    for outbox in outboxes:
        if outbox.error is not None:
            raise outbox.error
    summary = session.summary
    summary.seconds = clock() - started
    damaged = device.damaged
    summary.read = work.slot.read + damaged
    summary.lost = {outbox.name: outbox.lost for outbox in outboxes if outbox.lost}
    for cause, count in (
        ("replaced by a newer frame", work.slot.dropped),
        ("read ahead when the session ended", work.slot.drain()),
        (DAMAGED, damaged),
    ):
        if count:
            summary.not_judged[cause] = count
    summary.not_judged.update(work.slot.passed_over)
    return summary, ended


def _watch(work: "_Work", beat: Callable[[State], None]) -> SonoliteError | None:
    """Starts the judging thread, again where it hangs, and waits for its end."""
    restarts, turns, awake = 0, 0, Awake(work.clock)
    judge = _Judge(work)
    while True:
        judge.join(PULSE)
        if judge.crash is not None:
            raise judge.crash
        if not judge.is_alive():
            return judge.ended
        if work.stop.is_set():
            work.slot.close(EndOfRecording("stopped"))
            for outbox in work.outboxes:
                outbox.hurry()
        if work.broken():
            return None
        work.pace.look()
        if judge.turns != turns:
            turns = judge.turns
            beat(work.session.state)
        now = awake()
        if work.ahead.hangs(now):
            return HardwareMissing("inference beside the first hung, and was given up")
        if not judge.hangs(now):
            continue
        if not work.ways.give_up(f"hung for {watched.HUNG_AFTER:g} s"):
            work.ways.renew()  # nobody shares an interpreter with a thread that is stuck in it
        if work.stop.is_set() or restarts == RESTARTS:
            return HardwareMissing(f"inference hung {restarts + 1} times, and was given up")
        restarts, turns = restarts + 1, 0
        judge = _Judge(work)


class _Work:
    """What the threads of one session share."""

    def __init__(
        self,
        device: CaptureDevice,
        viewer: Viewer,
        session: Session,
        ways: Ways,
        outboxes: Sequence[Outbox],
        stop: threading.Event,
        budget: float,
        pace: Pace,
        clock: Clock,
    ) -> None:
        self.device, self.viewer, self.session, self.ways = device, viewer, session, ways
        self.outboxes, self.stop, self.clock = outboxes, stop, clock
        self.budget, self.pace = budget, pace
        self.slot: Slot[View] = Slot(every_frame=not device.live)
        self.trouble: str | None = None
        """Why what a live device gives is no frame, since the last one that was."""
        self.computing: Classifier | None = None
        """What the session's results name."""
        self.ahead = Ahead(ways)
        self.turn = threading.Lock()
        """Held by who moves the session: a judge that hung for long finds that it no longer may."""

    @property
    def patience(self) -> float:
        """Seconds without a frame after which the device counts as silent."""
        return self.pace.patience(self.budget, self.device.fps)

    def capture(self) -> None:
        """Reads until the device ends or `stop` is set; what ends it reaches the other side."""
        _keep_to_cores(slice(-1, None))
        view: View | None = None
        while not self.stop.is_set():
            try:
                if frame := self._read():
                    view = self.viewer.look(frame)
                    if not self.device.live and self.computing is not None:
                        view = self.ahead.judge(view, self.computing, self.slot)
                    self.slot.put(view)
                    if self.device.live:  # or the check would keep the judge from its beginning
                        self.slot.wait_until_taken(TAKEN)
                    self.viewer.check(view)
                frame = view = None  # others' now: their pixels may be used again
            except DeviceStalled:
                continue  # the other side sees the silence by its own clock
            except DeviceLost as error:
                if not self.device.returns:
                    self.slot.close(error)
                    return
                self.viewer.forget()
                self.slot.lose(error)
            except Exception as error:
                self.slot.close(error)
                return

    def _read(self) -> Frame | None:
        """The next frame, None for one that is counted and not judged."""
        if not self.device.live:
            return self.device.read(READ_TIMEOUT)
        try:
            frame = self.device.read(READ_TIMEOUT)
        except BadInput as error:  # one picture of a live device, and the next one may be sound
            made_up = isinstance(error, NoSignal)
            self.slot.pass_over(str(Flaw.NO_SIGNAL) if made_up else DAMAGED)
            self.trouble = str(error)
            return None
        self.trouble = None
        if not self.pace.takes(frame.captured_at, self.device.fps):
            self.slot.pass_over(HOT)
            return None
        return frame

    def tell(self, result: Result, pixels: Pixels) -> None:
        """Hands a result to every sink."""
        for outbox in self.outboxes:
            outbox.put(result, pixels)

    def broken(self) -> bool:
        """Whether a sink's failure ends the session: a recording's any, a live one's last."""
        failed = [outbox.error is not None for outbox in self.outboxes]
        return any(failed) and (all(failed) or not self.device.live)


class _Judge(threading.Thread):
    """The thread that judges; one that hangs is left behind, and another takes its place."""

    def __init__(self, work: _Work) -> None:
        super().__init__(name="judge", daemon=True)
        self._work = work
        self._busy: tuple[View | None, float] | None = None
        """What it is at work on, and the seconds allowed for it."""
        self._watched = Watched()
        self._abandoned = False
        self._blank: Pixels = np.zeros((240, 320), np.uint8)
        self.turns = 0
        """How many times it has dealt with a frame, or with none in time."""
        self.ended: SonoliteError | None = None
        self.crash: Exception | None = None
        self.start()

    def run(self) -> None:
        """Judges until the frames end; whatever ends it is for the thread that watches."""
        _keep_to_cores(slice(-1))
        try:
            self.ended = self._judge_all()
        except Exception as error:
            self.crash = error

    def hangs(self, now: float) -> bool:
        """Whether its inference hangs; then nothing it does counts any more. For one watcher.

        One that only takes too long ends LIVE: what the screens show is growing old. `now` as for
        `Watched.waited`.
        """
        work, busy = self._work, self._busy
        self._watched.task = busy
        waited = self._watched.waited(now)
        if busy is None:
            return False
        view, allowed = busy
        if waited <= work.patience:
            return False
        if not work.turn.acquire(timeout=PULSE):
            return False  # a result is being handed over
        try:
            if self._busy is not busy:
                return False
            if waited > allowed:
                self._abandoned = True
                if view is None:
                    self._without_frame(Event.FAILED)
                else:
                    work.tell(work.session.conclude(view, None), view.frame.pixels)
                return True
            if work.device.live:
                self._without_frame(Event.LATE)
            return False
        finally:
            work.turn.release()

    def _judge_all(self) -> SonoliteError | None:
        work = self._work
        read, at, slow = 0, work.clock(), Patience(0.0, LONGEST_SILENCE)
        while not work.stop.is_set() and not self._abandoned:
            self.turns += 1
            try:
                view = work.slot.take(work.patience)
                moment, seen = work.clock(), work.slot.read
                if seen > read:
                    if read:  # the wait for the first one tells nothing of those that follow
                        slow.learn((moment - at) / (seen - read))
                    read, at = seen, moment
            except EndOfRecording:
                return None
            except SonoliteError as error:
                if not work.device.live or isinstance(error, BadInput):
                    raise
                with work.turn:
                    self._without_frame(Event.GONE, str(error))
                if work.device.returns:
                    continue  # if it ends for good, the slot says so next
                return error
            if view is not None:
                self._judge(view)
            elif work.device.live:
                silence = moment - at if read else 0.0  # what never came has not gone
                gone = silence >= max(SILENCES * work.patience, slow.seconds)
                with work.turn:
                    self._without_frame(Event.ABSENT if gone else Event.SILENT, work.trouble)
        return None

    def _judge(self, view: View) -> None:
        work = self._work
        judged, failure = None, ""
        if self._blank.shape != view.frame.pixels.shape:
            self._blank = np.zeros(view.frame.pixels.shape, np.uint8)
        if view.tensor is not None:
            try:
                classifier = self._classifier(view)
                if view.ahead is not None and view.ahead[0] is classifier:
                    judged = view.ahead[1]
                else:
                    self._busy = view, watched.HUNG_AFTER
                    judged = classifier.judge(view.tensor)
            except RuntimeError as error:
                failure = " ".join(str(error).split())
        with work.turn:
            self._busy = None
            if self._abandoned:
                return
            work.tell(work.session.conclude(view, judged), view.frame.pixels)
        if failure and work.ways.give_up(failure):
            self._classifier(None)  # at once, so that the next frame need not wait for it
            self._busy = None

    def _classifier(self, view: View | None) -> Classifier:
        """The open one; every result says from then on which it is, and why no other.

        `view` is what waits for it.
        """
        work = self._work
        self._busy = view, watched.OPENS_WITHIN
        classifier = work.ways.classifier
        if classifier is not work.computing:
            with work.turn:
                work.computing = classifier
                work.session.computes(classifier, "; ".join(work.ways.refused))
        return classifier

    def _without_frame(self, event: Event, trouble: str | None = None) -> None:
        """Moves the session; a change is shown, and never the last picture as if it were live."""
        if changed := self._work.session.without_frame(event, trouble):
            self._work.tell(changed, self._blank)


def _keep_to_cores(which: slice) -> None:
    """Keeps this thread to some of the cores that the process may use.

    The last one captures and the others judge. Left to itself, a scheduler that saves power runs
    both threads on one core: a recording then takes 1.5 times as long, and a live frame waits for
    the check of the one before it.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setaffinity(0, cores[which])
