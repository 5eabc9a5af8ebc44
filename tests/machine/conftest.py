"""One emulated device that was deployed to over SSH, from a fresh Debian, as a user would."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, sonolite
from tests.edge_runtime.deploy.conftest import Far
from tests.machine.image import make_image, missing
from tests.machine.machine import Machine

SOURCE = "phantom:?live=no&fps=1"
"""A recording without an end, at a pace that an emulated processor can keep."""
TRIAL = 75
BOARD = "raspberry-pi-5"


@dataclass(frozen=True)
class Bed:
    """The device, by the commands that a user has."""

    machine: Machine
    far: Far

    def words(self, bundle: Path, source: str = SOURCE, trial: int = TRIAL) -> list[str]:
        """The command line of a deployment."""
        return [
            *("deploy", str(bundle), self.far.address, "--ssh", self.far.ssh, "--board", BOARD),
            *("--source", source, "--trial", str(trial), "--trust", "--json"),
        ]

    def deploy(self, bundle: Path, *more: str, source: str = SOURCE, trial: int = TRIAL) -> Outcome:
        done = sonolite(*self.words(bundle, source, trial), *more)
        print(done.stderr, done.stdout)
        return done

    def ask(self, word: str, *more: str) -> Outcome:
        return sonolite("device", word, self.far.address, "--ssh", self.far.ssh, *more)

    def status(self) -> dict[str, Any]:
        done = self.ask("status", "--json")
        assert done.code == 0, done
        said: dict[str, Any] = json.loads(done.stdout)[0]
        return said

    def runs(self, seconds: float = 300) -> bool:
        """Whether the service is LIVE; waits for it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.status()["state"] == "LIVE":
                return True
            time.sleep(3)
        return False


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory, shipped_path: Path) -> Iterator[Bed]:
    """The shipped bundle, deployed from nothing."""
    if absent := missing():
        pytest.skip(f"not installed: {', '.join(absent)}; see tests/machine/image.py")
    machine = Machine(tmp_path_factory.mktemp("machine"), make_image())
    try:
        print(f"booted in {machine.boot():.0f} s")
        its = Bed(machine, machine.far)
        done = its.deploy(shipped_path)
        assert done.code == 0, done
        yield its
    finally:
        machine.cut_power()
