"""A model of a bundle on a backend, checked with the golden frames of the bundle."""

import math
import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from devices import BadInput
from devices.compute import Backend, BackendKind
from devices.compute.first_opening import open_backend
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.golden import golden_tensors, read_golden
from edge_runtime.bundle.manifest import EDGETPU_MEMBER, ClassifierStage, Variant
from edge_runtime.bundle.scope import Scope, read_scope
from edge_runtime.models.known_models import require_known

CPU_PREFERENCE: tuple[Variant, ...] = ("int8", "float32", "float16", "dynamic")
"""The order on a CPU: int8 is the fastest, and dynamic is slower than float32."""
MAX_ROUNDING = 0.05
"""By how much a probability, or a score of a locator, may miss the range from 0 to 1, where
hardware rounds. A sum of probabilities may miss 1 by this, and by half a step of int8 a label."""


@dataclass(frozen=True)
class BackendRequest:
    """A backend that the user or the board asks for."""

    kind: BackendKind
    library: str = ""
    """The library of a delegate."""
    options: tuple[tuple[str, str], ...] = ()
    """Options of a delegate: names and values."""


CPU = BackendRequest("cpu")


def default_threads(live: bool = True) -> int:
    """One thread a core, at most four: a small model gains nothing from more.

    A recording gets one thread less, because decoding runs all the time beside inference.
    """
    cores = os.cpu_count() or 1
    return max(1, min(4, cores if live else cores - 1))


class Prediction(NamedTuple):
    """The answer of a model to one picture."""

    probability: NDArray[np.float32]
    """``[labels]``."""
    out_of_scope_score: float | None
    """How unlike the training pictures the picture is: above 1 it is out of scope. None where the
    model has no scope, or where the scope is ignored. See `edge_runtime.bundle.scope`."""
    evidence: NDArray[np.float32] | None
    """``[h, w]``: how much each place of the picture speaks for the last label, in log-odds. The
    mean of the map is the log-odds of the picture. None where the model has no map."""


class ModelContents(NamedTuple):
    """The contents of a bundle that a classifier reads; a second classifier shares them."""

    model: bytes
    scope: Scope | None
    golden: NDArray[np.uint8]
    """The tensors of the golden frames, ``[N, side, side, 1]``."""
    answers: NDArray[np.float32]
    """The answers of the float model to them, ``[N, labels]``."""


class Classifier:
    """One stage of a bundle on one backend."""

    def __init__(
        self,
        bundle: Bundle,
        stage: ClassifierStage,
        variant: Variant | None = None,
        threads: int | None = None,
        any_picture: bool = False,
        request: BackendRequest = CPU,
        contents: ModelContents | None = None,
    ) -> None:
        """Opens `variant`, or the best variant of the bundle for a CPU.

        `threads` None takes up to four. `any_picture` ignores the scope of the model. `contents`
        are the contents of the bundle where another classifier has read them.

        Raises BadInput where the bundle lacks the variant, where the model does not keep the
        contract, or where the answers to the golden frames differ too much. Raises HardwareMissing
        where the backend of `request` is not there.
        """
        self.bundle, self.stage = bundle, stage
        self._labels = len(stage.labels)
        if variant is None:
            variant = next(name for name in CPU_PREFERENCE if name in stage.variants)
        if variant not in stage.variants:
            raise BadInput(
                f"{bundle.path}: no variant {variant}; there are {', '.join(stage.variants)}"
            )
        self.variant = variant
        self.preprocessing = preprocess.parse(stage.preprocessing)
        member = EDGETPU_MEMBER if request.kind == "edgetpu" else stage.variants[variant]
        self._request = request
        self._contents = contents or self._read(member, any_picture)
        threads = threads or default_threads()
        how = request.kind, request.library, request.options
        if contents is None:
            require_known(bundle, member, threads, self._contents.golden, *how)
        backend = open_backend(*how, self._contents.model, member, threads)
        side = self.preprocessing.side
        if backend.shape != (1, side, side, 1):
            raise BadInput(f"{bundle.path}: {member} takes {backend.shape}, not {side} x {side}")
        self.backend: Backend = backend
        self._previous: tuple[NDArray[np.uint8], Prediction] | None = None
        self.has_evidence = self._check_golden_answers()
        """Whether the model answers an evidence map."""

    def clone(self, threads: int) -> "Classifier":
        """A second classifier of the same model, for another thread. Raises as `__init__` does."""
        return Classifier(
            self.bundle,
            self.stage,
            self.variant,
            threads,
            request=self._request,
            contents=self._contents,
        )

    def _read(self, member: str, any_picture: bool) -> ModelContents:
        """Reads the contents of the bundle that a classifier needs."""
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
        return ModelContents(bundle.read(member), scope, tensors, golden.probability)

    def _check_golden_answers(self) -> bool:
        """Compares the answers of the backend with the golden answers.

        Returns whether the model gives an evidence map. Raises BadInput where the answers differ by
        more than the bundle allows.
        """
        path = self.bundle.path
        try:
            predictions = [self.predict(tensor[np.newaxis]) for tensor in self._contents.golden]
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"{path}: {self.variant} cannot be run: {error}") from error
        maps = [
            prediction.evidence for prediction in predictions if prediction.evidence is not None
        ]
        if not all(np.isfinite(evidence).all() for evidence in maps):
            raise BadInput(f"{path}: {self.variant} answers evidence that is no map of numbers")
        answers = np.stack([prediction.probability for prediction in predictions])
        off = float(np.abs(answers - self._contents.answers).max())
        allowed = self.stage.golden_tolerance[self.variant]
        if not off <= allowed:
            raise BadInput(
                f"{path}: {self.variant} on this machine answers the golden frames "
                f"differently by {off:.4f}; {allowed:.4f} is allowed"
            )
        return bool(maps)

    def probability(self, tensor: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probabilities of the labels, float32 ``[labels]``; see `predict`."""
        return self.predict(tensor).probability

    def predict(self, tensor: NDArray[np.uint8]) -> Prediction:
        """The answer of the model to one picture.

        The answer to the picture before is used again where the same picture comes again. Raises
        RuntimeError where inference fails or the answer is not a number.
        """
        # A comparison of two buffers ends at the first byte that differs, mostly at once.
        if (
            self._previous is not None
            and tensor.reshape(-1).data == self._previous[0].reshape(-1).data
        ):
            return self._previous[1]
        self._previous = None
        prediction = self._predict(tensor)
        self._previous = tensor, prediction
        return prediction

    def _predict(self, tensor: NDArray[np.uint8]) -> Prediction:
        outputs = self.backend.run(tensor)
        if "probability" not in outputs or outputs["probability"].shape != (1, self._labels):
            raise RuntimeError("the model does not answer one probability a label")
        answer: NDArray[np.float32] = outputs["probability"][0]
        shares = answer.tolist()  # of two numbers NumPy takes longer
        if not all(map(math.isfinite, shares)):
            raise RuntimeError("the model's answer is not a number")
        sum_error = abs(sum(shares) - 1)
        if min(shares) < -MAX_ROUNDING or sum_error > MAX_ROUNDING + len(shares) / 512:
            raise RuntimeError("the model's answers are no probabilities, which add up to 1")
        evidence = outputs.get("evidence")
        if evidence is not None:
            if evidence.ndim != 3 or len(evidence) != 1:
                raise RuntimeError("the model's evidence is no map")
            evidence = evidence[0]
        if (scope := self._contents.scope) is None:
            return Prediction(answer, None, evidence)
        embedding = outputs.get("embedding")
        if embedding is None or embedding.shape != (1, *scope.mean.shape):
            raise RuntimeError("the model does not answer the embedding of its scope")
        score = float(scope.score(embedding[0]))
        if not math.isfinite(score):
            raise RuntimeError("the model's embedding is not a number")
        return Prediction(answer, score, evidence)
