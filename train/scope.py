"""Fits what a model is to judge, from the embeddings of its training pictures."""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from edge_runtime.scope import Scope

KEPT = 0.99
"""The share of the validation pictures that stays in scope."""


def fit_scope(train: NDArray[np.float32], validation: NDArray[np.float32]) -> Scope:
    """The scope of embeddings ``[N, d]``; the limit keeps `KEPT` of the validation pictures.

    The features are standardised, then their covariance is shrunk as Ledoit and Wolf do ("A
    well-conditioned estimator for large-dimensional covariance matrices", 2004).
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    covariance = LedoitWolf(assume_centered=True).fit((train - mean) / deviation).covariance_
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(values)) / deviation[:, np.newaxis]
    scope = Scope(mean.astype(np.float32), whitening.astype(np.float32), limit=0.0)
    limit = float(np.quantile(scope.distance(validation), KEPT))
    return Scope(scope.mean, scope.whitening, limit)
