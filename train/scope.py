"""Fits what a model is to judge, from the embeddings of its training pictures."""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from edge_runtime.scope import Scope

KEPT = 0.99
"""The share of the validation pictures and their variations, together, that stays in scope."""

Embeddings = NDArray[np.float32]
"""``[N, d]``."""
Twice = tuple[Embeddings, Embeddings]
"""Of the same pictures in the same order: as they are, and as other scanners may have shown them,
which is `train.batches.PatchSet.varied`."""


def fit_scope(train: Twice, validation: Twice) -> Scope:
    """The scope of the training pictures; its limit is set on the validation pictures.

    The features are standardised, then their covariance is shrunk as Ledoit and Wolf do ("A
    well-conditioned estimator for large-dimensional covariance matrices", 2004). To it is added the
    covariance of what another scanner changes in a picture: a deviation in such a direction is no
    sign of another subject, and counts for less, as in within-class covariance normalisation
    (Hatch et al., Interspeech 2006). The limit keeps `KEPT` of the validation pictures.
    """
    plain, varied = train
    mean, deviation = plain.mean(axis=0), plain.std(axis=0) + 1e-6
    subjects = LedoitWolf(assume_centered=True).fit((plain - mean) / deviation).covariance_
    changes = (varied - plain) / deviation
    covariance = subjects + changes.T @ changes / len(changes)
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(values)) / deviation[:, np.newaxis]
    scope = Scope(mean.astype(np.float32), whitening.astype(np.float32), limit=0.0)
    limit = float(np.quantile(scope.distance(np.concatenate(validation)), KEPT))
    return Scope(scope.mean, scope.whitening, limit)
