"""A bundle at work: the model behind its preprocessing, proven on its golden frames."""

import math
import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from devices import BadInput
from devices.compute import Backend, CpuBackend, DelegateBackend, GpuBackend, Kind
from edge_runtime import preprocess
from edge_runtime.bundle import Bundle, golden_tensors, read_golden
from edge_runtime.manifest import EDGETPU_MEMBER, Stage, Variant
from edge_runtime.scope import Scope, read_scope

PREFERENCE: tuple[Variant, ...] = ("int8", "float32", "float16", "dynamic")
"""On a CPU: int8 is the fastest, and dynamic slower than float32."""


@dataclass(frozen=True)
class Wish:
    """A backend that somebody wants."""

    kind: Kind
    library: str = ""
    """Of a delegate."""
    options: tuple[tuple[str, str], ...] = ()
    """Of a delegate, by name."""


CPU = Wish("cpu")


class Judgement(NamedTuple):
    """What a model makes of one picture."""

    probability: NDArray[np.float32]
    """``[labels]``."""
    strangeness: float | None
    """How unlike the picture is those that it learnt from: above 1 the picture is out of scope.
    None of a model that has no scope, or whose scope is not heeded."""
    evidence: NDArray[np.float32] | None
    """``[h, w]``, by how much each place of the picture speaks for the last label, in log-odds;
    their mean is the picture's. None of a model without such a map."""


class Held(NamedTuple):
    """What a classifier reads of its bundle; another one of the same model shares it."""

    model: bytes
    scope: Scope | None
    golden: NDArray[np.uint8]
    """The golden frames as the model sees them, ``[N, side, side, 1]``."""
    answers: NDArray[np.float32]
    """The float model's to them, ``[N, labels]``."""


class Classifier:
    """One stage of a bundle on one backend."""

    def __init__(
        self,
        bundle: Bundle,
        stage: Stage,
        variant: Variant | None = None,
        threads: int | None = None,
        any_picture: bool = False,
        wish: Wish = CPU,
        held: Held | None = None,
    ) -> None:
        """Opens `variant`, or the bundle's best one for a CPU; `threads` None takes up to four.

        With `any_picture` the scope of the model is not heeded. `held` is what was read already.

        Raises BadInput where the bundle lacks the variant, or its model is not of the contract or
        answers the golden frames otherwise, and HardwareMissing where `wish` is not to be had.
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
        member = EDGETPU_MEMBER if wish.kind == "edgetpu" else stage.variants[variant]
        self._wish = wish
        self._held = held or self._read(member, any_picture)
        backend = _open(wish, self._held.model, member, threads or min(4, os.cpu_count() or 1))
        side = self.preprocessing.side
        if backend.shape != (1, side, side, 1):
            raise BadInput(f"{bundle.path}: {member} takes {backend.shape}, not {side} x {side}")
        self.backend: Backend = backend
        self._still: tuple[NDArray[np.uint8], Judgement] | None = None
        self.explains = self._prove()
        """Whether the model answers an evidence map."""

    def twin(self, threads: int) -> "Classifier":
        """Another one of the same model, for another thread. Raises as opening the first did."""
        return Classifier(
            self.bundle, self.stage, self.variant, threads, wish=self._wish, held=self._held
        )

    def _read(self, member: str, any_picture: bool) -> Held:
        """Everything that is asked of the bundle."""
        bundle, scope = self.bundle, None
        if self.stage.scopes and not any_picture:
            scope = read_scope(bundle.read(self.stage.scopes[self.variant]))
        golden = read_golden(bundle)
        if golden.probability.shape[1] != len(self.stage.labels):
            raise BadInput(f"{bundle.path}: the golden answers are of another model")
        try:
            tensors = golden_tensors(golden.frames, golden.box, self.preprocessing)
        except ValueError as error:
            raise BadInput(f"{bundle.path}: the golden frames cannot be used: {error}") from error
        return Held(bundle.read(member), scope, tensors, golden.probability)

    def _prove(self) -> bool:
        """Holds the backend against the golden answers; returns whether it gives evidence.

        Raises BadInput where they differ by more than the bundle allows.
        """
        path = self.bundle.path
        try:
            judgements = [self.judge(tensor[np.newaxis]) for tensor in self._held.golden]
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"{path}: {self.variant} cannot be run: {error}") from error
        maps = [its.evidence for its in judgements if its.evidence is not None]
        if not all(its.ndim == 2 and np.isfinite(its).all() for its in maps):
            raise BadInput(f"{path}: {self.variant} answers evidence that is no map of numbers")
        answers = np.stack([its.probability for its in judgements])
        off = float(np.abs(answers - self._held.answers).max())
        allowed = self.stage.golden_tolerance[self.variant]
        if not off <= allowed:
            raise BadInput(
                f"{path}: {self.variant} on this machine answers the golden frames "
                f"differently by {off:.4f}; {allowed:.4f} is allowed"
            )
        return bool(maps)

    def probability(self, tensor: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The model's answer, float32 ``[labels]``; see `judge`."""
        return self.judge(tensor).probability

    def judge(self, tensor: NDArray[np.uint8]) -> Judgement:
        """The model's answer to one picture, and how strange the picture is to the model.

        The same picture again is not computed again. Raises RuntimeError where inference fails or
        the answer is not a number.
        """
        # Views of bytes are compared no further than to the first that differs, mostly the first.
        if self._still is not None and tensor.reshape(-1).data == self._still[0].reshape(-1).data:
            return self._still[1]
        self._still = None
        judgement = self._judge(tensor)
        self._still = tensor, judgement
        return judgement

    def _judge(self, tensor: NDArray[np.uint8]) -> Judgement:
        outputs = self.backend.run(tensor)
        if "probability" not in outputs or outputs["probability"].shape != (1, self._labels):
            raise RuntimeError("the model does not answer one probability a label")
        answer: NDArray[np.float32] = outputs["probability"][0]
        if not all(map(math.isfinite, answer.tolist())):  # of two numbers NumPy takes longer
            raise RuntimeError("the model's answer is not a number")
        evidence = outputs["evidence"][0] if "evidence" in outputs else None
        if (scope := self._held.scope) is None:
            return Judgement(answer, None, evidence)
        embedding = outputs.get("embedding")
        if embedding is None or embedding.shape != (1, *scope.mean.shape):
            raise RuntimeError("the model does not answer the embedding of its scope")
        score = float(scope.score(embedding[0]))
        if not math.isfinite(score):
            raise RuntimeError("the model's embedding is not a number")
        return Judgement(answer, score, evidence)


def _open(
    wish: Wish, model: bytes, name: str, threads: int
) -> CpuBackend | GpuBackend | DelegateBackend:
    """The backend that is wished for, with `model` in it."""
    if wish.kind == "cpu":
        return CpuBackend(model, name, threads)
    if wish.kind == "gpu":
        return GpuBackend(model, name)
    return DelegateBackend(model, name, wish.library, dict(wish.options), wish.kind)
