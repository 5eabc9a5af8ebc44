"""A disk of Debian for 64 bit ARM, as a device has it before anything is deployed; kept for long.

Made once, in minutes, by `python -m tests.machine.image`, or by the first test that needs it. Needs
root, for the owners of the files, and on Debian:

    apt install mmdebstrap qemu-user-static binfmt-support arch-test e2fsprogs qemu-system-arm
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.files import whole_folder

TOOLS = ("mmdebstrap", "qemu-aarch64-static", "mke2fs", "qemu-system-aarch64")
RELEASE, SIZE = "bookworm", "6G"
"""Debian's name of it, and the size of the disk, which takes what is used of it alone."""
USER = "pi"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "iproute2", "openssh-server", "sudo"),
    *("python3", "python3-venv", "linux-image-cloud-arm64", "initramfs-tools"),
)
SETUP = f"""\
set -eu
echo bed-1 > /etc/hostname
echo "127.0.1.1 bed-1" >> /etc/hosts
echo "/dev/vda / ext4 defaults 0 1" > /etc/fstab
printf '[Match]\\nName=e*\\n[Network]\\nDHCP=ipv4\\n' > /etc/systemd/network/wired.network
systemctl enable systemd-networkd ssh
useradd --create-home --shell /bin/bash {USER}
echo "{USER} ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/{USER}
mkdir -m 700 /home/{USER}/.ssh
mv /root/user.pub /home/{USER}/.ssh/authorized_keys
chown -R {USER}: /home/{USER}
rm /etc/ssh/ssh_host_*
mv /root/host /etc/ssh/ssh_host_ed25519_key
chmod 600 /etc/ssh/ssh_host_ed25519_key
mkdir -p /var/log/journal
"""
"""Run in it: a user who may use sudo, one known key of the host, a network, a lasting journal."""

Words = list[str | Path]
"""A command line."""


@dataclass(frozen=True)
class Image:
    """What a machine is started from; nothing writes to it."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk.raw"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"

    @property
    def key(self) -> Path:
        return self.folder / "user"

    @property
    def host_key(self) -> Path:
        return self.folder / "host.pub"


def missing() -> list[str]:
    """The programs that are not here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [name for name in TOOLS if shutil.which(name, path=path) is None]


def make_image() -> Image:
    """The image, made where it is not in the cache yet."""
    recipe = repr((RELEASE, SIZE, PACKAGES, SETUP))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonolite-machine"
    folder = cache / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as part:
            _make(part)
    return Image(folder)


def _make(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = Path(scratch) / "root"
        debian = ["mmdebstrap", "--mode=root", "--arch=arm64", "--variant=minbase", RELEASE]
        packages: Words = ["--include=" + ",".join(PACKAGES), root, "http://deb.debian.org/debian"]
        subprocess.run([*debian, *packages], check=True)
        for name in ("user", "host"):
            make_key: Words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
            subprocess.run(make_key, check=True)
        shutil.copy(folder / "user.pub", root / "root" / "user.pub")
        shutil.copy(folder / "host", root / "root" / "host")
        subprocess.run(["chroot", root, "sh", "-c", SETUP], check=True)
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(root / name, folder / name)
        make_disk: Words = ["mke2fs", "-q", "-t", "ext4", "-d", root, folder / "disk.raw", SIZE]
        subprocess.run(make_disk, check=True)


if __name__ == "__main__":
    print(make_image().folder)
