"""Who may watch, and who may operate: a token from a link, exchanged for a cookie.

Own hosts and origins alone are admitted.
"""

import secrets
import socket
import time
from collections import OrderedDict
from enum import StrEnum

from devices import Clock
from edge_runtime.view.address import is_ip_address

SECRET_BYTES = 24
"""Random bytes of a token and of a cookie."""
MAX_ATTEMPTS, ATTEMPT_SECONDS = 5, 60.0
"""Wrong tokens that one client may send in that time."""
MAX_CLIENTS = 1000
"""Clients whose wrong tokens are remembered; a newer client replaces the oldest."""


class Role(StrEnum):
    """What a page may do."""

    VIEWER = "viewer"
    """It shows the session."""
    OPERATOR = "operator"
    """It gives commands to the session, too."""


class TooManyAttempts(Exception):
    """The client has sent too many wrong tokens."""


class Admission:
    """The secrets of one view. They end with the process."""

    def __init__(self, host: str, port: int, clock: Clock = time.monotonic) -> None:
        """For a view that listens at this host and port."""
        self.tokens = {role: secrets.token_urlsafe(SECRET_BYTES) for role in Role}
        self._cookies = {role: secrets.token_urlsafe(SECRET_BYTES) for role in Role}
        self.cookie_name = f"sonolite_view_{port}"
        """Cookies of one host are sent to all of its ports, so that the name tells the port."""
        machine = socket.gethostname().lower()
        self._names = {"localhost", host.lower(), machine, f"{machine}.local"}
        self._clock = clock
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        """The moments of the wrong tokens of each client."""

    def exchange(self, token: str, client: str) -> str | None:
        """The cookie for the token of a role; None where the token is wrong.

        Raises TooManyAttempts where `client` has sent too many wrong tokens.
        """
        now = self._clock()
        recent = [at for at in self._wrong.pop(client, ()) if now - at < ATTEMPT_SECONDS]
        if recent:
            self._wrong[client] = recent
        if len(recent) >= MAX_ATTEMPTS:
            raise TooManyAttempts
        role = _role_with(token, self.tokens)
        if role is not None:
            return self._cookies[role]
        self._wrong[client] = [*recent, now]
        if len(self._wrong) > MAX_CLIENTS:
            self._wrong.popitem(last=False)
        return None

    def role_of(self, cookie: str | None) -> Role | None:
        """The role of the page with this cookie; None where it is not admitted."""
        return None if cookie is None else _role_with(cookie, self._cookies)

    def is_own_host(self, host: str) -> bool:
        """Whether the header `Host` names this machine.

        A page of another site can make a name of its own lead here, but not an IP address.
        """
        name = host.lower()
        if not name.endswith("]"):
            before, colon, port = name.rpartition(":")
            name = before if colon and port.isdecimal() else name
        name = name.removeprefix("[").removesuffix("]")
        return is_ip_address(name) or name in self._names

    def is_own_origin(self, origin: str | None, host: str) -> bool:
        """Whether a request comes from the page of this view, by its headers."""
        return origin == f"http://{host}" and self.is_own_host(host)


def _role_with(secret: str, secrets_of: dict[Role, str]) -> Role | None:
    """The role with this secret, in the same time for every secret."""
    same = [
        role
        for role, own in secrets_of.items()
        if secrets.compare_digest(secret.encode(), own.encode())
    ]
    return same[0] if same else None
