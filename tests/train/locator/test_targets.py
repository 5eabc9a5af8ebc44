"""What a locator should answer: one peak a nodule, its sides around it, nothing on what is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.models.boxes import decode_boxes
from train.locator.targets import NEAR, draw_targets

SIDE = 64
PLACES = 8
BOX = (0.2, 0.3, 0.6, 0.8)
Boxes = NDArray[np.float32]


def boxes(*rows: tuple[float, float, float, float]) -> Boxes:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_the_peak_is_1_in_the_place_of_the_centre() -> None:
    targets = draw_targets(boxes(BOX), boxes(), SIDE)
    assert targets.score.shape == (PLACES, PLACES)
    assert np.argwhere(targets.score == 1).tolist() == [[int(0.55 * 8), int(0.4 * 8)]]


def test_the_peak_falls_to_all_sides() -> None:
    score = draw_targets(boxes((0.0, 0.0, 1.0, 1.0)), boxes(), SIDE).score
    row, column = np.unravel_index(score.argmax(), score.shape)
    for line in (score[row, column:], score[row, column::-1], score[row:, column]):
        assert (np.diff(line) < 0).all()


def test_the_sides_are_the_distances_from_a_place_to_the_box() -> None:
    targets = draw_targets(boxes(BOX), boxes(), SIDE)
    row, column = 4, 3
    x, y = (column + 0.5) / PLACES, (row + 0.5) / PLACES
    expected = [x - BOX[0], y - BOX[1], BOX[2] - x, BOX[3] - y]
    assert targets.sides[row, column].tolist() == pytest.approx(expected, abs=1e-6)


def test_only_places_near_a_centre_learn_sides() -> None:
    targets = draw_targets(boxes(BOX), boxes(), SIDE)
    assert np.array_equal(targets.sides_weight > 0, targets.score > NEAR)
    assert not targets.sides[targets.sides_weight == 0].any()


def test_a_picture_without_a_box_is_zero_and_counts() -> None:
    targets = draw_targets(boxes(), boxes(), SIDE)
    assert not targets.score.any()
    assert not targets.sides_weight.any()
    assert targets.score_weight.all()


def test_what_is_ignored_neither_counts_nor_peaks() -> None:
    targets = draw_targets(boxes(), boxes((0.0, 0.25, 0.5, 0.5)), SIDE)
    ignored = np.zeros((PLACES, PLACES), bool)
    ignored[2:4, 0:4] = True
    assert np.array_equal(targets.score_weight == 0, ignored)
    assert not targets.score.any()


def test_a_nodule_in_what_is_ignored_counts() -> None:
    targets = draw_targets(boxes(BOX), boxes((0.0, 0.0, 1.0, 1.0)), SIDE)
    assert np.array_equal(targets.score_weight == 1, targets.sides_weight > 0)


def test_a_small_box_in_a_large_one_has_places_of_its_own() -> None:
    large, small = (0.0, 0.0, 1.0, 1.0), (0.45, 0.45, 0.6, 0.6)
    for order in ((large, small), (small, large)):
        targets = draw_targets(boxes(*order), boxes(), SIDE)
        middle = targets.sides[4, 4]
        assert middle[0] + middle[2] == pytest.approx(0.15, abs=1e-6)


def test_a_box_smaller_than_a_place_still_has_sides() -> None:
    targets = draw_targets(boxes((0.51, 0.51, 0.52, 0.52)), boxes(), SIDE)
    assert targets.score.max() == 1
    assert (targets.sides[targets.sides_weight > 0] >= 0.5 / SIDE).all()


def test_a_box_at_the_far_edge_has_its_peak_in_the_last_place() -> None:
    targets = draw_targets(boxes((1.0, 1.0, 1.0, 1.0)), boxes(), SIDE)
    assert targets.score[-1, -1] == 1


@given(x=st.floats(0, 0.5), y=st.floats(0, 0.5), w=st.floats(0.2, 0.5), h=st.floats(0.2, 0.5))
def test_decoding_the_targets_gives_the_box_again(x: float, y: float, w: float, h: float) -> None:
    targets = draw_targets(boxes((x, y, x + w, y + h)), boxes(), SIDE)
    found = decode_boxes(targets.score, targets.sides)
    assert found[0].tolist() == pytest.approx([x, y, x + w, y + h, 1], abs=1e-5)
