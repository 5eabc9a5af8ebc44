"""A Debian package that holds all but Python: `python -m packages.deb BOARD PYTHON FOLDER`.

It is for a device without a network, so every wheel of the lock is inside, chosen for the board and
not for the machine that builds: no emulator is needed for ARM. Wheels are unpacked into one folder:
a virtual environment has paths and an interpreter in it that would have to be the device's while it
is built. Compiled wheels hold for one Python, so there is one package for each.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from devices.boards import Board, read_board

ROOT = Path(__file__).parents[1]
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
"""What Debian calls them."""

LAUNCHER = """\
#!/usr/bin/python3 -I
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib" / "sonolite"))
from edge_runtime.__main__ import main

main()
"""
COMPILE = """\
#!/bin/sh
set -e
[ "$1" != configure ] || python3 -m compileall -q /usr/lib/sonolite || true
"""
CLEAN = """\
#!/bin/sh
set -e
find /usr/lib/sonolite -name __pycache__ -prune -exec rm -rf {} +
"""
CONTROL = """\
Package: sonolite
Version: {version}+python{python}
Architecture: {architecture}
Maintainer: The sonolite project <sonolite@localhost>
Installed-Size: {kibibytes}
Depends: {depends}
Section: science
Priority: optional
Description: live decisions on ultrasound frames, on a point-of-care device
 Classifies the frames of an ultrasound capture device with a trained network.
 Research use only, not for diagnosis.
"""


def build(board: Board, python: str, folder: Path) -> Path:
    """Builds the package for `board` and a Python such as `3.11` into `folder`; returns its path.

    Raises subprocess.CalledProcessError where uv or dpkg-deb fails, having said why.
    """
    architecture = board.architectures[0]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    with tempfile.TemporaryDirectory() as staged:
        stage = Path(staged)
        stage.chmod(0o755)  # becomes the mode of the device's root folder
        platform = f"{architecture}-manylinux_{board.glibc.replace('.', '_')}"
        _install(stage / "usr/lib/sonolite", platform, python)
        _write(stage / "usr/bin/sonolite", LAUNCHER, 0o755)
        _write(stage / "usr/share/doc/sonolite/copyright", (ROOT / "LICENSE").read_text())
        older, newer = python, f"3.{int(python.split('.')[1]) + 1}"
        needs = (f"python3 (>= {older})", f"python3 (<< {newer})", f"libc6 (>= {board.glibc})")
        control = CONTROL.format(
            version=version,
            python=python,
            architecture=ARCHITECTURES[architecture],
            kibibytes=sum(path.stat().st_size for path in stage.rglob("*")) // 1024,
            depends=", ".join((*needs, *board.packages.get("run", ()))),
        )
        _write(stage / "DEBIAN/control", control)
        _write(stage / "DEBIAN/postinst", COMPILE, 0o755)
        _write(stage / "DEBIAN/prerm", CLEAN, 0o755)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"sonolite_{version}+python{python}_{ARCHITECTURES[architecture]}.deb"
        pack = ["dpkg-deb", "--root-owner-group", "-Zzstd", "--build", str(stage), str(path)]
        subprocess.run(pack, check=True, stdout=sys.stderr)  # noqa: S603
    return path


def _install(folder: Path, platform: str, python: str) -> None:
    """Unpacks the lock's wheels for another platform, and ours, without what starts them."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv is not None, "uv is of the extra `dev`"
    install: list[str | Path] = [uv, "pip", "install", "--no-config", "--quiet", "--no-deps"]
    install += ["--python-platform", platform, "--python-version", python]
    install += ["--link-mode", "copy", "--target", folder]
    lock = ROOT / "requirements" / "device.txt"
    pinned = ["--only-binary", ":all:", "--require-hashes", "-r", lock]
    for what in (pinned, [ROOT]):
        subprocess.run([*install, *what], check=True)  # noqa: S603
    shutil.rmtree(folder / "bin")
    (folder / ".lock").unlink(missing_ok=True)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


if __name__ == "__main__":
    print(build(read_board(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
