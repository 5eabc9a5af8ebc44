"""Whether a release is well, told from its beats."""

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.models.watchdog import OPENING_TIMEOUT
from edge_runtime.release.config import TRIAL_STATES
from edge_runtime.release.trial import (
    LAST_BEAT_SECONDS,
    SILENT_SECONDS,
    START_SECONDS,
    Trial,
    TrialCheck,
)

STEP = 0.25


def trial(seconds: float = 10, state: str = "LIVE") -> Trial:
    return Trial("new", "old", None, seconds, state)


def ended(check: TrialCheck, beats: dict[float, str], until: float) -> tuple[str, float] | None:
    """How and when a start is judged; None where it is still open."""
    now = 0.0
    while now <= until:
        if now in beats:
            check.beat(now, beats[now])
        if check.passed():
            return "passed", now
        if (why := check.failure(now)) is not None:
            return why, now
        now += STEP
    return None


def steady(state: str, until: float, first: float = 0.0) -> dict[float, str]:
    return {first + STEP * n: state for n in range(int((until - first) / STEP) + 1)}


def test_a_release_that_beats_in_its_state_passes_when_its_time_is_over() -> None:
    assert ended(TrialCheck(0, trial()), steady("LIVE", 20), 20) == ("passed", 10)


def test_live_always_does() -> None:
    assert ended(TrialCheck(0, trial(state="LOST")), steady("LIVE", 20), 20) == ("passed", 10)


def test_the_stated_state_does_where_no_scanner_is_attached() -> None:
    assert ended(TrialCheck(0, trial(state="LOST")), steady("LOST", 20), 20) == ("passed", 10)


def test_a_scanner_that_is_switched_off_after_it_was_seen_is_no_failure() -> None:
    beats = steady("LIVE", 5) | steady("LOST", 20, 5.25)
    assert ended(TrialCheck(0, trial()), beats, 20) == ("passed", 10)


def test_what_never_goes_live_fails_when_its_time_is_over() -> None:
    judged = ended(TrialCheck(0, trial()), steady("SEARCHING", 20), 20)
    assert judged == ("it never reached LIVE in 10 s; it is SEARCHING", 10)


def test_what_hangs_fails_soon() -> None:
    judged = ended(TrialCheck(0, trial(60)), steady("LIVE", 3), 100)
    assert judged == (f"it hangs: no beat for {SILENT_SECONDS:.0f} s, in LIVE", 3 + SILENT_SECONDS)


def test_what_hangs_at_the_end_does_not_pass() -> None:
    judged = ended(TrialCheck(0, trial()), steady("LIVE", 9.75), 100)
    assert judged is not None
    assert judged[0].startswith("it hangs")
    assert judged[1] == 10 + LAST_BEAT_SECONDS


def test_what_never_begins_fails_with_its_trial_or_in_the_end() -> None:
    assert ended(TrialCheck(0, trial(10)), {}, 100) == ("it did not begin within 10 s", 10)
    judged = ended(TrialCheck(0, None), {}, 2 * START_SECONDS)
    assert judged == (f"it did not begin within {START_SECONDS:.0f} s", START_SECONDS)


def test_there_is_time_to_open_two_models() -> None:
    assert START_SECONDS >= 2 * OPENING_TIMEOUT


def test_failed_inference_fails_a_trial_at_once_and_a_proven_release_never() -> None:
    assert ended(TrialCheck(0, trial()), steady("FAULT", 20), 20) == ("inference failed", 0)
    assert ended(TrialCheck(0, None), steady("FAULT", 20), 20) is None


@given(
    beats=st.dictionaries(
        st.integers(0, 200).map(lambda n: n * STEP), st.sampled_from([*TRIAL_STATES, "FAULT"])
    ),
    seconds=st.integers(2, 30),
    state=st.sampled_from(TRIAL_STATES),
)
def test_every_trial_ends_in_time_and_none_passes_without_its_state(
    beats: dict[float, str], seconds: int, state: str
) -> None:
    judged = ended(TrialCheck(0, trial(seconds, state)), beats, 100)
    assert judged is not None
    how, when = judged
    assert when <= seconds + LAST_BEAT_SECONDS
    if how == "passed":
        assert when >= seconds
        assert {"LIVE", state} & {its for at, its in beats.items() if at <= when}
        assert "FAULT" not in {its for at, its in beats.items() if at <= when}
