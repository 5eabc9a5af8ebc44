"""Pictures, nodules and results, as a session with a locator gives them to an exam."""

from dataclasses import replace

import numpy as np

from devices import Pixels
from edge_runtime.results.result import Nodule, Result
from tests.edge_runtime.results.examples import NODULE, RESULT

NOISE: Pixels = np.random.default_rng(0).integers(0, 256, (240, 320), np.uint8)

FOUND = replace(NODULE, locator_score=0.9, interval={"benign": (0.1, 0.3), "malignant": (0.7, 0.9)})


def result(frame: int, *nodules: Nodule, **changes: object) -> Result:
    """The result of a frame, thirty a second, ten seconds after the start of the machine."""
    at = 10 + frame / 30
    facts = {"frame": frame, "captured_at": at, "timestamp": at, "nodules": nodules}
    return replace(RESULT, **{"region": "found", **facts, **changes})  # type: ignore[arg-type]


ABSTAINED = replace(FOUND, label=None, reason="too close to the threshold")
