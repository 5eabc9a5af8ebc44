"""The session's table, cell by cell."""

import pytest

from edge_runtime.results.states import TRANSITIONS, Event, State, next_state

S, E = State, Event
EXPECTED = {
    # In the order of EVENTS.
    S.SEARCHING: (S.LIVE, S.STALE, S.SEARCHING, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    S.LIVE: (S.LIVE, S.STALE, S.STALE, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    S.STALE: (S.LIVE, S.STALE, S.STALE, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    S.FROZEN: (S.LIVE, S.STALE, S.STALE, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    S.LOST: (S.LIVE, S.STALE, S.LOST, S.LOST, S.SEARCHING, S.FROZEN, S.LOST, S.FAULT),
    S.FAULT: (S.LIVE, S.FAULT, S.FAULT, S.LOST, S.FAULT, S.FAULT, S.LOST, S.FAULT),
}
EVENTS = (E.CLASSIFIED, E.LATE, E.SILENT, E.ABSENT, E.UNUSABLE, E.REPEATED, E.GONE, E.FAILED)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_each_cell(state: State, event: Event) -> None:
    assert next_state(state, event) is EXPECTED[state][EVENTS.index(event)]


def test_the_table_is_complete_and_no_larger() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(set(row) == set(Event) for row in TRANSITIONS.values())


def test_only_a_judged_frame_leads_to_live() -> None:
    leads = {
        event for row in TRANSITIONS.values() for event, state in row.items() if state is S.LIVE
    }
    assert leads == {E.CLASSIFIED}
