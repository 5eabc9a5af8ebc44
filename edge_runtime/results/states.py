"""The states of a live session, as a table. There is a label only in LIVE."""

from enum import StrEnum


class State(StrEnum):
    """How far the picture on the screen can be trusted."""

    SEARCHING = "SEARCHING"
    """No usable picture yet."""
    LIVE = "LIVE"
    """The picture is usable and its result is in time."""
    STALE = "STALE"
    """The result is older than the budget, or no frame came in time."""
    FROZEN = "FROZEN"
    """The same picture comes again and again."""
    LOST = "LOST"
    """The capture device has gone, or is silent for so long that it counts as gone."""
    FAULT = "FAULT"
    """Inference failed."""


class Event(StrEnum):
    """What happens to a session."""

    CLASSIFIED = "a usable frame was classified in time"
    LATE = "the result is older than the budget"
    SILENT = "no frame came within the time-out"
    ABSENT = "no frame came for so long that the capture device counts as gone"
    UNUSABLE = "no ultrasound picture in the frame"
    REPEATED = "the same picture again"
    GONE = "the capture device has gone"
    FAILED = "inference failed"


S = State
_ROWS: dict[State, tuple[State, ...]] = {
    # Columns as in Event: CLASSIFIED, LATE, SILENT, ABSENT, UNUSABLE, REPEATED, GONE, FAILED.
    S.SEARCHING: (S.LIVE, S.STALE, S.SEARCHING, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    S.LIVE: (S.LIVE, S.STALE, S.STALE, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    S.STALE: (S.LIVE, S.STALE, S.STALE, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    S.FROZEN: (S.LIVE, S.STALE, S.STALE, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    # A device that comes back has to give a picture first.
    S.LOST: (S.LIVE, S.STALE, S.LOST, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    # Only a frame that is classified in time proves that inference works again.
    S.FAULT: (S.LIVE, S.FAULT, S.FAULT, S.LOST, S.FAULT, S.FAULT, S.LOST, S.FAULT),
}
TRANSITIONS = {state: dict(zip(Event, row, strict=True)) for state, row in _ROWS.items()}


def next_state(state: State, event: Event) -> State:
    """The state that follows. Raises KeyError for a pair that is missing in the table."""
    return TRANSITIONS[state][event]
