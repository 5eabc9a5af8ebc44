"""The locator of a bundle: where in a whole picture nodules may lie."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels
from devices.compute import CpuBackend
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.golden import read_arrays, read_golden
from edge_runtime.bundle.manifest import LocatorStage, Variant
from edge_runtime.bundle.preprocess import Preprocessing
from edge_runtime.models.boxes import decode_boxes
from edge_runtime.models.classifier import CPU_PREFERENCE, MAX_ROUNDING, default_threads
from edge_runtime.models.known_models import require_known
from edge_runtime.results.detection import Detection


class Locator:
    """The locator stage of a bundle on the CPU, checked with the golden frames of the bundle."""

    def __init__(
        self,
        bundle: Bundle,
        stage: LocatorStage,
        variant: Variant | None = None,
        threads: int | None = None,
    ) -> None:
        """Opens `variant`, or the variant that a CPU computes fastest; `threads` None takes up to
        four.

        Raises BadInput where the model does not keep the contract, or where the answers to the
        golden frames differ by more than the bundle allows.
        """
        self.bundle, self.stage = bundle, stage
        fastest = next(name for name in CPU_PREFERENCE if name in stage.variants)
        self.variant = fastest if variant is None else variant
        self.preprocessing = preprocess.parse(stage.preprocessing)
        member = stage.variants[self.variant]
        threads = threads or default_threads()
        tensors = locator_tensors(read_golden(bundle).frames, self.preprocessing)
        require_known(bundle, member, threads, tensors)
        self._backend = CpuBackend(bundle.read(member), member, threads)
        side = self.preprocessing.side
        if self._backend.shape != (1, side, side, 1):
            raise BadInput(
                f"{bundle.path}: {member} takes {self._backend.shape}, not {side} x {side}"
            )
        self._check_golden_answers(tensors)

    def clone(self, threads: int | None) -> "Locator":
        """The same locator with an interpreter of its own. Raises as `__init__` does."""
        return Locator(self.bundle, self.stage, self.variant, threads)

    def locate(self, tensor: NDArray[np.uint8], window: Box) -> list[Detection]:
        """The detections in a prepared picture, the surest first, in pixels of the screen.

        `window` is the part of the screen in `tensor`, uint8 ``[1, side, side, 1]``. Raises
        RuntimeError where inference fails or the answer is not a number.
        """
        scores, sides = self.answer(tensor)
        x, y, w, h = window
        detections = []
        for left, top, right, bottom, score in decode_boxes(scores, sides).tolist():
            first = round(x + left * w), round(y + top * h)
            last = round(x + right * w), round(y + bottom * h)
            size = max(1, last[0] - first[0]), max(1, last[1] - first[1])
            detections.append(Detection(Box(*first, *size), min(1.0, score)))
        return detections

    def answer(self, tensor: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The maps of scores ``[h, w]`` and of sides ``[h, w, 4]``, which `decode_boxes` reads.

        Raises RuntimeError as `locate` does.
        """
        outputs = self._backend.run(tensor)
        score, sides = outputs.get("score"), outputs.get("sides")
        places = () if score is None else score.shape[-1:]
        if score is None or sides is None or score.shape != (1, *places, *places):
            raise RuntimeError("the locator does not answer a square map of scores")
        if sides.shape != (*score.shape, 4):
            raise RuntimeError("the locator does not answer four sides a place")
        if not (np.isfinite(score).all() and np.isfinite(sides).all()):
            raise RuntimeError("the answer of the locator is not a number")
        if score.min() < -MAX_ROUNDING or score.max() > 1 + MAX_ROUNDING:
            raise RuntimeError("the scores of the locator do not lie from 0 to 1")
        return score[0], sides[0]

    def _check_golden_answers(self, tensors: NDArray[np.uint8]) -> None:
        """Compares the scores with the golden answers. Raises BadInput where they differ."""
        path = self.bundle.path
        golden = read_arrays(self.bundle, self.stage.golden).get("score")
        try:
            answers = np.stack([self.answer(tensor[np.newaxis])[0] for tensor in tensors])
        except (RuntimeError, ValueError) as error:
            raise BadInput(
                f"{path}: {self.variant} of the locator cannot be run: {error}"
            ) from error
        if golden is None or golden.dtype != np.float32 or golden.shape != answers.shape:
            raise BadInput(f"{path}: the golden answers are of another locator")
        off = float(np.abs(answers - golden).max())
        allowed = self.stage.golden_tolerance[self.variant]
        if not off <= allowed:
            raise BadInput(
                f"{path}: {self.variant} of the locator answers the golden frames on this machine "
                f"differently by {off:.4f}; {allowed:.4f} is allowed"
            )


def locator_tensors(frames: Sequence[Pixels], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The tensors of whole golden frames, uint8 ``[N, side, side, 1]``."""
    return np.concatenate([preprocessing(frame) for frame in frames])
