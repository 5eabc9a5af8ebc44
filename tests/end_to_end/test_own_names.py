"""A person's own `train.py`, `convert/` or `devices.py` does not stand in for ours."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from edge_runtime import Model, load_shipped_bundle, results_of
model = Model(load_shipped_bundle(), any_picture=True)
print([result.frame for result in results_of(model, "phantom:?frames=2&live=no")])
import train
print(train.MINE)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A person's folder."""
    for name in ("train.py", "devices.py"):
        (tmp_path / name).write_text("MINE = 'mine'\n")
    (tmp_path / "convert").mkdir()
    (tmp_path / "convert" / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "use.py").write_text(SCRIPT)
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["train", "convert", "run", "inspect"])
def test_the_command_line_finds_its_own(folder: Path, command: str) -> None:
    done = run(folder, "-m", "edge_runtime", command, "--help")
    assert done.returncode == 0, done.stderr
    assert f" {command} [OPTIONS]" in done.stdout


def test_the_interface_works_and_their_own_modules_are_theirs(folder: Path) -> None:
    done = run(folder, "use.py")
    assert done.stdout.splitlines() == ["[0, 1]", "mine"], done.stderr


def test_their_module_that_was_loaded_first_is_named(folder: Path) -> None:
    done = run(folder, "-c", "import devices, edge_runtime")
    assert done.returncode == 1
    assert "devices.py was imported as `devices`" in done.stderr.splitlines()[-1]
