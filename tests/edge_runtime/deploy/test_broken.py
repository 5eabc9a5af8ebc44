"""A deployment that is killed at any of its steps is finished by the same command."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.edge_runtime.deploy.conftest import REAL_TRIAL, SOURCE, TRIAL, Site, answer

KILLED = """
import os, signal, sys
import edge_runtime.commands.deploy as command
from edge_runtime.cli import main
carry_out = command.carry_out
def cut(plan, device, tell, meter):
    def tells(step):
        if step.name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGKILL)
    return carry_out(plan, device, tells, meter)
command.carry_out = cut
main(sys.argv[2:])
"""


def kill_at(step: str, site: Site, bundle: Path, *more: str, trial: float = TRIAL) -> None:
    """Deploys, and is killed before `step`."""
    words: Sequence[str | Path] = (
        *("deploy", bundle, site.far.address, "--board", "x86-64", "--root", site.root),
        *("--ssh", site.far.ssh, "--wheels", site.wheels, "--source", SOURCE),
        *("--trial", str(trial)),
        *more,
    )
    done = subprocess.run([sys.executable, "-c", KILLED, step, *words], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.install
def test_an_update_killed_at_each_step_leaves_the_old_release_or_the_new_one(
    site: Site, version: Callable[[int], Path]
) -> None:
    bundle = version(2)
    old = site.status()["current"]
    for step in ("bundle", "trust", "stage", "switch"):
        kill_at(step, site, bundle, "--trust")
        assert site.status()["current"] == old
    site.cut_power()
    site.boot()
    assert site.runs()
    kill_at("trial", site, bundle, "--trust")
    assert site.status()["current"] != old
    done = site.deploy(bundle, "--trust")
    assert done.code == 0, done
    its = site.status()
    assert its["good"] == its["current"] == answer(done)["release"]


@pytest.mark.slow
@pytest.mark.install
def test_a_first_deployment_killed_at_each_step_is_finished(
    shipped: Site, shipped_path: Path, tmp_path: Path
) -> None:
    site = Site(shipped.far, tmp_path / "root", shipped.wheels)
    for step in ("prepare", "tool", "wheels", "environment", "stage", "switch", "start"):
        kill_at(step, site, shipped_path, trial=REAL_TRIAL)
    done = site.deploy(shipped_path, trial=REAL_TRIAL)
    site.cut_power()
    assert done.code == 0, done
    assert not list((site.root / "incoming").iterdir())
