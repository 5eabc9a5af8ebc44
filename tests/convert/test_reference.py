"""What a bundle promises for `sonolite device drift`: the answers to the images of the gate."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from convert.reference import drift_reference
from devices import BadInput
from edge_runtime.bundle.archive import GATE, Bundle, list_members, open_bundle, write_bundle
from edge_runtime.bundle.gate import MAX_REFERENCE_BLOCKS, read_gate
from edge_runtime.results.aggregates import LABELS, SCORE, total_counts
from train.run import read_run


def test_a_converted_bundle_tells_how_int8_answers_the_test_images(
    bundle_path: Path, run_folder: Path
) -> None:
    bundle = open_bundle(bundle_path)
    reference = read_gate(bundle).reference
    test = read_run(run_folder).split.of("test")
    assert reference is not None
    assert (reference.variant, reference.split) == ("int8", "test")
    assert reference.images == len(test)
    assert reference.groups == len(reference.blocks) == len({sample.group for sample in test})
    labels = total_counts(reference.blocks, LABELS)
    assert sum(labels.values()) == len(test)
    assert set(labels) <= {*bundle.manifest.classifier.labels, "no label"}
    gate = bundle.read(GATE).decode()
    assert not [sample.group for sample in test if sample.group in gate]


def test_a_scope_gives_scores(scoped_bundle: Path) -> None:
    reference = read_gate(open_bundle(scoped_bundle)).reference
    assert reference is not None
    assert sum(total_counts(reference.blocks, SCORE).values()) == reference.images


def answers(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    positive = rng.uniform(size=count).astype(np.float32)
    return np.stack([1 - positive, positive], axis=1), rng.uniform(0, 2, count).astype(np.float32)


def test_many_groups_share_blocks(demo_bundle: Bundle) -> None:
    stage, (probabilities, scores) = demo_bundle.manifest.classifier, answers(500)
    groups = [f"patient {number // 2}" for number in range(500)]
    reference = drift_reference(stage, "int8", probabilities, scores, groups, seed=1)
    assert (reference.images, reference.groups) == (500, 250)
    assert len(reference.blocks) == MAX_REFERENCE_BLOCKS
    assert "patient" not in json.dumps(asdict(reference))
    assert reference == drift_reference(stage, "int8", probabilities, scores, groups, seed=1)
    beyond = int(np.sum(scores > 1))
    assert total_counts(reference.blocks, LABELS)["no label"] >= beyond


@pytest.mark.parametrize(
    "change",
    [
        {"images": 0},
        {"blocks": []},
        {"blocks": [{"latency": {"one": 1}}]},
        {"blocks": [{"label": {"benign": -1}}]},
        {"blocks": [{}] * (MAX_REFERENCE_BLOCKS + 1)},
        {"variant": "int4"},
    ],
)
def test_a_reference_out_of_range_is_refused(
    demo_bundle: Bundle, tmp_path: Path, change: dict[str, object]
) -> None:
    stage, (probabilities, scores) = demo_bundle.manifest.classifier, answers(20)
    reference = drift_reference(stage, "int8", probabilities, scores, ["a", "b"] * 10, seed=1)
    contents = {name: demo_bundle.read(name) for name in demo_bundle.manifest.members}
    gate = json.loads(contents[GATE]) | {"reference": asdict(reference) | change}
    contents[GATE] = json.dumps(gate).encode()
    manifest = replace(demo_bundle.manifest, members=list_members(contents))
    bundle = write_bundle(tmp_path / "a.sonolite", manifest, contents, None)
    with pytest.raises(BadInput, match=r"gate\.json: reference"):
        read_gate(bundle)
