"""Where the live view listens, and the link to it."""

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from devices import BadInput
from edge_runtime.release.address import DEFAULT_ADDRESS, LOOPBACK, is_ip_address, split_address

BACKLOG = 64
"""Connections that may wait for the server."""
UNREAD_MILLISECONDS = 30_000
"""Milliseconds after which the system closes a connection that takes no data."""
MAX_VIEW_CONNECTIONS = 64
"""Connections at a time; more would take the files that a session needs."""
DOCUMENTATION_HOST = "192.0.2.1"
"""An address that nobody has (RFC 5737); the route towards it tells this machine's own address."""


class Address(NamedTuple):
    """A host or its address, and a port; port 0 stands for a free one."""

    host: str
    port: int


class LimitedListener(socket.socket):
    """A listening socket with a bounded number of connections, encrypted or not."""

    def __init__(self, *kind: int) -> None:
        """`kind` as for `socket.socket`."""
        super().__init__(*kind)
        self._accepted: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; ConnectionAbortedError where there are too many."""
        connection, client = super().accept()
        self._accepted = [each for each in self._accepted if each.fileno() >= 0]
        if len(self._accepted) >= MAX_VIEW_CONNECTIONS:
            connection.close()
            raise ConnectionAbortedError
        self._accepted.append(connection)
        return connection, client


def parse_address(text: str) -> Address:
    """Reads `HOST:PORT`, `[::1]:PORT`, or `:PORT` at the loopback address.

    Raises BadInput for anything else.
    """
    parts = split_address(text)
    if parts is None:
        raise BadInput(f"--view {text}: no address; write it like {DEFAULT_ADDRESS}")
    host, port = parts
    return Address(host or LOOPBACK, port)


def listen(address: Address) -> socket.socket:
    """A socket that listens at the address. Raises BadInput where it cannot."""
    written = f"--view {_bracketed(address.host)}:{address.port}"
    listener: LimitedListener | None = None
    try:
        infos = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = infos[0]
        listener = LimitedListener(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections take it over: one whose other end reads nothing does not stay for ever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
        listener.bind(place)
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        cause = error.strerror if isinstance(error, OSError) else "no name of a host"
        raise BadInput(
            f"{written}: {cause}; --view :0 takes a free port of this machine"
        ) from error
    return listener


def link(
    address: Address, port: int, token: str, scheme: str = "http", names: Sequence[str] = ()
) -> str:
    """The link to a view that listens at `address` and `port`.

    Where it listens at all addresses, the first whole name of `names` is in the link, else the
    address of this machine in its network. The token stands behind `#`: a browser sends that part
    to no server.
    """
    host = address.host
    if is_unspecified(host):
        named = next((name for name in names if not name.startswith("*")), None)
        host = named or (None if ":" in host else own_address()) or socket.gethostname()
    return f"{scheme}://{_bracketed(host)}:{port}/#{token}"


def local_host(host: str) -> str:
    """The host by which this machine reaches a view that listens at `host`."""
    if not is_unspecified(host):
        return host
    return "::1" if ":" in host else LOOPBACK


def is_unspecified(host: str) -> bool:
    """Whether the host stands for all addresses of this machine."""
    return is_ip_address(host) and ip_address(host).is_unspecified


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def own_address() -> str | None:
    """The address of this machine in its network; None where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((DOCUMENTATION_HOST, 9))  # sends nothing
        except OSError:
            return None
        own: str = probe.getsockname()[0]
        return own
