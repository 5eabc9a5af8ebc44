"""The scope is fitted to the training pictures; its limit is set on the validation pictures."""

import numpy as np
import pytest

from edge_runtime.bundle.scope import read_scope, write_scope
from train.scope import FEWEST, KEPT, KEPT_BY_DISCRIMINANT, PlainAndVaried, fit_scope


def embeddings(number: int, seed: int, features: int = 12) -> np.ndarray:
    """Correlated features, one of them a thousand times as large as the others."""
    draw = np.random.default_rng(seed)
    mixing = np.eye(features) + np.random.default_rng(0).normal(0, 0.2, (features, features))
    scale = np.where(np.arange(features) == 0, 1000, 1)
    return (draw.normal(5, 1, (number, features)) @ mixing * scale).astype(np.float32)


def as_they_are(train: np.ndarray, validation: np.ndarray) -> tuple[PlainAndVaried, PlainAndVaried]:
    """Nothing is varied."""
    return (train, train), (validation, validation)


def another_gain(pictures: np.ndarray, seed: int, spread: float = 4.0) -> np.ndarray:
    """Other scanners move the features 0 and 5 alone, and brighten more than they darken."""
    moved, draw = pictures.copy(), np.random.default_rng(seed)
    moved[:, 0] += 1000 * draw.normal(1, spread, len(pictures))
    moved[:, 5] += draw.normal(1, spread, len(pictures))
    return moved


def test_the_limit_keeps_what_was_promised_of_the_validation_pictures() -> None:
    validation = embeddings(400, 2)
    scope = fit_scope(*as_they_are(embeddings(2000, 1), validation))
    assert np.mean(scope.distance(validation) <= scope.limit) == pytest.approx(KEPT, abs=0.005)


def test_with_many_pictures_the_distance_is_mahalanobis() -> None:
    train, others = embeddings(20_000, 1).astype(np.float64), embeddings(50, 3)
    away = others - train.mean(axis=0)
    inverse = np.linalg.inv(np.cov(train.T, bias=True))
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, inverse, away))
    scope = fit_scope(*as_they_are(train.astype(np.float32), embeddings(100, 2)))
    assert scope.distance(others) == pytest.approx(expected, rel=0.05)


def test_fewer_pictures_than_features_still_give_a_scope() -> None:
    train = embeddings(20, 1, features=60)
    scope = fit_scope(*as_they_are(train, embeddings(20, 2, features=60)))
    assert np.isfinite(scope.whitening).all()
    far = scope.distance(train + 3 * train.std(axis=0) * np.sign(np.arange(60) % 2 - 0.5))
    assert (far > scope.limit).all()


def test_a_feature_that_is_silent_in_training_alone_gives_a_scope_that_devices_read() -> None:
    train, validation = embeddings(200, 1), embeddings(100, 2)
    train[:, 3] = 0
    validation[:, 3] = np.where(np.arange(100) < 5, 0.05, 0)
    scope = fit_scope(*as_they_are(train, validation))
    assert scope.limit > 100 * len(scope.mean) ** 0.5
    assert read_scope(write_scope(scope)).limit == pytest.approx(scope.limit)


def test_a_feature_that_never_changes_does_no_harm() -> None:
    train, validation = embeddings(200, 1), embeddings(100, 2)
    train[:, 3] = validation[:, 3] = 7
    scope = fit_scope(*as_they_are(train, validation))
    assert np.isfinite(scope.whitening).all()
    assert np.isfinite(scope.limit)


def test_what_scanners_change_makes_a_picture_no_stranger() -> None:
    train, validation = embeddings(2000, 1), embeddings(400, 2)
    plain = fit_scope(*as_they_are(train, validation))
    scope = fit_scope((train, another_gain(train, 3)), (validation, another_gain(validation, 4)))
    unseen = another_gain(embeddings(400, 5), 6)
    assert np.mean(plain.distance(unseen) > plain.limit) > 0.5
    assert np.mean(scope.distance(unseen) > scope.limit) < 0.03


def test_what_scanners_do_not_change_is_nearly_as_strange_as_before() -> None:
    train, validation = embeddings(2000, 1), embeddings(400, 2)
    plain = fit_scope(*as_they_are(train, validation))
    scope = fit_scope((train, another_gain(train, 3)), (validation, another_gain(validation, 4)))
    strange = embeddings(400, 5)
    strange[:, 7] += 5
    before = np.mean(plain.distance(strange) > plain.limit)
    assert 0.5 < before < 1
    assert np.mean(scope.distance(strange) > scope.limit) > before - 0.15


def test_the_changes_are_added_to_the_covariance_of_the_training_pictures() -> None:
    train, others = embeddings(20_000, 1), embeddings(50, 3).astype(np.float64)
    varied = another_gain(train, 4)
    away, changes = others - train.mean(axis=0), (varied - train).astype(np.float64)
    covariance = np.cov(train.T.astype(np.float64), bias=True) + changes.T @ changes / len(changes)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away))
    scope = fit_scope((train, varied), as_they_are(train, embeddings(100, 2))[1])
    assert scope.distance(others) == pytest.approx(expected, rel=0.02)


def test_the_limit_is_that_of_the_validation_pictures_and_their_variations_together() -> None:
    train, validation = embeddings(2000, 1), embeddings(400, 2)
    varied = another_gain(validation, 4, spread=8)
    scope = fit_scope((train, another_gain(train, 3)), (validation, varied))
    far = scope.distance(np.concatenate([validation, varied]))
    assert scope.limit == pytest.approx(np.quantile(far, KEPT), rel=1e-5)
    assert np.quantile(far[:400], KEPT) < 0.9 * scope.limit < 0.95 * np.quantile(far[400:], KEPT)


def shifted(number: int, seed: int, by: float) -> np.ndarray:
    """Pictures of something else: a little of every feature, far by none."""
    pictures = embeddings(number, seed)
    moved: np.ndarray = pictures + by * pictures.std(axis=0) * np.resize([1, -1], 12)
    return moved.astype(np.float32)


def test_what_was_shown_is_noticed_where_the_distance_does_not() -> None:
    known = as_they_are(embeddings(2000, 1), embeddings(600, 2))
    plain, taught = fit_scope(*known), fit_scope(*known, [shifted(300, 3, 0.7)])
    unseen = shifted(400, 4, 0.7)
    assert np.mean(plain.score(unseen) > 1) < 0.6
    assert np.mean(taught.score(unseen) > 1) > 0.8
    assert np.mean(taught.score(embeddings(2000, 5)) > 1) < 0.03


def test_the_distance_and_the_limit_stay_as_they_are_without_outliers() -> None:
    known = as_they_are(embeddings(2000, 1), embeddings(600, 2))
    plain, taught = fit_scope(*known), fit_scope(*known, [shifted(300, 3, 1.0)])
    assert taught.limit == plain.limit
    assert np.array_equal(taught.whitening, plain.whitening)
    others = shifted(100, 4, 3.0)
    assert (taught.score(others) >= plain.score(others)).all()


def test_each_discriminant_keeps_what_was_promised_and_is_0_in_the_middle() -> None:
    validation = embeddings(1000, 2)
    kinds = [shifted(300, 3, 0.3), shifted(300, 3, -0.3)]
    scope = fit_scope(*as_they_are(embeddings(2000, 1), validation), kinds)
    assert scope.offsets.shape == (2,)
    discriminant = scope.whiten(validation) @ scope.discriminants + scope.offsets
    assert np.median(discriminant, axis=0) == pytest.approx([0, 0], abs=0.01)
    assert np.mean(discriminant <= 1, axis=0) == pytest.approx(
        [KEPT_BY_DISCRIMINANT] * 2, abs=0.002
    )


def test_of_too_few_outliers_nothing_is_learnt() -> None:
    known = as_they_are(embeddings(200, 1), embeddings(100, 2))
    few, enough = shifted(FEWEST - 1, 3, 1.0), shifted(FEWEST, 3, 1.0)
    assert fit_scope(*known, [few]).offsets.size == 0
    assert fit_scope(*known, [few, enough]).offsets.size == 1


def test_outliers_of_a_feature_that_never_changes_do_no_harm() -> None:
    train, validation, others = embeddings(200, 1), embeddings(100, 2), embeddings(50, 3)
    train[:, 3] = validation[:, 3] = others[:, 3] = 7
    scope = fit_scope(*as_they_are(train, validation), [others])
    assert np.isfinite(scope.score(validation)).all()
