"""What a host is, as it says itself: sent to its Python over SSH, before anything is touched.

It stands alone, of the standard library, and runs from Python 3.7 on: an old one must be able to
say that it is old.
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
import subprocess
import sys
from pathlib import Path

ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3], sys.executable)"
GROUPS = ("video", "render", "plugdev", "apex")
"""Those that own grabbers, GPUs and Edge TPUs on Debian."""
UNIT = "/etc/systemd/system/sonolite.service"


def pythons() -> dict[str, str]:
    """Each Python on the path and its version; the plain `python3` of a folder comes first."""
    found: dict[str, str] = {}
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for folder in dict.fromkeys(os.path.realpath(its) for its in folders if its):
        for path in [Path(folder, "python3"), *sorted(Path(folder).glob("python3.[0-9]*"))]:
            # Beside them stand scripts such as python3.11-config and python3.11-gdb.py.
            named = re.fullmatch(r"python3(\.\d+)?", path.name)
            if named is None or not os.access(path, os.X_OK):
                continue
            try:
                said = subprocess.check_output(  # noqa: S603
                    [str(path), "-I", "-S", "-c", ASK], stderr=subprocess.DEVNULL, timeout=20
                )
            except (OSError, subprocess.SubprocessError):
                continue
            version, executable = said.decode().strip().split(" ", 1)
            found.setdefault(executable, version)
    return found


def libc() -> list[str]:
    """The C library and its version, such as glibc and 2.36."""
    try:
        said = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        said = ""
    name, _, version = said.partition(" ")
    return [name, version]


def nearest(path: str) -> str:
    """The deepest folder of a path that exists."""
    while not Path(path).is_dir():
        path = os.path.dirname(path)  # noqa: PTH120
    return path


def digest(path: str) -> str | None:
    """The sha256 of a file, None where there is none to read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def main(root: str) -> None:
    """Says all of it as JSON."""
    facts = {
        "machine": platform.machine(),
        "system": platform.system(),
        "libc": libc(),
        "pythons": pythons(),
        "free": shutil.disk_usage(nearest(root)).free,
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "is_root": os.getuid() == 0,
        "systemd": Path("/run/systemd/system").is_dir(),
        "groups": [its.gr_name for its in grp.getgrall() if its.gr_name in GROUPS],
        "exists": Path(root).is_dir(),
        "writable": os.access(nearest(root), os.W_OK),
        "tool": digest(os.path.join(root, "release.pyz")),  # noqa: PTH118
        "unit": digest(UNIT),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1])
