"""`sonolite run`, `demo` and `inspect`, as a user calls them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from devices.capture.phantom import Phantom
from edge_runtime.bundle.archive import GATE, list_members, open_bundle, write_bundle
from edge_runtime.commands.run import DEMO_ROI
from edge_runtime.nodules.tracking import iou
from tests.conftest import SWEEPS, Within, refused, sonolite
from tests.devices.capture.dicom_files import write_dicom
from tests.devices.capture.test_decoder_process import command_line, decoders

SONOLITE = str(Path(sys.executable).parent / "sonolite")


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def test_demo_runs_and_says_where_the_video_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = sonolite("demo", "phantom:?frames=6&live=no")
    assert done.code == 0, done
    assert "saved demo.mp4" in done.stderr
    assert len(frames_of(tmp_path / "demo.mp4")) == 6


def test_demo_finds_the_nodule_and_follows_it(tmp_path: Path) -> None:
    """Nobody marks it. Of the frames that show it, the first few pass before it is confirmed."""
    words = ("demo", "phantom:?frames=60&live=no", "--save", tmp_path / "demo.mp4", "--json")
    done = sonolite(*words)
    assert done.code == 0, done
    phantom = Phantom(live=False)
    marked, hits, tracks = 0, 0, set()
    for result in map(json.loads, done.stdout.splitlines()):
        truth = phantom.nodule_box(result["frame"])
        if truth is None:
            continue
        marked += 1
        for nodule in result["nodules"]:
            tracks.add(nodule["track"])
            hits += iou(centred(truth), centred(nodule["box"])) >= 0.3
    assert marked > 20
    assert hits >= 0.7 * marked
    assert len(tracks) == 1


def centred(box: Sequence[int]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x + w / 2, y + h / 2, w, h


def test_a_box_follows_nothing_that_nobody_marked() -> None:
    done = sonolite("demo", "--follow", "--no-view")
    refused(done, "--follow: no nodule is marked to follow; mark it with --roi x,y,w,h")


def test_demo_takes_a_file(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    out = tmp_path / "out.mp4"
    done = sonolite("demo", make_video("sweep.mp4", frames=5), "--save", out, "--json")
    assert done.code == 0, done
    assert len(done.stdout.splitlines()) == len(frames_of(out)) == 5


def test_every_result_of_a_folder_names_its_file_in_natural_order(
    demo_path: Path, tmp_path: Path
) -> None:
    phantom = Phantom()
    pictures = [Image.fromarray(phantom.render(index)[..., ::-1]) for index in range(3)]
    for number in (10, 1, 2):
        pictures[0].save(tmp_path / f"img_{number}.png")
    pictures[0].save(tmp_path / "stack.tif", save_all=True, append_images=pictures[1:])
    (tmp_path / "._img_1.png").write_bytes(b"\0\5\x16\7")
    write_dicom(tmp_path / "IM_0001", phantom.render(0))
    done = sonolite("run", demo_path, "--source", tmp_path, "--json")
    assert done.code == 0, done
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["file"] for result in results] == [
        *("IM_0001", "img_1.png", "img_2.png", "img_10.png"),
        *("stack.tif#0", "stack.tif#1", "stack.tif#2"),
    ]
    assert "\nresult: " not in f"\n{done.stderr}"


def test_a_single_picture_shows_its_probability_and_is_saved_as_one(
    demo_path: Path, tmp_path: Path
) -> None:
    picture, out = tmp_path / "a.png", tmp_path / "out.png"
    cv2.imwrite(str(picture), Phantom().render(0))
    run = ("run", demo_path, "--any-picture", "--roi", DEMO_ROI, "--save", out)
    done = sonolite(*run, "--source", picture)
    assert done.code == 0, done
    assert re.search(
        r"^result: .*, score\(malignant\) 0\.\d\d, threshold 0\.\d\d, at prevalence 0\.70$",
        done.stderr,
        re.MULTILINE,
    )
    saved = cv2.imread(str(out))
    assert saved is not None
    assert saved.shape[1] == 640
    cv2.imwrite(str(tmp_path / "b.png"), Phantom().render(1))
    out.unlink()
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / name).rename(tmp_path / "in" / name)
    refused(sonolite(*run, "--json", "--source", tmp_path / "in"), "more than one picture")
    assert not out.exists()
    refused(sonolite(*run, "--source", "phantom:"), "a live device gives a video")


@pytest.mark.skipif(not SWEEPS.is_dir(), reason="the real sweeps are not here")
def test_a_real_sweep_gives_one_result_a_frame_in_order(demo_path: Path) -> None:
    done = sonolite("run", demo_path, "--source", SWEEPS / "seq24.mp4", "--json")
    assert done.code == 0, done
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["frame"] for result in results] == list(range(125))
    assert {result["state"] for result in results} == {"LIVE"}


def test_a_result_tells_everything(demo_path: Path) -> None:
    done = sonolite(
        *("run", demo_path, "--source", "phantom:?frames=1&live=no", "--json"),
        *("--variant", "int8", "--roi", "167,190,108,100"),
    )
    result = json.loads(done.stdout)
    assert result["box"] == [167, 190, 108, 100]
    (nodule,) = result["nodules"]
    assert (nodule["track"], nodule["box"]) == (1, result["box"])
    assert set(nodule["probability"]) == {"benign", "malignant"}
    assert sum(nodule["probability"].values()) == pytest.approx(1, abs=1e-4)
    assert set(nodule["thresholds"]) == {"malignant"}
    assert set(result["latency_ms"]) == {"wait", "prepare", "infer", "total"}
    assert result["backend"].startswith("cpu int8.tflite ")
    assert result["bundle"].startswith("demo 4 ")


def test_stills_are_judged_one_by_one(demo_path: Path, labelled: Path) -> None:
    folder = labelled / "malignant" / "malignant00"
    done = sonolite(
        "run", demo_path, "--source", folder, "--json", "--any-picture", "--whole-picture"
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 2
    nodules = [nodule for result in results for nodule in result["nodules"]]
    assert len(nodules) == 2
    assert all(nodule["smoothed"] == nodule["probability"] for nodule in nodules)


def test_the_account_adds_up(demo_path: Path, tmp_path: Path) -> None:
    speckle = np.random.default_rng(0).integers(20, 180, (100, 100), np.uint8)
    for number, pixels in enumerate((0 * speckle, speckle, 0 * speckle)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
    done = sonolite("run", demo_path, "--source", tmp_path, "--whole-picture")
    assert "frames: 3 read, 1 classified" in done.stderr
    assert "not judged: 2 the picture is black" in done.stderr


def test_a_truncated_video_leaves_no_saved_video(
    demo_path: Path, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    video = make_video("cut.mp4", frames=40)
    content = bytearray(video.read_bytes())
    start, index = len(content) // 3, content.rindex(b"moov") - 4
    content[start:index] = bytes(index - start)
    video.write_bytes(content)
    out = tmp_path / "out.mp4"
    refused(sonolite("run", demo_path, "--source", video, "--save", out, "--json"), "cut.mp4")
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mp4"]


def test_bad_sources_are_one_line(demo_path: Path, tmp_path: Path) -> None:
    run = ("run", demo_path, "--source")
    refused(sonolite(*run, tmp_path / "none.mp4"), "no such file")
    refused(sonolite(*run, tmp_path), "no image in this folder")
    (tmp_path / "a.png").write_text("no image")
    refused(sonolite(*run, tmp_path), "a.png", "not an image")
    refused(sonolite(*run, "phantom:?frames=1", "--roi", "600,0,100,100"), "outside the 640 x 480")
    refused(sonolite(*run, "phantom:?frames=1", "--save", tmp_path / "a.gif"), ".mp4 or .avi")
    refused(sonolite(*run, "phantom:?frames=1", "--variant", "dynamic"), "no variant dynamic")


def test_the_source_is_never_overwritten(
    demo_path: Path, make_video: Callable[..., Path], labelled: Path
) -> None:
    video = make_video("demo.mp4")
    before = video.read_bytes()
    refused(sonolite("demo", video, "--save", video), "would overwrite")
    stills = labelled / "benign" / "benign00"
    refused(sonolite("demo", stills, "--save", stills / "a.mp4"), "would overwrite or lie among")
    assert video.read_bytes() == before


def test_stdout_that_is_full_is_one_line(demo_path: Path, tmp_path: Path) -> None:
    command = [SONOLITE, "run", str(demo_path), "--source", "phantom:?frames=3&live=no", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "sonolite: results cannot be written to stdout: No space left on device\n"
    )


def test_a_video_of_specks_is_one_line(demo_path: Path, make_video: Callable[..., Path]) -> None:
    speck = make_video("speck.avi", width=2, height=2)
    refused(sonolite("run", demo_path, "--source", speck), "2 x 2 pixels are too few")


def test_a_camera_that_is_not_there_is_exit_code_three(demo_path: Path) -> None:
    done = sonolite("run", demo_path, "--source", "97")
    assert done.code == 3
    assert done.stderr.splitlines()[-1].startswith("sonolite: camera /dev/video97: not there")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "a.sonolite"), "'--source'"),
        (("run",), "'bundle'"),
        (("nothing",), "'nothing'"),
        (("run", "a.sonolite", "--source", "0", "--threads", "0"), "'--threads'"),
        (("run", "a.sonolite", "--source", "0", "--variant", "int4"), "'int4'"),
        (("run", "a.sonolite", "--sauce", "0"), "--sauce"),
    ],
)
def test_wrong_use_is_one_line_that_points_to_the_help(words: tuple[str, ...], said: str) -> None:
    refused(sonolite(*words), said, "--help")


def test_no_words_show_the_help() -> None:
    done = sonolite()
    assert done.code == 0
    assert "demo" in done.stdout


def test_ctrl_c_ends_with_the_summary_and_keeps_the_video(demo_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    source = "phantom:?frames=20000&live=no&width=320&height=240"
    command = [SONOLITE, "run", str(demo_path), "--source", source, "--json", "--save", str(out)]
    command.append("--whole-picture")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(5):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        rest, said = process.stdout.read(), process.stderr.read().decode()
        assert process.wait(300) == 0, said
    results = 5 + len(rest.splitlines())
    assert f" {results} classified" in said
    assert "p50" in said
    assert "saved" in said
    assert len(frames_of(out)) == results


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_every_process_ends_a_video_with_the_summary(
    demo_path: Path, make_video: Callable[..., Path], number: int
) -> None:
    video = make_video("sweep.avi", frames=600)  # their results do not fit into the pipe
    command = [SONOLITE, "run", str(demo_path), "--source", str(video), "--json", "--whole-picture"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(5):
            process.stdout.readline()
        (decoder,) = decoders(process.pid)
        os.kill(decoder, number)
        os.killpg(process.pid, number)
        rest, said = process.stdout.read(), process.stderr.read().decode()
        assert process.wait(300) == 0, said
    results = 5 + len(rest.splitlines())
    assert results < 600
    assert f" {results} classified" in said
    assert command_line(decoder) == b""


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("black 9000", "SEARCHING"),
        ("frames 9000", "LIVE"),
        ("frames 5, stall 600", "STALE"),
        ("still 9000", "FROZEN"),
        ("frames 5, unplug, frames 9000", "LOST"),
    ],
)
def test_sigterm_ends_every_state_at_once_with_the_summary(
    demo_path: Path, script: str, state: str, within: Within
) -> None:
    command = [SONOLITE, "run", str(demo_path), "--source", f"script:{script}", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while json.loads(process.stdout.readline())["state"] != state:
            pass
        asked = time.monotonic()
        process.terminate()
        process.stdout.read()
        assert process.wait(300) == 0
        assert time.monotonic() - asked < within(5)
        assert process.stderr.read().decode().startswith("frames: ")


def test_sigterm_ends_fault_at_once_too(demo_path: Path, stand_in: Path, within: Within) -> None:
    """While an inference hangs, and is not given up yet."""
    hanging = f"{stand_in}?hang=12"
    code = (
        "from edge_runtime.models import watchdog; watchdog.INFERENCE_TIMEOUT = 1.5; "
        "from edge_runtime.cli import main; import sys; main(sys.argv[1:])"
    )
    words = ["run", str(demo_path), "--source", "phantom:", "--whole-picture"]
    words += ["--backend", hanging, "--json"]
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while json.loads(process.stdout.readline())["state"] != "FAULT":
            pass
        asked = time.monotonic()
        process.terminate()
        process.stdout.read()
        process.wait(300)
        assert time.monotonic() - asked < within(5)
        assert b"Traceback" not in process.stderr.read()


def test_a_reader_that_goes_ends_the_session_and_keeps_the_video(
    demo_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    source = "phantom:?frames=2000&width=320&height=240"
    command = [SONOLITE, "run", str(demo_path), "--source", source, "--json", "--save", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(300) == 0, said
    assert said.startswith("frames: ")
    assert "Traceback" not in said
    assert len(frames_of(out)) >= 1


def test_the_evidence_is_tinted_in_the_video_alone(tmp_path: Path) -> None:
    words = ("demo", "phantom:?frames=60&live=no", "--roi", DEMO_ROI, "--json", "--save")
    plain = sonolite(*words, tmp_path / "plain.avi")
    tinted = sonolite(*words, tmp_path / "tinted.avi", "--evidence")
    assert (plain.code, tinted.code) == (0, 0)
    said = [json.loads(line) for line in tinted.stdout.splitlines()]
    assert all("evidence" not in its["nodules"][0] for its in said)
    labels = [its["nodules"][0]["label"] is not None for its in said]
    assert any(labels)
    moved = [
        np.abs(one.astype(int) - other)[80:-80].max() > 20  # the bands tell the time
        for one, other in zip(
            frames_of(tmp_path / "plain.avi"), frames_of(tmp_path / "tinted.avi"), strict=True
        )
    ]
    assert moved == labels


def test_evidence_needs_a_video_and_a_model_that_has_it(
    demo_path: Path, bundle_path: Path, tmp_path: Path
) -> None:
    run = ("--source", "phantom:?frames=1", "--evidence")
    refused(sonolite("run", demo_path, *run), "--evidence", "--save")
    refused(sonolite("run", bundle_path, *run, "--save", tmp_path / "a.mp4"), "no evidence map")


def test_inspect_checks_and_shows_the_card(shipped_path: Path) -> None:
    done = sonolite("inspect", shipped_path)
    assert done.code == 0
    assert "every size and hash is as the manifest says" in done.stdout
    assert "Research use only" in done.stdout
    assert "int8" in done.stdout
    assert "held" in done.stdout
    shown = json.loads(sonolite("inspect", shipped_path, "--json").stdout)
    assert shown["manifest"]["stages"][0]["preprocessing"].startswith("gray|crop")
    assert shown["signed"]["trusted_as"] == "demo"
    assert [its["variant"] for its in shown["gate"]["variants"]] == ["float32", "int8"]


@pytest.mark.parametrize(
    "gate", [b"", b"{}", b"[]", b'{"variants": 1}', b'{"variants": [], "operators": {}}']
)
def test_a_gate_that_is_none_is_refused(demo_path: Path, tmp_path: Path, gate: bytes) -> None:
    opened = open_bundle(demo_path)
    contents = {name: opened.read(name) for name in opened.manifest.members} | {GATE: gate}
    manifest = replace(opened.manifest, members=list_members(contents))
    write_bundle(tmp_path / "a.sonolite", manifest, contents, None)
    refused(sonolite("inspect", tmp_path / "a.sonolite"), "gate.json")


def test_words_of_a_strange_bundle_do_not_command_the_terminal(
    demo_path: Path, tmp_path: Path
) -> None:
    opened = open_bundle(demo_path)
    gate = opened.read(GATE).replace(
        b'"failures": []', b'"failures": ["[/red] [bold]boom \\u001b[31m"]'
    )
    contents = {name: opened.read(name) for name in opened.manifest.members} | {GATE: gate}
    manifest = replace(opened.manifest, members=list_members(contents))
    write_bundle(tmp_path / "a.sonolite", manifest, contents, None)
    done = sonolite("inspect", tmp_path / "a.sonolite")
    assert done.code == 0, done
    assert "[/red]" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_first_result_comes_soon(demo_path: Path, within: Within) -> None:
    """A shell that waits for a picture is a shell that nobody uses."""
    started = time.monotonic()
    command = [SONOLITE, "run", str(demo_path), "--source", "phantom:?frames=1&live=no"]
    subprocess.run(command, check=True, capture_output=True)
    assert time.monotonic() - started < within(15)
