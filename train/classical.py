"""The classical rivals of the network: texture and shape features with an SVM or boosted trees.

The features are local binary patterns (Ojala et al., "Multiresolution Gray-Scale and Rotation
Invariant Texture Classification with Local Binary Patterns", PAMI 2002), histograms of oriented
gradients (Dalal and Triggs, CVPR 2005) and the grey levels themselves: how bright and how even the
nodule is beside its surroundings, and how the brightness goes on below it (posterior shadow).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from skimage.feature import hog, local_binary_pattern
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from devices import BadInput
from edge_runtime.bundle.preprocess import Picture, Resize
from train.decision_rule import Probability
from train.metrics import Labels

SIDE = 96
"""Pixels a side of what the features are taken from."""
CENTRE = slice(SIDE * 3 // 16, SIDE * 13 // 16)
"""The middle 5/8 of the side: the nodule's box where the crop has a context of 1.6."""
NEIGHBOURS = {1: 8, 2: 16, 3: 24}
"""Points on the circle by radius in pixels, as in Ojala et al., table 2."""
PERCENTILES = (5, 25, 50, 75, 95)
BANDS = 12
"""Rows of the profile, from the skin down."""
FOLDS = 3

Features = NDArray[np.float32]
"""float32: one number a feature, and a row a picture where there are several."""


def _gray(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 ``[SIDE, SIDE]`` from uint8 ``[side, side, 1]``."""
    return Resize(SIDE)(Picture(picture[..., 0], None)).pixels


def binary_patterns(picture: NDArray[np.uint8]) -> Features:
    """Shares of the uniform, rotation invariant patterns in the centre and beside it, ``[108]``."""
    gray = _gray(picture)
    shares = []
    for radius, points in NEIGHBOURS.items():
        codes = local_binary_pattern(gray, points, radius, "uniform")  # type: ignore[no-untyped-call]
        patterns = codes.astype(np.int64)
        whole = np.bincount(patterns.ravel(), minlength=points + 2)
        centre = np.bincount(patterns[CENTRE, CENTRE].ravel(), minlength=points + 2)
        shares += [centre / centre.sum(), (whole - centre) / (whole - centre).sum()]
    return np.concatenate(shares).astype(np.float32)


def gradients(picture: NDArray[np.uint8]) -> Features:
    """Histograms of nine orientations in 6 x 6 cells, normalised in 2 x 2 blocks, ``[900]``."""
    cell = (SIDE // 6, SIDE // 6)
    return np.asarray(hog(_gray(picture), 9, cell, (2, 2), "L2-Hys"), dtype=np.float32)


def intensities(picture: NDArray[np.uint8]) -> Features:
    """Moments and percentiles of the centre and of the margin, and the centre's rows, ``[30]``.

    Grey levels are 0..1; the margin is the picture but for its centre.
    """
    gray = _gray(picture).astype(np.float32) / 255
    margin = np.ones_like(gray, dtype=bool)
    margin[CENTRE, CENTRE] = False
    bands = gray[:, CENTRE].reshape(BANDS, -1).mean(axis=1)
    return np.concatenate([_statistics(gray[~margin]), _statistics(gray[margin]), bands])


def _statistics(levels: NDArray[np.float32]) -> Features:
    """Mean, standard deviation, skewness, excess kurtosis and percentiles, ``[9]``."""
    mean, deviation = levels.mean(), levels.std()
    normal = (levels - mean) / max(deviation, 1 / 255)  # an even region has no shape of its own
    moments = (mean, deviation, np.mean(normal**3), np.mean(normal**4) - 3)
    return np.array([*moments, *np.percentile(levels, PERCENTILES)], dtype=np.float32)


FEATURES: dict[str, Callable[[NDArray[np.uint8]], Features]] = {
    "LBP": binary_patterns,
    "HOG": gradients,
    "intensity": intensities,
}
"""From one prepared picture, uint8 ``[side, side, 1]``, to float32 ``[features]``."""


def extract(name: str, pictures: NDArray[np.uint8]) -> Features:
    """Returns one kind of features, float32 ``[N, features]``, of uint8 ``[N, side, side, 1]``."""
    return np.stack([FEATURES[name](picture) for picture in pictures])


@dataclass(frozen=True)
class Method:
    """A classifier on some of the features, with the hyper-parameters to choose from."""

    name: str
    features: tuple[str, ...]
    classifier: Pipeline
    grid: Mapping[str, Sequence[float]]

    def columns(self, features: Mapping[str, Features]) -> Features:
        """The features that this method reads, side by side."""
        return np.concatenate([features[name] for name in self.features], axis=1)


SVM = make_pipeline(
    StandardScaler(),
    # Divided by the root of their number, so that one grid of gamma serves few features and many.
    FunctionTransformer(lambda features: features / np.sqrt(features.shape[1])),
    SVC(kernel="rbf", class_weight="balanced"),
)
BOOSTING = make_pipeline(
    HistGradientBoostingClassifier(
        max_iter=200,
        max_bins=32,  # three times faster than 255 on HOG, and no worse
        l2_regularization=1.0,
        early_stopping=False,  # it would hold out single images, not groups
        random_state=0,
    )
)
CLASSIFIERS: dict[str, tuple[Pipeline, dict[str, tuple[float, ...]]]] = {
    "SVM": (SVM, {"svc__C": (1, 10), "svc__gamma": (0.3, 1, 3)}),
    "boosting": (
        BOOSTING,
        {
            "histgradientboostingclassifier__learning_rate": (0.03, 0.1),
            "histgradientboostingclassifier__max_leaf_nodes": (4, 15),
        },
    ),
}
FEATURE_SETS = {name: (name,) for name in FEATURES} | {"all": tuple(FEATURES)}
METHODS = tuple(
    Method(f"{classifier}, {features}", FEATURE_SETS[features], *CLASSIFIERS[classifier])
    for classifier, features in product(CLASSIFIERS, FEATURE_SETS)
)


@dataclass(frozen=True)
class Trained:
    """A method with the hyper-parameters that it was given and what it learnt."""

    method: Method
    parameters: dict[str, float]
    classifier: ClassifierMixin

    def __call__(self, features: Mapping[str, Features]) -> Probability:
        """The probability of each class, ``[N, classes]``, by the features' names."""
        probability: Probability = self.classifier.predict_proba(self.method.columns(features))
        return probability


def fit_method(
    method: Method,
    seed: int,
    train: tuple[Mapping[str, Features], Labels],
    groups: Sequence[str],
    validation: tuple[Mapping[str, Features], Labels],
) -> Trained:
    """Chooses the hyper-parameters by AUROC over grouped folds of `train`, and learns all of it.

    `groups` are those of `train`. The margins become probabilities by Platt's sigmoid, fitted on
    `validation`, as the network's temperature is. The same seed gives the same probabilities.
    Raises BadInput where the groups are too few for `grouped_folds`.
    """
    search = GridSearchCV(
        method.classifier,
        method.grid,
        scoring="roc_auc" if len(np.unique(train[1])) == 2 else macro_auroc,
        cv=grouped_folds(train[1], groups, seed),
    ).fit(method.columns(train[0]), train[1])
    whole = np.arange(len(validation[1]))
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(search.best_estimator_), method="sigmoid", cv=[(whole, whole)]
    ).fit(method.columns(validation[0]), validation[1])
    chosen = {name.split("__")[1]: value for name, value in search.best_params_.items()}
    return Trained(method, chosen, calibrated)


def macro_auroc(classifier: ClassifierMixin, features: Features, labels: Labels) -> float:
    """The mean AUROC of each class against all others, by the classifier's margins."""
    margins = classifier.decision_function(features)
    return float(
        np.mean(
            [
                roc_auc_score(labels == label, margins[:, place])
                for place, label in enumerate(classifier.classes_)
            ]
        )
    )


def grouped_folds(
    labels: Labels, groups: Sequence[str], seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Learnt and held out indices of each fold; all classes on each side, no group on two.

    Raises BadInput where the groups are too few for that.
    """
    members = np.array(groups)
    classes = np.unique(labels)
    fewest = min(len(set(members[labels == label])) for label in classes)
    if fewest >= 2:
        cut = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
        folds = list(cut.split(members, labels, members))
        if all(len(set(labels[side])) == len(classes) for fold in folds for side in fold):
            return folds
    raise BadInput(
        f"the train split has too few groups ({len(set(groups))}) to choose hyper-parameters on "
        "groups of all classes"
    )
