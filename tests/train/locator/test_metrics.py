"""The figures of a locator, held against small examples that were computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from train.locator.metrics import (
    EDGE,
    IOUS,
    ClipFrame,
    Detections,
    average_precision,
    clip_figures,
    false_from,
    figures,
    match,
    recall_from,
    sensitivity_at,
)

Array = NDArray[np.float32]
A, B, FAR = (0.1, 0.1, 0.3, 0.3), (0.6, 0.6, 0.9, 0.9), (0.4, 0.0, 0.5, 0.1)
STEP = 0.1
"""Seconds between the frames of a clip."""


def truth(*boxes: tuple[float, ...]) -> Array:
    return np.array(boxes, np.float32).reshape(-1, 4)


def found(*boxes: tuple[tuple[float, ...], float]) -> Array:
    return np.array([(*box, score) for box, score in boxes], np.float32).reshape(-1, 5)


def once(detections: Detections) -> NDArray[np.float64]:
    return np.ones(len(detections.boxes))


@pytest.fixture(scope="module")
def example() -> Detections:
    """Right at .9, wrong at .8, right at .7, wrong at .2; three boxes in three pictures.

    Sorted by score the precision is 1, 1/2, 2/3, 1/2 at the recall of 1/3, 1/3, 2/3, 2/3.
    """
    return match(
        [truth(A), truth(A, B), truth()],
        [found((A, 0.9), (FAR, 0.8)), found((B, 0.7)), found((FAR, 0.2))],
    )


def test_perfect_detections_have_ap_1_at_every_level() -> None:
    perfect = match([truth(A, B), truth()], [found((A, 0.9), (B, 0.3)), found()])
    assert [average_precision(perfect, once(perfect), level) for level in range(len(IOUS))] == (
        [1] * len(IOUS)
    )
    assert sensitivity_at(perfect, 0, once(perfect)) == 1


def test_no_detections_have_ap_0() -> None:
    nothing = match([truth(A)], [found()])
    assert average_precision(nothing, once(nothing)) == 0
    assert sensitivity_at(nothing, 1, once(nothing)) == 0


def test_the_average_precision_of_the_example(example: Detections) -> None:
    assert average_precision(example, once(example)) == pytest.approx((1 + 2 / 3) / 3)


@pytest.mark.parametrize(
    ("allowed", "sensitivity"),
    # A false box in three pictures is .33, two are .67: the second right box is behind the first.
    [(0.1, 1 / 3), (0.3, 1 / 3), (0.34, 2 / 3), (1.0, 2 / 3)],
)
def test_the_sensitivities_of_the_example(
    example: Detections, allowed: float, sensitivity: float
) -> None:
    assert sensitivity_at(example, allowed, once(example)) == pytest.approx(sensitivity)


def test_recall_and_false_boxes_from_a_score_on(example: Detections) -> None:
    assert recall_from(example, once(example), 0.75) == pytest.approx(1 / 3)
    assert recall_from(example, once(example), 0.7 - 1e-6) == pytest.approx(2 / 3)
    assert false_from(example, once(example), 0.75) == pytest.approx(1 / 3)
    assert false_from(example, once(example), 0.1) == pytest.approx(2 / 3)


def test_a_nodule_that_is_found_twice_is_right_once() -> None:
    twice = match([truth(A)], [found((A, 0.9), (A, 0.8))])
    assert twice.right[:, 0].tolist() == [True, False]


def test_each_of_two_nodules_is_taken_by_the_box_on_it() -> None:
    both = match([truth(A, B)], [found((B, 0.9), (A, 0.8))])
    assert both.right.all()


def test_a_box_of_iou_0_6_is_right_up_to_that() -> None:
    # Of the same height and 0.6 of the width.
    close = match([truth((0, 0, 1, 1))], [found(((0, 0, 0.62, 1), 0.9))])
    assert close.right[0].tolist() == [level <= 0.62 for level in IOUS]
    assert close.best.tolist() == pytest.approx([0.62])


def test_without_a_box_to_find_there_is_no_recall() -> None:
    empty = match([truth()], [found((A, 0.9))])
    assert math.isnan(average_precision(empty, once(empty)))
    assert math.isnan(recall_from(empty, once(empty), 0.5))
    assert math.isnan(sensitivity_at(empty, 1, once(empty)))


@given(
    repeats=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    allowed=st.floats(0, 2),
    level=st.integers(0, len(IOUS) - 1),
)
def test_a_weight_is_a_repetition_of_the_picture(
    repeats: list[int], allowed: float, level: int
) -> None:
    truths = [truth(A), truth(A, B), truth(), truth(B)]
    answers = [
        found((A, 0.91), (FAR, 0.82)),
        found((B, 0.73), (FAR, 0.35)),
        found((FAR, 0.24)),
        found((FAR, 0.56), ((0.6, 0.6, 0.9, 0.85), 0.47)),
    ]
    weights = np.array(repeats, np.float64)
    numbers = [number for number, count in enumerate(repeats) for _ in range(count)]
    if not weights.sum():
        return
    weighted = match(truths, answers)
    repeated = match([truths[number] for number in numbers], [answers[each] for each in numbers])
    for measured, expected in (
        (
            average_precision(weighted, weights, level),
            average_precision(repeated, once(repeated), level),
        ),
        (
            sensitivity_at(weighted, allowed, weights),
            sensitivity_at(repeated, allowed, once(repeated)),
        ),
        (recall_from(weighted, weights, 0.5), recall_from(repeated, once(repeated), 0.5)),
        (false_from(weighted, weights, 0.5), false_from(repeated, once(repeated), 0.5)),
    ):
        assert measured == pytest.approx(expected, nan_ok=True)


@given(scores=st.lists(st.floats(0.125, 1, width=32), min_size=1, max_size=6, unique=True))
def test_the_average_precision_is_a_share(scores: list[float]) -> None:
    boxes = [(A, B, FAR)[number % 3] for number in range(len(scores))]
    rows = sorted(zip(boxes, scores, strict=True), key=lambda row: -row[1])
    measured = match([truth(A, B)], [found(*rows)])
    assert 0 <= average_precision(measured, once(measured)) <= 1


def test_all_figures_have_an_interval_that_holds_the_value(example: Detections) -> None:
    measured = figures(example, ["p1", "p2", "p3"], 0.5)
    assert set(measured) == {
        "AP50",
        "AP50-95",
        "recall",
        "false boxes",
        "sensitivity at 0.1",
        "sensitivity at 0.5",
        "sensitivity at 1",
        "IoU",
    }
    for figure in measured.values():
        assert figure.low <= figure.value <= figure.high


def test_pictures_of_one_group_are_drawn_together(example: Detections) -> None:
    measured = figures(example, ["p1", "p1", "p1"], 0.5)
    assert measured["AP50"].low == measured["AP50"].value == measured["AP50"].high


def clip(truths: str, shown: str, track: int = 1, box: tuple[float, ...] = A) -> list[ClipFrame]:
    """Frames with a nodule where `truths` has an x, and with a box where `shown` has one."""
    return [
        ClipFrame(
            STEP * number,
            truth(A) if has == "x" else truth(),
            truth(box) if sees == "x" else truth(),
            (track,) if sees == "x" else (),
        )
        for number, (has, sees) in enumerate(zip(truths, shown, strict=True))
    ]


def test_frames_with_a_nodule_and_without_are_counted() -> None:
    measured = clip_figures([clip("..xxxx....", "...xxxx...")])
    assert (measured.frames, measured.marked) == (10, 4)
    assert measured.found == pytest.approx(3 / 4)
    assert measured.false == pytest.approx(1 / 6)
    assert measured.iou == pytest.approx(1)


def test_the_delay_is_the_time_to_the_first_box_that_meets_the_nodule() -> None:
    assert clip_figures([clip("..xxxx", "....xx")]).delay == pytest.approx(2 * STEP)


def test_a_nodule_that_is_never_met_is_late_by_its_length() -> None:
    assert clip_figures([clip("..xxxx..", "........")]).delay == pytest.approx(4 * STEP)
    assert clip_figures([clip("....xxxx", "........")]).delay == pytest.approx(4 * STEP)


def test_each_run_of_marked_frames_has_a_delay() -> None:
    measured = clip_figures([clip("xxxx..xxxx..xx", ".xxx..xxxx....")])
    # 1, 0 and 2 steps: the median is 1.
    assert measured.delay == pytest.approx(STEP)


def test_a_box_elsewhere_meets_no_nodule() -> None:
    measured = clip_figures([clip("xxxx", "xxxx", box=FAR)])
    assert measured.found == 0
    assert measured.iou is None
    assert measured.delay == pytest.approx(4 * STEP)


def test_a_track_that_meets_no_nodule_is_false() -> None:
    wrong = clip_figures([clip("xxxxxxxxxx", "..xx......", box=FAR)])
    assert wrong.false_tracks == pytest.approx(60 / (10 * STEP))
    assert clip_figures([clip("xxxx..", "..xxxx")]).false_tracks == 0


def test_tracks_of_two_clips_are_not_one_another() -> None:
    clips = [clip("xxxxx", "xxxxx"), clip(".....", "xxxxx")]
    assert clip_figures(clips).false_tracks == pytest.approx(60 / (10 * STEP))


def test_empty_frames_at_the_edge_of_a_nodule_are_not_far() -> None:
    # A box in the three empty frames after the nodule: false, and none of it far.
    assert EDGE == 3
    near = clip_figures([clip("xx........", "xxxxx.....")])
    assert near.false == pytest.approx(3 / 8)
    assert near.false_far == 0
    far = clip_figures([clip("xx........", "xxxxxx....")])
    assert far.false_far == pytest.approx(1 / 5)


def test_a_clip_of_one_frame_has_no_rate_of_false_tracks() -> None:
    measured = clip_figures([clip(".", "x")])
    assert (measured.frames, measured.false_tracks) == (1, 0)


def test_without_clips_nothing_is_measured() -> None:
    measured = clip_figures([])
    assert measured.frames == 0
    assert measured.delay is None
