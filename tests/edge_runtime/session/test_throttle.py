"""A hot device judges fewer frames, says so, and never shows an old label meanwhile."""

import threading
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from devices import Pixels
from devices.boards import Board, read_board
from devices.capture.scripted import Scripted
from devices.health import Health
from edge_runtime.bundle.archive import Bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.results.states import State
from edge_runtime.screen.region import Region
from edge_runtime.session.pipeline import run_session
from edge_runtime.session.throttle import READING_INTERVAL, Throttle
from edge_runtime.session.throttle_levels import COOLING_SECONDS, ThrottleLevel
from tests.conftest import Collected

BOARD = read_board("raspberry-pi-5")


class Warm:
    """A board whose temperature and time are set by hand."""

    def __init__(self, celsius: float = 40.0) -> None:
        self.now, self.reads = 100.0, 0
        self.health = Health(celsius=celsius)
        self.throttle = Throttle(BOARD, lambda: self.now, self._read)

    def _read(self, board: Board) -> Health:
        self.reads += 1
        return self.health

    def becomes(self, celsius: float) -> None:
        self.health = replace(self.health, celsius=celsius)
        self.now += READING_INTERVAL
        self.throttle.update()


def test_without_a_board_every_frame_is_taken() -> None:
    throttle = Throttle()
    throttle.update()
    assert all(throttle.admits(number / 30, 30) for number in range(1, 90))
    assert throttle.troubles == ()


def test_health_is_read_once_a_second() -> None:
    warm = Warm()
    for _ in range(40):
        warm.now += READING_INTERVAL / 10
        warm.throttle.update()
    assert 4 <= warm.reads <= 5


def test_a_hot_board_takes_half_the_frames_and_says_why() -> None:
    warm = Warm()
    warm.becomes(BOARD.thermal.half + 1)
    taken = sum(warm.throttle.admits(200 + number / 30, 30) for number in range(300))
    assert 149 <= taken <= 151
    assert warm.throttle.troubles == ("the device is hot: half of the frames are judged",)


def test_a_board_that_has_cooled_takes_all_again() -> None:
    warm = Warm()
    warm.becomes(BOARD.thermal.half + 1)
    warm.becomes(40)
    warm.now += COOLING_SECONDS
    warm.becomes(40)
    assert warm.throttle.level is ThrottleLevel.FULL


@given(st.sampled_from(ThrottleLevel), st.floats(1, 120), st.floats(0.01, 10))
def test_frames_that_are_held_back_are_not_silence(
    level: ThrottleLevel, fps: float, budget: float
) -> None:
    warm = Warm()
    limits = BOARD.thermal
    degrees = (40, limits.half, limits.quarter, limits.single, limits.withheld)
    warm.becomes(degrees[level])
    assert warm.throttle.level is level
    patience = warm.throttle.frame_timeout(budget, fps)
    assert patience >= budget
    if level.rate(fps):
        assert patience > 1 / level.rate(fps)


def test_a_board_that_is_too_hot_shows_no_label_and_says_why(
    demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    warm = Warm()
    warm.becomes(BOARD.thermal.withheld)
    sink = Collected()
    chain = FallbackChain(
        demo_bundle, demo_bundle.manifest.classifier, [CPU], threads=1, any_picture=True
    )
    with Scripted(pictures, live=True) as device:
        summary, _ = run_session(
            device, chain, Region(), [sink], threading.Event(), budget=10, throttle=warm.throttle
        )
    assert summary.not_judged == {"held back because the device is hot": 30}
    assert summary.read == 30
    assert all(its.state is not State.LIVE and its.label is None for its in sink.results)
