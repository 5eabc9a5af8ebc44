"""A bundle at work: the model behind its preprocessing, proven on its golden frames."""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels
from devices.compute import Backend, CpuBackend
from edge_runtime import preprocess
from edge_runtime.bundle import Bundle, golden_tensors, read_golden
from edge_runtime.manifest import Stage, Variant
from edge_runtime.scope import Scope, read_scope

PREFERENCE: tuple[Variant, ...] = ("int8", "float32", "float16", "dynamic")
"""On a CPU: int8 is the fastest, and dynamic slower than float32."""


class Judgement(NamedTuple):
    """What a model makes of one picture."""

    probability: NDArray[np.float32]
    """``[labels]``."""
    strangeness: float | None
    """The distance from the pictures it learnt from, over the limit: above 1 the picture is out of
    scope. None of a model that has no scope, or whose scope is not heeded."""


class Classifier:
    """One stage of a bundle on one backend."""

    def __init__(
        self,
        bundle: Bundle,
        stage: Stage,
        variant: Variant | None = None,
        threads: int | None = None,
        any_picture: bool = False,
    ) -> None:
        """Opens `variant`, or the bundle's best one for a CPU; `threads` None takes up to four.

        With `any_picture` the scope of the model is not heeded.

        Raises BadInput where the bundle lacks the variant, or its model is not of the contract.
        """
        self.bundle, self.stage = bundle, stage
        self._labels = len(stage.labels)
        if variant is None:
            variant = next(name for name in PREFERENCE if name in stage.variants)
        if variant not in stage.variants:
            raise BadInput(
                f"{bundle.path}: no variant {variant}; there are {', '.join(stage.variants)}"
            )
        self.variant = variant
        self.preprocessing = preprocess.parse(stage.preprocessing)
        member = stage.variants[self.variant]
        threads = threads or min(4, os.cpu_count() or 1)
        backend = CpuBackend(bundle.read(member), member, threads)
        side = self.preprocessing.side
        if backend.shape != (1, side, side, 1):
            raise BadInput(f"{bundle.path}: {member} takes {backend.shape}, not {side} x {side}")
        self.backend: Backend = backend
        self._scope: Scope | None = None
        if stage.scopes and not any_picture:
            self._scope = read_scope(bundle.read(stage.scopes[variant]))
        self._prove(bundle)

    def _prove(self, bundle: Bundle) -> None:
        """Holds the backend against the golden answers before it judges anything.

        Raises BadInput where they differ by more than the bundle allows.
        """
        golden = read_golden(bundle)
        if golden.probability.shape[1] != len(self.stage.labels):
            raise BadInput(f"{bundle.path}: the golden answers are of another model")
        try:
            tensors = golden_tensors(golden.frames, golden.box, self.preprocessing)
            answers = np.stack([self.probability(tensor[np.newaxis]) for tensor in tensors])
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"{bundle.path}: {self.variant} cannot be run: {error}") from error
        off = float(np.abs(answers - golden.probability).max())
        allowed = self.stage.golden_tolerance[self.variant]
        if not off <= allowed:
            raise BadInput(
                f"{bundle.path}: {self.variant} on this machine answers the golden frames "
                f"differently by {off:.4f}; {allowed:.4f} is allowed"
            )

    def prepare(self, pixels: Pixels, box: Box | None) -> NDArray[np.uint8]:
        """The tensor of what lies in `box`, or of the whole picture; uint8 ``[1, H, W, 1]``."""
        if box is not None and not self.preprocessing.crops:
            x, y, w, h = box
            return self.preprocessing(pixels[y : y + h, x : x + w])
        return self.preprocessing(pixels, box)

    def probability(self, tensor: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The model's answer, float32 ``[labels]``; see `judge`."""
        return self.judge(tensor).probability

    def judge(self, tensor: NDArray[np.uint8]) -> Judgement:
        """The model's answer to one picture, and how strange the picture is to the model.

        Raises RuntimeError where inference fails or the answer is not a number.
        """
        outputs = self.backend.run(tensor)
        if "probability" not in outputs or outputs["probability"].shape != (1, self._labels):
            raise RuntimeError("the model does not answer one probability a label")
        answer: NDArray[np.float32] = outputs["probability"][0]
        if not np.isfinite(answer).all():
            raise RuntimeError("the model's answer is not a number")
        if self._scope is None:
            return Judgement(answer, None)
        embedding = outputs.get("embedding")
        if embedding is None or embedding.shape != (1, *self._scope.mean.shape):
            raise RuntimeError("the model does not answer the embedding of its scope")
        distance = float(self._scope.distance(embedding)[0])
        return Judgement(answer, distance / self._scope.limit)
