"""Whether a picture looks like those a model learnt from, judged by its embedding.

Two things tell. The distance is Mahalanobis's to the training pictures, over the mean activations
of the network's early and middle stages: Lee et al., "A Simple Unified Framework for Detecting
Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018. The last layer's alone do not
do: they keep what tells the classes apart, and little of what tells a thyroid from a lung. And a
linear discriminant tells the training pictures from auxiliary ones that are out of scope: Hendrycks
et al., "Deep Anomaly Detection with Outlier Exposure", ICLR 2019, on the embedding alone.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import BadInput

MOST_DISCRIMINANTS = 8
"""More are no scope that `train.scope` fits."""


@dataclass(frozen=True)
class Scope:
    """The training pictures' embeddings in numbers, and how far from them is too far."""

    mean: NDArray[np.float32]
    """``[d]``."""
    whitening: NDArray[np.float32]
    """``[d, d]``: what turns a deviation from the mean into one of unit variance."""
    limit: float
    """The distance beyond which a picture is out of scope."""
    discriminants: NDArray[np.float32]
    """``[d, k]``, of the whitened deviation; each is for one kind of auxiliary pictures, and k may
    be 0."""
    offsets: NDArray[np.float32]
    """``[k]``: with them a discriminant is 0 for a common picture of the task, 1 at its limit."""

    def distance(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Mahalanobis distances, float32: ``[N]`` of embeddings ``[N, d]``, one of ``[d]``."""
        return _length(self.whiten(embedding))

    def whiten(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Deviations from the mean, of unit variance: ``[..., d]`` of ``[..., d]``."""
        return np.asarray((embedding - self.mean) @ self.whitening, np.float32)

    def score(self, embedding: NDArray[np.floating]) -> NDArray[np.float32]:
        """Above 1 a picture is out of scope: ``[N]`` of embeddings ``[N, d]``, one of ``[d]``.

        The largest of the distance over its limit and the discriminants; never below 0.
        """
        white = self.whiten(embedding)
        told = (white @ self.discriminants + self.offsets).max(axis=-1, initial=0)
        return np.asarray(np.maximum(_length(white) / np.float32(self.limit), told), np.float32)


def _length(white: NDArray[np.float32]) -> NDArray[np.float32]:
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


def read_scope(content: bytes) -> Scope:
    """Reads `scope.npz`; one of an earlier version has no discriminants.

    Raises BadInput for anything but arrays of finite numbers and matching sizes, the limit above 0.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            mean = arrays["mean"]
            known = "discriminants" in arrays or "offsets" in arrays
            scope = Scope(
                mean,
                arrays["whitening"],
                float(arrays["limit"]),
                arrays["discriminants"] if known else np.zeros((mean.size, 0), np.float32),
                arrays["offsets"] if known else np.zeros(0, np.float32),
            )
        fits = (
            scope.mean.ndim == scope.offsets.ndim == 1
            and scope.whitening.shape == scope.mean.shape * 2
            and scope.discriminants.shape == scope.mean.shape + scope.offsets.shape
            and scope.offsets.size <= MOST_DISCRIMINANTS
            and scope.limit > 0
            and all(np.isfinite(array).all() for array in vars(scope).values())
        )
    except Exception as error:  # NumPy raises whatever a damaged file leads it to
        raise BadInput("scope.npz: not what it should be") from error
    if not fits:
        raise BadInput("scope.npz: not what it should be")
    return scope
