"""Signals, closed pipes and texts that are too long end a command as they should."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import sonolite

LONG = ["x" * 5000, "9" * 5000, "1," * 3000 + "1", "x/" * 60_000, "\udcff" * 300, "a\nb" * 2000]
FIELDS: list[tuple[str, ...]] = [
    ("run", "LONG", "--source", "0"),
    ("run", "BUNDLE", "--source", "LONG"),
    ("run", "BUNDLE", "--source", "phantom:", "--roi", "LONG"),
    ("run", "BUNDLE", "--source", "phantom:?frames=LONG"),
    ("run", "BUNDLE", "--source", "v4l2:///dev/video0?size=LONG"),
    ("run", "BUNDLE", "--source", "script:LONG"),
    ("run", "BUNDLE", "--source", "script:frames LONG"),
    ("run", "BUNDLE", "--source", "igtl://host:LONG"),
    ("run", "BUNDLE", "--source", "http://host:LONG"),
    ("run", "BUNDLE", "--source", "phantom:", "--save", "LONG.mp4"),
    ("run", "BUNDLE", "--source", "phantom:", "--sink", "jsonl:LONG"),
    ("run", "BUNDLE", "--source", "phantom:", "--backend", "LONG"),
    ("run", "BUNDLE", "--source", "phantom:", "--board", "LONG"),
    ("run", "BUNDLE", "--source", "phantom:", "--threads", "LONG"),
    ("run", "BUNDLE", "--source", "phantom:?live=no&frames=2", "--prevalence", "LONG"),
    ("demo", "LONG"),
    ("sector", "--source", "phantom:", "--set", "LONG"),
    ("sector", "--source", "LONG", "--forget"),
    ("bench", "--source", "LONG", "--frames", "20", "--rounds", "1"),
    ("inspect", "LONG"),
    ("doctor", "LONG"),
    ("doctor", "--board", "LONG"),
    ("keys", "trust", "LONG"),
    ("deploy", "BUNDLE", "pi@127.0.0.1", "--board", "LONG", "--source", "0"),
    ("deploy", "BUNDLE", "LONG", "--board", "x86-64", "--source", "0"),
    ("deploy", "BUNDLE", "LONG.toml", "--board", "x86-64", "--source", "0"),
    ("deploy", "BUNDLE", "pi@127.0.0.1", "--board", "x86-64", "--root", "LONG", "--source", "0"),
    ("device", "status", "LONG.toml"),
    ("serve", "LONG", "abc"),
    ("serve", "/nowhere", "LONG"),
    ("LONG",),
]


@pytest.mark.parametrize("text", LONG, ids=lambda text: repr(text[:4]))
def test_a_text_that_is_too_long_ends_in_one_line(
    text: str, demo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for field in FIELDS:
        words = [word.replace("LONG", text).replace("BUNDLE", str(demo_path)) for word in field]
        done = sonolite(*words)
        assert done.code in (2, 3), (field, done.code, done.stderr[-500:])
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("sonolite: "), (field, last[:300])
        assert len(last) < 2100, field


def begin(*words: str | Path, wrapper: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*wrapper, sys.executable, "-m", "edge_runtime", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


LIVE = ("--source", "phantom:", "--whole-picture", "--any-picture", "--json")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_session_with_the_video_and_the_summary(
    number: signal.Signals, demo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    video = tmp_path / "seen.mp4"
    with begin("run", demo_path, *LIVE, "--save", video) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        process.send_signal(number)
        _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    assert f"saved {video}" in complaints
    assert video.stat().st_size > 1000


def test_nohup_keeps_a_session_running(
    demo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with begin("run", demo_path, *LIVE, wrapper=("nohup",)) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        for _ in range(20):
            assert process.stdout.readline()
        process.terminate()
        process.communicate(timeout=120)
    assert process.returncode == 0


@pytest.mark.parametrize("option", ["--json", "--sink=jsonl:-"])
def test_a_session_whose_stdout_is_closed_is_refused(option: str, demo_path: Path) -> None:
    command = [sys.executable, "-m", "edge_runtime", "run", str(demo_path), "--source", "phantom:"]
    words = ["sh", "-c", 'exec "$@" >&-', "sh", *command, option]
    done = subprocess.run(words, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == b"sonolite: results cannot be written: stdout is closed\n"


@pytest.mark.parametrize("words", [("doctor", "--json"), ("inspect", "BUNDLE", "--json")])
def test_results_that_nobody_can_read_are_told(words: tuple[str, ...], demo_path: Path) -> None:
    named = [str(demo_path) if word == "BUNDLE" else word for word in words]
    command = [sys.executable, "-m", "edge_runtime", *named]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], stderr=subprocess.PIPE, check=False
    )
    there, here = os.pipe()
    os.close(there)
    broken = subprocess.run(command, stdout=here, stderr=subprocess.PIPE, check=False)
    os.close(here)
    with open("/dev/full", "wb") as full_disk:
        full = subprocess.run(command, stdout=full_disk, stderr=subprocess.PIPE, check=False)
    for done in (closed, broken, full):
        assert done.returncode == 2, done
        assert done.stderr.count(b"\n") == 1, done
        assert done.stderr.startswith(b"sonolite: ")
