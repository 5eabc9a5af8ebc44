"""What a process of its own for the decoder costs a session: time, processors, memory."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from devices import DeviceLost
from devices.capture import device_opener
from devices.capture.phantom import Phantom
from tests.conftest import QUIET
from tests.devices.capture.dicom_files import write_dicom, write_jpegs
from tests.devices.capture.servers import jpeg, serving

ROUNDS = 15
LIMIT = 1.05 if QUIET else 3.0
"""On a machine that has other work only a gross loss can be told."""


def h264(path: Path, screens: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width = screens[0].shape[:2]
        for screen in screens:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(screen, format="bgr24")))
        container.mux(stream.encode())
    return path


def recordings(folder: Path) -> dict[str, Path]:
    phantom = Phantom(width=1280, height=720, live=False)
    colours = [phantom.render(index) for index in range(60)]
    greys = [np.ascontiguousarray(each[..., 1]) for each in colours]
    plain = {"NumberOfFrames": 240, "FrameTime": 33}
    return {
        "H.264 of 1280 x 720": h264(folder / "a.mp4", 5 * colours),
        "DICOM, uncoded, 1280 x 720": write_dicom(folder / "a.dcm", np.stack(4 * greys), **plain),
        "DICOM, JPEG, 1280 x 720": write_jpegs(folder / "b.dcm", 2 * greys, FrameTime=33),
    }


def measure(recording: Path, where: str) -> list[float]:
    words = ["-m", "tests.edge_runtime.session.decoder_cost", str(recording), where]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    numbers: list[float] = json.loads(done.stdout)
    return numbers


@pytest.mark.slow
def test_a_decoder_apart_costs_a_session_little(tmp_path: Path) -> None:
    """Prints the figures of docs/security.md: sessions of both kinds take turns."""
    for name, recording in recordings(tmp_path).items():
        inside, apart = list[list[float]](), list[list[float]]()
        for turn in range(ROUNDS):
            for where in ("inside", "apart") if turn % 2 else ("apart", "inside"):
                (inside if where == "inside" else apart).append(measure(recording, where))
        ratios = [np.array(b[:2]) / a[:2] for a, b in zip(inside, apart, strict=True)]
        time, processor = np.median(ratios, axis=0)
        before, after = np.median(inside, axis=0), np.median(apart, axis=0)
        print(
            f"| {name} | {before[0]:.1f} | {time:.2f} | {processor:.2f} | {before[2]:.2f}, "
            f"{after[2]:.2f} | {before[3]:.0f} | {after[3]:.0f} + {after[4]:.0f} |"
        )
        assert time <= LIMIT


STREAMED, FPS, WARM_UP = 240, 30, 30


def latencies(apart: bool) -> list[float]:
    """Milliseconds from the sending of a picture over HTTP to the return of its read.

    The grey of the picture tells its number.
    """
    greys = [np.full((480, 640), number, np.uint8) for number in range(STREAMED)]
    pictures, sent = [jpeg(each) for each in greys], dict[int, float]()

    def play(send: Callable[[bytes], None], over: threading.Event) -> None:
        for number, picture in enumerate(pictures):
            if over.wait(1 / FPS):
                return
            sent[number] = time.monotonic()
            send(picture)
        over.wait(60)

    found = []
    with (
        suppress(DeviceLost),  # once all are sent
        serving(play) as address,
        device_opener(f"http://{address}", apart=apart)() as device,
    ):
        while True:
            pixels, now = device.read(2.0).pixels, time.monotonic()
            found.append(1000 * (now - sent[round(float(pixels[:8, :8].mean()))]))
    return found[WARM_UP:]


@pytest.mark.slow
def test_a_stream_is_read_as_soon_from_a_decoder_apart() -> None:
    """Prints the latencies of docs/security.md; both kinds take turns."""
    inside, apart = list[float](), list[float]()
    for _ in range(5):
        inside += latencies(apart=False)
        apart += latencies(apart=True)
    for name, values in (("inside", inside), ("apart", apart)):
        middle, late = np.percentile(values, (50, 95))
        print(f"stream of 640 x 480, {name}: p50 {middle:.1f} ms, p95 {late:.1f} ms")
    assert np.median(apart) <= np.median(inside) + 2
