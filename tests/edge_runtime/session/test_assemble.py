"""A session whose region of interest changes while frames come, with the locator of a bundle."""

import threading
from pathlib import Path

from devices import Pixels
from edge_runtime.bundle.archive import open_bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.results.result import Result
from edge_runtime.screen.region import Region
from edge_runtime.session.assemble import assemble, open_source


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
