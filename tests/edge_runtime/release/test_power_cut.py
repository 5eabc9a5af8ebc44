"""A device that loses its power at any moment starts again, and the same done again finishes.

Each step runs in a process of its own, which kills itself before the first change that it makes to
the disk; then before the second one, and so on, until it gets to its end.
"""

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.release.layout import (
    BUNDLE,
    LINKS,
    RECORD,
    Layout,
    linked,
    read_json,
    read_log,
)
from edge_runtime.release.prune import prune
from edge_runtime.release.stage import name_of, receive, received, stage
from edge_runtime.release.switch import begin, fall_back, go_back, passed, read_trial, switch
from tests.edge_runtime.release.conftest import ENVIRONMENT, ROOT, make_environment

CONTENT = b"lives again"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NEW = name_of(DIGEST, ENVIRONMENT)

CUT = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.edge_runtime.release.test_power_cut import STEPS
from edge_runtime.release.layout import Layout
changes = 0
def before(event, arguments):
    global changes
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (
        os.O_WRONLY | os.O_RDWR | os.O_CREAT
    )
    if writes or event in {{
        "os.rename", "os.mkdir", "os.symlink", "os.link", "os.remove", "os.rmdir", "os.chmod",
        "subprocess.Popen",
    }}:
        if changes == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        changes += 1
step, layout = STEPS[sys.argv[2]], Layout(Path(sys.argv[1]))
sys.addaudithook(before)
step(layout)
"""


def send(layout: Layout) -> None:
    sent = layout.root / "sent"
    sent.write_bytes(CONTENT)
    here = received(layout, DIGEST)
    with open(sent, "rb") as file:
        file.seek(here)
        receive(layout, DIGEST, here, len(CONTENT), file)


def make(layout: Layout) -> None:
    stage(layout, DIGEST, ENVIRONMENT, "x86-64")


def change(layout: Layout) -> None:
    switch(layout, NEW)


def start(layout: Layout) -> None:
    begin(layout)


def accept(layout: Layout) -> None:
    trial = read_trial(layout)
    if trial is not None:
        passed(layout, trial)


def tidy(layout: Layout) -> None:
    prune(layout)


def refuse(layout: Layout) -> None:
    trial = read_trial(layout)
    if trial is not None:
        fall_back(layout, trial, "for a test")


def back(layout: Layout) -> None:
    if linked(layout, "current") == NEW:
        go_back(layout, 0, False)


STEPS: dict[str, Callable[[Layout], None]] = {
    "send": send,
    "make": make,
    "change": change,
    "start": start,
    "accept": accept,
    "tidy": tidy,
    "refuse": refuse,
    "back": back,
}
UPDATE = ("send", "make", "change", "start", "accept", "tidy")
WAYS = dict.fromkeys(UPDATE, UPDATE) | {
    "refuse": ("send", "make", "change", "start", "refuse"),
    "back": ("send", "make", "change", "start", "accept", "back"),
}
"""What is done for each step that is cut short: all before it, and all after it once more."""


@pytest.mark.parametrize("step", WAYS)
def test_a_power_cut_leaves_a_device_that_starts_and_goes_on(
    step: str, layout: Layout, good: str, tmp_path: Path
) -> None:
    candidate = WAYS[step]
    make_environment(layout, hashlib.sha256(b"old").hexdigest())
    for before in candidate[: candidate.index(step)]:
        STEPS[before](layout)
    for cut in itertools.count():
        there = Layout(tmp_path / f"cut{cut}")
        shutil.copytree(layout.root, there.root, symlinks=True)
        done = subprocess.run(
            [sys.executable, "-c", CUT, there.root, step, str(cut)],
            capture_output=True,
            text=True,
            check=False,
        )
        starts(there)
        for again in candidate:
            if again != "start":  # that was it, and too many would end the trial
                STEPS[again](there)
        starts(there)
        assert linked(there, "current") == (good if step in ("refuse", "back") else NEW), cut
        assert not read_trial(there)
        assert [path.name for path in there.root.rglob("*.part")] == []
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        shutil.rmtree(there.root)
    assert cut >= 3


def starts(layout: Layout) -> None:
    """What a start runs is whole, and so is the log; every link names a release."""
    release, trial = begin(layout)
    assert release == linked(layout, "current")
    folder = layout.release(release)
    assert (
        read_json(folder / RECORD)["sha256"]
        == hashlib.sha256((folder / BUNDLE).read_bytes()).hexdigest()
    )
    assert os.access(folder / "environment" / "bin" / "sonolite", os.X_OK)
    assert trial is None or (trial.release == release and trial.back != release)
    assert all((layout.link(name) / RECORD).is_file() for name in LINKS)
    assert read_log(layout) or trial is None
