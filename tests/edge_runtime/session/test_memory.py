"""Once warm, a frame asks for no memory of the size of a picture."""

import gc
import itertools
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from devices import Box, Frame, Pixels
from devices.capture.scripted import Scripted
from devices.capture.video import Video
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.shipped import DEMO_KEYS
from edge_runtime.bundle.trust import TRUST_VARIABLE
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU, Classifier
from edge_runtime.results.result import Result
from edge_runtime.screen.region import Region
from edge_runtime.session.pipeline import run_session
from edge_runtime.session.prepare import Preparer
from tests.conftest import SWEEPS

NODULE = Box(80, 90, 60, 60)
SMALL = 16_000
"""Bytes: less than the model's 128 x 128 input, let alone a screen."""


def frames(pictures: list[Pixels]) -> "itertools.cycle[Frame]":
    return itertools.cycle(Frame(its, 0.0, n, n / 20) for n, its in enumerate(pictures))


def most_asked(steps: int, step: object) -> int:
    """The most that was held above the beginning, over so many steps."""
    assert callable(step)
    for _ in range(40):
        step()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(steps):
            step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


def test_preparing_and_judging_ask_for_no_picture(
    demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    classifier = Classifier(demo_bundle, demo_bundle.manifest.classifier, threads=1)
    preparer = Preparer(False, Region(NODULE), classifier.preprocessing)
    coming = frames(pictures)

    def step() -> None:
        prepared = preparer.prepare(next(coming))
        preparer.check(prepared)
        assert prepared.tensor is not None
        classifier.predict(prepared.tensor)

    assert most_asked(100, step) < SMALL


@pytest.mark.skipif(not SWEEPS.is_dir(), reason="the sweeps are not here")
def test_decoding_asks_for_no_frame() -> None:
    with Video(Path(SWEEPS / "seq24.mp4")) as video:
        assert most_asked(40, lambda: video.read(1.0)) < SMALL


@pytest.mark.slow
def test_a_long_session_keeps_nothing(demo_bundle: Bundle, pictures: list[Pixels]) -> None:
    blocks = []

    class Counting:
        wants_pixels, latest_only = True, False  # so that few results wait for it

        def write(self, result: Result, pixels: Pixels) -> None:
            if result.sequence in (500, 2000):
                gc.collect()  # Python's own stores of spare tuples are none of ours
                blocks.append(sys.getallocatedblocks())

    chain = FallbackChain(demo_bundle, demo_bundle.manifest.classifier, [CPU], threads=1)
    with Scripted(itertools.islice(itertools.cycle(pictures), 2100)) as device:
        run_session(device, chain, Region(NODULE), [Counting()], threading.Event())
    assert blocks[1] - blocks[0] < 500


def test_a_session_that_nobody_watches_loads_only_what_it_uses(shipped_path: Path) -> None:
    words = ["run", str(shipped_path), "--source", "phantom:?frames=2", "--json"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edge_runtime", *words],
        env={**os.environ, TRUST_VARIABLE: str(DEMO_KEYS)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"cv2", "numpy", "msgspec", "nacl"} <= loaded
    idle = {"rich", "importlib.metadata", "email", "imagesize", "simplejpeg", "fastcrc", "pydantic"}
    idle |= {"starlette", "uvicorn", "websockets", "edge_runtime.view.address"}
    idle |= {"sqlite3", "http.client", "csv", "prometheus_client", "paho.mqtt.client"}
    idle |= {"devices.capture.camera", "devices.capture.dicom", "devices.capture.igtl"}
    assert not loaded & idle
