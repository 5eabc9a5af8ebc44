"""The loop: every frame accounted for, and no label outside LIVE, whatever the device does."""

import itertools
import threading
import time
from collections.abc import Iterable

import cv2
import numpy as np
import pytest

from devices import BadInput, DeviceLost, DeviceStalled, Frame, NoSignal, Pixels, SonoliteError
from devices.capture.reconnecting import Reconnecting
from devices.capture.scripted import Scripted, ScriptEvent, Stall
from edge_runtime.bundle.archive import Bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.results.result import Result
from edge_runtime.results.states import State
from edge_runtime.results.summary import Summary
from edge_runtime.screen.flaws import Flaw
from edge_runtime.screen.region import Region
from edge_runtime.session import pipeline
from edge_runtime.session.pipeline import run_session
from edge_runtime.session.silence import LONGEST_SILENCE
from edge_runtime.sinks.sink import Sink
from tests.conftest import Collected, Within

BLACK = np.zeros((240, 320, 3), np.uint8)


@pytest.fixture(scope="module")
def chain(demo_bundle: Bundle) -> FallbackChain:
    return FallbackChain(
        demo_bundle, demo_bundle.manifest.classifier, [CPU], threads=1, any_picture=True
    )


def play(
    script: Iterable[Pixels | Exception], live: bool, chain: FallbackChain
) -> tuple[list[Result], Summary, SonoliteError | None]:
    sink = Collected()
    with Scripted(script, live=live) as device:
        summary, ended = run_session(
            device, chain, Region(), [sink], threading.Event(), budget=10.0
        )
    return sink.results, summary, ended


def test_a_recording_gives_one_result_a_frame_in_order(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    results, summary, ended = play(pictures, False, chain)
    assert [result.frame for result in results] == list(range(30))
    assert [result.sequence for result in results] == list(range(30))
    assert {result.state for result in results} == {State.LIVE}
    assert (summary.read, summary.classified, ended) == (30, 30, None)


def test_a_recording_is_judged_the_same_each_time(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    runs = [play(pictures, False, chain)[0] for _ in range(2)]
    said = [[result.nodules for result in run] for run in runs]
    assert said[0] == said[1]


def test_frames_without_a_picture_are_withheld_and_counted(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    results, summary, _ = play([BLACK, pictures[0], BLACK, BLACK], False, chain)
    states = [result.state for result in results]
    assert states == [State.SEARCHING, State.LIVE, State.SEARCHING, State.SEARCHING]
    assert summary.not_judged == {str(Flaw.BLACK): 3}
    assert [not result.nodules for result in results] == [True, False, True, True]


def test_a_lost_device_ends_the_session_with_its_account(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    script: list[Pixels | Exception] = [
        pictures[0],
        DeviceStalled("no frame"),
        DeviceLost("unplugged"),
    ]
    results, summary, ended = play(script, True, chain)
    assert isinstance(ended, DeviceLost)
    assert summary.read == summary.classified == 1
    assert [(its.frame, its.state) for its in results] == [(0, State.LIVE), (None, State.LOST)]


def test_a_device_that_comes_back_is_live_again_and_never_shown_as_if_it_had_not_gone(
    chain: FallbackChain, pictures: list[Pixels]
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
        wants_pixels, latest_only = True, False

        def write(self, result: Result, pixels: Pixels) -> None:
            shown.append((result.state, result.frame, result.label))
            if result.state is State.LIVE:
                heard.set()

    heard = threading.Event()

    class Careful(Scripted):
        """Goes only when its picture was seen: what nobody took is not shown after the loss."""

        def read(self, timeout: float) -> Frame:
            if self._index:
                heard.wait(60)
                heard.clear()
            return super().read(timeout)

    def wait(seconds: float) -> None:
        now[0] += seconds

    with Reconnecting(lambda: Careful(next(lives), live=True), lambda: now[0], wait) as device:
        summary, ended = run_session(
            device, chain, Region(), [Screen()], threading.Event(), budget=10.0
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
    moment = 30.0

    def read(self, timeout: float) -> Frame:
        try:
            return super().read(timeout)
        except DeviceStalled:
            self.heard.wait(self.moment)
            raise


@pytest.mark.parametrize("until", [[State.STALE], [State.STALE, State.LOST]])
def test_a_silent_device_is_stale_and_soon_lost_without_a_label_or_its_last_picture(
    chain: FallbackChain, pictures: list[Pixels], until: list[State]
) -> None:
    shown: list[tuple[State, str | None, bool]] = []
    script: list[ScriptEvent] = [*pictures[:3], DeviceStalled("no frame"), pictures[3]]

    class Screen:
        wants_pixels, latest_only = True, False

        def write(self, result: Result, pixels: Pixels) -> None:
            shown.append((result.state, result.label, bool(pixels.any())))
            if result.state is until[-1]:
                device.heard.set()

    with Silent(script, live=True) as device:
        device.heard = threading.Event()
        run_session(device, chain, Region(), [Screen()], threading.Event(), budget=1.0)
    silence = slice(-len(until) - 1, -1)
    assert shown[silence] == [(state, None, False) for state in until]
    del shown[silence]
    assert {state for state, _, _ in shown} == {State.LIVE}


def play_by_its_own_clock(
    script: Iterable[ScriptEvent], chain: FallbackChain, sink: Sink
) -> Summary:
    """A live device that says 50 frames/s. Only its stalls move the clock of the session.

    A machine that is slow, or stands still, makes no frame later.
    """
    now = [0.0]

    def stall(seconds: float) -> None:
        for _ in range(steps := max(1, round(seconds / 0.01))):
            time.sleep(seconds / steps)  # the session waits for a frame by the real clock
            now[0] += seconds / steps

    def clock() -> float:
        return now[0]

    with Scripted(script, live=True, fps=50, clock=clock, wait=stall) as device:
        summary, _ = run_session(
            device, chain, Region(), [sink], threading.Event(), budget=0.25, clock=clock
        )
    return summary


def states_of(script: Iterable[ScriptEvent], chain: FallbackChain) -> list[State]:
    """Those of `play_by_its_own_clock`, as they follow each other."""
    sink = Collected()
    play_by_its_own_clock(script, chain, sink)
    return [state for state, _ in itertools.groupby(its.state for its in sink.results)]


def test_a_device_slower_than_it_says_is_not_gone_between_its_frames(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    script = [line for picture in pictures[:5] for line in (picture, Stall(0.6))]
    assert set(states_of(script, chain)) == {State.LIVE, State.STALE}


def test_what_has_shown_nothing_yet_is_searched_and_not_lost(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    assert State.LOST not in states_of([Stall(LONGEST_SILENCE + 0.5), *pictures[:2]], chain)


def test_frames_that_cannot_be_used_are_no_silence(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    damaged = [line for _ in range(10) for line in (Stall(0.1), BadInput("damaged"))]
    script = [*pictures[:4], *damaged, pictures[4]]
    assert State.LOST not in states_of(script, chain)


def test_pictures_that_a_grabber_makes_up_are_counted_and_their_device_is_there(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    made_up = [line for _ in range(10) for line in (Stall(0.1), NoSignal("a test picture"))]
    sink = Collected()
    summary = play_by_its_own_clock([*pictures[:4], *made_up, pictures[4]], chain, sink)
    assert State.LOST not in {its.state for its in sink.results}
    assert "a test picture" in {its.reason for its in sink.results if its.state is State.STALE}
    assert summary.not_judged[str(Flaw.NO_SIGNAL)] == 10
    assert summary.read == summary.classified + sum(summary.not_judged.values()) == 15


def test_why_no_picture_of_a_source_can_be_used_is_shown_once(chain: FallbackChain) -> None:
    refused = [line for _ in range(8) for line in (Stall(0.1), BadInput("uint16 pixels"))]
    sink = Collected()
    play_by_its_own_clock(refused, chain, sink)
    shown = [(its.state, its.reason) for its in sink.results if its.reason == "uint16 pixels"]
    assert shown == [(State.SEARCHING, "uint16 pixels")]


def test_a_stream_of_another_size_and_rate_is_judged_as_it_is_now(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    """As after a server has been set to something else: never STALE for being slower."""
    slowly: list[ScriptEvent] = []
    for picture in pictures[:3]:
        slowly += [Stall(1.4), np.asarray(cv2.resize(picture, None, fx=2, fy=2), np.uint8)]
    quickly: list[ScriptEvent] = [*pictures[:4], DeviceLost("set anew")]
    lives = iter(((quickly, 50.0), (slowly, 0.7)))

    def opener() -> Scripted:
        script, rate = next(lives)
        return Scripted(script, live=True, fps=rate)

    sink = Collected()
    device = Reconnecting(opener, wait=lambda _: None)
    stop = threading.Event()

    class Last:
        wants_pixels, latest_only = False, False

        def write(self, result: Result, pixels: Pixels) -> None:
            if result.frame == 6:
                stop.set()

    with device:
        run_session(device, chain, Region(), [sink, Last()], stop, budget=1.2)
    states = [state for state, _ in itertools.groupby(its.state for its in sink.results)]
    assert states[:3] == [State.LIVE, State.LOST, State.LIVE]
    assert State.STALE not in states


def test_a_device_that_blocks_for_ever_keeps_no_session_from_its_end(
    chain: FallbackChain, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch, within: Within
) -> None:
    monkeypatch.setattr(pipeline, "READ_TIMEOUT", 0.1)
    over, stop = threading.Event(), threading.Event()

    class Blocking(Scripted):
        def read(self, timeout: float) -> Frame:
            if self._index == 3:
                over.wait()
            return super().read(timeout)

    shown: list[Result] = []

    class Screen:
        wants_pixels, latest_only = False, False

        def write(self, result: Result, pixels: Pixels) -> None:
            shown.append(result)
            if result.state is State.LOST:
                stop.set()

    began = time.monotonic()
    try:
        summary, _ = run_session(
            Blocking(pictures, live=True, fps=50), chain, Region(), [Screen()], stop, budget=0.05
        )
    finally:
        over.set()
    assert time.monotonic() - began < within(5)
    assert shown[-1].state is State.LOST
    assert all(its.label is None for its in shown if its.frame is None)
    assert summary.read == 3


def test_a_slow_recording_is_judged_like_a_fast_one(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    fast, _, _ = play(pictures[:2], False, chain)
    script: list[Pixels | Exception] = [pictures[0], DeviceStalled("slow disk"), pictures[1]]
    sink = Collected()
    with Silent(script) as device:
        device.heard, device.moment = threading.Event(), 0.3  # longer than the session's patience
        run_session(device, chain, Region(), [sink], threading.Event(), 0.01)
    assert [its.nodules for its in sink.results] == [its.nodules for its in fast]


def test_a_damaged_recording_is_an_error(chain: FallbackChain, pictures: list[Pixels]) -> None:
    with pytest.raises(BadInput, match="damaged"):
        play([*pictures[:3], BadInput("damaged")], False, chain)


def test_a_crash_while_reading_is_not_swallowed(chain: FallbackChain) -> None:
    with pytest.raises(ZeroDivisionError):
        play([ZeroDivisionError()], True, chain)


def test_no_thread_stays_behind(chain: FallbackChain, pictures: list[Pixels]) -> None:
    before = threading.active_count()
    play(pictures[:3], False, chain)
    assert threading.active_count() == before


def test_a_stopped_session_ends_with_its_account(
    chain: FallbackChain, pictures: list[Pixels]
) -> None:
    stop = threading.Event()
    sink = Collected()

    class StopsAtFive(Collected):
        def write(self, result: Result, pixels: Pixels) -> None:
            if result.sequence == 4:
                stop.set()

    with Scripted(itertools.cycle(pictures)) as device:
        summary, ended = run_session(device, chain, Region(), [sink, StopsAtFive()], stop)
    assert len(sink.results) == summary.classified >= 5
    assert ended is None
    assert summary.read == summary.classified + sum(summary.not_judged.values())
