"""The scope of a model: whether a picture is like the training pictures, by the embedding.

The score has two parts:

- The Mahalanobis distance to the training pictures. The embedding is the mean activations of early
  and middle stages of the network: Lee et al., "A Simple Unified Framework for Detecting
  Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018. The last layer alone is not
  enough: it tells the classes apart, but hardly a thyroid from a lung.
- Linear discriminants between the training pictures and auxiliary pictures that are out of scope:
  Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure", ICLR 2019, on the embedding
  alone.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import BadInput
from devices.packed_arrays import unpack_arrays

MAX_DISCRIMINANTS = 8
"""The most discriminants of a scope. `train.scope` fits fewer."""


@dataclass(frozen=True)
class Scope:
    """The distribution of the training embeddings, and the limits beyond which a picture is out."""

    mean: NDArray[np.float32]
    """``[d]``."""
    whitening: NDArray[np.float32]
    """``[d, d]``: gives a deviation from the mean unit variance."""
    limit: float
    """The distance beyond which a picture is out of scope."""
    discriminants: NDArray[np.float32]
    """``[d, k]``: weights of the whitened deviation, a column for each set of auxiliary pictures.
    k may be 0."""
    offsets: NDArray[np.float32]
    """``[k]``: with the offset a discriminant is 0 for the median validation picture, and 1 at the
    limit."""

    def distance(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Mahalanobis distances, float32: ``[N]`` for embeddings ``[N, d]``, ``[]`` for ``[d]``."""
        return _length(self.whiten(embedding))

    def whiten(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Deviations from the mean, of unit variance: ``[..., d]`` for embeddings ``[..., d]``."""
        return np.asarray((embedding - self.mean) @ self.whitening, np.float32)

    def score(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Out-of-scope scores, float32: ``[N]`` for embeddings ``[N, d]``, ``[]`` for ``[d]``.

        The score is the maximum of the distance over its limit and of the discriminants. It is
        never below 0, and above 1 a picture is out of scope.
        """
        with np.errstate(all="ignore"):  # the score is then no number either, which is checked
            white = self.whiten(embedding)
            discriminant = (white @ self.discriminants + self.offsets).max(axis=-1, initial=0)
            distance = _length(white) / np.float32(self.limit)
            return np.asarray(np.maximum(distance, discriminant), np.float32)


def _length(white: NDArray[np.float32]) -> NDArray[np.float32]:
    """The Euclidean norm along the last axis."""
    return np.sqrt(np.asarray(np.einsum("...i,...i", white, white), np.float32))


def write_scope(scope: Scope) -> bytes:
    """The bytes of `scope.npz`."""
    written = io.BytesIO()
    np.savez(
        written,
        mean=scope.mean,
        whitening=scope.whitening,
        limit=np.float32(scope.limit),
        discriminants=scope.discriminants,
        offsets=scope.offsets,
    )
    return written.getvalue()


MAX_SCOPE = 64 << 20
"""Bytes of the arrays of a scope: 4,000 numbers of an embedding."""
MAX_LIMIT = 1e5
"""The limit over the square root of the size of the embedding, which is the usual distance. A unit
that never answered in training, and does to a validation picture, gives thousands."""
MAX_DEVIATION = 1e5
"""The largest that the standard deviation of the training embeddings may be in any direction; the
whitening divides by it."""


def require_range(scope: Scope) -> None:
    """Raises BadInput for numbers with which no picture would be out of scope.

    The limit is above 0, and one that distances reach. The whitening has full rank, and is not so
    small that each distance is about 0: else the distance would not see every deviation.
    """
    size = len(scope.mean)
    if not 0 < scope.limit <= MAX_LIMIT * size**0.5:
        raise BadInput(f"scope.npz: the limit {scope.limit:g} is out of range")
    scales = np.linalg.svd(scope.whitening.astype(np.float64), compute_uv=False)
    rounding = scales.max() * size * np.finfo(np.float64).eps  # as `np.linalg.matrix_rank`
    if scales.min() <= max(rounding, 1 / MAX_DEVIATION):
        raise BadInput("scope.npz: the whitening does not see every deviation")


def read_scope(content: bytes) -> Scope:
    """Reads `scope.npz`. A file of an earlier version has no discriminants.

    Raises BadInput unless it holds float32 arrays of finite numbers and matching sizes, in the
    ranges of `require_range`.
    """
    try:
        arrays = unpack_arrays(content, MAX_SCOPE)
        mean = arrays["mean"]
        discriminated = "discriminants" in arrays or "offsets" in arrays
        scope = Scope(
            mean,
            arrays["whitening"],
            float(arrays["limit"]),
            arrays["discriminants"] if discriminated else np.zeros((mean.size, 0), np.float32),
            arrays["offsets"] if discriminated else np.zeros(0, np.float32),
        )
        fits = (
            all(array.dtype == np.float32 for array in arrays.values())
            and scope.mean.ndim == scope.offsets.ndim == 1
            and scope.whitening.shape == scope.mean.shape * 2
            and scope.discriminants.shape == scope.mean.shape + scope.offsets.shape
            and scope.offsets.size <= MAX_DISCRIMINANTS
            and all(np.isfinite(array).all() for array in vars(scope).values())
        )
    except Exception as error:  # NumPy raises many kinds of errors for a damaged file
        raise BadInput("scope.npz: not the arrays of a scope") from error
    if not fits:
        raise BadInput("scope.npz: not the arrays of a scope")
    require_range(scope)
    return scope
