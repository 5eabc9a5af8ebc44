"""A session whose region of interest changes while frames come, with the locator of a bundle."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from devices import BadInput, Pixels
from devices.capture.phantom import Phantom
from devices.capture.scripted import Scripted
from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.results.result import Result
from edge_runtime.screen.region import Region
from edge_runtime.session.assemble import assemble, open_source
from tests.conftest import Collected


class Clears:
    """Clears the region at the fifth result, and ends the session some results later."""

    wants_pixels, latest_only = False, False

    def __init__(self, region: Region, stop: threading.Event) -> None:
        self._region, self._stop = region, stop
        self.results: list[Result] = []

    def write(self, result: Result, pixels: Pixels) -> None:
        self.results.append(result)
        if len(self.results) == 5:
            self._region.mark(None, self._region.screen)
        if len(self.results) == 20:
            self._stop.set()


def test_the_locator_rests_while_a_region_is_marked_and_searches_without(
    shipped_path: Path,
) -> None:
    bundle = open_bundle(shipped_path)
    chain = FallbackChain(bundle, bundle.manifest.classifier, [CPU], threads=1, any_picture=True)
    stop = threading.Event()
    with open_source("phantom:") as device:
        session = assemble(device, chain, "167,190,108,100", budget=60, operated=True)
        sink = Clears(session.region, stop)
        session.run([sink], stop)
    given = [result for result in sink.results if result.region == "given"]
    later = [result for result in sink.results if result.region == "found"]
    assert len(given) >= 5
    assert later
    assert all(result.box == (167, 190, 108, 100) for result in given)
    assert not any(result.searched for result in given)
    assert all(result.searched for result in later)


PACE = 2
"""Pixels that the neck moves from frame to frame."""


def sweep() -> Iterator[Pixels]:
    """The probe glides over a neck, in one direction."""
    phantom = Phantom(live=False)
    x, y, w, h = phantom.picture
    screen = phantom.render(40)
    neck = screen[y : y + h, x : x + w].copy()
    for index in range(40):
        screen[y : y + h, x : x + w] = np.roll(neck, PACE * index, axis=1)
        yield screen.copy()


def test_a_marked_box_follows_its_nodule_over_a_moving_neck(shipped_path: Path) -> None:
    bundle = open_bundle(shipped_path)
    chain = FallbackChain(bundle, bundle.manifest.classifier, [CPU], threads=1, any_picture=True)
    marked, sink = Phantom(live=False).nodule_box(40), Collected()
    assert marked is not None
    with Scripted(sweep()) as device:
        session = assemble(device, chain, ",".join(map(str, marked)), follow=True)
        session.run([sink], threading.Event())
    assert len(sink.results) == 40
    for index, result in enumerate(sink.results):
        nodule = result.nodules[0]
        assert (result.region, nodule.track, nodule.locator_score) == ("given", 1, 1.0)
        truth = marked._replace(x=marked.x + PACE * index)
        assert overlap(nodule.box, truth) > 0.6


def overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    (x, y, w, h), (left, top, width, height) = one, other
    across = min(x + w, left + width) - max(x, left)
    down = min(y + h, top + height) - max(y, top)
    both = max(0, across) * max(0, down)
    return both / (w * h + width * height - both)


def test_a_box_follows_nothing_without_a_locator(demo_bundle: Bundle) -> None:
    chain = FallbackChain(demo_bundle, demo_bundle.manifest.classifier, [CPU], threads=1)
    with (
        open_source("phantom:?frames=3&live=no") as device,
        pytest.raises(BadInput, match=r"--follow: .* has no locator"),
    ):
        assemble(device, chain, "167,190,108,100", follow=True)
