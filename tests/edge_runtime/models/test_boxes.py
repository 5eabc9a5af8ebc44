"""From maps to boxes: a peak is a box, its neighbours are not, and no nodule is found twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.models.boxes import (
    MIN_PEAK_SCORE,
    SAME_NODULE_IOU,
    decode_boxes,
    non_maximum_suppression,
    pairwise_iou,
)

PLACES = 8
Maps = tuple[NDArray[np.float32], NDArray[np.float32]]


def maps(
    peaks: dict[tuple[int, int], float], sides: tuple[float, float, float, float] = (0.1,) * 4
) -> Maps:
    """A score map with `peaks` by row and column, and the same sides in all places."""
    score = np.zeros((PLACES, PLACES), np.float32)
    for place, value in peaks.items():
        score[place] = value
    return score, np.broadcast_to(np.array(sides, np.float32), (PLACES, PLACES, 4)).copy()


def test_one_peak_gives_exactly_its_box() -> None:
    score, sides = maps({(2, 5): 0.8})
    sides[2, 5] = 0.05, 0.1, 0.15, 0.2
    x, y = 5.5 / PLACES, 2.5 / PLACES
    found = decode_boxes(score, sides)
    assert found.dtype == np.float32
    assert found.tolist() == [pytest.approx([x - 0.05, y - 0.1, x + 0.15, y + 0.2, 0.8])]


def test_lower_neighbours_of_a_peak_are_no_boxes() -> None:
    # So small that suppression would keep a box in each place.
    score, sides = maps({(r, c): 0.5 for r in (3, 4, 5) for c in (3, 4, 5)}, (0.01,) * 4)
    score[4, 4] = 0.9
    assert decode_boxes(score, sides)[:, 4].tolist() == pytest.approx([0.9])


def test_of_boxes_that_overlap_the_surer_stays() -> None:
    score, sides = maps({(4, 2): 0.6, (4, 4): 0.7}, (0.4,) * 4)
    found = decode_boxes(score, sides)
    assert found[:, 4].tolist() == pytest.approx([0.7])


def test_boxes_apart_all_stay_and_the_surest_comes_first() -> None:
    score, sides = maps({(1, 1): 0.3, (1, 6): 0.9, (6, 3): 0.6})
    assert decode_boxes(score, sides)[:, 4].tolist() == pytest.approx([0.9, 0.6, 0.3])


def test_a_peak_below_the_least_score_is_no_box() -> None:
    assert len(decode_boxes(*maps({(4, 4): 0.99 * MIN_PEAK_SCORE}))) == 0
    assert len(decode_boxes(*maps({(4, 4): 1.01 * MIN_PEAK_SCORE}))) == 1


def test_there_are_at_most_so_many_boxes_and_they_are_the_surest() -> None:
    scores = {(r, c): 0.1 + 0.01 * (r + 8 * c) for r in (0, 2, 4, 6) for c in (0, 2, 4, 6)}
    score, sides = maps(scores, (0.02,) * 4)
    assert len(decode_boxes(score, sides)) == 8
    assert len(decode_boxes(score, sides, count=20)) == 16
    best = sorted(scores.values(), reverse=True)[:3]
    assert decode_boxes(score, sides, count=3)[:, 4].tolist() == pytest.approx(best)


def test_a_plateau_gives_no_box_twice() -> None:
    score, sides = maps({(r, c): 0.5 for r in (3, 4) for c in (3, 4)}, (0.3,) * 4)
    assert len(decode_boxes(score, sides)) == 1


def test_an_empty_map_has_no_box() -> None:
    found = decode_boxes(*maps({}))
    assert found.shape == (0, 5)
    assert found.dtype == np.float32


def test_a_box_ends_at_the_edge_of_the_picture() -> None:
    found = decode_boxes(*maps({(0, 7): 0.5}, (0.3, 0.3, 0.3, 0.3)))
    assert found[0, :4].tolist() == pytest.approx([7.5 / 8 - 0.3, 0, 1, 0.5 / 8 + 0.3])


def unit_boxes(least: int, most: int) -> st.SearchStrategy[NDArray[np.float32]]:
    """float32 ``[N, 4]``, each with an area."""
    corner = st.tuples(
        st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.01, 0.2), st.floats(0.01, 0.2)
    )
    return st.lists(corner, min_size=least, max_size=most).map(
        lambda rows: np.array(
            [(x, y, x + w, y + h) for x, y, w, h in rows], dtype=np.float32
        ).reshape(-1, 4)
    )


@given(
    score=st.lists(st.floats(0, 1, width=32), min_size=16, max_size=16),
    sides=st.lists(st.floats(0, 1, width=32), min_size=64, max_size=64),
    count=st.integers(1, 8),
)
def test_whatever_is_answered_boxes_are_within_sorted_and_apart(
    score: list[float], sides: list[float], count: int
) -> None:
    given_maps = (
        np.array(score, np.float32).reshape(4, 4),
        np.array(sides, np.float32).reshape(4, 4, 4),
    )
    found = decode_boxes(*given_maps, count)
    assert len(found) <= count
    assert ((found[:, :4] >= 0) & (found[:, :4] <= 1)).all()
    assert (found[:, 2:4] >= found[:, :2]).all()
    assert (np.diff(found[:, 4]) <= 0).all()
    assert (found[:, 4] >= MIN_PEAK_SCORE).all()
    overlaps = pairwise_iou(found, found)
    np.fill_diagonal(overlaps, 0)
    assert not (overlaps > SAME_NODULE_IOU).any()


@given(one=unit_boxes(0, 4), other=unit_boxes(0, 4))
def test_iou_is_a_share_and_the_same_from_both_sides(
    one: NDArray[np.float32], other: NDArray[np.float32]
) -> None:
    overlaps = pairwise_iou(one, other)
    assert overlaps.shape == (len(one), len(other))
    assert overlaps.dtype == np.float32
    assert ((overlaps >= 0) & (overlaps <= 1 + 1e-5)).all()
    assert np.allclose(overlaps, pairwise_iou(other, one).T)


@given(boxes=unit_boxes(1, 4))
def test_a_box_has_iou_1_with_itself_and_with_nothing_moved_away(
    boxes: NDArray[np.float32],
) -> None:
    assert np.diagonal(pairwise_iou(boxes, boxes)) == pytest.approx(1, abs=1e-4)
    assert not pairwise_iou(boxes, boxes + 2).any()


def test_iou_of_a_half_overlap_is_a_third() -> None:
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1]], np.float32)
    assert pairwise_iou(boxes[:1], boxes[1:]).item() == pytest.approx(1 / 3)


def test_a_box_without_an_area_overlaps_nothing() -> None:
    point = np.array([[0.5, 0.5, 0.5, 0.5]], np.float32)
    assert pairwise_iou(point, point).item() == 0


@given(boxes=unit_boxes(0, 6))
def test_what_is_suppressed_overlaps_an_earlier_box(boxes: NDArray[np.float32]) -> None:
    kept = non_maximum_suppression(boxes, SAME_NODULE_IOU)
    overlaps = pairwise_iou(boxes, boxes)
    for place in range(len(boxes)):
        earlier = [other for other in kept if other < place]
        suppressed = bool(earlier) and overlaps[place, earlier].max() > SAME_NODULE_IOU
        assert (place in kept) is not suppressed
