"""The states of a live session, as a table. A label is shown only in LIVE."""

from enum import StrEnum


class State(StrEnum):
    """What may be believed of the picture on the screen."""

    SEARCHING = "SEARCHING"
    """No usable picture yet."""
    LIVE = "LIVE"
    """The picture is usable and its result is in time."""
    STALE = "STALE"
    """The result is older than the budget, or no frame came in time."""
    FROZEN = "FROZEN"
    """The same picture again and again."""
    LOST = "LOST"
    """The device has gone."""
    FAULT = "FAULT"
    """Inference failed."""


class Event(StrEnum):
    """What happens to a session."""

    JUDGED = "a usable frame was judged in time"
    LATE = "the result is older than the budget"
    SILENT = "no frame came within the time-out"
    UNUSABLE = "no ultrasound picture in the frame"
    REPEATED = "the same picture again"
    GONE = "the device has gone"
    FAILED = "inference failed"


S, E = State, Event

TABLE: dict[State, dict[Event, State]] = {
    S.SEARCHING: {
        E.JUDGED: S.LIVE,
        E.LATE: S.STALE,
        E.SILENT: S.SEARCHING,
        E.UNUSABLE: S.SEARCHING,
        E.REPEATED: S.FROZEN,
        E.GONE: S.LOST,
        E.FAILED: S.FAULT,
    },
    S.LIVE: {
        E.JUDGED: S.LIVE,
        E.LATE: S.STALE,
        E.SILENT: S.STALE,
        E.UNUSABLE: S.SEARCHING,
        E.REPEATED: S.FROZEN,
        E.GONE: S.LOST,
        E.FAILED: S.FAULT,
    },
    S.STALE: {
        E.JUDGED: S.LIVE,
        E.LATE: S.STALE,
        E.SILENT: S.STALE,
        E.UNUSABLE: S.SEARCHING,
        E.REPEATED: S.FROZEN,
        E.GONE: S.LOST,
        E.FAILED: S.FAULT,
    },
    S.FROZEN: {
        E.JUDGED: S.LIVE,
        E.LATE: S.STALE,
        E.SILENT: S.STALE,
        E.UNUSABLE: S.SEARCHING,
        E.REPEATED: S.FROZEN,
        E.GONE: S.LOST,
        E.FAILED: S.FAULT,
    },
    S.LOST: {  # a device that is back has to show a picture first
        E.JUDGED: S.LIVE,
        E.LATE: S.STALE,
        E.SILENT: S.LOST,
        E.UNUSABLE: S.SEARCHING,
        E.REPEATED: S.FROZEN,
        E.GONE: S.LOST,
        E.FAILED: S.FAULT,
    },
    S.FAULT: {  # only a frame that was judged proves that inference works again
        E.JUDGED: S.LIVE,
        E.LATE: S.FAULT,
        E.SILENT: S.FAULT,
        E.UNUSABLE: S.FAULT,
        E.REPEATED: S.FAULT,
        E.GONE: S.LOST,
        E.FAILED: S.FAULT,
    },
}


def step(state: State, event: Event) -> State:
    """The state that follows. Raises KeyError for a pair that is not in the table."""
    return TABLE[state][event]
