"""The numbers of a signed manifest keep the ranges in which the safeguards work."""

import json
from pathlib import Path
from typing import Any

import pytest

from devices import BadInput
from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.bundle.manifest import read_manifest, write_manifest


def stage_of(manifest: dict[str, Any]) -> dict[str, Any]:
    stage: dict[str, Any] = manifest["stages"][0]
    return stage


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.1, 1e400, "0.5", None])
@pytest.mark.parametrize(
    "place",
    [
        ("operating_point", "thresholds", "malignant"),
        ("golden_tolerance", "int8"),
        ("prevalence", "malignant"),
        ("decision", "margin"),
    ],
)
def test_a_number_that_switches_a_safeguard_off_is_refused(
    place: tuple[str, ...], value: object, demo_bundle: Bundle
) -> None:
    manifest = json.loads(write_manifest(demo_bundle.manifest))
    *way, last = place
    entry = stage_of(manifest)
    for step in way:
        entry = entry[step]
    assert last in entry
    entry[last] = value
    if value == 0 and last in ("margin", "int8"):  # strict answers, or no margin by choice
        read_manifest(json.dumps(manifest).encode())
        return
    with pytest.raises(BadInput, match=r"manifest\.json"):
        read_manifest(json.dumps(manifest).encode())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"version": 2**53}, "version: Expected `int` <= 9007199254740991"),
        ({"stages.0.prevalence": {"benign": 1e-320, "malignant": 1.0}}, "is below 1e-06"),
        ({"stages.0.preprocessing": "gray|resize(128)"}, "does not crop to them"),
        ({"stages.0.decision.margin": 0.3}, "the label malignant would never be given"),
        (
            {"stages.0.operating_point.thresholds": {"malignant": 0.04}},
            "the label benign would never be given, with the threshold 0.040 and a margin of 0.05",
        ),
        ({"stages.1.pooling.hysteresis": 0.4}, "the label malignant would never be given"),
        ({"stages.1.golden_tolerance.int8": 1}, "Expected `float` < 0.5"),
        ({"stages.1.tracking.start_score": 1}, "Expected `float` < 1.0"),
        ({"stages.1.tracking.show_score": 1}, "Expected `float` < 1.0"),
    ],
)
def test_numbers_that_are_nonsense_together_or_in_use_are_refused(
    changes: dict[str, object], line: str, shipped_path: Path
) -> None:
    manifest = json.loads(write_manifest(open_bundle(shipped_path).manifest))
    for place, value in changes.items():
        entry, (*way, last) = manifest, place.split(".")
        for step in way:
            entry = entry[int(step) if step.isdecimal() else step]
        assert last in entry
        entry[last] = value
    with pytest.raises(BadInput) as refusal:
        read_manifest(json.dumps(manifest).encode())
    assert line in str(refusal.value)
