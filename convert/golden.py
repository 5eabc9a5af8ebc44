"""Golden frames: pictures of the phantom with the float model's answers to them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from devices import Box
from devices.capture.phantom import Phantom
from edge_runtime.bundle.golden import Golden, golden_tensors
from edge_runtime.bundle.preprocess import Preprocessing

WIDTH, HEIGHT = 320, 240
BOX = Box(84, 94, 54, 52)
"""Around the phantom's nodule at that size."""
SEEDS = range(4)
MOMENTS = (10, 40)
"""Frames at which the nodule is out of the plane, and fully in it."""


def make_golden(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]], preprocessing: Preprocessing
) -> Golden:
    """Returns golden frames; `predict` is the float model, ``[N, H, W, 1]`` to ``[N, classes]``."""
    frames = tuple(
        Phantom(seed=seed, width=WIDTH, height=HEIGHT, nodule=nodule, live=False).render(moment)
        for seed, nodule in zip(SEEDS, ("malignant", "benign") * 2, strict=True)
        for moment in MOMENTS
    )
    return Golden(frames, BOX, predict(golden_tensors(frames, BOX, preprocessing)))
