"""A real sshd on loopback, and devices behind it: folders with a service of their own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.release.layout import ENVIRONMENT, TOOL, Layout
from edge_runtime.release.tool import release_status
from tests.conftest import Outcome, free_port, sonolite

ROOT = Path(__file__).parents[3]
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SOURCE = "phantom:?live=no&fps=4"
"""A recording without an end, at a pace that leaves the machine to others."""
TRIAL = 4.0
"""Seconds of a trial, in which a stand-in has to begin however busy the machine is."""
REAL_TRIAL = 20.0
"""As much for the real service."""


STAND_IN = f"""#!{sys.executable}
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
root, release = sys.argv[-2:]
if sys.argv[1] != "serve":
    os.execv(os.path.join(os.path.dirname(sys.argv[0]), "real"), sys.argv)
from edge_runtime.release.notify import notify
while True:
    notify(MAINPID=os.getpid(), STATUS="LIVE", WATCHDOG=1)
    time.sleep(0.1)
    good = os.path.basename(os.readlink(os.path.join(root, "state", "good")))
    if release != good and os.path.exists(os.path.join(root, "hangs")):
        time.sleep(1000)
"""
"""Checks as the real one does, and serves at once; with a file `hangs`, a new release hangs."""


@dataclass(frozen=True)
class Far:
    """An sshd, and how it is reached."""

    address: str
    port: int
    ssh: str
    """The value of `--ssh`."""


@contextmanager
def sshd(
    folder: Path, environment: str, command: str = 'sh -c "$SSH_ORIGINAL_COMMAND"'
) -> Iterator[Far]:
    """An sshd of this user's, with keys of its own, whose sessions have `environment`.

    The user's shell may set other variables before a command (bash reads ~/.bashrc even then), so
    the `command` that runs what was asked for gets `environment` after that.
    """
    if SSHD is None:
        pytest.skip("there is no sshd; install openssh-server")
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd(8): privilege separation
    port = free_port()
    (folder / "config").write_text(
        f"""
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
ForceCommand env {environment} {command}
"""
    )
    key = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {key}")
    words: list[str | Path] = [SSHD, "-D", "-f", folder / "config", "-E", folder / "log"]
    with subprocess.Popen(words) as server:
        until = time.monotonic() + 60
        while not listens(port):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        user = subprocess.check_output(["id", "-un"], text=True).strip()
        options = f"-p {port} -F none -i {folder}/user -o UserKnownHostsFile={folder}/known"
        try:
            yield Far(f"{user}@127.0.0.1", port, options)
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A host whose Python finds the packages of the tests' own."""
    with sshd(tmp_path_factory.mktemp("sshd"), usual_environment()) as its:
        yield its


def usual_environment() -> str:
    packages, programs = sysconfig.get_path("purelib"), Path(sys.executable).parent
    return f"PYTHONPATH={packages} PATH={programs}:/usr/bin:/bin OMP_NUM_THREADS=1"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Site:
    """One device: a root behind an sshd."""

    far: Far
    root: Path
    wheels: Path

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    def deploy(
        self, bundle: Path, *more: str, source: str = SOURCE, trial: float = TRIAL
    ) -> Outcome:
        return sonolite(
            *("deploy", bundle, self.far.address, "--board", "x86-64", "--root", self.root),
            *("--ssh", self.far.ssh, "--wheels", self.wheels, "--source", source),
            *("--trial", str(trial), "--json", *more),
        )

    def ask(self, word: str, *more: str) -> Outcome:
        return sonolite(
            "device", word, self.far.address, "--root", self.root, "--ssh", self.far.ssh, *more
        )

    def status(self) -> dict[str, Any]:
        return release_status(self.layout)

    def runs(self, seconds: float = 60) -> bool:
        """Whether the service runs the current release and is LIVE; waits a little for it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.status()["state"] == "LIVE":
                return True
            time.sleep(0.1)
        return False

    def cut_power(self) -> None:
        """Ends all that runs on this device, as if it lost its power."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(self.root).encode() in words and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
        until = time.monotonic() + 60
        while self.status()["running"]:
            assert time.monotonic() < until
            time.sleep(0.05)

    def boot(self) -> None:
        """Starts the service, as the machine would."""
        subprocess.run(
            [sys.executable, "-I", self.root / TOOL, "start", self.root],
            env={**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")},
            check=True,
        )


@pytest.fixture(scope="session")
def no_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No wheels but the project's own: the packages are those of the tests' Python."""
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="package")
def shipped(
    far: Far, no_wheels: Path, shipped_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A device that the shipped bundle was deployed to, from nothing."""
    site = Site(far, tmp_path_factory.mktemp("shipped") / "root", no_wheels)
    done = site.deploy(shipped_path, trial=REAL_TRIAL)
    assert done.code == 0, done
    yield site
    site.cut_power()


@pytest.fixture
def site(shipped: Site, shipped_path: Path, tmp_path: Path) -> Iterator[Site]:
    """A copy of that device, whose service only says that it is LIVE: it begins at once."""
    shipped.cut_power()  # a running one writes to the files that are copied
    root = tmp_path / "root"
    shutil.copytree(shipped.root, root, symlinks=True, ignore=shutil.ignore_patterns("pip*"))
    copy = replace(shipped, root=root)
    program = root / "environments" / environment(shipped) / "bin" / "sonolite"
    program.rename(program.with_name("real"))
    program.write_text(STAND_IN)
    program.chmod(0o755)
    config = root / "config.toml"
    trial = f"trial_seconds = {REAL_TRIAL}"
    assert trial in config.read_text()
    config.write_text(config.read_text().replace(trial, f"trial_seconds = {TRIAL}"))
    copy.boot()
    assert copy.runs()
    yield copy
    copy.cut_power()


@pytest.fixture
def bare(shipped: Site, tmp_path: Path) -> Iterator[Site]:
    """A device with a tool and an environment, but no release yet."""
    shipped.cut_power()
    root = tmp_path / "bare"
    root.mkdir()
    shutil.copytree(shipped.root / "environments", root / "environments", symlinks=True)
    shutil.copy(shipped.root / TOOL, root / TOOL)
    copy = replace(shipped, root=root)
    subprocess.run([sys.executable, "-I", root / TOOL, "prepare", root], check=True)
    yield copy
    copy.cut_power()


def environment(site: Site) -> str:
    """The environment of a device's current release."""
    folder = site.root / "state" / "current" / ENVIRONMENT
    return folder.readlink().name


def answer(outcome: Outcome) -> dict[str, Any]:
    """What a command said in JSON."""
    said: dict[str, Any] = json.loads(outcome.stdout)
    return said


def refuses(outcome: Outcome, *words: str) -> None:
    """Asserts exit code 2 and a last line that names all `words`, after what was done before."""
    assert outcome.code == 2, outcome
    last = outcome.stderr.strip().splitlines()[-1]
    assert last.startswith("sonolite: "), outcome
    assert all(word in last for word in words), outcome


class Wire:
    """A TCP proxy before an sshd: counts what passes, both ways, and breaks if it is told to.

    Each way passes at most `bits` a second.
    """

    def __init__(
        self, far: Far, breaks_after: float = float("inf"), bits: float = float("inf")
    ) -> None:
        self.bytes = 0
        self._bits = bits
        self._most, self._port = breaks_after, far.port
        self._server = socket.create_server(("127.0.0.1", 0))
        port = self._server.getsockname()[1]
        known = f"-p {port} -o HostKeyAlias=[127.0.0.1]:{far.port} "
        self.far = replace(far, ssh=known + far.ssh)  # of two ports ssh takes the first

    def __enter__(self) -> "Wire":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                there = socket.create_connection(("127.0.0.1", self._port))
                for one, other in ((near, there), (there, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with one, suppress(OSError):
            while (chunk := one.recv(65536)) and self.bytes < self._most:
                self.bytes += len(chunk)
                other.sendall(chunk)
                time.sleep(8 * len(chunk) / self._bits)
            other.shutdown(socket.SHUT_RDWR)
