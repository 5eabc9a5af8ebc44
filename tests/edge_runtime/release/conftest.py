"""Devices whose releases are small programs: they beat, hang, fail or end as their name says."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.release.config import Config, write_config
from edge_runtime.release.layout import COMPLETE, Layout, make_folders, set_link
from edge_runtime.release.stage import receive_file, stage_release

ROOT = Path(__file__).parents[3]
TRIAL = 4.0
"""Seconds of a trial, in which a release has to begin however busy the machine is."""
PROGRAM = f"""#!{sys.executable}
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from edge_runtime.release.notify import notify
if sys.argv[1] == "release":
    print("stand-in 1")
    sys.exit()
kind = open(os.path.join(sys.argv[2], "releases", sys.argv[3], "bundle.sonolite")).read().split()[0]
began = time.monotonic()
beats = 0
while True:
    if kind == "crashes" and beats == 3:
        sys.exit(7)
    if kind == "hangs" and beats == 3:
        time.sleep(1000)
    if kind == "hangs-late" and time.monotonic() - began > {TRIAL - 0.3}:
        time.sleep(1000)
    state = {{"searches": "SEARCHING", "faults": "FAULT", "lost": "LOST"}}.get(kind, "LIVE")
    if kind != "silent":
        notify(MAINPID=os.getpid(), STATUS=state, WATCHDOG=1)
    beats += 1
    time.sleep(0.1)
"""
ENVIRONMENT = hashlib.sha256(b"environment").hexdigest()


def send(layout: Layout, content: bytes) -> str:
    """Puts content among what was sent; its sha256."""
    digest = hashlib.sha256(content).hexdigest()
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    with open(read, "rb") as pipe:
        receive_file(layout, digest, 0, len(content), pipe)
    return digest


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A device with an environment and a configuration, and no release."""
    its = Layout(tmp_path / "root")
    its.root.mkdir()
    make_folders(its)
    make_environment(its, ENVIRONMENT)
    write_settings(its)
    return its


def make_environment(layout: Layout, name: str) -> None:
    program = layout.environment(name) / "bin" / "sonolite"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (layout.environment(name) / COMPLETE).write_text(json.dumps({"one.whl": ENVIRONMENT}))


def write_settings(layout: Layout, seconds: float = TRIAL, state: str = "LIVE") -> None:
    config = Config("phantom:", trial_seconds=seconds, trial_state=state)
    (layout.root / "config.toml").write_text(write_config(config))


@pytest.fixture
def staged(layout: Layout) -> Callable[[str], str]:
    """Stages a release that does as its name says; returns its name."""
    return lambda kind: stage_release(layout, send(layout, kind.encode()), ENVIRONMENT, "x86-64")


@pytest.fixture
def good(layout: Layout, staged: Callable[[str], str]) -> str:
    """A release that passed long ago, and is current."""
    name = staged("lives")
    for its in ("good", "previous", "current"):
        set_link(layout, its, name)
    return name
