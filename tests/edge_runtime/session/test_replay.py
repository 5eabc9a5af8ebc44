"""A replay decides as the session did that was recorded, whatever happened in that session."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices import BadInput, Box, CaptureDevice, Frame, Pixels
from devices.capture.kinds import RECORD_MANIFEST
from devices.capture.reconnecting import Reconnecting
from devices.capture.record_format import RECORD_INDEX
from devices.capture.replay import Replay
from devices.capture.scripted import Scripted, ScriptEvent, SizeChange, Torn, Unplug
from devices.capture.source_uri import SourceUri
from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU, BackendRequest
from edge_runtime.results.result import Result
from edge_runtime.results.states import Event, State
from edge_runtime.session.assemble import assemble, open_source
from edge_runtime.session.frame_recorder import open_frame_recorder
from edge_runtime.session.frame_slot import REPLACED
from tests.conftest import Collected, Outcome, refused, sonolite, wait_until
from tests.edge_runtime.session.test_faults import PROVEN, Following

NOT_DECIDED = {"captured_at", "captured_utc", "latency_ms", "rate", "health"}
"""Entries of a result that tell of this machine and this moment."""
BLACK = np.zeros((240, 320, 3), np.uint8)


def chain(bundle: Bundle, *requests: BackendRequest) -> FallbackChain:
    return FallbackChain(
        bundle, bundle.manifest.classifier, requests or [CPU], threads=1, any_picture=True
    )


def judge(
    device: CaptureDevice, bundle: Bundle, folder: Path | None = None, **options: Any
) -> list[Result]:
    """The results of a session; with `folder` it is recorded there."""
    requests, stop = options.pop("requests", ()), threading.Event()
    sink: Collected = options.pop("sink", None) or Collected()
    with device:
        session = assemble(device, chain(bundle, *requests), whole_picture=True, **options)
        if folder is None:
            session.run([sink], stop)
        else:
            with open_frame_recorder(folder, device, SourceUri("0"), session.settings) as recorder:
                session.run([sink], stop, frame_recorder=recorder)
            assert recorder.lost == 0
    return sink.results


def decided(results: Iterable[Result]) -> list[Result]:
    """What of the results must come again, bit for bit."""
    latency = replace(next(iter(results)).latency_ms, wait=0, prepare=0, infer=0, total=0)
    return [
        replace(
            result, captured_at=0, captured_utc="", latency_ms=latency, fallback=None, backend=""
        )
        for result in results
    ]


def test_every_state_that_a_device_can_cause_comes_again(
    tmp_path: Path, demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    """Pictures come faster than they can be judged, so that some are replaced."""
    first: list[ScriptEvent] = [*pictures[:6], BLACK, Torn(1), *pictures[6:9], Unplug()]
    second: list[ScriptEvent] = [SizeChange(200, 160), *pictures[9:14]]
    script = itertools.chain(first, second)
    wall = itertools.count()

    def clock() -> float:
        return next(wall) * 0.05

    device = Reconnecting(
        lambda: Scripted(script, live=True, clock=clock), wait=lambda _: None, clock=clock
    )
    before = judge(device, demo_bundle, tmp_path / "record", budget=10**6)
    after = judge(Replay(tmp_path / "record"), demo_bundle)
    assert {result.state for result in before} >= {State.LIVE, State.LOST}
    assert decided(after) == decided(before)


class Timed(Following):
    """Shows a picture every quarter of a second by its own clock, and waits for its result."""

    def read(self, timeout: float) -> Frame:
        frame = super().read(timeout)
        at = 100 + frame.index / 4
        return replace(frame, captured_at=at, timestamp=at)


def test_a_picture_that_stood_still_stands_still_again(
    tmp_path: Path, demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    """By the times of the record: a replay takes a moment."""
    sink = Collected()
    device = Timed([pictures[0], *[pictures[1]] * 6, pictures[2]], sink)
    before = judge(device, demo_bundle, tmp_path / "record", budget=10**9, sink=sink)
    after = judge(Replay(tmp_path / "record"), demo_bundle)
    states = [State.LIVE] * 5 + [State.FROZEN] * 2 + [State.LIVE]
    assert [result.state for result in before if result.frame is not None] == states
    assert decided(after) == decided(before)


def test_a_late_result_is_late_again(
    tmp_path: Path, demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    device = Scripted(pictures[:5], live=True)
    before = judge(device, demo_bundle, tmp_path / "record", budget=1e-9)
    after = judge(Replay(tmp_path / "record"), demo_bundle, budget=10.0)
    assert {result.reason for result in before if result.frame is not None} == {str(Event.LATE)}
    assert decided(after) == decided(before)


def test_a_failed_inference_fails_again(
    tmp_path: Path, demo_bundle: Bundle, pictures: list[Pixels], stand_in: Path
) -> None:
    failing = BackendRequest("delegate", str(stand_in), (("fail", str(PROVEN + 3)),))
    before = judge(
        Scripted(pictures[:6]), demo_bundle, tmp_path / "record", requests=[failing, CPU]
    )
    after = judge(Replay(tmp_path / "record"), demo_bundle)
    assert [result.state for result in after] == [result.state for result in before]
    assert [result.state for result in after].count(State.FAULT) == 1


def test_a_recording_can_be_recorded_too(
    tmp_path: Path, demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    roi = "100,80,90,70"
    before = judge(Scripted(pictures[:6]), demo_bundle, tmp_path / "record", roi=roi)
    after = judge(Replay(tmp_path / "record"), demo_bundle)
    assert [result.region for result in after] == ["given"] * 6
    assert decided(after) == decided(before)


def test_a_frame_without_a_result_counts_as_replaced(
    tmp_path: Path, demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    judge(Scripted(pictures[:6]), demo_bundle, tmp_path / "record")
    index = tmp_path / "record" / RECORD_INDEX
    kept = [
        line for line in index.read_text().splitlines(True) if '"result","index":3,' not in line
    ]
    index.write_text("".join(kept))
    sink = Collected()
    with Replay(tmp_path / "record") as device:
        session = assemble(device, chain(demo_bundle), whole_picture=True)
        summary, _ = session.run([sink], threading.Event())
    assert [result.frame for result in sink.results] == [0, 1, 2, 4, 5]
    assert (summary.read, summary.not_judged) == (6, {REPLACED: 1})


def test_a_state_that_cannot_be_reached_without_a_frame_is_refused(
    tmp_path: Path, demo_bundle: Bundle, pictures: list[Pixels]
) -> None:
    judge(Scripted(pictures[:2]), demo_bundle, tmp_path / "record")
    index = tmp_path / "record" / RECORD_INDEX
    index.write_bytes(b'{"kind":"absence","state":"LIVE","reason":""}\n' + index.read_bytes())
    with pytest.raises(BadInput, match="state LIVE without a frame"):
        judge(Replay(tmp_path / "record"), demo_bundle)


def lines(outcome: Outcome) -> list[dict[str, Any]]:
    results = map(json.loads, outcome.stdout.splitlines())
    return [{k: v for k, v in each.items() if k not in NOT_DECIDED} for each in results]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, shipped_path: Path) -> tuple[Path, Outcome]:
    """A recorded session of the shipped bundle, which finds the nodule and follows it."""
    folder = tmp_path_factory.mktemp("records") / "record"
    words = ("--source", "phantom:?frames=40", "--any-picture", "--prevalence", "0.2")
    done = sonolite("run", shipped_path, *words, "--record", folder, "--json")
    assert done.code == 0, done
    return folder, done


def test_the_command_line_replays_a_session_bit_for_bit(
    session: tuple[Path, Outcome], shipped_path: Path
) -> None:
    folder, before = session
    after = sonolite("run", shipped_path, "--source", folder, "--json")
    assert after.code == 0, after
    assert any(result["nodules"] for result in lines(before))
    assert lines(after) == lines(before)
    assert "may differ" not in after.stderr
    assert re.search(r"recorded \d+ frames, [\d.]+ MB: ", before.stderr)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_thread_that_plays_has_a_core_of_its_own(
    session: tuple[Path, Outcome], demo_bundle: Bundle
) -> None:
    class Cores(Collected):
        """Notes the cores of the capturing thread."""

        def write(self, result: Result, pixels: Pixels) -> None:
            super().write(result, pixels)
            for thread in threading.enumerate():
                if thread.name == "capture" and thread.native_id is not None:
                    with suppress(ProcessLookupError):  # it is over
                        cores.append(os.sched_getaffinity(thread.native_id))

    cores: list[set[int]] = []
    judge(Replay(session[0]), demo_bundle, sink=Cores())
    assert {max(os.sched_getaffinity(0))} in cores


def test_a_region_for_the_replay_replaces_that_of_the_record(
    session: tuple[Path, Outcome], shipped_path: Path
) -> None:
    roi = "167,190,108,100"
    after = sonolite("run", shipped_path, "--source", session[0], "--roi", roi)
    assert after.code == 0, after
    assert f"its region of interest was none, now it is {roi}" in after.stderr


def test_a_record_is_not_recorded_again(
    session: tuple[Path, Outcome], shipped_path: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    done = sonolite("run", shipped_path, "--source", session[0], "--record", again)
    refused(done, "is the record of a session itself")
    assert not again.exists()


def test_a_record_that_exists_is_refused_before_the_source_is_opened(
    session: tuple[Path, Outcome], shipped_path: Path, tmp_path: Path
) -> None:
    words = ("--source", tmp_path / "no.mp4", "--record", session[0])
    refused(sonolite("run", shipped_path, *words), "record exists already")


def test_settings_that_are_wrong_are_refused(
    session: tuple[Path, Outcome], shipped_path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "record"
    shutil.copytree(session[0], folder)
    manifest = json.loads((folder / RECORD_MANIFEST).read_text())
    manifest["settings"]["roi"] = [1, 2, 3]
    (folder / RECORD_MANIFEST).write_text(json.dumps(manifest))
    refused(sonolite("run", shipped_path, "--source", folder), "settings: roi")


def test_a_session_that_was_killed_is_replayed_up_to_its_last_whole_frame(
    shipped_path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "record"
    words = ["run", str(shipped_path), "--source", "phantom:", "--any-picture"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "edge_runtime", *words, "--record", str(folder)],
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    try:
        index = folder / RECORD_INDEX
        wait_until(lambda: index.exists() and index.read_bytes().count(b"result") >= 5)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    after = sonolite("run", shipped_path, "--source", folder, "--json")
    assert after.code == 0, after
    assert len(after.stdout.splitlines()) >= 5
    assert "note: the record was" in after.stderr


def test_a_region_that_was_drawn_and_cleared_on_the_way_is_drawn_again(
    tmp_path: Path, shipped_path: Path
) -> None:
    """The second box follows its nodule."""
    shipped = open_bundle(shipped_path)
    folder, boxes = tmp_path / "drawn", [Box(167, 190, 108, 100), Box(150, 180, 90, 80), None]
    with open_source(SourceUri("phantom:?frames=60&live=no")) as device:
        session = assemble(device, chain(shipped), operated=True)
        sink = Collected()
        write = sink.write

        def draw(result: Result, pixels: Pixels) -> None:
            write(result, pixels)
            if result.sequence in (10, 20, 35):
                place = (10, 20, 35).index(result.sequence)
                session.region.mark(boxes[place], (640, 480), follow=place == 1)

        sink.write = draw  # type: ignore[method-assign]
        with open_frame_recorder(folder, device, SourceUri("0"), session.settings) as recorder:
            session.run([sink], threading.Event(), frame_recorder=recorder)
    assert len({result.box for result in sink.results}) >= 2
    assert any(nodule.locator_score == 1 for its in sink.results for nodule in its.nodules)
    with open_source(SourceUri(str(folder))) as device:
        again = Collected()
        assemble(device, chain(shipped)).run([again], threading.Event())
    assert decided(again.results) == decided(sink.results)
