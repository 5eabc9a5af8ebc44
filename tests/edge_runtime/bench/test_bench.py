"""`sonolite bench`: every workload really runs, and what is told is what was measured."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from devices import BadInput, EndOfRecording
from devices.own_process import module_command
from edge_runtime.bench.measure import HISTOGRAM_BINS, Bench, read_bench, write_bench
from edge_runtime.bench.report import TITLES, bench_rows, draw_histograms, markdown, ratios
from edge_runtime.bench.workloads import LIVE_RATE, LiveRecording, LoopedRecording
from tests.conftest import refused, sonolite


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen frames of the phantom as a video."""
    path = tmp_path_factory.mktemp("bench") / "sweep.mp4"
    done = sonolite("demo", "phantom:?frames=24&live=no", "--save", str(path))
    assert done.code == 0, done
    return path


@pytest.fixture(scope="module")
def kept(video: Path) -> Path:
    """One round of everything but MediaPipe, which takes long to start."""
    path = video.parent / "bench.json"
    done = sonolite(
        *("bench", "--source", str(video), "--roi", "167,190,108,100", "--rounds", "1"),
        *("--frames", "40", "--against", "loop", "--out", str(path)),
        *("--plot", str(video.parent / "bench.png")),
    )
    assert done.code == 0, done
    assert "over decoding + inference" in done.stdout
    return path


@pytest.fixture(scope="module")
def found(kept: Path) -> Bench:
    return read_bench(kept)


def test_every_workload_gets_through_all_its_frames(found: Bench) -> None:
    frames = {who: its[0].frames for who, its in found.rounds.items()}
    assert frames["decode"] == frames["invoke"] == frames["loop"] == frames["every"] == 40
    assert frames["live"] + found.rounds["live"][0].dropped == 40


def test_no_label_is_given_to_what_is_older_than_its_budget(found: Bench) -> None:
    assert found.rounds["live"][0].late == 0


def test_latencies_are_in_order_and_all_are_counted(found: Bench) -> None:
    for (its,) in found.rounds.values():
        assert 0 < its.p50 <= its.p95 <= its.p99 <= its.longest
        assert sum(its.histogram) == its.frames
        assert len(its.histogram) == HISTOGRAM_BINS


def test_the_command_itself_is_started_and_its_memory_seen(found: Bench) -> None:
    (command,) = found.commands
    assert 0.1 < command.first_result < 600
    assert 20 < command.rss_mb < 1000


def test_a_command_that_is_killed_is_told_in_one_line(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(
        "edge_runtime.bench.measure.module_command",
        lambda name: killed if name == "edge_runtime" else module_command(name),
    )
    words = ("bench", "--source", video, "--roi", "167,190,108,100", "--rounds", "1")
    refused(sonolite(*words, "--frames", "20"), "sonolite run: it says nothing")


def test_what_is_kept_is_read_again(kept: Path, found: Bench) -> None:
    assert write_bench(found) == kept.read_bytes()


def test_both_models_are_the_base_of_a_ratio_where_there_are_two(found: Bench) -> None:
    rounds = {**found.rounds, "locate": found.rounds["invoke"]}
    both = dict(ratios(replace(found, rounds=rounds)))
    assert both["both models, over the classifier alone"] == 2
    name = "sonolite, every frame, over decoding + inference"
    assert both[name] < dict(ratios(found))[name]


def test_multiply_adds_are_those_of_the_network(found: Bench) -> None:
    """EfficientNet-Lite0 has 407 million at 224 pixels and three channels (github.com/tensorflow/
    tpu); the packaged network has 128 pixels, one channel and almost the same backbone."""
    (invoke,) = found.rounds["invoke"]
    assert invoke.multiply_adds == pytest.approx(407e6 * (128 / 224) ** 2, rel=0.1)
    assert found.rounds["decode"][0].multiply_adds == 0


def test_a_row_and_a_ratio_come_from_the_rounds(found: Bench) -> None:
    head, *body = bench_rows(found)
    assert [row[0] for row in body] == [TITLES[who] for who in found.rounds]
    assert {len(row) for row in body} == {len(head)}
    every, bare = found.rounds["every"][0], (found.rounds[who][0] for who in ("decode", "invoke"))
    expected = every.ms_a_frame / sum(its.ms_a_frame for its in bare)
    assert dict(ratios(found))[f"{TITLES['every']}, over decoding + inference"] == expected
    assert markdown(found).count("\n| ") >= len(body) + 2


def test_the_picture_shows_a_histogram_for_each(kept: Path, found: Bench) -> None:
    drawn = draw_histograms(found)
    assert drawn.shape[0] > 60 * len(found.rounds)
    saved = cv2.imread(str(kept.with_suffix(".png")))
    assert saved is not None
    assert (saved == drawn).all()


def test_without_a_region_the_locator_is_measured_too_and_json_goes_to_stdout(video: Path) -> None:
    done = sonolite("bench", "--source", video, "--rounds", "1", "--frames", "20", "--json")
    assert done.code == 0, done
    rounds = json.loads(done.stdout)["rounds"]
    assert set(rounds) == {"decode", "invoke", "locate", "prepare", "every", "live"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--source", "phantom:"), "a recording is needed"),
        (("--source", "none.mp4"), "no such file"),
        (("--source", "none.mp4", "--against", "fast"), "there are loop, mediapipe"),
        (("--source", "none.mp4", "--roi", "1,2"), "four whole numbers"),
        (("--source", "none.mp4", "--out", "/none/b.json"), "there is no folder"),
        (("--source", "none.mp4", "--plot", "bench"), "must end in .png or .jpg"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], said: str) -> None:
    refused(sonolite("bench", *words, "--rounds", "1", "--frames", "20"), said)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text('{"machine": {}}')
    with pytest.raises(BadInput, match="bundle: is missing"):
        read_bench(path)


def test_a_recording_is_repeated_with_one_count(make_video: Callable[..., Path]) -> None:
    with LoopedRecording(str(make_video("three.mp4", frames=3)), 7) as device:
        assert [device.read(1).index for _ in range(7)] == list(range(7))
        with pytest.raises(EndOfRecording):
            device.read(1)


def test_a_paced_recording_is_live(make_video: Callable[..., Path]) -> None:
    with LiveRecording(str(make_video("three.mp4", frames=3)), 3) as device:
        began = time.monotonic()
        *_, last = [device.read(1) for _ in range(3)]
    assert device.live
    assert last.captured_at - began >= 2 / LIVE_RATE


def test_mediapipe_runs_the_same_model(video: Path) -> None:
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    from edge_runtime.bench.workloads import Task, run_task
    from edge_runtime.bundle.shipped import SHIPPED_BUNDLE

    task = Task("mediapipe", str(SHIPPED_BUNDLE), str(video), "167,190,108,100", 20, 1, None, 0.0)
    assert run_task(task).frames == 20
