"""The machine loses its power at each step of a deployment; it boots, runs, and is deployed to."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import sonolite
from tests.edge_runtime.deploy.conftest import answer
from tests.machine.conftest import Bed

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]

CUT = """
import os, signal, sys, threading
import edge_runtime.commands.deploy as command
from edge_runtime.cli import main
carry_out = command.carry_out
def cut(plan, device, tell, meter):
    def tells(step):
        tell(step)
        if step.name == sys.argv[1]:
            threading.Timer(1.0, os.kill, (int(sys.argv[2]), signal.SIGKILL)).start()
    return carry_out(plan, device, tells, meter)
command.carry_out = cut
main(sys.argv[3:])
"""
NUMBERS = {"bundle": 11, "stage": 12, "switch": 13, "trial": 14, "prune": 15}
"""The step, a second after whose beginning the power goes, and the version that is deployed."""


@pytest.mark.parametrize("step", NUMBERS)
def test_it_boots_runs_and_the_same_deployment_finishes(
    bed: Bed, version: Callable[[int], Path], step: str
) -> None:
    words = bed.words(version(NUMBERS[step]))
    old = bed.status()["current"]
    pid = str(bed.machine.pid)
    done = subprocess.run([sys.executable, "-c", CUT, step, pid, *words], check=False)
    bed.machine.cut_power()
    print(f"{step}: the deployment ended with {done.returncode}")
    bed.machine.boot()
    assert bed.runs()
    if step in ("bundle", "stage"):
        assert bed.status()["current"] == old
    again = sonolite(*words)
    assert again.code == 0, again
    its = bed.status()
    assert its["good"] == its["current"] == answer(again)["release"]
    assert bed.machine.say("ls -A /opt/sonolite/incoming") == ""
