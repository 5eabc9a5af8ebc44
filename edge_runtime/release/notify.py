"""Messages of a service to its supervisor: sd_notify(3) over a datagram socket.

The service sends them to the supervisor, and the supervisor sends them to systemd, if it runs.
"""

import os
import shutil
import socket
import tempfile
from pathlib import Path

NOTIFY_VARIABLE = "NOTIFY_SOCKET"


def notify(**facts: str | int) -> None:
    """Sends `NAME=VALUE` for each fact to the parent process; does nothing where none listens."""
    address = os.environ.get(NOTIFY_VARIABLE)
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{name}={value}" for name, value in facts.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
        try:
            out.sendto(message.encode(), address)
        except OSError:
            return  # a slow or dead listener must not stop the frames


class Listener:
    """A socket for the messages of a process that this one starts."""

    def __enter__(self) -> "Listener":
        self._folder = Path(tempfile.mkdtemp(prefix="sonolite-"))
        self.address = str(self._folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def receive(self, timeout: float) -> dict[str, str] | None:
        """The next message, None where none came within `timeout` seconds."""
        self._socket.settimeout(timeout)
        try:
            message = self._socket.recv(4096).decode("utf-8", "replace")
        except TimeoutError:
            return None
        return dict(line.split("=", 1) for line in message.splitlines() if "=" in line)
