"""The numbers of a signed manifest keep the ranges in which the safeguards work."""

import json
from typing import Any

import pytest

from devices import BadInput
from edge_runtime.bundle.archive import Bundle
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
