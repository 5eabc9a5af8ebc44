"""A whole emulated machine: it boots, is reached over SSH alone, and can lose its power."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

from tests.conftest import free_port
from tests.edge_runtime.deploy.conftest import Far
from tests.machine.image import USER, Image

BOOT_SECONDS = 300.0
PROCESSOR = "cortex-a76"
"""The Raspberry Pi 5's."""


class Machine:
    """A machine with a disk of its own, a copy of an image's or of another machine's."""

    def __init__(self, folder: Path, image: Image, start_of: Path | None = None) -> None:
        """`start_of` is the disk of another machine, which must not run any more."""
        self._image, self._folder = image, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.disk = folder / "disk.raw"
        subprocess.run(["cp", "--sparse=always", start_of or image.disk, self.disk], check=True)
        port = free_port()
        known = folder / "known"
        known.write_text(f"[127.0.0.1]:{port} {image.host_key.read_text()}")
        options = f"-p {port} -F none -i {image.key} -o UserKnownHostsFile={known}"
        self.far = Far(f"{USER}@127.0.0.1", port, options)

    def boot(self) -> float:
        """Starts it, and waits until it can be reached; the seconds that this took."""
        began = time.monotonic()
        port = self.far.port
        self._process = subprocess.Popen(
            [
                *("nice", "-n", "5", "qemu-system-aarch64", "-M", "virt", "-cpu", PROCESSOR),
                *("-smp", "2", "-m", "2048", "-display", "none", "-monitor", "none"),
                *("-serial", f"file:{self._folder / 'console.log'}", "-no-reboot"),
                *("-kernel", self._image.kernel, "-initrd", self._image.initrd),
                *("-append", "root=/dev/vda rw console=ttyAMA0"),
                # Each write of the machine is in the file at once, which a kill leaves as it is;
                # waiting for this host's disk too would only make the machine stand still.
                *("-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={self.disk}"),
                *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
                # Restricted: nothing but this port leads in, and nothing out.
                *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
                *("-device", "virtio-net-pci,netdev=net,romfile="),
            ],
            stdin=subprocess.DEVNULL,
        )
        while self.ask("true").returncode:
            assert self._process.poll() is None, "qemu ended"
            assert time.monotonic() - began < BOOT_SECONDS, "it does not boot; see console.log"
            time.sleep(1)
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        """The process that is the machine."""
        assert self._process is not None
        return self._process.pid

    def cut_power(self) -> None:
        """Ends it at once: what it had not put on its disk is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ask(self, script: str) -> subprocess.CompletedProcess[str]:
        """Runs a line of shell there as the user of the deployments."""
        options = [*shlex.split(self.far.ssh), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        words = ["ssh", *options, self.far.address, script]
        clean = {name: its for name, its in os.environ.items() if name != "SSH_AUTH_SOCK"}
        return subprocess.run(words, capture_output=True, text=True, check=False, env=clean)

    def say(self, script: str) -> str:
        """What a line of shell says, which must succeed."""
        done = self.ask(script)
        assert done.returncode == 0, (script, done)
        return done.stdout.strip()
