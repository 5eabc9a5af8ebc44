"""A device's own installation, from its lock file into an empty environment; needs the network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.install


def install(folder: Path, lock: str) -> Path:
    """Makes a virtual environment of the lock file and the project; returns its `sonolite`."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(folder / "bin" / "pip"), "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "--require-hashes", "-r", ROOT / "requirements" / lock], check=True)
    subprocess.run([*pip, "--no-deps", ROOT], check=True)
    return folder / "bin" / "sonolite"


def decisions(sonolite: Path | str, cwd: Path) -> tuple[list[str | None], str]:
    """The labels that the shipped demo gives to sixty frames of the phantom, and the backend."""
    command = [str(sonolite), "demo", "phantom:?frames=60&live=no", "--roi", "167,190,108,100"]
    clean = {name: its for name, its in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "--json"], cwd=cwd, env=clean, capture_output=True, text=True, check=True
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert (cwd / "demo.mp4").is_file()
    return [result["nodules"][0]["label"] for result in results], results[0]["backend"]


def test_the_base_install_runs_the_demo_and_shows_only_what_it_can(tmp_path: Path) -> None:
    sonolite = install(tmp_path / "venv", "device.txt")
    labels, backend = decisions(sonolite, tmp_path)
    assert len(labels) == 60
    assert "ai-edge-litert" in backend
    shown = subprocess.run([sonolite, "--help"], capture_output=True, text=True, check=True).stdout
    assert "demo" in shown
    assert "train" not in shown
    refused = subprocess.run([sonolite, "train"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "no such command: 'train'" in refused.stderr
    assert "pip install 'sonolite[train]'" in refused.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime ends at Python 3.11")
def test_tflite_runtime_decides_as_litert_does(tmp_path: Path) -> None:
    """Its kernels round otherwise: a frame at the margin may be left open by one of them alone."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    labels, backend = decisions(install(tmp_path / "venv", "tflite-runtime.txt"), old)
    assert "tflite-runtime" in backend
    others, _ = decisions(Path(sys.executable).parent / "sonolite", new)
    pairs = list(zip(labels, others, strict=True))
    assert not [pair for pair in pairs if None not in pair and pair[0] != pair[1]], pairs
    assert sum(one == other for one, other in pairs) >= 0.9 * len(pairs), pairs
