"""The wheels for the environment of a device. The host downloads them: the device needs no network.

The lock file of the interpreter decides which wheels; pip refuses a wheel whose hash is not in it.
The wheels are kept, so that the next device of this kind needs no download.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from packaging.markers import Marker

from devices import BadInput
from devices.boards import Board
from edge_runtime.deploy.pack import pack_wheel
from edge_runtime.files import whole_file, whole_folder
from edge_runtime.release.stage import file_sha256

LOCK_FILES = {"ai-edge-litert": "device.txt", "tflite-runtime": "tflite-runtime.txt"}
"""The lock file of each interpreter."""
DOWNLOAD_MINUTES = 30


@dataclass(frozen=True)
class Wheel:
    """One wheel on the host."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True)
class Environment:
    """The parts of a Python environment."""

    python: str
    """The path of Python on the device."""
    wheels: tuple[Wheel, ...]

    @property
    def name(self) -> str:
        """The sha256 of the parts: the same wheels on the same Python are one environment."""
        parts = [self.python, *sorted(f"{wheel.path.name} {wheel.sha256}" for wheel in self.wheels)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def gather_wheels(
    board: Board,
    machine: str,
    python: str,
    version: str,
    given: Path | None,
    extras: Collection[str] = (),
) -> Environment:
    """The wheels for a device, with the wheel of this project, and those of its `extras`.

    `given` is a folder of wheels in the place of a download. Raises BadInput where it is none, or
    where the wheels cannot be downloaded.
    """
    if given is not None and not given.is_dir():
        raise BadInput(f"--wheels {given}: no such folder")
    folder = given or download_wheels(board, machine, version, extras)
    wheels = sorted(folder.glob("*.whl"))
    name, content = pack_wheel()
    own = wheel_cache() / hashlib.sha256(content).hexdigest() / name
    if not own.is_file():
        own.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(own) as part:
            part.write_bytes(content)
    sent = [*(wheel for wheel in wheels if not wheel.name.startswith("sonolite-")), own]
    hashed = [Wheel(path, file_sha256(path), path.stat().st_size) for path in sent]
    return Environment(python, tuple(hashed))


def download_wheels(board: Board, machine: str, version: str, extras: Collection[str] = ()) -> Path:
    """The folder of the wheels for a Python `version` on `machine`; downloaded only once.

    Each of the `extras` of this project has a lock file of its own.
    Raises BadInput where pip cannot get a wheel.
    """
    names = [LOCK_FILES[board.interpreter], *(f"{extra}.txt" for extra in sorted(extras))]
    locks = [lock_for_target(read_lock_file(name), machine, version) for name in names]
    lock = "\n".join(dict.fromkeys("".join(locks).splitlines())) + "\n"  # two extras may share one
    tags = board.platforms(machine)  # type: ignore[arg-type]
    digest = hashlib.sha256("\n".join([lock, version, *tags]).encode()).hexdigest()
    folder = wheel_cache() / digest[:32]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    minor = ".".join(version.split(".")[:2])
    with tempfile.TemporaryDirectory() as scratch, whole_folder(folder) as part:
        lock_file = Path(scratch) / "lock.txt"
        lock_file.write_text(lock)
        options = ["--only-binary=:all:", "--no-deps", "--require-hashes", "--quiet"]
        target = ["--implementation", "cp", "--python-version", minor]
        target += [word for tag in tags for word in ("--platform", tag)]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        try:
            done = subprocess.run(  # noqa: S603
                [*command, *options, *target, "--dest", str(part), "-r", str(lock_file)],
                capture_output=True,
                text=True,
                check=False,
                timeout=60 * DOWNLOAD_MINUTES,
            )
        except subprocess.TimeoutExpired as error:
            raise BadInput(
                f"the wheels were not downloaded in {DOWNLOAD_MINUTES} minutes"
            ) from error
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            last = (errors or done.stderr.splitlines() or ["pip said nothing"])[-1]
            raise BadInput(f"the wheels for {board.name} cannot be had: {last}")
    return folder


def read_lock_file(name: str) -> str:
    """The text of a lock file in the package."""
    return (resources.files("edge_runtime") / "deploy" / name).read_text()


def lock_for_target(lock: str, machine: str, version: str) -> str:
    """The lines of a lock file for the target; pip would choose the lines for this machine.

    Raises BadInput for a line without a hash or a version.
    """
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": version,
        "python_version": ".".join(version.split(".")[:2]),
        "sys_platform": "linux",
    }
    kept = []
    for entry in re.sub(r"\\\n", " ", lock).splitlines():
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        wanted, _, hashes = entry.partition(" --hash=")
        pinned, _, marker = wanted.partition(";")
        if not hashes or "==" not in pinned:
            raise BadInput(f"the lock pins no hash in the line {entry.strip()[:60]!r}")
        if not marker.strip() or Marker(marker).evaluate(environment):
            kept.append(f"{pinned.strip()} --hash={hashes.strip()}")
    return "\n".join(kept) + "\n"


def wheel_cache() -> Path:
    """The folder of downloaded wheels (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonolite"
