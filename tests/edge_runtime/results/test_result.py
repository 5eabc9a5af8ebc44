"""A result and its line of JSON."""

from dataclasses import replace

import msgspec
import pytest

from edge_runtime.results.result import NO_NODULE, Nodule, Result, from_json, to_json
from edge_runtime.results.states import State
from tests.edge_runtime.results.examples import NODULE, RESULT

FOUND = replace(NODULE, locator_score=0.5, interval={"benign": (0.1, 0.3), "malignant": (0.7, 0.9)})


def as_kept(nodule: Nodule) -> Nodule:
    return replace(nodule, window=nodule.box, evidence=None)


@pytest.mark.parametrize(
    "result",
    [
        RESULT,
        replace(RESULT, nodules=(FOUND, replace(NODULE, track=2, label=None, smoothed=None))),
        replace(RESULT, nodules=(), box=None, frame=None, timestamp=None, state=State.LOST),
        replace(RESULT, file="a.png", health=("hot",), adjusted_prevalence={"malignant": 0.1}),
    ],
)
def test_a_line_gives_the_result_again(result: Result) -> None:
    kept = replace(result, nodules=tuple(map(as_kept, result.nodules)))
    assert from_json(to_json(result)) == kept
    assert from_json(to_json(result).decode()).nodules == kept.nodules


@pytest.mark.parametrize(
    ("result", "searched"),
    [
        (RESULT, False),
        (replace(RESULT, nodules=(FOUND,)), True),
        (replace(RESULT, nodules=(), reason=NO_NODULE), True),
    ],
)
def test_an_earlier_line_tells_by_its_nodules_whether_it_was_searched(
    result: Result, searched: bool
) -> None:
    line = to_json(result).replace(b'"searched":false,', b"")
    assert from_json(line).searched == searched


SHORTENED = to_json(RESULT).decode().replace('"rate":"full",', "")
WRONG_BOX = to_json(RESULT).decode().replace('"box":[', '"box":[1,')
DAMAGES = {
    '"captured_utc":"2026-01-01T': '"captured_utc":"x',
    '"thresholds":{"malignant"': '"thresholds":{"malignent"',
    '"thresholds":{"malignant":0.7}': '"thresholds":{}',
    '"smoothed":{"benign":0.2,"malignant"': '"smoothed":{"benign":0.2,"malignent"',
    '"prevalence":{"benign":0.3,"malignant"': '"prevalence":{"benign":0.3,"malignent"',
    '"label":"malignant"': '"label":"malignent"',
    '"track":1': '"track":"1"',
    '"box":[100': '"box":[1000000000',
    '"total":6': '"total":"6"',
    '"bundle":"demo': '"bundel":"x","bundle":"demo',
}
"""Changes of a few bytes of a line, as a worn card makes them."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_is_refused(damage: str) -> None:
    line = to_json(RESULT).decode()
    assert damage in line
    with pytest.raises(ValueError, match=r"not the line of a result|isoformat"):
        from_json(line.replace(damage, DAMAGES[damage]))


@pytest.mark.parametrize("line", ["", "[]", '{"notice": ""}', "1", SHORTENED, WRONG_BOX])
def test_any_other_text_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"truncated|not the line of a result"):
        from_json(line)
    assert msgspec.json.decode(to_json(RESULT))["notice"]


def test_a_positive_label_leads_then_a_nodule_without_one_then_the_other_label() -> None:
    silent = replace(NODULE, label=None, reason="not enough")
    benign, positive = replace(NODULE, track=2, label="benign"), replace(NODULE, track=3)
    for nodules in ((benign, silent, positive), (benign, silent), (benign,), ()):
        result = replace(RESULT, nodules=nodules)
        assert result.leading == (nodules[-1] if nodules else None)
        assert result.label == (nodules[-1].label if nodules else None)
