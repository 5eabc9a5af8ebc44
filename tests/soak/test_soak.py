"""The service for hours: it keeps its memory, descriptors, threads and speed.

    SOAK_HOURS=8 pytest -m soak tests/soak -s

Three services run side by side: on a recording, which plays again and again; on a network stream,
which breaks off every minute; and on the script of faults. The figures are printed as a table. The
latency is only judged with SONOLITE_QUIET=1, where nothing else runs on the machine.
"""

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import cv2
import pytest

import edge_runtime.release
from devices.capture.phantom import Phantom
from edge_runtime.bundle.trust import trusted_folder
from edge_runtime.release.config import Config, SinkConfig, write_config
from edge_runtime.release.layout import RECORD, Layout, make_folders, set_link
from tests.conftest import QUIET
from tests.devices.capture.servers import jpeg, serving

HOURS = float(os.environ.get("SOAK_HOURS", "8"))
SAMPLE_SECONDS = 2.0
WARM, COMPARED = 0.15, 0.15
"""Shares of the time: until the first figures are taken, and in which they are taken."""
MAX_GROWTH = 2 << 20
"""Bytes that a service may grow."""
MAX_MORE = 0.5
"""Descriptors and threads that it may have more, on average: sessions come and go."""
MAX_SLOWER = 1.1
STREAM_SECONDS, FPS = 60, 20
NAME = "0a1b2c3d4e5f"
UNIT = Path(edge_runtime.release.__file__).with_name("sonolite.service")
ENVIRONMENT = dict(re.findall(r"^Environment=(\w+)=(\w+)$", UNIT.read_text(), re.MULTILINE))
"""What systemd sets for the service."""

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600 * HOURS + 1800)]


@dataclass
class Service:
    """A service at work, and what is seen of its process."""

    name: str
    results: Path
    process: "subprocess.Popen[bytes]"
    samples: list[tuple[int, int, int]] = field(default_factory=list)
    """Bytes of its own memory, descriptors and threads."""
    latencies: list[float] = field(default_factory=list)
    """The 99th percentile of the latency, in ms: early and late."""

    def sample(self) -> None:
        folder = Path("/proc", str(self.process.pid))
        status = dict(
            line.split(":", 1)
            for line in (folder / "status").read_text().splitlines()
            if ":" in line
        )
        memory = 1024 * int(status["RssAnon"].split()[0])
        self.samples.append((memory, len(list((folder / "fd").iterdir())), int(status["Threads"])))

    def measure(self) -> None:
        """Takes the latency of the newest results."""
        lines = self.results.read_bytes().splitlines()
        results = [json.loads(line) for line in lines if line.endswith(b"}")]
        judged = [each["latency_ms"]["total"] for each in results if each["state"] == "LIVE"]
        assert len(judged) > 100, f"{self.name}: {len(judged)} results"
        self.latencies.append(sorted(judged)[math.ceil(0.99 * len(judged)) - 1])


@pytest.fixture
def serve(tmp_path: Path, demo_path: Path) -> Iterator[Callable[[str, str], Service]]:
    """`serve(name, source)` starts a service in a process of its own."""
    with ExitStack() as stack:

        def start(name: str, source: str) -> Service:
            layout = Layout(tmp_path / name)
            layout.root.mkdir()
            make_folders(layout)
            layout.release(NAME).mkdir()
            (layout.release(NAME) / "bundle.sonolite").write_bytes(demo_path.read_bytes())
            (layout.release(NAME) / RECORD).write_text("{}")
            key = (trusted_folder() / "own.pem").read_bytes()
            (layout.root / "trusted" / "own.pem").write_bytes(key)
            for link in ("current", "good"):
                set_link(layout, link, NAME)
            results = layout.state("results.jsonl")
            sinks = (SinkConfig(f"jsonl:{results}?max_mb=4&keep=1"),)
            config = Config(source, whole_picture=True, sink=sinks)
            (layout.root / "config.toml").write_text(write_config(config))
            log = stack.enter_context(open(layout.state("service.log"), "wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "edge_runtime", "serve", layout.root, NAME],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | ENVIRONMENT,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return Service(name, results, process)

        yield start


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Twenty seconds of the phantom."""
    path, phantom = tmp_path / "recording.avi", Phantom(live=False)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (640, 480))
    for index in range(20 * FPS):
        writer.write(phantom.render(index))
    writer.release()
    return path


def send_for_a_minute(send: Callable[[bytes], None], over: threading.Event) -> None:
    """Sends pictures in their time, and then ends the connection."""
    phantom = Phantom(live=False)
    pictures = [jpeg(phantom.render(index)) for index in range(2 * FPS)]
    for index in range(STREAM_SECONDS * FPS):
        if over.wait(1 / FPS):
            return
        send(pictures[index % len(pictures)])


def test_the_service_keeps_its_memory_descriptors_threads_and_speed(
    serve: Callable[[str, str], Service], recording: Path
) -> None:
    seconds = 3600 * HOURS
    with serving(send_for_a_minute) as address:
        services = [
            serve("recording", str(recording)),
            serve("stream", f"http://{address}"),
            serve("faults", "script:faults"),
        ]
        began, early = time.monotonic(), False
        while (now := time.monotonic() - began) < seconds:
            time.sleep(SAMPLE_SECONDS)
            for service in services:
                assert service.process.poll() is None, f"{service.name} ended"
                service.sample()
            if not early and now >= (WARM + COMPARED) * seconds:
                early = True
                for service in services:
                    service.measure()
        for service in services:
            service.measure()
    complaints = []
    for service in services:
        samples, count = service.samples, len(service.samples)
        first = samples[int(WARM * count) : int((WARM + COMPARED) * count)]
        last = samples[-int(COMPARED * count) :]
        before, after = (
            [mean(sample[which] for sample in part) for which in range(3)] for part in (first, last)
        )
        early_p99, late_p99 = service.latencies
        print(
            f"{service.name:10} {HOURS:g} h: "
            f"memory {before[0] / 1e6:.1f} to {after[0] / 1e6:.1f} MB, "
            f"descriptors {before[1]:.1f} to {after[1]:.1f}, "
            f"threads {before[2]:.1f} to {after[2]:.1f}, "
            f"p99 {early_p99:.1f} to {late_p99:.1f} ms"
        )
        growth = after[0] - before[0]
        if growth > MAX_GROWTH:
            complaints.append(f"{service.name}: grew by {growth:,.0f} bytes")
        if max(after[1] - before[1], after[2] - before[2]) > MAX_MORE:
            complaints.append(f"{service.name}: descriptors or threads")
        if QUIET and late_p99 > MAX_SLOWER * early_p99:
            complaints.append(f"{service.name}: p99 from {early_p99:.1f} to {late_p99:.1f} ms")
    assert complaints == []
