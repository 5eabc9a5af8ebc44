"""What `sonolite device drift` holds a device against: the answers to the images of the gate."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.gate import MAX_REFERENCE_BLOCKS, DriftReference
from edge_runtime.bundle.manifest import ClassifierStage, Variant
from edge_runtime.nodules.decide import decide
from edge_runtime.results.aggregates import Counts, count_answer


def drift_reference(
    stage: ClassifierStage,
    variant: Variant,
    probabilities: NDArray[np.float32],
    scores: NDArray[np.float32] | None,
    groups: Sequence[str],
    seed: int,
) -> DriftReference:
    """The counts of the answers of a variant to the test images.

    `probabilities` are ``[N, labels]``. `scores` are out-of-scope scores ``[N]``, and None where
    the model has no scope. The images of a group are one block. Where there are more than
    `MAX_REFERENCE_BLOCKS` groups, each block has some groups, drawn by `seed`: Wolter,
    "Introduction to Variance Estimation", 2007, chapter 2 (random groups). No name is kept.
    """
    names = np.random.default_rng(seed).permutation(sorted(set(groups)))
    place = {name: number % MAX_REFERENCE_BLOCKS for number, name in enumerate(names.tolist())}
    blocks: list[Counts] = [{} for _ in range(min(len(names), MAX_REFERENCE_BLOCKS))]
    for number, group in enumerate(groups):
        probability = dict(zip(stage.labels, probabilities[number].tolist(), strict=True))
        score = None if scores is None else float(scores[number])
        label = None if score is not None and score > 1 else decide(probability, stage)[0]
        block = blocks[place[group]]
        count_answer(block, probability, stage.operating_point.thresholds, score, label)
    return DriftReference(variant, "test", len(groups), len(names), tuple(blocks))
