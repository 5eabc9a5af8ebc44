"""Holds a variant on the GPU against the same variant on the CPU."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from convert.gate import Answers, answer_all
from devices import SonoliteError
from devices.compute import CpuBackend, GpuBackend
from train.decision_rule import DecisionRule

LIMIT = 1e-4
"""How far the probabilities may be apart. A GPU adds the same float32 products in another order. A
sum of n of them is off by at most about n * 2**-24 of its terms (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., section 3.1): 8e-5 for 1280, the longest sum in the networks of
`train.network`. On TN5000 2e-6 was measured, on a GPU in software. Arithmetic in float16 would be
off by 2**-11, 5e-4, in each product alone."""


@dataclass(frozen=True)
class GpuComparison:
    """One variant on the GPU against the CPU's interpreter, or why it could not be held."""

    model: str
    """The file of the bundle."""
    refused: str | None
    """Why the GPU did not run it, in a line; the figures below are then None."""
    adapter: str | None = None
    """The GPU as its driver names it."""
    share: float | None = None
    """How much of the graph runs on the GPU, 0..1 of its operators."""
    images: int | None = None
    largest_difference: float | None = None
    """Between the answers, each from 0 to 1."""
    label_agreement: float | None = None
    """The share of pictures on which both decide alike; None of a locator."""

    @property
    def holds(self) -> bool:
        """Whether the GPU ran it and answered within `LIMIT`."""
        return self.largest_difference is not None and self.largest_difference <= LIMIT


def compare_gpu(
    model: bytes,
    name: str,
    pictures: NDArray[np.uint8],
    rule: DecisionRule | None,
    outputs: Sequence[str] = ("probability",),
) -> GpuComparison:
    """Runs `pictures`, uint8 ``[N, side, side, 1]``, through the TFLite `model` on GPU and CPU.

    Holds the given outputs against each other. `rule` decides by the first of them, where there is
    one.

    In a process of its own, as a graphics driver may take the process with it: Mesa's brings an
    LLVM which, beside TensorFlow's, aborts when the process ends. Raises nothing for a model or a
    machine that cannot do it: the answer tells why.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_compare, model, name, pictures, rule, outputs).result()
        except BrokenProcessPool:
            return GpuComparison(name, refused=f"{name}: the GPU's driver crashed")


def _compare(
    model: bytes,
    name: str,
    pictures: NDArray[np.uint8],
    rule: DecisionRule | None,
    outputs: Sequence[str],
) -> GpuComparison:
    """As `compare_gpu`, in this process."""
    try:
        gpu = GpuBackend(model, name)
        answered = _only(outputs, answer_all(gpu, pictures))
        expected = _only(outputs, answer_all(CpuBackend(model, name), pictures))
    except SonoliteError as error:
        return GpuComparison(name, refused=str(error))
    except RuntimeError as error:  # what both runtimes raise for an operator that fails
        return GpuComparison(name, refused=f"{name}: {str(error).splitlines()[-1]}")
    if not all(np.isfinite(each).all() for each in (*answered, *expected)):
        return GpuComparison(name, refused=f"{name}: answers that are not numbers")
    pairs = list(zip(answered, expected, strict=True))
    return GpuComparison(
        name,
        refused=None,
        adapter=gpu.adapter,
        share=gpu.compute.share,
        images=len(pictures),
        largest_difference=max(float(np.abs(one - other).max()) for one, other in pairs),
        label_agreement=None
        if rule is None
        else float(np.mean(rule.called(answered[0]) == rule.called(expected[0]))),
    )


def _only(outputs: Sequence[str], answers: Mapping[str, Answers]) -> list[Answers]:
    return [answers[output] for output in outputs]
