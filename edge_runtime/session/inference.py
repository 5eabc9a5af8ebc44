"""The thread that runs the model on each prepared frame and hands the result to the sinks."""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from devices import BadInput, CaptureDevice, Clock, EndOfRecording, Pixels, SonoliteError
from edge_runtime.models import watchdog
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import Classifier
from edge_runtime.models.watchdog import Watchdog
from edge_runtime.results.result import Result
from edge_runtime.results.states import Event
from edge_runtime.session.account import Absence, Account
from edge_runtime.session.finder import Finder, FoundNodule
from edge_runtime.session.frame_slot import FrameSlot
from edge_runtime.session.helper import Helper
from edge_runtime.session.prepare import PreparedFrame
from edge_runtime.session.silence import Silence
from edge_runtime.session.throttle import Throttle
from edge_runtime.sinks.queue import SinkQueue

if TYPE_CHECKING:
    from edge_runtime.session.frame_recorder import FrameRecorder

WATCH_INTERVAL = 0.05
"""Seconds between two checks of the threads."""


class SessionContext:
    """The parts that all threads of one session share."""

    def __init__(
        self,
        device: CaptureDevice,
        chain: FallbackChain,
        account: Account,
        queues: Sequence[SinkQueue],
        stop: threading.Event,
        budget: float,
        throttle: Throttle,
        clock: Clock,
        finder: Finder | None = None,
        frame_recorder: "FrameRecorder | None" = None,
    ) -> None:
        self.finder = finder
        """Finds the nodules where nobody marked any; None for a bundle without a locator."""
        self.frame_recorder = frame_recorder
        """Keeps the frames as they were judged; None where nobody asked for a record."""
        self.device, self.chain, self.account, self.queues = device, chain, account, queues
        self.stop, self.budget, self.throttle, self.clock = stop, budget, throttle, clock
        self.slot: FrameSlot[PreparedFrame | Absence] = FrameSlot(every_frame=not device.live)
        self.capture_error: str | None = None
        """Why the pictures of a live device cannot be used; None after a usable picture."""
        self.classifier: Classifier | None = None
        """The classifier that the results name."""
        self.helper = Helper(chain, finder)
        self.lock = threading.Lock()
        """Held by the thread that moves the session. A thread that hung has to take it, and then
        sees that it was abandoned."""

    @property
    def frame_timeout(self) -> float:
        """Seconds without a frame after which a live picture is STALE."""
        return self.throttle.frame_timeout(self.budget, self.device.fps)

    def publish(self, result: Result, pixels: Pixels) -> None:
        """Gives a result to every sink."""
        if self.frame_recorder is not None:
            self.frame_recorder.conclude(result)
        for queue in self.queues:
            queue.put(result, pixels)

    def sinks_failed(self) -> bool:
        """Whether failed sinks end the session: one ends a recording, all end an endless one."""
        failed = [queue.error is not None for queue in self.queues]
        return any(failed) and (all(failed) or not self.device.endless)


class InferenceThread(threading.Thread):
    """Classifies frame after frame; another thread replaces one that hangs."""

    def __init__(self, shared: SessionContext) -> None:
        super().__init__(name="inference", daemon=True)
        self._shared = shared
        self._task: tuple[PreparedFrame | None, float] | None = None
        """The frame that is being classified, and the seconds allowed."""
        self._watchdog = Watchdog()
        self._abandoned = False
        self._blank: Pixels = np.zeros((240, 320), np.uint8)
        self.iterations = 0
        """How often the thread has handled a frame, or the absence of one."""
        self.ended: SonoliteError | None = None
        self.crash: Exception | None = None
        self.start()

    def run(self) -> None:
        """Works until the frames end. The watching thread reads the reason from `ended`."""
        keep_to_cores(slice(-1))
        try:
            self.ended = self._run_all()
        except Exception as error:
            self.crash = error

    def hangs(self, now: float) -> bool:
        """Whether inference hangs. From then on the results of this thread no longer count.

        An inference that is only slow ends LIVE, because the picture that people see is old.
        For the watching thread; `now` as for `Watchdog.waited`.
        """
        shared, task = self._shared, self._task
        self._watchdog.task = task
        waited = self._watchdog.waited(now)
        if task is None:
            return False
        prepared, allowed = task
        if waited <= shared.frame_timeout:
            return False
        if not shared.lock.acquire(timeout=WATCH_INTERVAL):
            return False  # the thread is publishing a result
        try:
            if self._task is not task:
                return False
            if waited > allowed:
                self._abandoned = True
                if prepared is None:
                    self._without_frame(Event.FAILED)
                else:
                    result = shared.account.conclude(prepared, None)
                    shared.publish(result, prepared.frame.pixels)
                return True
            if shared.device.live:
                self._without_frame(Event.LATE)
            return False
        finally:
            shared.lock.release()

    def _run_all(self) -> SonoliteError | None:
        shared = self._shared
        silence = Silence(shared.clock())
        while not shared.stop.is_set() and not self._abandoned:
            self.iterations += 1
            try:
                prepared = shared.slot.take(shared.frame_timeout)
                now = shared.clock()
                silence.observe(shared.slot.read, now)
            except EndOfRecording:
                return None
            except SonoliteError as error:
                if not shared.device.live or isinstance(error, BadInput):
                    raise
                with shared.lock:
                    self._without_frame(Event.GONE, str(error))
                if shared.device.reconnects:
                    continue  # where no device comes back, the slot raises the end next
                return error
            if isinstance(prepared, Absence):
                with shared.lock:
                    self._without_frame(prepared.event, prepared.cause, always=True)
            elif prepared is not None:
                self._classify(prepared)
            elif shared.device.live:
                lost = silence.is_lost(now, shared.frame_timeout)
                with shared.lock:
                    self._without_frame(
                        Event.ABSENT if lost else Event.SILENT, shared.capture_error
                    )
        return None

    def _classify(self, prepared: PreparedFrame) -> None:
        shared = self._shared
        prediction, findings, failure = None, None, ""
        if self._blank.shape != prepared.frame.pixels.shape:
            self._blank = np.zeros(prepared.frame.pixels.shape, np.uint8)
        if prepared.tensor is not None:
            try:
                classifier = self._classifier(prepared)
                if prepared.searched:
                    findings = self._find(prepared, classifier)
                elif (
                    prepared.helper_prediction is not None
                    and prepared.helper_prediction[0] is classifier
                ):
                    prediction = prepared.helper_prediction[1]
                else:
                    self._task = prepared, watchdog.INFERENCE_TIMEOUT
                    prediction = classifier.predict(prepared.tensor)
            except RuntimeError as error:
                failure = " ".join(str(error).split())
        with shared.lock:
            self._task = None
            if self._abandoned:
                return
            result = shared.account.conclude(prepared, prediction, findings)
            shared.publish(result, prepared.frame.pixels)
        if failure and shared.chain.fall_back(failure):
            self._classifier(None)  # at once, so that the next frame does not wait for the opening
            self._task = None

    def _find(self, prepared: PreparedFrame, classifier: Classifier) -> tuple[FoundNodule, ...]:
        """The nodules in a frame. Raises RuntimeError where inference fails."""
        finder = self._shared.finder
        assert finder is not None
        assert prepared.tensor is not None
        assert prepared.window is not None
        self._task = prepared, watchdog.INFERENCE_TIMEOUT
        return finder.find(
            prepared.frame,
            prepared.tensor,
            prepared.window,
            classifier,
            prepared.region_changes,
            prepared.roi if prepared.follow else None,
            prepared.helper_detections,
        )

    def _classifier(self, prepared: PreparedFrame | None) -> Classifier:
        """The open classifier. From now on the results name it, and why no preferred backend runs.

        `prepared` is the frame that waits for the classifier.
        """
        shared = self._shared
        self._task = prepared, watchdog.OPENING_TIMEOUT
        classifier = shared.chain.classifier
        if classifier is not shared.classifier:
            with shared.lock:
                shared.classifier = classifier
                shared.account.set_classifier(classifier, "; ".join(shared.chain.refused))
        return classifier

    def _without_frame(self, event: Event, cause: str | None = None, always: bool = False) -> None:
        """Moves the session, and publishes a change with a blank picture, never with an old one."""
        if changed := self._shared.account.without_frame(event, cause, always):
            self._shared.publish(changed, self._blank)


def keep_to_cores(which: slice) -> None:
    """Keeps this thread to some of the cores that the process may use.

    The last core captures, and the others infer. A scheduler that saves power would run both
    threads on one core: a recording then takes 1.5 times as long, and a live frame waits for the
    check of the frame before it.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setaffinity(0, cores[which])
