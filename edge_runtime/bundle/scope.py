"""Whether a picture looks like those a model learnt from, judged by its embedding.

The distance is Mahalanobis's to the training pictures, over the mean activations of the network's
early and middle stages: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution
Samples and Adversarial Attacks", NeurIPS 2018. The last layer's alone do not do: they keep what
tells the classes apart, and little of what tells a thyroid from a lung.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import BadInput


@dataclass(frozen=True)
class Scope:
    """The training pictures' embeddings in numbers, and how far from them is too far."""

    mean: NDArray[np.float32]
    """``[d]``."""
    whitening: NDArray[np.float32]
    """``[d, d]``: what turns a deviation from the mean into one of unit variance."""
    limit: float
    """The distance beyond which a picture is out of scope."""

    def distance(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Mahalanobis distances, float32: ``[N]`` of embeddings ``[N, d]``, one of ``[d]``."""
        white = (embedding - self.mean) @ self.whitening
        return np.sqrt(np.asarray(np.einsum("...i,...i", white, white), np.float32))


def write_scope(scope: Scope) -> bytes:
    """The bytes of `scope.npz`."""
    written = io.BytesIO()
    np.savez(written, mean=scope.mean, whitening=scope.whitening, limit=np.float32(scope.limit))
    return written.getvalue()


def read_scope(content: bytes) -> Scope:
    """Reads `scope.npz`. Raises BadInput for anything but three arrays of matching sizes."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            scope = Scope(arrays["mean"], arrays["whitening"], float(arrays["limit"]))
        finite = all(
            np.isfinite(array).all() for array in (scope.mean, scope.whitening, scope.limit)
        )
    except Exception as error:  # NumPy raises whatever a damaged file leads it to
        raise BadInput("scope.npz: not what it should be") from error
    if scope.mean.ndim != 1 or scope.whitening.shape != scope.mean.shape * 2 or not finite:
        raise BadInput("scope.npz: not what it should be")
    return scope
