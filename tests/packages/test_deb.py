"""The Debian package is built for any board, and runs from nothing but itself and Python."""

import subprocess
import sys
from pathlib import Path

import pytest

from devices.boards import read_board
from packages.deb import build
from tests.end_to_end.test_install import decisions

pytestmark = pytest.mark.install
PYTHON = "3.11"
MACHINES = {62: "x86_64", 183: "aarch64"}
"""`e_machine` of an ELF file, elf(5)."""


def field(path: Path, name: str) -> str:
    """One field of the package's control file."""
    done = subprocess.run(
        ["dpkg-deb", "--field", path, name], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def machines(root: Path) -> set[str]:
    """The processors that the shared libraries under `root` are for."""
    found = set()
    for path in root.rglob("*.so*"):
        head = path.read_bytes()[:20]
        if head.startswith(b"\x7fELF"):
            found.add(MACHINES[int.from_bytes(head[18:20], "little")])
    return found


@pytest.mark.parametrize(
    ("board", "architecture"), [("x86-64", "amd64"), ("raspberry-pi-5", "arm64")]
)
def test_a_package_holds_its_own_processors_libraries(
    tmp_path: Path, board: str, architecture: str
) -> None:
    path = build(read_board(board), PYTHON, tmp_path)
    assert path.name.endswith(f"_{architecture}.deb")
    assert field(path, "Architecture") == architecture
    assert field(path, "Depends") == (
        "python3 (>= 3.11), python3 (<< 3.12), libc6 (>= 2.28), libstdc++6"
    )
    assert int(field(path, "Installed-Size")) < 350_000
    root = tmp_path / "root"
    subprocess.run(["dpkg-deb", "--extract", path, root], check=True)
    assert machines(root) == set(read_board(board).architectures)
    assert not list(root.rglob("tensorflow"))
    launcher = root / "usr/bin/sonolite"
    assert launcher.stat().st_mode & 0o777 == 0o755
    system = Path("/usr/bin/python3")
    if architecture == "amd64" and system.exists() and system.resolve().name == f"python{PYTHON}":
        labels, backend = decisions(launcher, tmp_path)
        ours, _ = decisions(Path(sys.executable).parent / "sonolite", root)
        assert labels == ours
        assert "ai-edge-litert" in backend
