"""A device over the OpenSSH of the system, with the keys, agents and known hosts of the user.

Every word of a command is quoted. One connection serves all commands, and is closed at the end.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from devices import BadInput, CheckFailed, HardwareMissing
from edge_runtime.release.layout import POLL_SECONDS

SSH_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-T"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
    *("-o", "ControlMaster=auto", "-o", "ControlPersist=60"),
)
ADDRESS_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:%\[\]-]{0,254}")
SSH_FAILED = 255
"""The exit code of ssh itself; other codes are those of the command."""
_CHUNK = 1 << 16
MAX_OUTPUT, MAX_COMPLAINT = 64 << 20, 1 << 16
"""Bytes of the output of a command, and bytes at the end of stderr that are read."""
MAX_SOCKET_FOLDER = 60
"""Bytes of the name of a folder for the connection's socket, which has 107 with all that ssh adds
to it (unix(7), sun_path)."""


class SshDevice:
    """The device at the other end of an SSH connection."""

    def __init__(self, address: str, ssh: str = "") -> None:
        """`address` is `USER@HOST` or a name of `~/.ssh/config`; `ssh` are more options for ssh.

        Raises BadInput for an address or options that cannot be used.
        """
        if not ADDRESS_PATTERN.fullmatch(address):
            raise BadInput(f"{address!r}: USER@HOST is needed, or a name of ~/.ssh/config")
        try:
            options = shlex.split(ssh)
        except ValueError as error:
            raise BadInput(f"--ssh {ssh!r}: {error}") from error
        if shutil.which("ssh") is None:
            raise HardwareMissing("there is no ssh here; install openssh-client")
        self.address = address
        self.sent = 0
        """Bytes given to the device so far."""
        self._folder = Path(tempfile.mkdtemp(prefix="sono-", dir=_short_folder()))
        # The user's options first: of two, ssh takes the first.
        self._ssh = ["ssh", *options, *SSH_OPTIONS, "-o", f"ControlPath={self._folder / 's'}"]

    def __enter__(self) -> "SshDevice":
        return self

    def __exit__(self, *_: object) -> None:
        leave = [*self._ssh, "-O", "exit", "--", self.address]
        subprocess.run(leave, capture_output=True, check=False)  # noqa: S603
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(
        self,
        words: Sequence[str],
        content: bytes | IO[bytes] = b"",
        progress: Callable[[int], object] = lambda _: None,
    ) -> str:
        """Runs a command on the device with `content` on stdin; returns its stdout.

        `progress` is called with the bytes of each chunk. Raises HardwareMissing where the device
        cannot be reached, CheckFailed where the command ends with 1, and BadInput for other exit
        codes; the message is the last line of the command.
        """
        mark = f"sonolite-{secrets.token_hex(8)}"
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            subprocess.Popen(  # noqa: S603
                [*self._ssh, "--", self.address, f"echo {mark}; {shlex.join(words)}"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            ) as process,
        ):
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # the exit code and the last line say why
                self._send(process.stdin, content, progress)
            code = None
            while code is None:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(POLL_SECONDS)
                if max(os.fstat(file.fileno()).st_size for file in (out, err)) > MAX_OUTPUT:
                    process.kill()
                    raise BadInput(f"{self.address}: answers more than {MAX_OUTPUT:,} bytes")
            out.seek(0)
            err.seek(max(0, os.fstat(err.fileno()).st_size - MAX_COMPLAINT))
            # A shell may greet even those that are no persons: what comes before is not the answer.
            output = out.read().decode("utf-8", "replace").rpartition(f"{mark}\n")[2]
            complaint = err.read().decode("utf-8", "replace").strip()
        self._check(code, complaint, output)
        return output

    def fetch(self, words: Sequence[str], out: IO[bytes], limit: int) -> None:
        """Writes the bytes that a command on the device prints to `out`.

        Raises as `run` does, and BadInput beyond `limit` bytes.
        """
        mark = f"sonolite-{secrets.token_hex(8)}"
        with (
            tempfile.TemporaryFile() as err,
            subprocess.Popen(  # noqa: S603
                [*self._ssh, "--", self.address, f"echo {mark}; {shlex.join(words)}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
            ) as process,
        ):
            assert process.stdout is not None
            end = f"{mark}\n".encode()  # of what a shell may greet with
            while limit >= 0 and (line := process.stdout.readline(_CHUNK)):
                if line.endswith(end):
                    break
                limit -= len(line)
            while chunk := process.stdout.read(_CHUNK):
                limit -= len(chunk)
                if limit < 0:
                    process.kill()
                    raise BadInput(f"{self.address}: sends too much")
                out.write(chunk)
            code = process.wait()
            err.seek(0)
            complaint = err.read(_CHUNK).decode("utf-8", "replace").strip()
        self._check(code, complaint)

    def _check(self, code: int, complaint: str, output: str = "") -> None:
        """Raises what the exit code of ssh asks for; see `run`."""
        if code == 0:
            return
        last = complaint.splitlines()[-1] if complaint else output.strip() or f"ended with {code}"
        if code == SSH_FAILED:
            why = complaint.splitlines()[-1] if complaint else "the link broke; try again"
            raise HardwareMissing(f"{self.address}: {why}")
        if code == 1:
            raise CheckFailed(f"{self.address}: {last}")
        raise BadInput(f"{self.address}: {last}")

    def read(self, words: Sequence[str], content: bytes = b"") -> Any:
        """The JSON that a command on the device prints.

        Raises as `run` does, and BadInput where the command prints something else.
        """
        output = self.run(words, content)
        try:
            return json.loads(output)
        except (ValueError, RecursionError) as error:
            line = next(iter(output.split("\n")), "")[:80]
            raise BadInput(f"{self.address}: answers something else: {line!r}") from error

    def _send(
        self, pipe: IO[bytes], content: bytes | IO[bytes], progress: Callable[[int], object]
    ) -> None:
        with pipe:
            if isinstance(content, bytes):
                self.sent += pipe.write(content)
                return
            while chunk := content.read(_CHUNK):
                pipe.write(chunk)
                self.sent += len(chunk)
                progress(len(chunk))


def _short_folder() -> str | None:
    """A folder for a socket: the system's own for temporary files unless its name is too long."""
    usual = tempfile.gettempdir()
    for folder in (usual, os.environ.get("XDG_RUNTIME_DIR", usual), "/tmp"):  # noqa: S108
        if len(os.fsencode(folder)) <= MAX_SOCKET_FOLDER and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None
