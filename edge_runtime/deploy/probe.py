"""The facts of a device. This file is sent to its Python over SSH, and changes nothing there.

It needs only the standard library, and runs from Python 3.7 on: an old Python must be able to say
that it is old.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import platform
import pwd
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

VERSION_QUERY = "import sys; print('%d.%d.%d' % sys.version_info[:3], sys.executable)"
HARDWARE_GROUPS = ("video", "render", "plugdev", "apex")
"""The groups of grabbers, GPUs and Edge TPUs on Debian."""
UNIT_PATH = "/etc/systemd/system/sonolite.service"
KIOSK_UNIT_PATH = "/etc/systemd/system/sonolite-kiosk.service"


def find_pythons() -> dict[str, str]:
    """Each Python on the path and its version; `python3` of a folder comes first."""
    versions: dict[str, str] = {}
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for folder in dict.fromkeys(os.path.realpath(name) for name in folders if name):
        for path in [Path(folder, "python3"), *sorted(Path(folder).glob("python3.[0-9]*"))]:
            # Beside them stand scripts such as python3.11-config and python3.11-gdb.py.
            named = re.fullmatch(r"python3(\.\d+)?", path.name)
            if named is None or not os.access(path, os.X_OK):
                continue
            try:
                output = subprocess.check_output(  # noqa: S603
                    [str(path), "-I", "-S", "-c", VERSION_QUERY],
                    stderr=subprocess.DEVNULL,
                    timeout=20,
                )
            except (OSError, subprocess.SubprocessError):
                continue
            version, executable = output.decode().strip().split(" ", 1)
            versions.setdefault(executable, version)
    return versions


def c_library() -> list[str]:
    """The C library and its version, such as glibc and 2.36."""
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        library = ""
    name, _, version = library.partition(" ")
    return [name, version]


def nearest_folder(path: str) -> str:
    """The deepest folder of a path that exists."""
    while not Path(path).is_dir():
        path = os.path.dirname(path)  # noqa: PTH120
    return path


def sha256_of(path: str) -> str | None:
    """The sha256 of a file, None where it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def is_own(path: str) -> bool:
    """Whether only this user and root can change a file or folder; also where there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return True
    owned = status.st_uid in (0, os.getuid()) and not stat.S_ISLNK(status.st_mode)
    return owned and not status.st_mode & 0o022


def main(root: str) -> None:
    """Prints the facts as JSON."""
    tool = os.path.join(root, "release.pyz")  # noqa: PTH118
    facts = {
        "machine": platform.machine(),
        "system": platform.system(),
        "libc": c_library(),
        "pythons": find_pythons(),
        "free": shutil.disk_usage(nearest_folder(root)).free,
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "is_root": os.getuid() == 0,
        "systemd": Path("/run/systemd/system").is_dir(),
        "groups": [group.gr_name for group in grp.getgrall() if group.gr_name in HARDWARE_GROUPS],
        "exists": Path(root).is_dir(),
        "writable": os.access(nearest_folder(root), os.W_OK),
        "own": is_own(root) and is_own(tool),
        "tool": sha256_of(tool),
        "unit": sha256_of(UNIT_PATH),
        "kiosk": sha256_of(KIOSK_UNIT_PATH),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1])
