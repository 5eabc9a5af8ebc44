"""From sent files to a release that can run: the environment, the check, and the folder.

A folder counts only when it is whole; the rest of an attempt before a power cut is made again.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.release.layout import (
    BUNDLE,
    COMPLETE,
    ENVIRONMENT,
    RECORD,
    Layout,
    Refused,
    hold_lock,
    log_event,
    read_record,
    sync_folder,
    write_json_file,
)

CHECK_SECONDS, INSTALL_SECONDS = 180.0, 1800.0
"""Seconds that a bundle may take to answer the golden frames, and the making of an environment."""
DIGEST = re.compile(r"[0-9a-f]{64}")
WHEEL = re.compile(r"[A-Za-z0-9_.+!-]+\.whl")
_CHUNK = 1 << 20


class ByteStream(Protocol):
    """A stream of bytes from the host."""

    def read1(self, size: int, /) -> bytes:
        """Returns the bytes that have arrived, at most `size`; none at the end."""


def received_size(layout: Layout, digest: str) -> int:
    """The number of bytes of a file that arrived already."""
    _require_digest(digest)
    for path in (layout.incoming(digest), layout.incoming(f"{digest}.part")):
        if path.exists():
            return path.stat().st_size
    return 0


def receive_file(layout: Layout, digest: str, offset: int, size: int, content: ByteStream) -> None:
    """Appends `content` to a file from `offset` on; renames it once size and hash are right.

    Raises Refused where the part on the device has another length, where the connection breaks (the
    part stays), and where the hash is wrong.
    """
    _require_digest(digest)
    part, whole = layout.incoming(f"{digest}.part"), layout.incoming(digest)
    if whole.exists():
        return
    with hold_lock(layout.state("incoming.lock"), 10, "another deployment sends to this device"):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(part, flags | os.O_CLOEXEC, 0o644), "ab") as file:
            if file.tell() != offset:
                raise Refused(f"{file.tell()} bytes are here, not {offset}; try again")
            while chunk := content.read1(_CHUNK):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            if file.tell() < size:
                raise Refused("the link broke; deploy again, and it goes on from there")
        if file_sha256(part) != digest:
            part.unlink()
            raise Refused("what arrived is not what was sent; try again")
        part.replace(whole)
        sync_folder(whole.parent)


def file_sha256(path: Path) -> str:
    """The sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_environment(layout: Layout, name: str, wheels: Mapping[str, str]) -> None:
    """Makes a Python environment from sent wheels, by file name and sha256, without the network.

    Raises Refused where venv is missing, or the wheels cannot be installed.
    """
    _require_digest(name)
    folder = layout.environment(name)
    if (folder / COMPLETE).exists():
        return
    for part in (folder, layout.incoming(f"wheels-{name}")):
        shutil.rmtree(part, ignore_errors=True)
    gathered = layout.incoming(f"wheels-{name}")
    gathered.mkdir()
    for file, digest in wheels.items():
        if not WHEEL.fullmatch(file):
            raise Refused(f"{file!r} is no wheel's name")
        _require_digest(digest)
        os.link(layout.incoming(digest), gathered / file)
        if file_sha256(gathered / file) != digest:
            raise Refused(f"{file}: not what was sent; try again")
    _run_command([sys.executable, "-m", "venv", str(folder)], "the environment", INSTALL_SECONDS)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--isolated", "--quiet"]
    quiet = ["--disable-pip-version-check", "--no-index", "--no-deps", "--no-cache-dir"]
    sent = [str(gathered / file) for file in wheels]
    _run_command([*pip, "install", *quiet, *sent], "the wheels", INSTALL_SECONDS)
    _run_command(
        [*pip, "uninstall", "--yes", "pip", "setuptools"], "the removal of pip", INSTALL_SECONDS
    )
    shutil.rmtree(gathered)
    for tests in folder.glob("lib/python*/site-packages/**/tests"):
        shutil.rmtree(tests)  # the tests of the libraries: 17 MB that no device needs
    os.sync()
    write_json_file(folder / COMPLETE, dict(wheels))


def stage_release(layout: Layout, digest: str, environment: str, board: str) -> str:
    """Makes a release of a sent bundle after the device has checked it; returns the name.

    Raises Refused where the bundle is not sound, is not signed by a trusted key, is older than a
    version that passed here, or does not answer the golden frames as it should.
    """
    _require_digest(digest)
    _require_digest(environment)
    name = release_name(digest, environment)
    folder = layout.release(name)
    if read_record(folder / RECORD):
        return name
    sent = layout.incoming(digest)
    if not sent.exists():
        raise Refused("the bundle has not been sent; deploy again")
    if not (layout.environment(environment) / COMPLETE).exists():
        raise Refused("the environment is not whole; deploy again")
    sonolite = layout.environment(environment) / "bin" / "sonolite"
    check = [str(sonolite), "release", "check", str(sent), str(layout.root), "--board", board]
    try:
        bundle = _run_command(check, "the check", CHECK_SECONDS).strip()
    except Refused as error:
        log_event(layout, "refused", bundle=digest[:12], why=str(error))
        raise
    part = folder.with_name(f".{name}.part")
    for old in (part, folder):
        shutil.rmtree(old, ignore_errors=True)
    part.mkdir()
    shutil.copyfile(sent, part / BUNDLE)
    if file_sha256(part / BUNDLE) != digest:
        raise Refused("the bundle changed while it was copied; deploy again")
    (part / ENVIRONMENT).symlink_to(Path("..", "..", "environments", environment))
    made: dict[str, Any] = {
        "bundle": bundle,
        "sha256": digest,
        "environment": environment,
        "board": board,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json_file(part / RECORD, made)
    os.sync()
    part.rename(folder)
    sync_folder(folder.parent)
    return name


def release_name(digest: str, environment: str) -> str:
    """The name of a release: the same bundle and environment give the same name."""
    return hashlib.sha256(f"{digest} {environment}".encode()).hexdigest()[:12]


def _require_digest(digest: str) -> None:
    if not DIGEST.fullmatch(digest):
        raise Refused(f"{digest!r} is no sha256")


def _run_command(command: Sequence[str], purpose: str, seconds: float) -> str:
    """Runs a command and returns its stdout. Raises Refused with the last line of its output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{purpose}: not done in {seconds:.0f} s") from error
    except OSError as error:
        raise Refused(f"{purpose}: {command[0]}: {error.strerror}") from error
    if done.returncode:
        output = (done.stderr + done.stdout).strip()
        if "ensurepip" in output:
            raise Refused("Python's venv is missing; on the device: apt install python3-venv")
        last = output.splitlines()[-1] if output else f"ended with {done.returncode}"
        raise Refused(f"{purpose}: {last.removeprefix('sonolite: ')}")
    return done.stdout
