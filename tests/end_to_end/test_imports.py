"""The device needs nothing of the host: neither what it imports nor what it installs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST_ONLY = {"tensorflow", "keras", "sklearn", "scipy", "matplotlib"}

IMPORT_ALL = """
import pkgutil, sys
from importlib import import_module
names = []
for package in ("devices", "edge_runtime"):
    found = pkgutil.walk_packages(import_module(package).__path__, package + ".")
    names += [package] + [module.name for module in found]
for name in names:
    import_module(name)
print(*names)
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


def test_no_module_of_the_device_loads_a_host_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True
    )
    imported, loaded = (set(line.split()) for line in done.stdout.splitlines())
    assert {
        "edge_runtime.commands.run",
        "devices.capture.phantom",
        "devices.compute.cpu",
    } <= imported
    assert not loaded & HOST_ONLY


@pytest.mark.parametrize("lock", ["device.txt", "tflite-runtime.txt"])
def test_no_lock_of_a_device_names_a_host_library(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    pinned = {line.split("==")[0] for line in text.splitlines() if "==" in line}
    assert "numpy" in pinned
    assert not pinned & (HOST_ONLY | {"scikit-learn", "tensorflow-cpu"})
