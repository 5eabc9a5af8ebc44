"""The loop: a thread captures, this one judges, every frame is accounted for."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from devices import (
    BadInput,
    Box,
    CaptureDevice,
    Clock,
    DeviceLost,
    DeviceStalled,
    EndOfRecording,
    Frame,
    Pixels,
    SonoliteError,
)
from edge_runtime.bundle import Bundle
from edge_runtime.classify import Classifier, Judgement
from edge_runtime.decide import Smoother, decide
from edge_runtime.result import Latency, Result
from edge_runtime.sector import Region, differs, summarise
from edge_runtime.session import Event, State, step
from edge_runtime.slot import Slot
from edge_runtime.summary import Summary

READ_TIMEOUT = 1.0
"""Seconds that one read of a device may wait for its frame."""
FROZEN_AFTER = 1.0
"""Seconds of one and the same picture after which it counts as frozen."""
BUDGET = 0.25
"""Seconds from capture to result after which a live result is stale."""


class Sink(Protocol):
    """Something that is told of every result, with the screen it speaks of."""

    def write(self, result: Result, pixels: Pixels) -> None:
        """Takes one result; `pixels` are the sink's to read, not to change."""


def run_session(
    device: CaptureDevice,
    bundle: Bundle,
    classifier: Classifier,
    region: Region,
    sinks: Sequence[Sink],
    stop: threading.Event,
    budget: float = BUDGET,
    clock: Clock = time.monotonic,
    utc: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> tuple[Summary, SonoliteError | None]:
    """Judges frames until `stop` is set or the device ends; returns the account.

    The second answer is why a live device ended, None after an ordinary end. Raises BadInput for
    a recording that turns out to be damaged: what was made of it is not to be kept.
    """
    slot = Slot(every_frame=not device.live)
    capture = threading.Thread(
        target=_capture, args=(device, slot, stop), name="capture", daemon=True
    )
    session = Session(device.live, bundle, classifier, region, budget, clock, utc)
    started = clock()
    ended: SonoliteError | None = None
    patience = max(budget, 2 / device.fps)  # a slow device is not a silent one
    last = np.zeros((240, 320), np.uint8)

    def tell(result: Result, pixels: Pixels) -> None:
        for sink in sinks:
            sink.write(result, pixels)

    capture.start()
    try:
        while not stop.is_set():
            try:
                frame = slot.take(patience)
            except EndOfRecording:
                break
            except SonoliteError as error:
                if not device.live:
                    raise
                if changed := session.without_frame(Event.GONE):
                    tell(changed, np.zeros_like(last))
                if device.returns and not slot.closed:
                    continue
                ended = error
                break
            if frame is not None:
                last = frame.pixels
                tell(session.judge(frame), last)
            elif device.live and (changed := session.without_frame(Event.SILENT)):
                tell(changed, np.zeros_like(last))  # never the last picture as if it were live
    finally:
        stop.set()
        slot.close(EndOfRecording("stopped"))
        capture.join(timeout=2 * READ_TIMEOUT + 2)
    summary = session.summary
    summary.seconds = clock() - started
    summary.read = slot.read
    for cause, count in (
        ("replaced by a newer frame", slot.dropped),
        ("read ahead when the session ended", slot.drain()),
    ):
        if count:
            summary.not_judged[cause] = count
    return summary, ended


def _capture(device: CaptureDevice, slot: Slot, stop: threading.Event) -> None:
    """Reads until the device ends or `stop` is set; whatever ends it reaches the other side."""
    while not stop.is_set():
        try:
            slot.put(device.read(READ_TIMEOUT))
        except DeviceStalled:
            continue  # the other side sees the silence by its own clock
        except DeviceLost as error:
            if not device.returns:
                slot.close(error)
                return
            slot.lose(error)
        except Exception as error:
            slot.close(error)
            return


class Session:
    """The state of one session, and the judgement of one frame after the other."""

    def __init__(
        self,
        live: bool,
        bundle: Bundle,
        classifier: Classifier,
        region: Region,
        budget: float,
        clock: Clock,
        utc: Callable[[], datetime],
    ) -> None:
        self.state = State.SEARCHING
        self.summary = Summary()
        self._live, self._budget, self._clock = live, budget, clock
        self._classifier, self._region = classifier, region
        self._smoother = Smoother(classifier.stage.decision.smoothing_seconds)
        compute = classifier.backend.compute
        self._backend = f"{compute.kind} {compute.model} {compute.interpreter}"
        self._bundle = bundle.id
        self._utc_start, self._clock_start = utc(), clock()
        self._sequence = itertools.count()
        self._last: NDArray[np.int16] | None = None
        self._last_change = 0.0
        self._seen = False

    def happened(self, event: Event) -> None:
        """Moves to the state that follows `event`; what was smoothed so far ends with LIVE."""
        self.state = step(self.state, event)
        if self.state is not State.LIVE:
            self._smoother.forget()

    def without_frame(self, event: Event) -> Result | None:
        """Moves on although no frame came; returns a result to show if the state has changed."""
        if event is Event.GONE:
            self._region.forget()
        before = self.state
        self.happened(event)
        if self.state is before:
            return None
        return self._result(None, event=event, latency=Latency(0, 0, 0, 0))

    def judge(self, frame: Frame) -> Result:
        """Judges one frame and returns its result; the state moves with what was seen."""
        began = self._clock()
        box = self._locate(frame)
        tensor = None
        if box is None:
            event = Event.UNUSABLE
        elif self._repeats(frame, box):
            event = Event.REPEATED
        else:
            event = Event.JUDGED
            tensor = self._tensor(frame.pixels, box)
        prepared = self._clock()
        judged = None
        if tensor is not None:
            try:
                judged = self._classifier.judge(tensor)
            except RuntimeError:
                event = Event.FAILED
        done = self._clock()
        if event is Event.JUDGED and self._live and done - frame.captured_at > self._budget:
            event = Event.LATE
        self.happened(event)
        smoothed, label, reason = self._decide(judged, frame)
        self._account(event, judged is not None, label, done - frame.captured_at)
        latency = Latency(
            wait=1000 * (began - frame.captured_at),
            prepare=1000 * (prepared - began),
            infer=1000 * (done - prepared),
            total=1000 * (done - frame.captured_at),
        )
        return self._result(frame, event, latency, box, judged, smoothed, label, reason)

    def _locate(self, frame: Frame) -> Box | None:
        """The box to judge, None where there is none.

        Raises BadInput for a region that does not lie on a screen; a live screen that became too
        small for it later, as a grabber's does without a signal, has no picture.
        """
        try:
            box = self._region.locate(frame.pixels, keep=frame.timestamp is not None)
        except BadInput:
            if not self._live or not self._seen:
                raise
            return None
        self._seen = True
        return box

    def _result(
        self,
        frame: Frame | None,
        event: Event,
        latency: Latency,
        box: Box | None = None,
        judged: Judgement | None = None,
        smoothed: float | None = None,
        label: str | None = None,
        reason: str | None = None,
    ) -> Result:
        """What is said of `frame`, or of the session where no frame came."""
        at = self._clock() if frame is None else frame.captured_at
        labels = self._classifier.stage.labels
        return Result(
            sequence=next(self._sequence),
            frame=None if frame is None else frame.index,
            captured_at=at,
            captured_utc=self._as_utc(at),
            timestamp=None if frame is None else frame.timestamp,
            state=self.state,
            label=label,
            reason=reason or (None if label else str(event)),
            probability=(
                None
                if judged is None
                else dict(zip(labels, map(float, judged.probability), strict=True))
            ),
            strangeness=judged and judged.strangeness,
            smoothed=smoothed,
            box=box,
            region="found" if self._region.roi is None else "given",
            latency_ms=latency,
            backend=self._backend,
            bundle=self._bundle,
        )

    def _decide(
        self, judged: Judgement | None, frame: Frame
    ) -> tuple[float | None, str | None, str | None]:
        """Smoothed probability, label, and why there is none; nothing outside LIVE."""
        if self.state is not State.LIVE or judged is None:
            return None, None, None
        if judged.strangeness is not None and judged.strangeness > 1:
            self._smoother.forget()
            return None, None, "unlike the pictures that the model learnt from"
        smoothed = self._smoother.add(float(judged.probability[-1]), frame.timestamp)
        return smoothed, *decide(smoothed, self._classifier.stage)

    def _account(self, event: Event, judged: bool, label: str | None, age: float) -> None:
        """Counts a frame once: as classified, or by the cause why it was not."""
        if judged:
            self.summary.classified += 1
            self.summary.labels[label or "no label"] += 1
            self.summary.latency.add(1000 * age)
        else:
            self.summary.not_judged[str(event)] += 1

    def _tensor(self, pixels: Pixels, box: Box) -> NDArray[np.uint8]:
        """The model's view: around the user's region with its context, else the picture whole."""
        if self._region.roi is not None:
            return self._classifier.prepare(pixels, self._region.roi)
        x, y, w, h = box
        return self._classifier.prepare(pixels[y : y + h, x : x + w], None)

    def _repeats(self, frame: Frame, box: Box) -> bool:
        """Whether a live device has shown the same in the box for FROZEN_AFTER seconds."""
        if not self._live:
            return False
        seen = summarise(frame.pixels, box)
        if self._last is None or differs(self._last, seen):
            self._last, self._last_change = seen, frame.captured_at
        return frame.captured_at - self._last_change >= FROZEN_AFTER

    def _as_utc(self, at: float) -> str:
        """The wall time of a monotonic moment, for the record only."""
        return (self._utc_start + timedelta(seconds=at - self._clock_start)).isoformat(
            timespec="milliseconds"
        )
