"""From detections to nodules that are followed and decided: numbers, boxes, labels, abstentions."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from devices import Box, Frame, Pixels
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.policies import PoolingPolicy, TrackingPolicy
from edge_runtime.models.classifier import Classifier, Prediction
from edge_runtime.nodules.decide import OUT_OF_SCOPE
from edge_runtime.nodules.pooling import NOT_ENOUGH
from edge_runtime.results.detection import Detection
from edge_runtime.results.result import NO_NODULE, Nodule, Result
from edge_runtime.results.states import Event, State
from edge_runtime.screen.region import Region
from edge_runtime.session.account import Account
from edge_runtime.session.finder import Finder, FoundNodule, within
from edge_runtime.session.prepare import Preparer
from edge_runtime.session.throttle import Throttle

if TYPE_CHECKING:
    from edge_runtime.models.locator import Locator

TRACKING = TrackingPolicy(
    start_score=0.5,
    keep_score=0.3,
    min_iou=0.2,
    confirm_seconds=0.1,
    confirm_hits=3,
    coast_seconds=0.1,
    lost_seconds=0.5,
    max_nodules=2,
)
POOLING = PoolingPolicy(
    memory_seconds=3.0,
    correlation_seconds=0.4,
    view_deviation=1.0,
    full_sharpness=0.06,
    min_seconds=0.2,
    hysteresis=0.02,
    hold_seconds=0.5,
)
BOX = Box(120, 90, 60, 50)
STEP = 0.05


@pytest.fixture(scope="module")
def classifier(demo_bundle: Bundle) -> Classifier:
    return Classifier(demo_bundle, demo_bundle.manifest.classifier, threads=1, any_picture=True)


class Script:
    """Stands for a locator: answers what the test says."""

    class stage:  # noqa: N801
        tracking = TRACKING

    def __init__(self) -> None:
        self.detections: list[Detection] = []

    def locate(self, tensor: NDArray[np.uint8], window: Box) -> list[Detection]:
        return self.detections


Find = Callable[..., tuple[FoundNodule, ...]]


@pytest.fixture
def find(classifier: Classifier, pictures: list[Pixels]) -> Find:
    """Finds in one frame at a time what is said to be there."""
    script = Script()
    finder = Finder(cast("Locator", script), 1)
    count = 0

    def at(
        *detections: Detection,
        seconds: float | None = None,
        screen: Pixels | None = None,
        changes: int = 0,
        roi: Box | None = None,
        tissue: Pixels | None = None,
    ) -> tuple[FoundNodule, ...]:
        nonlocal count
        script.detections = list(detections)
        moment = STEP * count if seconds is None else seconds
        pixels = pictures[count % len(pictures)] if screen is None else screen
        frame = Frame(pixels, moment, count, None if moment < 0 else moment)
        count += 1
        tensor = np.zeros((1, 160, 160, 1), np.uint8)
        if tissue is not None:
            tensor[0, :, :, 0] = tissue
        return finder.find(frame, tensor, Box(0, 0, 320, 320), classifier, changes, roi)

    return at


def test_a_nodule_is_shown_once_it_was_seen_often_enough(find: Find) -> None:
    shown = [len(find(Detection(BOX, 0.8))) for _ in range(5)]
    assert shown == [0, 0, 1, 1, 1]


def test_a_single_detection_is_never_shown(find: Find) -> None:
    find(Detection(BOX, 0.9))
    assert not any(find() for _ in range(20))


def test_a_found_nodule_is_classified_in_its_box(
    find: Find, classifier: Classifier, pictures: list[Pixels]
) -> None:
    for _ in range(3):
        found = find(Detection(BOX, 0.8))
    (nodule,) = found
    assert nodule.box == BOX
    expected = classifier.predict(classifier.preprocessing(pictures[2], BOX))
    assert nodule.prediction.probability == pytest.approx(expected.probability)
    assert nodule.window == classifier.preprocessing.window(320, 240, BOX)


def test_two_nodules_keep_their_numbers(find: Find) -> None:
    other = Box(20, 150, 50, 40)
    for _ in range(6):
        found = find(Detection(BOX, 0.8), Detection(other, 0.7))
    assert {nodule.track: nodule.box for nodule in found} == {1: BOX, 2: other}


def test_each_still_stands_for_itself(find: Find) -> None:
    for _ in range(2):
        found = find(Detection(BOX, 0.8), Detection(Box(9, 9, 30, 30), 0.4), seconds=-1)
        assert [(nodule.track, nodule.box) for nodule in found] == [(1, BOX)]


def test_on_a_screen_of_another_size_tracks_begin_anew(find: Find) -> None:
    for _ in range(4):
        find(Detection(BOX, 0.8))
    larger = np.full((480, 640, 3), 90, np.uint8)
    assert not find(Detection(BOX, 0.8), screen=larger)
    for _ in range(3):
        found = find(Detection(BOX, 0.8), screen=larger)
    assert [nodule.track for nodule in found] == [2]


def test_once_somebody_marked_a_region_tracks_begin_anew(find: Find) -> None:
    for _ in range(4):
        find(Detection(BOX, 0.8))
    assert not find(Detection(BOX, 0.8), changes=2)
    for _ in range(3):
        found = find(Detection(BOX, 0.8), changes=2)
    assert [nodule.track for nodule in found] == [1]


def test_a_marked_nodule_is_followed_from_where_it_was_marked(find: Find) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (160, 160)).astype(np.uint8)
    tissue = cv2.GaussianBlur(noise, (0, 0), 2)
    boxes = []
    for step in range(6):
        (nodule,) = find(changes=1, roi=BOX, tissue=np.roll(tissue, -2 * step, axis=1))
        assert (nodule.track, nodule.score) == (1, 1.0)
        boxes.append(nodule.box)
    assert boxes[0] == BOX
    assert boxes[5] == pytest.approx(BOX._replace(x=BOX.x - 20), abs=2)


def test_the_marked_nodule_of_another_screen_is_another_one(find: Find) -> None:
    """As where a region is saved for each size of the screen: nobody marks anew."""
    find(changes=1, roi=BOX)
    other = Box(20, 150, 50, 40)
    larger = np.full((480, 640, 3), 90, np.uint8)
    assert [nodule.box for nodule in find(changes=1, roi=other, screen=larger)] == [other]


def test_a_nodule_is_marked_anew_where_the_region_changes(find: Find) -> None:
    find(changes=1, roi=BOX)
    other = Box(20, 150, 50, 40)
    assert [nodule.box for nodule in find(changes=2, roi=other)] == [other]
    assert not find(changes=3)


def test_a_box_beyond_the_screen_is_cut_and_one_beside_it_is_none() -> None:
    assert within(Box(-10, 200, 40, 100), 320, 240) == Box(0, 200, 30, 40)
    assert within(Box(330, 10, 20, 20), 320, 240) is None


class Session:
    """An account of a live session in which a locator finds nodules; the clock is moved by hand."""

    def __init__(self, bundle: Bundle, classifier: Classifier) -> None:
        self.now, self.count = 100.0, 0
        self.classifier = classifier
        self.region = region = Region(whole=False)
        clock = lambda: self.now  # noqa: E731
        preprocessing = classifier.preprocessing
        self.preparer = Preparer(True, region, preprocessing, clock, search=preprocessing)
        self.account = Account(
            True,
            classifier.stage,
            bundle.id,
            region,
            0.25,
            Throttle(),
            clock,
            pooling_policy=POOLING,
        )

    def conclude(self, pixels: Pixels, *nodules: FoundNodule, age: float = 0.0) -> Result:
        self.now += STEP
        at = self.now - age
        prepared = self.preparer.prepare(Frame(pixels, at, self.count, timestamp=at))
        self.preparer.check(prepared)
        self.count += 1
        if not prepared.searched:
            assert prepared.tensor is not None
            return self.account.conclude(prepared, self.classifier.predict(prepared.tensor))
        return self.account.conclude(prepared, None, nodules)


@pytest.fixture
def session(demo_bundle: Bundle, classifier: Classifier) -> Session:
    return Session(demo_bundle, classifier)


def nodule_of(malignant: float, track: int = 1, out_of_scope: float | None = 0.2) -> FoundNodule:
    answer = np.array([1 - malignant, malignant], np.float32)
    prediction = Prediction(answer, out_of_scope, np.zeros((2, 2), np.float32))
    return FoundNodule(track, BOX, BOX, 0.9, 0.2, prediction)


def follow(
    session: Session, pictures: list[Pixels], probabilities: list[float], **changes: float
) -> list[Nodule]:
    """The nodule of each frame."""
    nodules: list[Nodule] = []
    for place, malignant in enumerate(probabilities):
        found = nodule_of(malignant, **changes)  # type: ignore[arg-type]
        result = session.conclude(pictures[place % len(pictures)], found)
        assert result.state is State.LIVE
        nodules += result.nodules
    return nodules


def test_an_empty_picture_is_live_without_a_nodule(
    session: Session, pictures: list[Pixels]
) -> None:
    result = session.conclude(pictures[0])
    assert (result.state, result.nodules, result.reason) == (State.LIVE, (), NO_NODULE)
    assert session.account.summary.not_judged == {NO_NODULE: 1}


def test_a_picture_is_searched_where_the_locator_would_run_whatever_the_state(
    session: Session, pictures: list[Pixels]
) -> None:
    """A sink could not tell else whether a box around the whole picture was classified."""
    black = np.zeros_like(pictures[0])
    results = [session.conclude(picture) for picture in (black, pictures[0], black)]
    absent = session.account.without_frame(Event.GONE)
    assert absent is not None
    assert all(result.searched for result in (*results, absent))
    session.region.mark(BOX, session.region.screen)
    assert not session.conclude(pictures[1]).searched


def test_a_nodule_gets_a_label_after_enough_evidence(
    session: Session, pictures: list[Pixels]
) -> None:
    nodules = follow(session, pictures, [0.97] * 12)
    assert (nodules[0].label, nodules[0].reason) == (None, NOT_ENOUGH)
    assert nodules[-1].label == "malignant"
    assert nodules[-1].smoothed == pytest.approx({"benign": 0.03, "malignant": 0.97}, abs=1e-3)
    assert nodules[-1].interval is not None
    low, high = nodules[-1].interval["malignant"]
    assert low < 0.97 < high


def test_a_nodule_out_of_scope_has_no_label(session: Session, pictures: list[Pixels]) -> None:
    nodules = follow(session, pictures, [0.97] * 12, out_of_scope=1.4)
    assert {(nodule.label, nodule.reason) for nodule in nodules} == {(None, OUT_OF_SCOPE)}


def test_a_label_never_becomes_another_without_an_abstention(
    session: Session, pictures: list[Pixels]
) -> None:
    nodules = follow(session, pictures, [0.97] * 20 + [0.02] * 120)
    labels = [nodule.label for nodule in nodules]
    assert {"malignant", "benign"} <= {*labels}
    pairs = {(first, second) for first, second in itertools.pairwise(labels)}
    assert not pairs & {("malignant", "benign"), ("benign", "malignant")}


def test_nodules_are_decided_apart(session: Session, pictures: list[Pixels]) -> None:
    for place in range(15):
        result = session.conclude(
            pictures[place], nodule_of(0.97, track=1), nodule_of(0.02, track=2)
        )
    assert [nodule.label for nodule in result.nodules] == ["malignant", "benign"]


def test_a_late_result_has_no_label(session: Session, pictures: list[Pixels]) -> None:
    follow(session, pictures, [0.97] * 12)
    result = session.conclude(pictures[13], nodule_of(0.97), age=0.3)
    assert (result.state, result.label) == (State.STALE, None)
    assert result.nodules[0].reason == str(Event.LATE)


def test_a_marked_region_rests_the_locator_and_without_it_nodules_are_found_anew(
    session: Session, pictures: list[Pixels]
) -> None:
    first = follow(session, pictures, [0.97] * 12)[-1]
    assert (first.track, first.label) == (1, "malignant")
    session.region.mark(BOX, session.region.screen)
    (marked,) = session.conclude(pictures[13], nodule_of(0.97)).nodules
    assert (marked.track, marked.locator_score) == (2, None)
    session.region.mark(None, session.region.screen)
    (again,) = session.conclude(pictures[14], nodule_of(0.97)).nodules
    assert (again.track, again.label, again.reason) == (3, None, NOT_ENOUGH)
