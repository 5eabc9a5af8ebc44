"""The capturing thread of a session whose source is the record of a session.

What the record says stands in the place of the clock: which frames were judged, which results were
late, and when no frame came. So the session decides as it did then, however fast this machine is.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from devices import BadInput, Clock, EndOfRecording, Frame
from devices.capture.record_format import (
    RecordedAbsence,
    RecordedFrame,
    RecordedLoss,
    RecordedMark,
    RecordedResult,
    RecordEntry,
)
from devices.capture.replay import Replay
from edge_runtime.models.classifier import Classifier
from edge_runtime.results.states import Event, State
from edge_runtime.session.account import Absence
from edge_runtime.session.frame_slot import REPLACED, FrameSlot
from edge_runtime.session.inference import keep_to_cores
from edge_runtime.session.prepare import PreparedFrame, Preparer
from edge_runtime.session.record_settings import RecordSettings, recorded_settings

LOOK_AHEAD = 4096
"""Lines of the index within which the result of a frame is looked for."""
MAX_UNJUDGED = 8
"""Frames that may wait for their result: of a recording five, of a live session two."""

ABSENCE_EVENTS = {
    State.SEARCHING: Event.SILENT,
    State.STALE: Event.LATE,
    State.LOST: Event.GONE,
    State.FAULT: Event.FAILED,
}
"""An event that leads to the state from each state in which the record may have been."""


def play_record(
    record: Replay,
    preparer: Preparer,
    slot: FrameSlot[PreparedFrame | Absence],
    stop: threading.Event,
    clock: Clock,
) -> None:
    """Prepares every frame of the record, and hands over those that were judged, in their order."""
    keep_to_cores(slice(-1, None))
    try:
        _play(record, preparer, slot, stop.is_set, clock)
    except Exception as error:
        slot.close(error)
    else:
        slot.close(EndOfRecording("the last frame of the record was played"))


def _play(
    record: Replay,
    preparer: Preparer,
    slot: FrameSlot[PreparedFrame | Absence],
    stopped: Callable[[], bool],
    clock: Clock,
) -> None:
    unjudged: dict[int, PreparedFrame] = {}
    for entry, results in _look_ahead(record.entries()):
        if stopped():
            return
        match entry:
            case RecordedMark(roi=roi, follow=follow):
                preparer.mark(roi, follow)
            case RecordedFrame(index=index):
                prepared = _prepare(record.frame(entry), preparer, clock)
                if index in results and len(unjudged) < MAX_UNJUDGED:
                    unjudged[index] = prepared
                else:
                    slot.pass_over(REPLACED)
            case RecordedResult(index=index, late=late, failed=failed):
                results.discard(index)
                if index in unjudged:
                    prepared = unjudged.pop(index)
                    tensor = None if failed else prepared.tensor
                    slot.put(replace(prepared, late=late, tensor=tensor))
            case RecordedAbsence(state=state, reason=reason):
                slot.put(_absence(state, reason), read=0)
            case RecordedLoss():
                preparer.forget()


def _look_ahead(entries: Iterator[RecordEntry]) -> Iterator[tuple[RecordEntry, set[int]]]:
    """Each entry, with the frames that have a result among the next LOOK_AHEAD entries."""
    ahead, results = deque[RecordEntry](), set[int]()
    for entry in entries:
        ahead.append(entry)
        if isinstance(entry, RecordedResult):
            results.add(entry.index)
        if len(ahead) > LOOK_AHEAD:
            yield ahead.popleft(), results
    while ahead:
        yield ahead.popleft(), results


def _prepare(frame: Frame, preparer: Preparer, clock: Clock) -> PreparedFrame:
    """Prepares a frame by its recorded time. Its latency is that of this session."""
    read_at = clock()
    prepared = preparer.prepare(frame)
    preparer.check(prepared)
    return replace(prepared, frame=replace(frame, captured_at=read_at))


def differences(record: Replay, settings: RecordSettings, classifier: Classifier) -> list[str]:
    """What judged otherwise in the record: a line each. For a record that was played."""
    before, backend = recorded_settings(record), classifier.backend.compute.description
    backends = ", ".join(record.backends)
    pairs = (
        ("bundle", before.bundle, settings.bundle),
        ("backend", backends, backend),
        ("region of interest", before.roi_text or "none", settings.roi_text or "none"),
        ("scope", *("ignored" if one.any_picture else "kept" for one in (before, settings))),
        ("following", *("yes" if one.follow else "no" for one in (before, settings))),
        ("whole picture", *("yes" if one.whole_picture else "no" for one in (before, settings))),
    )
    return [
        f"answers may differ from the record: its {name} was {recorded}, now it is {now}"
        for name, recorded, now in pairs
        if recorded not in ("", now)
    ]


def _absence(state: str, reason: str) -> Absence:
    """Raises BadInput for a state that cannot be reached without a frame."""
    if state not in ABSENCE_EVENTS:
        raise BadInput(f"the record has the state {state} without a frame, which cannot be")
    return Absence(ABSENCE_EVENTS[State(state)], reason)
