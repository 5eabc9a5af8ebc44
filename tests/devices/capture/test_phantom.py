"""The simulated probe: seeded, in time, and with a nodule that comes and goes."""

import itertools

import numpy as np
import pytest

from devices import EndOfRecording
from devices.capture.phantom import Phantom


def test_the_same_seed_gives_the_same_frames() -> None:
    one, two = (Phantom(seed=5, width=320, height=240).render(17) for _ in range(2))
    assert np.array_equal(one, two)


def test_another_seed_gives_another_neck() -> None:
    one, two = (Phantom(seed=seed, width=320, height=240).render(17) for seed in (5, 6))
    assert not np.array_equal(one, two)


def test_a_frame_does_not_depend_on_the_ones_before_it() -> None:
    phantom = Phantom(seed=5, width=320, height=240)
    first = phantom.render(9)
    phantom.render(30)
    assert np.array_equal(first, phantom.render(9))


def test_the_nodule_comes_and_goes() -> None:
    phantom = Phantom()
    seen = [phantom.nodule_box(index) is not None for index in range(160)]
    assert 0.3 < np.mean(seen) < 0.7
    assert sum(a != b for a, b in itertools.pairwise(seen)) >= 3


def test_a_malignant_nodule_is_darker_than_the_gland_around_it() -> None:
    with_nodule, without = (Phantom(nodule=kind, live=False) for kind in ("malignant", "none"))
    box = with_nodule.nodule_box(40)
    assert box is not None
    inside = np.s_[box.y : box.y + box.h, box.x : box.x + box.w, 0]
    dark = np.median(with_nodule.render(40)[inside])
    assert dark < np.median(without.render(40)[inside]) - 20


def test_speckle_has_the_statistics_of_an_envelope() -> None:
    """A Rayleigh envelope has a mean of 1.91 deviations (Wagner et al. 1983)."""
    phantom = Phantom(width=960, height=720, live=False)
    magnitude = np.abs(phantom._speckle[0])
    assert magnitude.mean() / magnitude.std() == pytest.approx(1.91, rel=0.03)


def test_live_frames_pass_whether_or_not_they_are_read() -> None:
    now = 10.0
    phantom = Phantom(fps=10, width=320, height=240, clock=lambda: now, sleep=lambda _: None)
    assert phantom.read(1.0).index == 0
    now = 11.5
    assert phantom.read(1.0).index == 15


def test_live_frames_are_waited_for() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    phantom = Phantom(fps=10, width=320, height=240, clock=lambda: now, sleep=sleep)
    stamps = [phantom.read(1.0).captured_at for _ in range(4)]
    assert stamps == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_limited_phantom_ends() -> None:
    phantom = Phantom(frames=1, width=320, height=240, live=False)
    phantom.read(1.0)
    with pytest.raises(EndOfRecording):
        phantom.read(1.0)
