"""The classical features say what they claim, and the methods learn without leaking."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import BadInput
from train.classical import (
    BANDS,
    CENTRE,
    CLASSIFIERS,
    FEATURE_SETS,
    FEATURES,
    METHODS,
    NEIGHBOURS,
    SIDE,
    Trained,
    binary_patterns,
    extract,
    fit_method,
    gradients,
    grouped_folds,
    intensities,
)

Pictures = NDArray[np.uint8]

WIDTHS = {"LBP": 108, "HOG": 900, "intensity": 30}
SVM, BOOSTING = "SVM, intensity", "boosting, intensity"
INTENSITY_SVM = next(its for its in METHODS if its.name == SVM)


def speckle(seed: int, side: int = SIDE) -> Pictures:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 1), dtype=np.uint8)


def dark_and_bright(count: int, seed: int) -> tuple[Pictures, NDArray[np.int64], list[str]]:
    """Pictures that are darker where they are positive, two in each group."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) // 2 % 2
    pictures = (
        rng.integers(0, 150, (count, 32, 32, 1)) + np.where(labels, 0, 60)[:, None, None, None]
    )
    return pictures.astype(np.uint8), labels, [f"g{index // 2}" for index in range(count)]


@cache
def learnt(name: str, attempt: int) -> tuple[Trained, dict[str, NDArray[np.float32]]]:
    """The method after 60 pictures, and the features of 40 others."""
    (method,) = (its for its in METHODS if its.name == name)
    parts = [dark_and_bright(60, 1), dark_and_bright(40, 2)]
    features = [{name: extract(name, its[0]) for name in method.features} for its in parts]
    train, validation = ((features[index], parts[index][1]) for index in (0, 1))
    return fit_method(method, 0, train, parts[0][2], validation), features[1]


@pytest.mark.parametrize("name", FEATURES)
@given(side=st.integers(16, 160), level=st.integers(0, 255), even=st.booleans())
@settings(max_examples=10)
def test_any_picture_has_the_same_number_of_finite_features(
    name: str, side: int, level: int, even: bool
) -> None:
    picture = np.full((side, side, 1), level, np.uint8) if even else speckle(level, side)
    features = extract(name, picture[np.newaxis])
    assert features.shape == (1, WIDTHS[name])
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_patterns_are_shares() -> None:
    assert binary_patterns(speckle(0)).sum() == pytest.approx(2 * len(NEIGHBOURS))


def test_patterns_do_not_change_with_the_brightness() -> None:
    picture = speckle(0) // 2
    assert binary_patterns(picture + 100) == pytest.approx(binary_patterns(picture), abs=0.01)


def test_patterns_do_not_change_with_a_quarter_turn() -> None:
    turned = np.rot90(speckle(0))
    assert binary_patterns(turned) == pytest.approx(binary_patterns(speckle(0)), abs=0.01)


def test_patterns_tell_coarse_texture_from_fine() -> None:
    coarse = np.kron(speckle(0, SIDE // 4)[..., 0], np.ones((4, 4), np.uint8))[..., np.newaxis]
    assert np.abs(binary_patterns(coarse) - binary_patterns(speckle(0))).max() > 0.05


@pytest.mark.parametrize(("axis", "orientation"), [(0, 4), (1, 0)])
def test_an_edge_falls_into_the_bin_of_its_orientation(axis: int, orientation: int) -> None:
    """A vertical edge has a gradient at 0 degrees, a horizontal one at 90: bins 0 and 4 of 9."""
    picture = np.zeros((SIDE, SIDE, 1), np.uint8)
    picture[(slice(None),) * axis + (slice(SIDE // 2, None),)] = 200
    histogram = gradients(picture).reshape(-1, 9).sum(axis=0)
    assert histogram.argmax() == orientation
    assert histogram[orientation] == pytest.approx(histogram.sum(), rel=0.01)


def test_centre_and_margin_are_told_apart() -> None:
    picture = np.full((SIDE, SIDE, 1), 51, np.uint8)
    picture[CENTRE, CENTRE] = 204
    features = intensities(picture)
    centre, margin = features[:9], features[9:18]
    assert centre == pytest.approx([0.8, 0, 0, -3, 0.8, 0.8, 0.8, 0.8, 0.8], abs=1e-5)
    assert margin == pytest.approx([0.2, 0, 0, -3, 0.2, 0.2, 0.2, 0.2, 0.2], abs=1e-5)


def test_a_long_bright_tail_is_skewed() -> None:
    picture = np.zeros((SIDE, SIDE, 1), np.uint8)
    picture[SIDE // 2, CENTRE] = 255
    mean, _, skewness, kurtosis = intensities(picture)[:4]
    share = float(mean)  # the moments of a Bernoulli variable
    assert skewness == pytest.approx((1 - 2 * share) / np.sqrt(share * (1 - share)), rel=1e-3)
    assert kurtosis == pytest.approx(
        (1 - 6 * share * (1 - share)) / (share * (1 - share)), rel=1e-3
    )


def test_a_shadow_below_shows_in_the_last_bands() -> None:
    picture = np.full((SIDE, SIDE, 1), 204, np.uint8)
    picture[SIDE * 3 // 4 :] = 51
    bands = intensities(picture)[-BANDS:]
    assert bands == pytest.approx([0.8] * 9 + [0.2] * 3)


def test_each_classifier_is_tried_on_each_set_of_features() -> None:
    names = {f"{classifier}, {its}" for classifier, its in product(CLASSIFIERS, FEATURE_SETS)}
    assert {method.name for method in METHODS} == names
    assert FEATURE_SETS["all"] == tuple(FEATURES)


@pytest.mark.parametrize("name", [SVM, BOOSTING])
def test_a_method_learns_what_is_plain(name: str) -> None:
    trained, features = learnt(name, 0)
    scores, labels = trained(features)[:, 1], dark_and_bright(40, 2)[1]
    assert scores[labels == 1].min() > 0.5 > scores[labels == 0].max()


@pytest.mark.parametrize("name", [SVM, BOOSTING])
def test_the_same_seed_gives_the_same_probabilities(name: str) -> None:
    (first, features), (second, _) = learnt(name, 0), learnt(name, 1)
    assert first.parameters == second.parameters
    assert first(features).tolist() == second(features).tolist()


def test_the_parameters_are_of_the_grid() -> None:
    trained, _ = learnt(SVM, 0)
    assert set(trained.parameters) == {"C", "gamma"}
    assert trained.parameters["C"] in INTENSITY_SVM.grid["svc__C"]
    assert trained.parameters["gamma"] in INTENSITY_SVM.grid["svc__gamma"]


def test_probabilities_are_calibrated_on_validation() -> None:
    """Where nothing can be learnt, every answer is about the share of positives in validation."""
    rng = np.random.default_rng(0)
    noise = {"intensity": rng.normal(size=(120, 30)).astype(np.float32)}
    labels, groups = np.arange(120) % 2, [f"g{index}" for index in range(120)]
    rare = {"intensity": rng.normal(size=(200, 30)).astype(np.float32)}
    mostly_negative = (np.arange(200) % 10 == 0).astype(np.int64)
    trained = fit_method(INTENSITY_SVM, 0, (noise, labels), groups, (rare, mostly_negative))
    assert trained(rare)[:, 1].mean() == pytest.approx(0.1, abs=0.02)


@given(seed=st.integers(0, 99), groups=st.lists(st.integers(1, 6), min_size=8, max_size=20))
def test_no_group_is_both_learnt_and_held_out(seed: int, groups: list[int]) -> None:
    """Groups of one to six images; those of even number are negative."""
    members = np.repeat(np.arange(len(groups)), groups)
    labels = members % 2
    folds = grouped_folds(labels, [f"g{member}" for member in members], seed)
    for fit, held_out in folds:
        assert not set(members[fit]) & set(members[held_out])
        assert len(set(labels[fit])) == len(set(labels[held_out])) == 2
    assert sorted(np.concatenate([fold[1] for fold in folds])) == list(range(len(labels)))


def test_one_group_of_a_class_is_too_few() -> None:
    pictures, labels, _ = dark_and_bright(8, 0)
    features = {"intensity": extract("intensity", pictures)}
    groups = ["a" if label else f"b{index}" for index, label in enumerate(labels)]
    with pytest.raises(BadInput, match="too few groups"):
        fit_method(INTENSITY_SVM, 0, (features, labels), groups, (features, labels))
