"""The loop: every frame accounted for, and no label outside LIVE, whatever the device does."""

import itertools
import threading
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box, DeviceLost, DeviceStalled, Frame, Pixels, SonoliteError
from devices.capture import Phantom, Reconnecting, Scripted
from devices.compute import Backend, Outputs
from edge_runtime.bundle import Bundle
from edge_runtime.classify import Classifier
from edge_runtime.live import FROZEN_AFTER, Session, run_session
from edge_runtime.result import Result
from edge_runtime.sector import Region
from edge_runtime.session import Event, State
from edge_runtime.summary import Summary

BLACK = np.zeros((240, 320, 3), np.uint8)


class Collected:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def write(self, result: Result, pixels: Pixels) -> None:
        self.results.append(result)


@pytest.fixture(scope="module")
def classifier(demo_bundle: Bundle) -> Classifier:
    return Classifier(demo_bundle, demo_bundle.manifest.stages[0], threads=1, any_picture=True)


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    phantom = Phantom(width=320, height=240, live=False)
    return [phantom.render(index) for index in range(30)]


def play(
    script: Iterable[Pixels | Exception], live: bool, bundle: Bundle, classifier: Classifier
) -> tuple[list[Result], Summary, SonoliteError | None]:
    sink = Collected()
    with Scripted(script, live=live) as device:
        summary, ended = run_session(
            device, bundle, classifier, Region(), [sink], threading.Event(), budget=10.0
        )
    return sink.results, summary, ended


def test_a_recording_gives_one_result_a_frame_in_order(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    results, summary, ended = play(pictures, False, demo_bundle, classifier)
    assert [result.frame for result in results] == list(range(30))
    assert [result.sequence for result in results] == list(range(30))
    assert {result.state for result in results} == {State.LIVE}
    assert (summary.read, summary.classified, ended) == (30, 30, None)


def test_a_recording_is_judged_the_same_each_time(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    runs = [play(pictures, False, demo_bundle, classifier)[0] for _ in range(2)]
    said = [[(its.label, its.probability, its.smoothed) for its in run] for run in runs]
    assert said[0] == said[1]


def test_frames_without_a_picture_are_withheld_and_counted(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    results, summary, _ = play([BLACK, pictures[0], BLACK, BLACK], False, demo_bundle, classifier)
    states = [result.state for result in results]
    assert states == [State.SEARCHING, State.LIVE, State.SEARCHING, State.SEARCHING]
    assert summary.not_judged == {str(Event.UNUSABLE): 3}
    assert [result.probability is None for result in results] == [True, False, True, True]


def test_a_lost_device_ends_the_session_with_its_account(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    script: list[Pixels | Exception] = [
        pictures[0],
        DeviceStalled("no frame"),
        DeviceLost("unplugged"),
    ]
    results, summary, ended = play(script, True, demo_bundle, classifier)
    assert isinstance(ended, DeviceLost)
    assert summary.read == summary.classified == 1
    assert [(its.frame, its.state) for its in results] == [(0, State.LIVE), (None, State.LOST)]


def test_a_device_that_comes_back_is_live_again_and_never_shown_as_if_it_had_not_gone(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    scripts: list[list[Pixels | Exception]] = [
        [pictures[0], DeviceLost("unplugged")],
        [pictures[1], DeviceLost("unplugged")],
        [pictures[2]],
    ]
    shown: list[tuple[State, int | None, str | None]] = []
    lives = iter(scripts)
    now = [0.0]

    class Screen:
        def write(self, result: Result, pixels: Pixels) -> None:
            shown.append((result.state, result.frame, result.label))
            if result.state is State.LIVE:
                heard.set()

    heard = threading.Event()

    class Careful(Scripted):
        """Goes only when its picture was seen: what nobody took is not shown after the loss."""

        def read(self, timeout: float) -> Frame:
            if self._index:
                heard.wait(10)
                heard.clear()
            return super().read(timeout)

    def wait(seconds: float) -> None:
        now[0] += seconds

    with Reconnecting(lambda: Careful(next(lives), live=True), lambda: now[0], wait) as device:
        summary, ended = run_session(
            device, demo_bundle, classifier, Region(), [Screen()], threading.Event(), budget=10.0
        )
    assert [(state, frame) for state, frame, _ in shown] == [
        (State.LIVE, 0),
        (State.LOST, None),
        (State.LIVE, 1),
        (State.LOST, None),
        (State.LIVE, 2),
    ]
    assert all(label is None for state, _, label in shown if state is State.LOST)
    assert (summary.read, summary.classified, ended) == (3, 3, None)


class Silent(Scripted):
    """Says nothing where its script stalls, until `heard` is set or a moment has gone by."""

    heard = threading.Event()
    moment = 5.0

    def read(self, timeout: float) -> Frame:
        try:
            return super().read(timeout)
        except DeviceStalled:
            self.heard.wait(self.moment)
            raise


def test_a_silent_device_is_shown_as_stale_without_a_label_or_its_last_picture(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    shown: list[tuple[State, str | None, bool]] = []
    script: list[Pixels | Exception] = [pictures[0], DeviceStalled("no frame"), pictures[1]]

    class Screen:
        def write(self, result: Result, pixels: Pixels) -> None:
            shown.append((result.state, result.label, bool(pixels.any())))
            if result.state is State.STALE:
                device.heard.set()

    with Silent(script, live=True) as device:
        run_session(device, demo_bundle, classifier, Region(), [Screen()], threading.Event())
    assert [state for state, _, _ in shown] == [State.LIVE, State.STALE, State.LIVE]
    assert shown[1] == (State.STALE, None, False)


def test_a_slow_recording_is_judged_like_a_fast_one(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    fast, _, _ = play(pictures[:2], False, demo_bundle, classifier)
    script: list[Pixels | Exception] = [pictures[0], DeviceStalled("slow disk"), pictures[1]]
    sink = Collected()
    with Silent(script) as device:
        device.heard, device.moment = threading.Event(), 0.3  # longer than the session's patience
        run_session(device, demo_bundle, classifier, Region(), [sink], threading.Event(), 0.01)
    assert [its.smoothed for its in sink.results] == [its.smoothed for its in fast]


def test_a_damaged_recording_is_an_error(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    with pytest.raises(BadInput, match="damaged"):
        play([*pictures[:3], BadInput("damaged")], False, demo_bundle, classifier)


def test_a_crash_while_reading_is_not_swallowed(
    demo_bundle: Bundle, classifier: Classifier
) -> None:
    with pytest.raises(ZeroDivisionError):
        play([ZeroDivisionError()], True, demo_bundle, classifier)


def test_no_thread_stays_behind(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    before = threading.active_count()
    play(pictures[:3], False, demo_bundle, classifier)
    assert threading.active_count() == before


def test_a_stopped_session_ends_with_its_account(
    demo_bundle: Bundle, classifier: Classifier, pictures: list[Pixels]
) -> None:
    stop = threading.Event()
    sink = Collected()

    class StopsAtFive(Collected):
        def write(self, result: Result, pixels: Pixels) -> None:
            if result.sequence == 4:
                stop.set()

    with Scripted(itertools.cycle(pictures)) as device:
        summary, ended = run_session(
            device, demo_bundle, classifier, Region(), [sink, StopsAtFive()], stop
        )
    assert len(sink.results) == summary.classified == 5
    assert ended is None
    assert summary.read == summary.classified + sum(summary.not_judged.values())


class Hand:
    """A session whose clock is moved by hand."""

    def __init__(
        self,
        bundle: Bundle,
        classifier: Classifier,
        budget: float = 0.25,
        region: Region | None = None,
    ) -> None:
        from datetime import UTC, datetime

        self.now = 100.0
        start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.session = Session(
            True, bundle, classifier, region or Region(), budget, lambda: self.now, lambda: start
        )
        self.index = itertools.count()

    def judge(self, pixels: Pixels, age: float = 0.0) -> Result:
        at = self.now - age
        return self.session.judge(Frame(pixels, at, next(self.index), timestamp=at))


@pytest.fixture
def hand(demo_bundle: Bundle, classifier: Classifier) -> Hand:
    return Hand(demo_bundle, classifier)


def test_a_late_result_is_stale_and_has_no_label(hand: Hand, pictures: list[Pixels]) -> None:
    assert hand.judge(pictures[0], age=0.2).state is State.LIVE
    late = hand.judge(pictures[1], age=0.3)
    assert (late.state, late.label, late.smoothed) == (State.STALE, None, None)
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


def test_the_same_picture_for_too_long_is_frozen(hand: Hand, pictures: list[Pixels]) -> None:
    hand.judge(pictures[0])
    hand.now += FROZEN_AFTER + 0.01
    frozen = hand.judge(pictures[0].copy())
    assert (frozen.state, frozen.label, frozen.probability) == (State.FROZEN, None, None)
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
    assert again.probability is not None
    assert again.smoothed == pytest.approx(again.probability["malignant"])


def test_wall_time_is_for_the_record_and_follows_the_monotonic_clock(
    hand: Hand, pictures: list[Pixels]
) -> None:
    hand.now += 61.5
    assert hand.judge(pictures[0]).captured_utc == "2026-01-02T03:05:06.500+00:00"


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
        assert (result.state, result.label, result.probability) == (State.FAULT, None, None)
    assert hand.judge(pictures[1]).state is State.LIVE


@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.just("picture"), st.integers(0, 29)),
            st.just(("black", 0)),
            st.tuples(st.just("late"), st.integers(0, 29)),
            st.tuples(st.just("wait"), st.integers(1, 30)),
            st.sampled_from([("silent", 0), ("gone", 0)]),
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
    judged = 0
    for what, number in script:
        if what == "wait":
            hand.now += number / 10
        elif what in ("silent", "gone"):
            hand.session.happened(Event.SILENT if what == "silent" else Event.GONE)
        else:
            pixels = BLACK if what == "black" else pictures[number]
            result = hand.judge(pixels, age=0.5 if what == "late" else 0.0)
            judged += 1
            assert result.label is None or result.state is State.LIVE
            assert (result.label is None) == (result.reason is not None)
            assert what == "picture" or result.state is not State.LIVE
    summary = hand.session.summary
    assert summary.classified + sum(summary.not_judged.values()) == judged
