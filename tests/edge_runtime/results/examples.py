"""One result with one nodule, for the tests of whatever is done with results."""

import numpy as np

from devices import Box
from edge_runtime.results.result import FrameLatency, Nodule, Result
from edge_runtime.results.states import State

NODULE = Nodule(
    track=1,
    box=Box(100, 100, 50, 40),
    window=Box(85, 80, 80, 80),
    label="malignant",
    reason=None,
    probability={"benign": 0.2, "malignant": 0.8},
    smoothed={"benign": 0.2, "malignant": 0.8},
    interval=None,
    adjusted=None,
    thresholds={"malignant": 0.7},
    locator_score=None,
    out_of_scope_score=None,
    evidence=np.array([[20, 5], [0, -20]], np.float32),
)

RESULT = Result(
    sequence=0,
    frame=0,
    captured_at=1.0,
    captured_utc="2026-01-01T00:00:00.000+00:00",
    timestamp=0.0,
    state=State.LIVE,
    reason=None,
    nodules=(NODULE,),
    box=Box(100, 100, 50, 40),
    prevalence={"benign": 0.3, "malignant": 0.7},
    adjusted_prevalence=None,
    region="given",
    searched=False,
    latency_ms=FrameLatency(1, 2, 3, 6),
    rate="full",
    health=(),
    backend="cpu int8.tflite ai-edge-litert 2.3.0",
    fallback=None,
    bundle="demo 1 0123456789ab",
)
