"""What of an exam is kept: a decision a second, every change, and every nodule as a whole."""

from dataclasses import replace

import numpy as np
import pytest

from devices import Box, Pixels
from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.exams.course import MAX_HELD_PICTURES, Course, CourseStep
from edge_runtime.results.result import NO_NODULE, Result
from edge_runtime.results.states import State
from tests.edge_runtime.exams.examples import ABSTAINED, FOUND, NOISE, result
from tests.edge_runtime.results.examples import NODULE

FLAT: Pixels = np.full((240, 320), 90, np.uint8)


@pytest.fixture(scope="module")
def bundle(shipped_path: object) -> Bundle:
    return open_bundle(shipped_path)  # type: ignore[arg-type]


@pytest.fixture
def course(bundle: Bundle) -> Course:
    locator = bundle.manifest.locator
    assert locator is not None
    return Course(bundle.manifest.classifier, locator.pooling, True, 10.0)


def kept(course: Course, results: list[Result]) -> list[CourseStep]:
    steps = [course.add(each, NOISE) for each in results]
    return [step for step in steps if step is not None]


def test_a_second_without_a_change_is_kept_once(course: Course) -> None:
    steps = kept(course, [result(frame, FOUND) for frame in range(91)])
    assert [step.decisions[0].frame for step in steps] == [0, 30, 60, 90]
    assert [step.decisions[0].seconds for step in steps] == [0.0, 1.0, 2.0, 3.0]


OTHER = replace(FOUND, track=2)
CHANGES = {
    "label": result(1, replace(FOUND, label="benign")),
    "abstention": result(1, ABSTAINED),
    "nodule": result(1, FOUND, OTHER),
    "no nodule": result(1, reason=NO_NODULE),
    "state": result(1, FOUND, state=State.STALE),
    "backend": result(1, FOUND, backend="cpu other.tflite"),
    "fallback": result(1, FOUND, fallback="the GPU hung"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_kept(course: Course, change: Result) -> None:
    steps = kept(course, [result(0, FOUND), change, replace(change, frame=2)])
    assert [step.decisions[0].frame for step in steps] == [0, 1]


def test_a_decision_says_all_of_a_nodule(course: Course) -> None:
    (step,) = kept(course, [result(0, ABSTAINED, OTHER)])
    first, second = step.decisions
    assert (first.nodule, first.track, first.label, first.reason) == (
        1,
        1,
        None,
        "too close to the threshold",
    )
    assert (second.nodule, second.label, second.reason) == (2, "malignant", None)
    assert (first.box, first.state) == (NODULE.box, "LIVE")
    assert first.probability == NODULE.smoothed
    assert first.frame_probability == NODULE.probability
    assert first.interval == FOUND.interval


def test_a_frame_without_a_nodule_says_why(course: Course) -> None:
    (step,) = kept(course, [result(0, reason=NO_NODULE)])
    assert [(each.nodule, each.reason) for each in step.decisions] == [(None, NO_NODULE)]


def surer(frame: int, malignant: float) -> Result:
    both = {"benign": 1 - malignant, "malignant": malignant}
    return result(frame, replace(FOUND, probability=both))


def test_a_nodule_is_decided_by_all_frames(course: Course) -> None:
    """The last frames alone would say another label."""
    results = [surer(frame, 0.97) for frame in range(90)]
    results += [surer(frame, 0.03) for frame in range(90, 100)]
    (nodule,) = kept(course, [*results, result(100, reason=NO_NODULE)])[-1].nodules
    assert nodule.label == "malignant"
    assert nodule.probability["malignant"] > 0.9
    assert nodule.interval is not None
    low, high = nodule.interval["malignant"]
    assert low < nodule.probability["malignant"] < high
    assert nodule.frames == 100


def test_another_mark_is_another_nodule_and_one_that_moves_a_little_is_the_same(
    course: Course,
) -> None:
    moved, other = replace(NODULE, box=Box(105, 102, 50, 40)), replace(NODULE, track=2)
    marks = (NODULE, moved, other)
    results = [result(30 * place, mark, region="given") for place, mark in enumerate(marks)]
    assert [step.decisions[0].nodule for step in kept(course, results)] == [1, 1, 2]


def test_a_nodule_that_was_found_moves_and_is_the_same(course: Course) -> None:
    moved = replace(FOUND, box=Box(10, 10, 50, 40))
    steps = kept(course, [result(0, FOUND), result(30, moved)])
    assert [step.decisions[0].nodule for step in steps] == [1, 1]


def test_a_marked_nodule_has_no_interval(course: Course) -> None:
    sure = replace(NODULE, probability={"benign": 0.02, "malignant": 0.98})
    steps = kept(course, [result(frame, sure, region="given") for frame in range(31)])
    (nodule,) = steps[-1].nodules
    assert (nodule.label, nodule.interval) == ("malignant", None)


def test_a_still_is_decided_alone(course: Course) -> None:
    still = replace(result(0, FOUND, file="a.png"), timestamp=None)
    (step,) = kept(course, [still])
    (nodule,) = step.nodules
    assert (nodule.label, nodule.file, nodule.probability) == (
        "malignant",
        "a.png",
        FOUND.probability,
    )


def test_the_best_picture_is_the_sharpest_with_a_label(course: Course) -> None:
    course.add(result(0, ABSTAINED), NOISE)
    course.add(result(1, FOUND), FLAT)
    course.add(result(2, FOUND), NOISE)
    course.add(result(3, FOUND), FLAT)
    (picture,) = course.take_pictures(9)
    assert picture.result.frame == 2
    assert picture.pixels is NOISE


def test_a_picture_is_taken_once(course: Course) -> None:
    course.add(result(0, FOUND), NOISE)
    assert len(course.take_pictures(9)) == 1
    course.add(result(1, FOUND), NOISE)
    assert course.take_pictures(9) == []


def test_few_pictures_are_held(course: Course) -> None:
    nodules = [replace(FOUND, track=track) for track in range(1, MAX_HELD_PICTURES + 5)]
    course.add(result(0, *nodules), NOISE)
    assert len(course.take_pictures(3)) == 3
    assert len(course.take_pictures(99)) == MAX_HELD_PICTURES - 3
    course.add(result(1, *nodules), NOISE)
    assert len(course.take_pictures(99)) == 4


def test_a_late_picture_decides_nothing(course: Course) -> None:
    (step,) = kept(course, [result(0, FOUND, state=State.STALE)])
    assert step.nodules == ()
    assert course.take_pictures(9) == []
