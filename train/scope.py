"""Fits what a model is to judge, from the embeddings of its training pictures."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from edge_runtime.bundle.scope import Scope

KEPT = 0.99
"""The share of the validation pictures and their variations, together, that the distance keeps in
scope."""
KEPT_BY_DISCRIMINANT = 0.998
"""The share of them that each discriminant keeps. It is higher than `KEPT`, as the pictures that a
discriminant withholds come on top of those that the distance withholds."""
INVERSE_PENALTY = 0.01
"""`C` of scikit-learn's logistic regression, on whitened features."""
FEWEST = 20
"""The fewest auxiliary pictures of a set that get a discriminant."""

Embeddings = NDArray[np.float32]
"""``[N, d]``."""
PlainAndVaried = tuple[Embeddings, Embeddings]
"""Of the same pictures in the same order: as they are, and as other scanners may have shown them,
which is `train.batches.PatchSet.varied`."""


def fit_scope(
    train: PlainAndVaried, validation: PlainAndVaried, outliers: Iterable[Embeddings] = ()
) -> Scope:
    """The scope of the training pictures; its limits are set on the validation pictures.

    The features are standardised, then their covariance is shrunk as Ledoit and Wolf do ("A
    well-conditioned estimator for large-dimensional covariance matrices", 2004). To it is added the
    covariance, about no change, of what another scanner changes in a picture: a deviation in such a
    direction is no sign of another subject, and counts for less, as in within-class covariance
    normalisation (Hatch et al., Interspeech 2006). This sum is the covariance of the Mahalanobis
    distance. The limit keeps `KEPT` of the validation pictures.

    Each of `outliers` is a set of auxiliary pictures that are out of scope (see `train.outliers`).
    Each set of `FEWEST` pictures or more has a discriminant: logistic regression between it and the
    training pictures, plain and varied. Each limit is set alone. So a set that was shown does not
    change how well the distance notices pictures that were not.
    """
    plain, varied = train
    mean, deviation = plain.mean(axis=0), plain.std(axis=0) + 1e-6
    subjects = LedoitWolf(assume_centered=True).fit((plain - mean) / deviation).covariance_
    changes = (varied - plain) / deviation
    covariance = subjects + changes.T @ changes / len(changes)
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(values)) / deviation[:, np.newaxis]
    distant = Scope(
        mean.astype(np.float32),
        whitening.astype(np.float32),
        limit=1.0,
        discriminants=np.zeros((len(mean), 0), np.float32),
        offsets=np.zeros(0, np.float32),
    )
    both = np.concatenate(validation)
    limit = max(float(np.quantile(distant.distance(both), KEPT)), 1e-6)
    known, held = distant.whiten(np.concatenate(train)), distant.whiten(both)
    fitted = [
        _discriminant(known, distant.whiten(kind), held) for kind in outliers if len(kind) >= FEWEST
    ]
    return Scope(
        distant.mean,
        distant.whitening,
        limit,
        np.array([weights for weights, _ in fitted], np.float32).reshape(-1, len(mean)).T,
        np.array([offset for _, offset in fitted], np.float32),
    )


def _discriminant(
    known: Embeddings, outliers: Embeddings, held: Embeddings
) -> tuple[NDArray[np.float64], float]:
    """Weights ``[d]`` and the offset that tell `outliers` from `known` pictures, all whitened.

    The discriminant is 0 for the median of the `held` validation pictures, and 1 where it keeps
    `KEPT_BY_DISCRIMINANT` of them.
    """
    truth = np.repeat([0, 1], [len(known), len(outliers)])
    model = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    model.fit(np.concatenate([known, outliers]), truth)
    weights, offset = model.coef_[0].astype(np.float64), float(model.intercept_[0])
    middle, limit = np.quantile(held @ weights + offset, (0.5, KEPT_BY_DISCRIMINANT))
    span = max(float(limit - middle), 1e-6)
    return weights / span, (offset - float(middle)) / span
