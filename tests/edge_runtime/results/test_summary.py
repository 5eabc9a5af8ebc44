"""The account of a session."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.results.summary import LatencyHistogram, Summary


@given(st.lists(st.floats(0.02, 90_000), min_size=1, max_size=300), st.sampled_from([50, 95, 99]))
def test_percentiles_are_right_to_within_one_percent(values: list[float], percent: int) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    true = float(np.percentile(values, percent, method="inverted_cdf"))
    assert math.isclose(histogram.percentile(percent), true, rel_tol=0.01)


def test_latencies_out_of_range_are_counted_at_its_ends() -> None:
    histogram = LatencyHistogram()
    for value in (-1.0, 0.0, 1e9):
        histogram.add(value)
    assert histogram.percentile(50) <= 0.011
    assert histogram.percentile(100) >= 99_000


def test_nothing_seen_has_no_percentile() -> None:
    assert math.isnan(LatencyHistogram().percentile(50))
    assert "0 read, 0 classified" in Summary().lines()[0]


def test_nodules_are_counted_apart_from_frames() -> None:
    summary = Summary(read=5, classified=3)
    summary.not_judged["the picture is black"] = 2
    summary.labels.update({"no label": 1, "benign": 4})
    assert summary.lines()[:2] == [
        "frames: 5 read, 3 classified, not judged: 2 the picture is black",
        "nodules, each counted in every frame that shows it: 1 no label, 4 benign",
    ]
