"""The losses of a locator: least where the answer is right, and more the worse it is."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from train.locator.losses import score_loss, sides_loss
from train.locator.targets import Targets, draw_targets

SIDE = 64
NONE = np.zeros((0, 4), np.float32)
BOX = np.array([[0.2, 0.3, 0.6, 0.8]], np.float32)


@pytest.fixture(scope="module")
def targets() -> Targets:
    return draw_targets(BOX, NONE, SIDE)


def of_scores(targets: Targets, answered: NDArray[np.float32]) -> float:
    """The loss of one picture."""
    each = (targets.score, targets.score_weight, answered)
    return float(score_loss(*(tf.constant(values[np.newaxis]) for values in each))[0])


def of_sides(targets: Targets, answered: NDArray[np.float32]) -> float:
    each = (targets.sides, targets.sides_weight, answered)
    return float(sides_loss(*(tf.constant(values[np.newaxis]) for values in each))[0])


def test_the_wanted_scores_cost_almost_nothing(targets: Targets) -> None:
    exact = np.where(targets.score == 1, 1, 0).astype(np.float32)
    assert of_scores(targets, exact) == pytest.approx(0, abs=1e-3)


def test_a_missed_centre_costs_more_the_less_its_score(targets: Targets) -> None:
    losses = []
    for score in (0.9, 0.5, 0.1, 0.0):
        answered = np.where(targets.score == 1, score, 0).astype(np.float32)
        losses.append(of_scores(targets, answered))
    assert losses == sorted(losses)
    # -(1 - p)^2 log p, by hand; there is one centre.
    assert losses[1] == pytest.approx(0.25 * np.log(2), rel=1e-3)


def test_a_false_peak_near_the_centre_costs_less_than_one_far_away(targets: Targets) -> None:
    exact = np.where(targets.score == 1, 1, 0).astype(np.float32)
    near, far = exact.copy(), exact.copy()
    near[4, 4], far[0, 7] = 0.8, 0.8
    assert 0 < of_scores(targets, near) < of_scores(targets, far)


def test_what_does_not_count_costs_nothing() -> None:
    ignored = draw_targets(NONE, np.array([[0, 0, 1, 1]], np.float32), SIDE)
    assert of_scores(ignored, np.full((8, 8), 0.9, np.float32)) == 0


def test_a_picture_without_a_box_teaches_that_nothing_is_there() -> None:
    empty = draw_targets(NONE, NONE, SIDE)
    assert of_scores(empty, np.zeros((8, 8), np.float32)) == pytest.approx(0, abs=1e-4)
    assert of_scores(empty, np.full((8, 8), 0.5, np.float32)) > 1
    assert of_sides(empty, np.full((8, 8, 4), 0.1, np.float32)) == 0


def test_answers_of_0_and_1_cost_a_finite_amount(targets: Targets) -> None:
    for score in (0.0, 1.0):
        assert np.isfinite(of_scores(targets, np.full((8, 8), score, np.float32)))


def test_the_loss_of_a_picture_stands_alone_in_a_batch(targets: Targets) -> None:
    empty = draw_targets(NONE, NONE, SIDE)
    answered = tf.constant(np.full((2, 8, 8), 0.3, np.float32))
    target, weight = (
        tf.constant(np.stack(pair))
        for pair in ((targets.score, empty.score), (targets.score_weight, empty.score_weight))
    )
    assert score_loss(target, weight, answered).shape == (2,)


def test_the_wanted_sides_cost_nothing(targets: Targets) -> None:
    assert of_sides(targets, targets.sides) == pytest.approx(0, abs=1e-5)


def test_sides_of_twice_the_size_cost_three_quarters(targets: Targets) -> None:
    # The box lies within: the hull is the union, and its share is a quarter.
    assert of_sides(targets, 2 * targets.sides) == pytest.approx(0.75, abs=1e-4)


def test_sides_far_from_a_centre_cost_nothing(targets: Targets) -> None:
    answered = targets.sides.copy()
    answered[targets.sides_weight == 0] = 0.9
    assert of_sides(targets, answered) == pytest.approx(0, abs=1e-5)
