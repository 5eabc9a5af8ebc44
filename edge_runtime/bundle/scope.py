"""The scope of a model: whether a picture is like the training pictures, by the embedding.

The score is the Mahalanobis distance to the training pictures. The embedding is the mean
activations of early and middle stages of the network: Lee et al., "A Simple Unified Framework for
Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018. The last layer alone
is not enough: it tells the classes apart, but hardly a thyroid from a lung.
"""

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import BadInput


@dataclass(frozen=True)
class Scope:
    """The distribution of the training embeddings, and the largest distance in scope."""

    mean: NDArray[np.float32]
    """``[d]``."""
    whitening: NDArray[np.float32]
    """``[d, d]``: gives a deviation from the mean unit variance."""
    limit: float
    """The distance beyond which a picture is out of scope."""

    def distance(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Mahalanobis distances, float32: ``[N]`` for embeddings ``[N, d]``, ``[]`` for ``[d]``."""
        white = (embedding - self.mean) @ self.whitening
        return np.sqrt(np.asarray(np.einsum("...i,...i", white, white), np.float32))


def write_scope(scope: Scope) -> bytes:
    """The bytes of `scope.npz`."""
    written = io.BytesIO()
    np.savez(written, mean=scope.mean, whitening=scope.whitening, limit=np.float32(scope.limit))
    return written.getvalue()


MAX_SCOPE = 64 << 20
"""Bytes of the arrays of a scope: 4,000 numbers of an embedding."""
MAX_LIMIT = 100.0
"""The limit over the square root of the size of the embedding, which is the usual distance."""


def require_range(scope: Scope) -> None:
    """Raises BadInput for numbers with which no picture would be out of scope.

    The limit is above 0 and not far from usual distances. The whitening has full rank: with a
    smaller rank the distance would not see every deviation.
    """
    whitening, size = scope.whitening, len(scope.mean)
    if not 0 < scope.limit <= MAX_LIMIT * size**0.5:
        raise BadInput(f"scope.npz: the limit {scope.limit:g} is out of range")
    if np.linalg.matrix_rank(whitening.astype(np.float64)) < size:
        raise BadInput("scope.npz: the whitening does not see every deviation")


def read_scope(content: bytes) -> Scope:
    """Reads `scope.npz`. Raises BadInput unless it holds three arrays of matching sizes."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if sum(info.file_size for info in packed.filelist) > MAX_SCOPE:
                raise ValueError("too large")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            scope = Scope(arrays["mean"], arrays["whitening"], float(arrays["limit"]))
        finite = all(
            np.isfinite(array).all() for array in (scope.mean, scope.whitening, scope.limit)
        )
    except Exception as error:  # NumPy raises many kinds of errors for a damaged file
        raise BadInput("scope.npz: not what it should be") from error
    if scope.mean.ndim != 1 or scope.whitening.shape != scope.mean.shape * 2 or not finite:
        raise BadInput("scope.npz: not what it should be")
    require_range(scope)
    return scope
