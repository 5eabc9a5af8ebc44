"""Counts of answers: what is counted, into which bins, and what is not kept."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput
from devices.schema_io import plain, read_json
from edge_runtime.results.aggregates import (
    LATENCY,
    MAX_CATEGORIES,
    REST,
    SCORE,
    Bins,
    Counts,
    DailyAggregates,
    bins_of,
    count_result,
    quantile,
)
from edge_runtime.results.states import State
from tests.edge_runtime.results.examples import NODULE, RESULT

NUMBERS = st.floats(allow_nan=False, allow_infinity=True)


def test_a_nodule_in_live_counts_with_its_answer() -> None:
    block: Counts = {}
    silent = replace(NODULE, label=None, reason="too close to the threshold", out_of_scope_score=2)
    count_result(block, replace(RESULT, nodules=(NODULE, silent)))
    assert block["state"] == {"LIVE, a nodule": 1}
    assert block["label"] == {"malignant": 1, "no label": 1}
    assert block["reason"] == {"label": 1, "too close to the threshold": 1}
    assert block["probability of malignant"] == {"40": 2}
    assert sum(block[SCORE].values()) == 1


@pytest.mark.parametrize("state", [state for state in State if state is not State.LIVE])
def test_outside_live_the_state_alone_counts(state: State) -> None:
    block: Counts = {}
    count_result(block, replace(RESULT, state=state))
    assert block["state"] == {str(state): 1}
    assert set(block) == {"state", "latency"}


def test_what_a_device_says_is_never_kept() -> None:
    block: Counts = {}
    count_result(
        block, replace(RESULT, frame=None, state=State.LOST, reason="rtsp://nurse:pw@host")
    )
    assert block == {}
    count_result(block, replace(RESULT, state=State.SEARCHING, reason="secret", file="Smith.dcm"))
    assert "secret" not in json.dumps(block) + json.dumps(plain(block))
    assert "Smith" not in json.dumps(block)


@given(NUMBERS)
def test_every_value_has_a_bin(value: float) -> None:
    for measure in ("probability of a", SCORE, LATENCY):
        bins = bins_of(measure)
        assert bins is not None
        assert 0 <= bins.place(value) < bins.number


@given(st.sampled_from([Bins(0, 1, 50), Bins(0.1, 10, 80, logarithmic=True)]), st.integers(0, 49))
def test_the_middle_of_a_bin_lies_in_it(bins: Bins, place: int) -> None:
    assert bins.place(bins.middle(place)) == place


@given(st.lists(st.floats(0.002, 15), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_of_the_latency_is_right_to_within_a_bin(
    seconds: list[float], share: float
) -> None:
    counts: dict[str, int] = {}
    bins = bins_of(LATENCY)
    assert bins is not None
    for value in seconds:
        place = str(bins.place(value))
        counts[place] = counts.get(place, 0) + 1
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    assert quantile(counts, LATENCY, share) == pytest.approx(exact, rel=0.2)


def test_there_is_no_quantile_of_nothing() -> None:
    assert math.isnan(quantile({}, LATENCY, 0.5))


def test_many_reasons_are_one_in_the_end() -> None:
    block: Counts = {}
    for number in range(MAX_CATEGORIES + 5):
        silent = replace(NODULE, label=None, reason=f"reason {number}")
        count_result(block, replace(RESULT, nodules=(silent,)))
    assert len(block["reason"]) == MAX_CATEGORIES + 1
    assert block["reason"][REST] == 5


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"day": "yesterday"},
        {"hours": {"99": {}}},
        {"hours": {"01": {"label": {"benign": -1}}}},
        {"hours": {"01": {"label": {"benign": 1e9}}}},
        {"hours": {"01": {"latency": {"57": 1}}}},
        {"hours": {"01": {"latency": {"one": 1}}}},
        {"hours": {"01": {"label": {str(number): 1 for number in range(300)}}}},
        {"hours": {"01": {"x" * 200: {"a": 1}}}},
        {"patient": "Smith"},
    ],
)
def test_a_day_of_other_contents_is_refused(change: dict[str, object]) -> None:
    day = plain(DailyAggregates(1, "demo 1 0123456789ab", "2026-01-01", {"00": {}}))
    assert read_json(json.dumps(day), DailyAggregates, "a day")
    with pytest.raises(BadInput, match="a day: "):
        read_json(json.dumps(day | change), DailyAggregates, "a day")
