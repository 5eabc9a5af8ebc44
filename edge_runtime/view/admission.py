"""Who may watch, and who may operate: a token from a link, exchanged for a cookie.

Own hosts and origins alone are admitted.
"""

import base64
import hmac
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum

from devices import Clock
from edge_runtime.release.address import is_ip_address

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


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(SECRET_BYTES)


class Admission:
    """The secrets of one view: a token for each role, and the cookies that follow from them."""

    def __init__(
        self,
        host: str,
        port: int,
        clock: Clock = time.monotonic,
        token: str | None = None,
        encrypted: bool = False,
        names: Iterable[str] = (),
    ) -> None:
        """For a view that listens at this host and port; `token` is that of viewers, if it is kept.

        `names` are further names of this machine; `*.DOMAIN` stands for one label more.

        A kept token keeps its viewers: their cookie is the same after a restart.
        """
        self.tokens = {Role.VIEWER: token or new_token(), Role.OPERATOR: new_token()}
        self._cookies = {role: _derive(own, "cookie") for role, own in self.tokens.items()}
        prefix = "__Host-" if encrypted else ""
        self.cookie_name = f"{prefix}sonolite_view_{port}"
        """Cookies of one host are sent to all of its ports, so that the name tells the port."""
        self.encrypted = encrypted
        machine = socket.gethostname().lower()
        self._names = {"localhost", host.lower(), machine, f"{machine}.local", *names}
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
        any_of_domain = f"*.{name.partition('.')[2]}"
        return is_ip_address(name) or not self._names.isdisjoint((name, any_of_domain))

    def is_own_origin(self, origin: str | None, host: str) -> bool:
        """Whether a request comes from the page of this view, by its headers."""
        scheme = "https" if self.encrypted else "http"
        return origin == f"{scheme}://{host}" and self.is_own_host(host)


def _derive(token: str, purpose: str) -> str:
    """A secret that follows from the token, and does not tell it."""
    digest = hmac.digest(token.encode(), purpose.encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:SECRET_BYTES]).decode()


def _role_with(secret: str, secrets_of: dict[Role, str]) -> Role | None:
    """The role with this secret, in the same time for every secret."""
    same = [
        role
        for role, own in secrets_of.items()
        if secrets.compare_digest(secret.encode(), own.encode())
    ]
    return same[0] if same else None
