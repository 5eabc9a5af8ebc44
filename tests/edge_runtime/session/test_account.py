"""What is said of each view: no label outside LIVE, whatever comes."""

import itertools
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box, Frame, Pixels
from devices.compute import Backend, Outputs
from edge_runtime.bundle.archive import Bundle
from edge_runtime.models.classifier import Classifier
from edge_runtime.results.result import Result
from edge_runtime.results.states import Event, State
from edge_runtime.screen.region import Region
from edge_runtime.screen.saved_regions import SavedRegion
from edge_runtime.screen.stillness import FROZEN_AFTER
from edge_runtime.session.account import UNMARKED, Account
from edge_runtime.session.prepare import Preparer
from edge_runtime.session.throttle import Throttle

BLACK = np.zeros((240, 320, 3), np.uint8)


@pytest.fixture(scope="module")
def classifier(demo_bundle: Bundle) -> Classifier:
    return Classifier(demo_bundle, demo_bundle.manifest.classifier, threads=1, any_picture=True)


class Hand:
    """A live session in one thread whose clock is moved by hand."""

    def __init__(
        self,
        bundle: Bundle,
        classifier: Classifier,
        budget: float = 0.25,
        region: Region | None = None,
    ) -> None:
        self.now = 100.0
        self.wall = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.classifier = classifier
        region = region or Region()
        self.preparer = Preparer(True, region, classifier.preprocessing, lambda: self.now)
        stage, clock = classifier.stage, lambda: self.now
        self.account = Account(
            True, stage, bundle.id, region, budget, Throttle(), clock, lambda: self.wall
        )
        self.account.set_classifier(classifier)
        self.index = itertools.count()

    def judge(self, pixels: Pixels, age: float = 0.0) -> Result:
        at = self.now - age
        prepared = self.preparer.prepare(Frame(pixels, at, next(self.index), timestamp=at))
        self.preparer.check(prepared)
        prediction = None
        if prepared.tensor is not None:
            with suppress(RuntimeError):
                prediction = self.classifier.predict(prepared.tensor)
        return self.account.conclude(prepared, prediction)


@pytest.fixture
def hand(demo_bundle: Bundle, classifier: Classifier) -> Hand:
    return Hand(demo_bundle, classifier)


def test_a_late_result_is_stale_and_has_no_label(hand: Hand, pictures: list[Pixels]) -> None:
    assert hand.judge(pictures[0], age=0.2).state is State.LIVE
    late = hand.judge(pictures[1], age=0.3)
    assert (late.state, late.label, late.nodules[0].smoothed) == (State.STALE, None, None)
    assert late.latency_ms.total == pytest.approx(300)


def test_a_live_screen_that_becomes_too_small_for_the_region_is_withheld(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    """A grabber without a signal sends another size; a region that never fitted is an error."""
    hand = Hand(demo_bundle, classifier, region=Region(Box(100, 80, 150, 120)))
    assert hand.judge(pictures[0]).state is State.LIVE
    small = hand.judge(pictures[20][:100, :100])
    assert (small.state, small.label) == (State.SEARCHING, None)
    assert hand.judge(pictures[20]).state is State.LIVE
    other = Hand(demo_bundle, classifier, region=Region(Box(100, 80, 1500, 120)))
    with pytest.raises(BadInput, match="lies outside"):
        other.judge(pictures[0])


def test_a_result_says_what_the_model_saw_and_what_speaks_for_its_label(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    roi = Box(150, 100, 50, 40)
    hand = Hand(demo_bundle, classifier, region=Region(roi))
    nodules = [hand.judge(picture).nodules[0] for picture in pictures[:8]]
    assert {nodule.window for nodule in nodules} == {Box(135, 80, 80, 80)}
    assert all((nodule.label is None) == (nodule.evidence is None) for nodule in nodules)
    for nodule in nodules:
        if nodule.evidence is not None:
            odds = nodule.probability["malignant"] / nodule.probability["benign"]
            assert nodule.evidence.mean() == pytest.approx(np.log(odds), abs=0.2)


def test_the_same_picture_for_too_long_is_frozen(hand: Hand, pictures: list[Pixels]) -> None:
    hand.judge(pictures[0])
    hand.now += FROZEN_AFTER + 0.01
    frozen = hand.judge(pictures[0].copy())
    assert (frozen.state, frozen.nodules) == (State.FROZEN, ())
    assert hand.judge(pictures[20]).state is State.LIVE


def test_a_frozen_picture_is_seen_through_noise(hand: Hand, pictures: list[Pixels]) -> None:
    dice = np.random.default_rng(0)

    def noisy() -> Pixels:
        noise = dice.normal(0, 5, pictures[0].shape)
        return np.clip(pictures[0] + noise, 0, 255).astype(np.uint8)

    states = []
    for _ in range(10):
        states.append(hand.judge(noisy()).state)
        hand.now += FROZEN_AFTER / 8
    assert states == [State.LIVE] * 8 + [State.FROZEN] * 2


def test_a_clock_that_runs_beside_a_frozen_picture_does_not_make_it_live(
    hand: Hand, pictures: list[Pixels]
) -> None:
    shown = hand.judge(pictures[0])
    assert shown.box is not None
    screen = pictures[0].copy()
    hand.now += FROZEN_AFTER + 0.01
    screen[:, shown.box.x + shown.box.w + 2 :] = 255
    assert not np.array_equal(screen, pictures[0])
    assert hand.judge(screen).state is State.FROZEN


def test_smoothing_begins_anew_after_live_was_left(hand: Hand, pictures: list[Pixels]) -> None:
    hand.judge(pictures[0])
    hand.judge(BLACK)
    hand.now += 0.05
    again = hand.judge(pictures[20])
    (nodule,) = again.nodules
    assert nodule.smoothed == pytest.approx(nodule.probability)


def test_smoothing_begins_anew_on_a_screen_of_another_size(
    hand: Hand, pictures: list[Pixels]
) -> None:
    hand.judge(pictures[0])
    hand.now += 0.05
    again = hand.judge(np.asarray(cv2.resize(pictures[20], (480, 360)), np.uint8))
    assert again.state is State.LIVE
    (nodule,) = again.nodules
    assert nodule.smoothed == pytest.approx(nodule.probability)


def test_wall_time_is_that_of_the_capture(hand: Hand, pictures: list[Pixels]) -> None:
    assert hand.judge(pictures[0], age=0.125).captured_utc == "2026-01-02T03:04:04.875+00:00"


def test_a_wall_clock_set_back_by_an_hour_changes_the_record_alone(
    hand: Hand, pictures: list[Pixels]
) -> None:
    before = hand.judge(pictures[0])
    hand.now += 0.05
    hand.wall -= timedelta(hours=1)
    after = hand.judge(pictures[20])
    assert (before.state, after.state) == (State.LIVE, State.LIVE)
    assert after.captured_at == pytest.approx(before.captured_at + 0.05)
    assert after.captured_utc < before.captured_utc


class Failing:
    """A backend that fails, or answers what is not a number."""

    def __init__(self, backend: Backend, nonsense: bool) -> None:
        self.compute, self._nonsense = backend.compute, nonsense

    def run(self, tensor: object) -> Outputs:
        if not self._nonsense:
            raise RuntimeError("delegate failed")
        return {"probability": np.full((1, 2), np.nan, np.float32)}


@pytest.mark.parametrize("nonsense", [False, True])
def test_failed_inference_is_a_fault_until_a_frame_is_judged(
    hand: Hand,
    classifier: Classifier,
    pictures: list[Pixels],
    monkeypatch: pytest.MonkeyPatch,
    nonsense: bool,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "backend", Failing(classifier.backend, nonsense))
        result = hand.judge(pictures[0])
        assert (result.state, result.nodules) == (State.FAULT, ())
    assert hand.judge(pictures[1]).state is State.LIVE


@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.just("picture"), st.integers(0, 29)),
            st.just(("black", 0)),
            st.tuples(st.just("late"), st.integers(0, 29)),
            st.tuples(st.just("wait"), st.integers(1, 30)),
            st.sampled_from([("silent", 0), ("absent", 0), ("gone", 0)]),
        ),
        max_size=25,
    )
)
def test_no_label_outside_live_ever(
    demo_bundle: Bundle,
    classifier: Classifier,
    pictures: list[Pixels],
    script: list[tuple[str, int]],
) -> None:
    hand = Hand(demo_bundle, classifier)
    frames = 0
    for what, number in script:
        if what == "wait":
            hand.now += number / 10
        elif what in ("silent", "absent", "gone"):
            hand.account.advance(Event[what.upper()])
        else:
            pixels = BLACK if what == "black" else pictures[number]
            result = hand.judge(pixels, age=0.5 if what == "late" else 0.0)
            frames += 1
            assert result.label is None or result.state is State.LIVE
            assert (result.label is None) == (result.reason is not None)
            assert what == "picture" or result.state is not State.LIVE
    summary = hand.account.summary
    assert summary.classified + sum(summary.not_judged.values()) == frames


def test_without_a_marked_nodule_a_model_of_nodules_gives_no_label(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    hand = Hand(demo_bundle, classifier, region=Region(whole=False))
    result = hand.judge(pictures[0])
    assert (result.state, result.nodules, result.reason) == (State.LIVE, (), UNMARKED)
    assert hand.account.summary.not_judged == {UNMARKED: 1}
    black = hand.judge(BLACK)
    assert (black.state, black.reason) == (State.SEARCHING, "the picture is black")


def test_another_prevalence_moves_the_probability_and_never_the_label(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    shares = {"benign": 0.95, "malignant": 0.05}
    plain, adjusted = Hand(demo_bundle, classifier), Hand(demo_bundle, classifier)
    adjusted.account._prevalence = shares
    for picture in pictures[:8]:
        ((one,), (other,)) = plain.judge(picture).nodules, adjusted.judge(picture).nodules
        assert (one.label, one.smoothed, one.adjusted) == (other.label, other.smoothed, None)
        assert other.smoothed is not None
        assert other.adjusted is not None
        assert other.adjusted["malignant"] < other.smoothed["malignant"]


ROI, BESIDE = Box(150, 100, 50, 40), Box(20, 20, 50, 40)


def test_a_region_that_is_marked_is_in_the_next_result_and_smoothing_begins_anew(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    region = Region(ROI)
    hand = Hand(demo_bundle, classifier, region=region)
    for picture in pictures[:4]:
        hand.now += 0.05
        hand.judge(picture)
    region.mark(BESIDE, region.screen)
    hand.now += 0.05
    (nodule,) = hand.judge(pictures[4]).nodules
    assert nodule.box == BESIDE
    assert nodule.smoothed == nodule.probability


@pytest.mark.parametrize(("other", "track"), [(BESIDE, 2), (Box(155, 105, 50, 40), 1)])
def test_a_region_elsewhere_is_another_nodule(
    demo_bundle: Bundle,
    classifier: Classifier,
    pictures: list[Pixels],
    other: Box,
    track: int,
) -> None:
    region = Region(ROI)
    hand = Hand(demo_bundle, classifier, region=region)
    assert hand.judge(pictures[0]).nodules[0].track == 1
    region.mark(other, region.screen)
    assert hand.judge(pictures[1]).nodules[0].track == track


def test_a_region_of_another_size_of_the_screen_is_another_nodule(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    """A region is remembered for one of two sizes, and nobody marks anything."""
    larger = np.pad(pictures[1], ((0, 40), (0, 40), (0, 0))[: pictures[1].ndim])
    screen = (pictures[0].shape[1], pictures[0].shape[0])
    region = Region(saved={screen: SavedRegion("phantom:", screen, roi=ROI)})
    hand = Hand(demo_bundle, classifier, region=region)
    results = [hand.judge(picture) for picture in (pictures[0], larger, pictures[2])]
    assert [result.region for result in results] == ["given", "found", "given"]
    assert [result.nodules[0].track for result in results] == [1, 2, 3]


def test_without_its_region_a_model_of_nodules_gives_no_label_any_more(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    region = Region(ROI, whole=False)
    hand = Hand(demo_bundle, classifier, region=region)
    assert hand.judge(pictures[0]).region == "given"
    region.mark(None, region.screen)
    result = hand.judge(pictures[1])
    assert (result.nodules, result.reason, result.region) == ((), UNMARKED, "found")


def test_another_region_does_not_make_a_frozen_picture_live(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    region = Region(ROI)
    hand = Hand(demo_bundle, classifier, region=region)
    for _ in range(3):
        hand.now += 0.6
        frozen = hand.judge(pictures[0])
    assert frozen.state is State.FROZEN
    region.mark(BESIDE, region.screen)
    hand.now += 0.1
    still = hand.judge(pictures[0])
    assert (still.state, still.box) == (State.FROZEN, BESIDE)
    assert hand.judge(pictures[20]).state is State.LIVE
