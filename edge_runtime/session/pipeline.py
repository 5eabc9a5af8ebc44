"""The threads of a session: one captures and prepares, one infers, and one watches both.

    device -> capture, prepare -> FrameSlot -> infer, conclude -> SinkQueue -> sink
              thread "capture"                 thread "inference"  a thread for each sink

Capture and inference run on two cores at once, and neither waits for a sink. In a long recording
the capturing thread runs a model too where inference is behind, so that both cores are busy.
The watching thread computes nothing: it sees an inference that hangs, and Ctrl-C can stop it.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

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
    NothingSent,
    SonoliteError,
)
from edge_runtime.models import watchdog
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.locator import Locator
from edge_runtime.release.uptime_clock import UptimeClock
from edge_runtime.results.states import Event, State
from edge_runtime.results.summary import Summary
from edge_runtime.screen.flaws import Flaw
from edge_runtime.screen.region import Region
from edge_runtime.session.account import Absence, Account, utc_now
from edge_runtime.session.finder import Finder
from edge_runtime.session.frame_slot import REPLACED
from edge_runtime.session.inference import (
    WATCH_INTERVAL,
    InferenceThread,
    SessionContext,
    keep_to_cores,
)
from edge_runtime.session.prepare import PreparedFrame, Preparer
from edge_runtime.session.silence import READ_TIMEOUT
from edge_runtime.session.throttle import Throttle
from edge_runtime.sinks.queue import SinkQueue
from edge_runtime.sinks.sink import Sink

if TYPE_CHECKING:
    from edge_runtime.session.frame_recorder import FrameRecorder

_LOGGER = logging.getLogger(__name__)

LATENCY_BUDGET = 0.25
"""Seconds from capture to result after which a live result is stale."""
HANDOVER_TIMEOUT = 0.002
"""Seconds to wait until the inference thread takes a live frame; it usually takes less."""
MAX_RESTARTS = 3
"""How often a hung inference is started again before the session ends."""

DAMAGED = "damaged, or of a kind that cannot be used"
HOT = "held back because the device is hot"
UNFINISHED = "read ahead when the session ended"


def run_session(
    device: CaptureDevice,
    chain: FallbackChain,
    region: Region,
    sinks: Sequence[Sink],
    stop: threading.Event,
    budget: float = LATENCY_BUDGET,
    clock: Clock = time.monotonic,
    utc: Callable[[], datetime] = utc_now,
    heartbeat: Callable[[State], None] = lambda _: None,
    throttle: Throttle | None = None,
    prevalence: dict[str, float] | None = None,
    locator: Locator | None = None,
    frame_recorder: "FrameRecorder | None" = None,
) -> tuple[Summary, SonoliteError | None]:
    """Classifies frames until `stop` is set or the device ends.

    Returns the summary, and why a live session ended; None after an ordinary end. `heartbeat` is
    called with the state, many times a second, as long as the session handles frames or their
    absence. `throttle` makes a hot device classify fewer frames. `prevalence` as for `Account`. The
    `locator` finds nodules where nobody marked any. The `frame_recorder` keeps the judged frames.
    Raises BadInput for a recording that turns out to be damaged, and the error of a sink: the
    output of that sink must not be kept.
    """
    search = None if locator is None else locator.preprocessing
    live = device.live if device.replay is None else device.replay.manifest.live
    preparer = Preparer(live, region, chain.opened().preprocessing, clock, search)
    throttle = throttle or Throttle()
    account = Account(
        device.live,
        chain.stage,
        chain.bundle.id,
        region,
        budget,
        throttle,
        clock,
        utc,
        prevalence,
        None if locator is None else locator.stage.pooling,
    )
    queues = [SinkQueue(sink, device.live, device.endless) for sink in sinks]
    account.set_classifier(chain.classifier, "; ".join(chain.refused))
    finder = None if locator is None else Finder(locator, chain.threads)
    shared = SessionContext(
        device, chain, account, queues, stop, budget, throttle, clock, finder, frame_recorder
    )
    if device.replay is not None:
        from edge_runtime.session.replay import play_record  # here: few sessions play a record

        play = partial(play_record, device.replay, preparer, shared.slot, stop, clock)
    else:
        play = partial(_capture, shared, preparer)
    capture = threading.Thread(target=play, name="capture", daemon=True)
    started = clock()
    capture.start()
    try:
        ended = _watch(shared, heartbeat)
    finally:
        stop.set()
        shared.slot.close(EndOfRecording("stopped"))
        capture.join(timeout=2 * READ_TIMEOUT + 2)
        for queue in queues:
            queue.close()
    for queue in queues:
        if queue.error is not None:
            raise queue.error
    summary = account.summary
    summary.seconds = clock() - started
    _count(summary, shared)
    return summary, ended


def _count(summary: Summary, shared: SessionContext) -> None:
    """Adds the frames that no thread classified, and the results that a sink did not take."""
    slot, damaged = shared.slot, shared.device.damaged
    summary.read = slot.read + damaged
    summary.tallies = [queue.tally for queue in shared.queues if queue.reports]
    causes = ((REPLACED, slot.dropped), (UNFINISHED, slot.drain()), (DAMAGED, damaged))
    summary.not_judged.update({cause: count for cause, count in causes if count})
    summary.not_judged.update(slot.passed_over)


def _watch(shared: SessionContext, heartbeat: Callable[[State], None]) -> SonoliteError | None:
    """Starts the inference thread, replaces it where it hangs, and waits for its end."""
    restarts, turns, uptime = 0, 0, UptimeClock(shared.clock)
    inference = InferenceThread(shared)
    while True:
        inference.join(WATCH_INTERVAL)
        if inference.crash is not None:
            raise inference.crash
        if not inference.is_alive():
            return inference.ended
        if shared.stop.is_set():
            shared.slot.close(EndOfRecording("stopped"))
            for queue in shared.queues:
                queue.stop_waiting()
        if shared.sinks_failed():
            return None
        shared.throttle.update()
        if inference.iterations != turns:
            turns = inference.iterations
            heartbeat(shared.account.state)
        now = uptime()
        if shared.helper.hangs(now):
            return HardwareMissing("the second model hung, and the session ended")
        if not inference.hangs(now):
            continue
        _LOGGER.warning("inference hung for %g s", watchdog.INFERENCE_TIMEOUT)
        if not shared.chain.fall_back(f"hung for {watchdog.INFERENCE_TIMEOUT:g} s"):
            shared.chain.reopen()  # the thread that hangs keeps the old interpreter
        if shared.finder is not None:
            shared.finder.reopen()
        if shared.stop.is_set() or restarts == MAX_RESTARTS:
            return HardwareMissing(f"inference hung {restarts + 1} times, and the session ended")
        restarts, turns = restarts + 1, 0
        inference = InferenceThread(shared)


def _capture(shared: SessionContext, preparer: Preparer) -> None:
    """Reads until the device ends or `stop` is set; the slot passes the reason on."""
    keep_to_cores(slice(-1, None))
    device, slot = shared.device, shared.slot
    prepared: PreparedFrame | None = None
    while not shared.stop.is_set():
        try:
            if frame := _read(shared):
                prepared = preparer.prepare(frame)
                if shared.frame_recorder is not None:
                    shared.frame_recorder.capture(
                        frame, prepared.region_changes, prepared.roi, prepared.follow
                    )
                if not device.live and shared.classifier is not None:
                    prepared = shared.helper.help(prepared, shared.classifier, slot)
                slot.put(prepared)
                if device.live:  # or the check would delay the start of inference
                    slot.wait_until_taken(HANDOVER_TIMEOUT)
                preparer.check(prepared)
            frame = prepared = None  # other threads hold them now: the pixels may be used again
        except NothingSent as error:
            slot.put(Absence(Event.UNUSABLE, str(error)), read=0)
        except DeviceStalled:
            continue  # the inference thread sees the silence by its own clock
        except DeviceLost as error:
            if not device.reconnects:
                slot.close(error)
                return
            _LOGGER.warning("the capture device is lost, and is opened again")
            preparer.forget()
            if shared.frame_recorder is not None:
                shared.frame_recorder.lose()
            slot.lose(error)
        except Exception as error:
            slot.close(error)
            return


def _read(shared: SessionContext) -> Frame | None:
    """The next frame, or None for a frame that is counted and not classified."""
    device, slot = shared.device, shared.slot
    if not device.live:
        return device.read(READ_TIMEOUT)
    try:
        frame = device.read(READ_TIMEOUT)
    except BadInput as error:  # the next picture of a live device may be sound
        no_signal = isinstance(error, NoSignal)
        slot.pass_over(str(Flaw.NO_SIGNAL) if no_signal else DAMAGED)
        shared.capture_error = str(error)
        return None
    shared.capture_error = None
    if not shared.throttle.admits(frame.captured_at, device.fps):
        slot.pass_over(HOT)
        return None
    return frame
