"""A session with pictures that are sent: each object is judged by itself."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from devices import Box, Pixels
from devices.capture import dicom_listen
from devices.capture.dicom_listen import AWAITED, DicomListen
from devices.capture.phantom import Phantom
from edge_runtime.bundle.archive import Bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import Result
from edge_runtime.results.states import State
from edge_runtime.screen.region import Region
from edge_runtime.session.pipeline import run_session
from edge_runtime.sinks.sink import Sink
from tests.conftest import Collected
from tests.devices.capture.dicom_files import region, write_dicom
from tests.devices.capture.storescu import STILL, send, storescu

pytestmark = pytest.mark.skipif(storescu is None, reason="no storescu: apt install dcmtk")
SCREENS = [Phantom(live=False).render(7 * index) for index in range(4)]


class Failing:
    """A counted sink whose place is away."""

    wants_pixels, latest_only = False, False

    def __init__(self) -> None:
        self.tally = Tally("away")

    def write(self, result: Result, pixels: Pixels) -> None:
        raise OSError("away")


def judged(demo_bundle: Bundle, paths: list[Path], results: int, *more: Sink) -> list[Result]:
    """The results of a session to which the objects are sent, until there are so many."""
    chain = FallbackChain(
        demo_bundle, demo_bundle.manifest.classifier, [CPU], threads=1, any_picture=True
    )
    sink, stop, ended = Collected(), threading.Event(), threading.Event()
    with ExitStack() as stack:
        device = stack.enter_context(DicomListen("dicom-listen:127.0.0.1:0"))
        device._quiet = True  # or a slow machine would begin with the result of a wait

        def run() -> None:
            run_session(device, chain, Region(), [sink, *more], stop)
            ended.set()

        session = threading.Thread(target=run)
        session.start()
        try:
            assert send(device.port, *paths).returncode == 0
            end = time.monotonic() + 60
            while len(sink.results) < results:
                assert time.monotonic() < end, sink.results
        finally:
            assert not ended.is_set()
            stop.set()
            session.join()
    return sink.results


def write_clip(path: Path, screens: list[Pixels], **attributes: object) -> Path:
    clip = {"NumberOfFrames": len(screens), "FrameTime": 20} | attributes
    return write_dicom(path, np.stack(screens), **clip)


def test_two_clips_are_not_smoothed_together(demo_bundle: Bundle, tmp_path: Path) -> None:
    clips = [
        write_clip(tmp_path / "1.dcm", SCREENS[:2]),
        write_clip(tmp_path / "2.dcm", SCREENS[2:]),
    ]
    results = judged(demo_bundle, clips, 4)
    nodules = [result.nodules[0] for result in results]
    alone = [nodule.smoothed == nodule.probability for nodule in nodules]
    assert alone == [True, False, True, False]


def test_each_object_is_judged_in_the_region_that_it_names(
    demo_bundle: Bundle, tmp_path: Path
) -> None:
    named = {"SequenceOfUltrasoundRegions": [region(100, 120, 399, 419)]}
    first = write_clip(tmp_path / "1.dcm", SCREENS[:2], **named)
    still = write_dicom(tmp_path / "2.dcm", SCREENS[2], **STILL)
    results = judged(demo_bundle, [first, still], 3)
    assert [result.box for result in results[:2]] == [Box(100, 120, 300, 300)] * 2
    assert results[2].box not in (None, results[0].box)


def test_a_sink_that_is_away_ends_no_session(demo_bundle: Bundle, tmp_path: Path) -> None:
    away = Failing()
    still = write_dicom(tmp_path / "1.dcm", SCREENS[0], **STILL)
    judged(demo_bundle, [still], 1, away)
    assert away.tally.delivery().given_up == 1


def test_a_picture_is_left_when_nothing_follows_it(
    demo_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_listen, "SHOWN_SECONDS", 0.0)
    results = judged(demo_bundle, [write_dicom(tmp_path / "1.dcm", SCREENS[0], **STILL)], 2)
    states = [(result.state, result.frame) for result in results]
    assert states == [(State.LIVE, 0), (State.SEARCHING, None)]
    assert results[1].reason == AWAITED
