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
    read_event_log,
    read_json_file,
    read_link,
)
from edge_runtime.release.prune import remove_surplus
from edge_runtime.release.stage import receive_file, received_size, release_name, stage_release
from edge_runtime.release.switch import (
    fail_trial,
    pass_trial,
    read_trial,
    release_to_start,
    roll_back,
    switch_release,
)
from tests.edge_runtime.release.conftest import ENVIRONMENT, ROOT, make_environment

CONTENT = b"lives again"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NEW = release_name(DIGEST, ENVIRONMENT)

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
    here = received_size(layout, DIGEST)
    with open(sent, "rb") as file:
        file.seek(here)
        receive_file(layout, DIGEST, here, len(CONTENT), file)


def make(layout: Layout) -> None:
    stage_release(layout, DIGEST, ENVIRONMENT, "x86-64")


def change(layout: Layout) -> None:
    switch_release(layout, NEW)


def start(layout: Layout) -> None:
    release_to_start(layout)


def accept(layout: Layout) -> None:
    trial = read_trial(layout)
    if trial is not None:
        pass_trial(layout, trial)


def tidy(layout: Layout) -> None:
    remove_surplus(layout)


def refuse(layout: Layout) -> None:
    trial = read_trial(layout)
    if trial is not None:
        fail_trial(layout, trial, "for a test")


def back(layout: Layout) -> None:
    if read_link(layout, "current") == NEW:
        roll_back(layout, 0, False)


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


LONG = ("make", "change")
"""Steps that change the disk so often that all their cuts take most of a minute."""


@pytest.mark.parametrize(
    ("step", "every"),
    [
        *((step, 12 if step in LONG else 3) for step in WAYS),
        *(pytest.param(step, 1, marks=pytest.mark.slow) for step in WAYS),
    ],
)
def test_a_power_cut_leaves_a_device_that_starts_and_goes_on(
    step: str, every: int, layout: Layout, good: str, tmp_path: Path
) -> None:
    """Before each change to the disk in the slow tests, else before each third or twelfth one."""
    steps = WAYS[step]
    make_environment(layout, hashlib.sha256(b"old").hexdigest())
    for before in steps[: steps.index(step)]:
        STEPS[before](layout)
    for cut in itertools.count(0, every):
        there = Layout(tmp_path / f"cut{cut}")
        shutil.copytree(layout.root, there.root, symlinks=True)
        done = subprocess.run(
            [sys.executable, "-c", CUT, there.root, step, str(cut)],
            capture_output=True,
            text=True,
            check=False,
        )
        starts(there)
        for again in steps:
            if again != "start":  # that was it, and too many would end the trial
                STEPS[again](there)
        starts(there)
        assert read_link(there, "current") == (good if step in ("refuse", "back") else NEW), cut
        assert not read_trial(there)
        assert [path.name for path in there.root.rglob("*.part")] == []
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        shutil.rmtree(there.root)
    assert cut >= 3


def starts(layout: Layout) -> None:
    """What a start runs is whole, and so is the log; every link names a release."""
    release, trial = release_to_start(layout)
    assert release == read_link(layout, "current")
    folder = layout.release(release)
    assert (
        read_json_file(folder / RECORD)["sha256"]
        == hashlib.sha256((folder / BUNDLE).read_bytes()).hexdigest()
    )
    assert os.access(folder / "environment" / "bin" / "sonolite", os.X_OK)
    assert trial is None or (trial.release == release and trial.back != release)
    assert all((layout.link(name) / RECORD).is_file() for name in LINKS)
    assert read_event_log(layout) or trial is None
