"""What a session survives: accelerators that fail and hang, and sinks that do."""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devices import BadInput, Frame, HardwareMissing, Pixels
from devices.capture.scripted import Scripted
from edge_runtime.bundle.archive import Bundle
from edge_runtime.models import watchdog
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU, BackendRequest
from edge_runtime.results.result import Result
from edge_runtime.results.states import Event, State
from edge_runtime.screen.region import Region
from edge_runtime.session.inference import WATCH_INTERVAL
from edge_runtime.session.pipeline import DAMAGED, MAX_RESTARTS, run_session
from tests.conftest import Collected

PROVEN = 8
"""Inferences that the golden frames take before the first picture."""


class Following(Scripted):
    """Live, but shows the next picture only once the one before was spoken of: none is dropped."""

    def __init__(self, pictures: list[Pixels], sink: Collected) -> None:
        super().__init__(pictures, live=True)
        self._sink = sink

    def read(self, timeout: float) -> Frame:
        waited = time.monotonic() + 120
        while len([its for its in self._sink.results if its.frame is not None]) < self._index:
            assert time.monotonic() < waited
            time.sleep(0.001)
        return super().read(timeout)


def chain(bundle: Bundle, *requests: BackendRequest) -> FallbackChain:
    return FallbackChain(bundle, bundle.manifest.classifier, requests, threads=1, any_picture=True)


def failing(library: Path, how: str, number: int) -> BackendRequest:
    return BackendRequest("delegate", str(library), ((how, str(PROVEN + number)),))


def test_a_delegate_that_fails_in_mid_stream_hands_over_and_every_result_says_so(
    demo_bundle: Bundle, stand_in: Path, pictures: list[Pixels]
) -> None:
    sink = Collected()
    its = chain(demo_bundle, failing(stand_in, "fail", 10), CPU)
    with Following(pictures, sink) as device:
        summary, _ = run_session(device, its, Region(), [sink], threading.Event(), budget=10)
    states = [result.state for result in sink.results if result.frame is not None]
    assert states == [State.LIVE] * 9 + [State.FAULT] + [State.LIVE] * 20
    before, after = sink.results[8], sink.results[-1]
    assert (before.backend.split()[0], before.fallback) == ("delegate", None)
    assert after.backend.split()[0] == "cpu"
    assert after.fallback is not None
    assert "the hardware has gone" in after.fallback
    assert (summary.read, summary.classified) == (30, 29)
    assert summary.not_judged == {str(Event.FAILED): 1}


class Hanging:
    """A backend around another that never returns at one of its inferences."""

    def __init__(self, its: FallbackChain, at: int) -> None:
        self._backend = its.classifier.backend
        self.compute, self._at = self._backend.compute, at
        self._count = 0

    def run(self, tensor):  # type: ignore[no-untyped-def]
        self._count += 1
        if self._count == self._at:
            threading.Event().wait()
        return self._backend.run(tensor)


def test_an_inference_that_hangs_is_left_behind_and_another_begun(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "INFERENCE_TIMEOUT", 1.0)
    sink = Collected()
    its = chain(demo_bundle, CPU)
    monkeypatch.setattr(its.classifier, "backend", Hanging(its, 5))
    with Following(pictures[:12], sink) as device:
        summary, ended = run_session(device, its, Region(), [sink], threading.Event(), budget=1.0)
    states = [result.state for result in sink.results if result.frame is not None]
    assert states[:5] == [State.LIVE] * 4 + [State.FAULT]
    assert states[-1] is State.LIVE
    assert (summary.read, summary.classified, ended) == (12, 11, None)
    assert summary.not_judged == {str(Event.FAILED): 1}


class Halted:
    """A backend around another; at one of its inferences the whole process stands for a minute."""

    def __init__(self, its: FallbackChain, at: int) -> None:
        self._backend = its.classifier.backend
        self.compute, self._at = self._backend.compute, at
        self._count, self._stood = 0, 0.0

    def clock(self) -> float:
        return time.monotonic() + self._stood

    def run(self, tensor):  # type: ignore[no-untyped-def]
        self._count += 1
        if self._count == self._at:
            time.sleep(3 * WATCH_INTERVAL)  # for the watcher to look
            self._stood = 60.0
            time.sleep(3 * WATCH_INTERVAL)
        return self._backend.run(tensor)


def test_a_process_that_was_halted_does_not_take_its_inference_for_one_that_hangs(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Collected()
    its = chain(demo_bundle, CPU)
    halted = Halted(its, 5)
    monkeypatch.setattr(its.classifier, "backend", halted)
    with Following(pictures[:12], sink) as device:
        summary, _ = run_session(
            device, its, Region(), [sink], threading.Event(), budget=1.0, clock=halted.clock
        )
    assert str(Event.FAILED) not in summary.not_judged
    assert its.classifier.backend is halted


def test_an_accelerator_that_hangs_is_not_trusted_again(
    demo_bundle: Bundle, stand_in: Path, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "INFERENCE_TIMEOUT", 1.0)
    sink = Collected()
    its = chain(demo_bundle, failing(stand_in, "hang", 4), CPU)
    with Following(pictures[:8], sink) as device:
        run_session(device, its, Region(), [sink], threading.Event(), budget=1.0)
    last = sink.results[-1]
    assert last.backend.split()[0] == "cpu"
    assert last.fallback is not None
    assert "hung" in last.fallback


def test_while_an_inference_hangs_nothing_stays_live(
    demo_bundle: Bundle, stand_in: Path, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "INFERENCE_TIMEOUT", 3.0)
    sink = Collected()
    its = chain(demo_bundle, failing(stand_in, "hang", 4), CPU)
    with Following(pictures[:8], sink) as device:
        run_session(device, its, Region(), [sink], threading.Event(), budget=1.0)
    said = [(result.state, result.frame) for result in sink.results]
    at = said.index((State.LIVE, 2))
    assert said[at + 1 : at + 3] == [(State.STALE, None), (State.FAULT, 3)]


def test_inference_that_hangs_again_and_again_ends_the_session(
    demo_bundle: Bundle, stand_in: Path, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "INFERENCE_TIMEOUT", 1.0)
    sink = Collected()
    its = chain(demo_bundle, failing(stand_in, "hang", 1))
    with Following(pictures[:9], sink) as device:
        summary, ended = run_session(device, its, Region(), [sink], threading.Event(), budget=1.0)
    assert isinstance(ended, HardwareMissing)
    assert summary.not_judged[str(Event.FAILED)] == MAX_RESTARTS + 1
    assert all(result.label is None for result in sink.results)


class Full(Collected):
    """A sink whose disk is full after three results."""

    def write(self, result: Result, pixels: Pixels) -> None:
        if len(self.results) == 3:
            raise BadInput("out.mp4: cannot be written: No space left on device")
        super().write(result, pixels)


def test_a_full_disk_ends_a_recording(demo_bundle: Bundle, pictures: list[Pixels]) -> None:
    device = Scripted(itertools.cycle(pictures))
    with pytest.raises(BadInput, match="No space left"):
        run_session(device, chain(demo_bundle, CPU), Region(), [Full()], threading.Event())


def test_a_full_disk_does_not_end_the_live_picture_and_is_told_at_its_end(
    demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    screen = Collected()
    with (
        Following(pictures, screen) as device,
        pytest.raises(BadInput, match="No space left"),
    ):
        run_session(
            device,
            chain(demo_bundle, CPU),
            Region(),
            [Full(), screen],
            threading.Event(),
            budget=10,
        )
    assert [result.frame for result in screen.results if result.frame is not None] == [*range(30)]


def test_the_heart_beats_as_long_as_frames_or_their_absence_are_dealt_with(
    demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    beats: list[State] = []
    stop = threading.Event()

    def beat(state: State) -> None:
        beats.append(state)
        if len(beats) == 3:
            stop.set()

    class Quiet(Scripted):
        def read(self, timeout: float) -> Frame:
            stop.wait(20)
            return super().read(timeout)

    with Quiet([], live=True) as device:
        run_session(device, chain(demo_bundle, CPU), Region(), [], stop, budget=0.1, heartbeat=beat)
    assert beats == [State.SEARCHING] * 3


def test_a_damaged_picture_of_a_live_device_is_counted_and_the_next_one_judged(
    demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    script: list[Pixels | Exception] = [
        pictures[0],
        BadInput("igtl://host: a picture of 16 bits"),
        pictures[1],
    ]
    its, sink = chain(demo_bundle, CPU), Collected()
    with Scripted(script, live=True) as device:
        summary, ended = run_session(device, its, Region(), [sink], threading.Event(), budget=10)
    assert ended is None
    assert summary.read == 3
    assert summary.not_judged[DAMAGED] == 1
    assert sink.results[-1].label is not None


def test_pictures_that_a_device_passes_over_are_counted(
    demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    class Damaging(Scripted):
        def read(self, timeout: float) -> Frame:
            self.damaged += 1
            return super().read(timeout)

    its = chain(demo_bundle, CPU)
    with Damaging(pictures[:2], live=True) as device:
        summary, _ = run_session(device, its, Region(), [], threading.Event(), budget=10)
    assert summary.not_judged[DAMAGED] == device.damaged == 3
    assert summary.read == summary.classified + sum(summary.not_judged.values()) == 5


def test_the_command_ends_with_exit_code_three_where_inference_hangs_for_good(
    demo_path: Path, stand_in: Path
) -> None:
    """A thread that is stuck in a library must not keep the process from ending."""
    hanging = f"{stand_in}?hang={PROVEN + 5}"
    code = (
        "from edge_runtime.models import watchdog; watchdog.INFERENCE_TIMEOUT = 1.0; "
        "from edge_runtime.cli import main; import sys; main(sys.argv[1:])"
    )
    words = ["run", str(demo_path), "--source", "phantom:", "--whole-picture"]
    words += ["--backend", hanging, "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, timeout=300)
    assert done.returncode == 3, done.stderr
    assert b"inference hung 4 times" in done.stderr.splitlines()[-1]


def test_where_threads_may_not_be_kept_to_cores_the_session_runs_all_the_same(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a service's system call filter."""

    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    its = chain(demo_bundle, CPU)
    summary, _ = run_session(Scripted(pictures), its, Region(), [], threading.Event())
    assert summary.classified == 30
