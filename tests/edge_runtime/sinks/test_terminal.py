"""What a person sees on a terminal."""

import io
from dataclasses import replace

import numpy as np
from rich.console import Console

from edge_runtime.results.result import Nodule, Result
from edge_runtime.results.states import State
from edge_runtime.sinks.single import SingleResult
from edge_runtime.sinks.terminal import Terminal
from tests.edge_runtime.results.examples import NODULE, RESULT

PIXELS = np.zeros((48, 64), np.uint8)
BENIGN = replace(NODULE, label="benign", smoothed={"benign": 0.9, "malignant": 0.1})
SECOND = replace(NODULE, track=2)
SILENT = replace(NODULE, label=None, reason="not enough", smoothed=None)
SCORE = "threshold 0.70, at prevalence 0.70"


def lines(*results: Result) -> list[str]:
    """What stands where there is no terminal."""
    seen = io.StringIO()
    with Terminal(Console(file=seen)) as terminal:
        for result in results:
            terminal.write(result, PIXELS)
    return seen.getvalue().splitlines()


def with_nodules(*nodules: Nodule) -> Result:
    reason = None if any(nodule.label for nodule in nodules) else nodules[0].reason
    return replace(RESULT, nodules=nodules, reason=reason)


def test_words_of_a_device_are_no_markup() -> None:
    """A server on the network chooses its devices' names."""
    seen = io.StringIO()
    console = Console(file=seen, force_terminal=True, width=120)
    with Terminal(console) as terminal:
        result = replace(RESULT, nodules=(), reason="igtl://[fe80::1]: [/x] sends no picture")
        terminal.write(result, PIXELS)
    assert "igtl://[fe80::1]: [/x] sends no picture" in seen.getvalue()


def test_one_nodule_needs_no_number() -> None:
    assert lines(RESULT) == [f"frame 0: LIVE, malignant, score(malignant) 0.80, {SCORE}"]
    assert lines(with_nodules(SILENT)) == ["frame 0: LIVE, no label (not enough)"]


def test_each_of_several_nodules_stands_with_its_own_label_and_score() -> None:
    malignant = f"nodule 2: malignant, score(malignant) 0.80, {SCORE}"
    benign = f"nodule 1: benign, score(malignant) 0.10, {SCORE}"
    assert lines(with_nodules(BENIGN, SECOND)) == [f"frame 0: LIVE, {benign}; {malignant}"]
    silent = f"nodule 1: no label (not enough); {malignant}"
    assert lines(with_nodules(SILENT, SECOND)) == [f"frame 0: LIVE, {silent}"]
    single = SingleResult()
    single.write(with_nodules(SILENT, SECOND), PIXELS)
    assert single.line() == f"result: {silent}"


def test_a_table_has_a_row_for_each_of_several_nodules() -> None:
    seen = io.StringIO()
    with Terminal(Console(file=seen, force_terminal=True, width=120)) as terminal:
        terminal.write(with_nodules(SILENT, SECOND), PIXELS)
    assert "nodule 1 │ no label (not enough)" in seen.getvalue()
    assert "nodule 2 │ malignant, score(malignant) 0.80" in seen.getvalue()


def test_outside_live_several_nodules_have_one_reason() -> None:
    late = replace(with_nodules(SILENT, replace(SILENT, track=2)), state=State.STALE, reason="late")
    assert lines(late) == ["frame 0: STALE, no label (late)"]
    seen = io.StringIO()
    with Terminal(Console(file=seen, force_terminal=True, width=120)) as terminal:
        terminal.write(late, PIXELS)
    assert "none: late" in seen.getvalue()
    assert "this frame" not in seen.getvalue()


def test_the_label_of_every_nodule_makes_a_line_when_it_changes() -> None:
    second = replace(SECOND, label="benign")
    said = lines(
        with_nodules(BENIGN, replace(SILENT, track=2)),
        with_nodules(BENIGN, second),
        with_nodules(BENIGN, second),
        with_nodules(BENIGN, SECOND),
        with_nodules(SILENT, SECOND),
    )
    assert len(said) == 4


def test_every_still_has_a_line() -> None:
    stills = [replace(RESULT, frame=n, file=f"{n}.png", timestamp=None) for n in range(3)]
    assert [line.split(":")[0] for line in lines(*stills)] == [
        f"frame {n} of {n}.png" for n in range(3)
    ]
