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
    """The device has gone, or has been silent for so long that it counts as gone."""
    FAULT = "FAULT"
    """Inference failed."""


class Event(StrEnum):
    """What happens to a session."""

    CLASSIFIED = "a usable frame was judged in time"
    LATE = "the result is older than the budget"
    SILENT = "no frame came within the time-out"
    ABSENT = "no frame came for so long that the device counts as gone"
    UNUSABLE = "no ultrasound picture in the frame"
    REPEATED = "the same picture again"
    GONE = "the device has gone"
    FAILED = "inference failed"


_S = State
_ROWS: dict[State, tuple[State, ...]] = {
    # Columns as in Event: JUDGED, LATE, SILENT, ABSENT, UNUSABLE, REPEATED, GONE, FAILED.
    _S.SEARCHING: (
        _S.LIVE,
        _S.STALE,
        _S.SEARCHING,
        _S.LOST,
        _S.SEARCHING,
        _S.FROZEN,
        _S.LOST,
        _S.FAULT,
    ),
    _S.LIVE: (_S.LIVE, _S.STALE, _S.STALE, _S.LOST, _S.SEARCHING, _S.FROZEN, _S.LOST, _S.FAULT),
    _S.STALE: (_S.LIVE, _S.STALE, _S.STALE, _S.LOST, _S.SEARCHING, _S.FROZEN, _S.LOST, _S.FAULT),
    _S.FROZEN: (_S.LIVE, _S.STALE, _S.STALE, _S.LOST, _S.SEARCHING, _S.FROZEN, _S.LOST, _S.FAULT),
    # A device that is back has to show a picture first.
    _S.LOST: (_S.LIVE, _S.STALE, _S.LOST, _S.LOST, _S.SEARCHING, _S.FROZEN, _S.LOST, _S.FAULT),
    # Only a frame that was judged in time proves that inference works again.
    _S.FAULT: (_S.LIVE, _S.FAULT, _S.FAULT, _S.LOST, _S.FAULT, _S.FAULT, _S.LOST, _S.FAULT),
}
TRANSITIONS = {state: dict(zip(Event, row, strict=True)) for state, row in _ROWS.items()}


def next_state(state: State, event: Event) -> State:
    """The state that follows. Raises KeyError for a pair that is not in the table."""
    return TRANSITIONS[state][event]
