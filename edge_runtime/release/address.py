"""The address of a view, as `run --view` and `config.toml` write it."""

from ipaddress import ip_address

LOOPBACK = "127.0.0.1"
DEFAULT_ADDRESS = f"{LOOPBACK}:8765"
"""The address of a view that was asked for without one."""


def split_address(text: str) -> tuple[str, int] | None:
    """The host and the port of `HOST:PORT`, `[::1]:PORT` or `:PORT`; None for anything else."""
    host, colon, digits = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    port = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 6 else -1
    bracketed = host != bare
    if not colon or not 0 <= port <= 65535 or bracketed != (":" in bare):
        return None
    return bare, port


def is_ip_address(host: str) -> bool:
    """Whether a host is written as an IP address, not as a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    return host == "localhost" or (is_ip_address(host) and ip_address(host).is_loopback)
