"""The live view of the deployed service: it outlives sessions, and costs none of them."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devices import BadInput, Pixels, describe_error
from edge_runtime.release.config import ViewSettings
from edge_runtime.release.layout import (
    TOKEN,
    VIEW_RECORD,
    VIEW_TOKEN,
    Layout,
    Refused,
    read_file,
    write_file,
    write_json_file,
)
from edge_runtime.results.result import Result
from edge_runtime.view import WEB_SERVER

if TYPE_CHECKING:
    from edge_runtime.view.certificate import Certificate
    from edge_runtime.view.sink import View

VIEW_RETRY_SECONDS = 10.0
"""Seconds between two attempts to open the view: its network may come later than the service.

A trouble of an open view is told until none has come for as long.
"""
VIEW_STOP_SECONDS = 4.0
"""Seconds that the view may take to end."""


class NoSession(StrEnum):
    """Why the service runs no session at the moment."""

    BEGINS = "the session begins"
    NO_SCANNER = "no scanner"
    NO_PICTURE = "no picture to judge"


class ServiceView:
    """The view as a sink of one session after the other.

    A thread of its own opens it, and tries again where it cannot be opened. Whatever fails is told
    in the journal and in VIEW_RECORD, and stops no session.
    """

    wants_pixels, latest_only = True, True

    def __init__(
        self, settings: ViewSettings, layout: Layout, report: Callable[..., object]
    ) -> None:
        """`report` takes an event and the facts about it, for the journal."""
        self._settings, self._layout, self._report = settings, layout, report
        self._lock = threading.Lock()
        self._view: View | None = None
        self._facts: dict[str, Any] = {"waiting": NoSession.BEGINS}
        self._record: dict[str, Any] = {}
        """Where the view is; empty while there is none."""
        self._trouble: str | None = None
        self._failed_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="service view", daemon=True)

    def __enter__(self) -> "ServiceView":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(VIEW_STOP_SECONDS)

    def begin(self, facts: dict[str, Any]) -> None:
        """Tells every page that a session begins, with its facts."""
        with self._lock:
            self._facts = facts
            if self._view is not None:
                self._view.begin(facts)

    def wait(self, why: NoSession, line: str) -> None:
        """Tells every page that there is no session, and why."""
        facts = {"waiting": why, "why": line}
        if facts != self._facts:
            self.begin(facts)

    def write(self, result: Result, pixels: Pixels) -> None:
        """Gives a result to the view where there is one; see `Sink.write`."""
        view = self._view
        if view is not None:
            try:
                view.write(result, pixels)
            except Exception as error:  # the session has no other sink, and would end
                self._tell(describe_error(error))
            else:
                if self._trouble is not None:
                    self._recover()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                self._open()
            except Exception as error:
                self._tell(describe_error(error))
                self._stop.wait(VIEW_RETRY_SECONDS)

    def _open(self) -> None:
        """Serves the view until the service ends. Raises whatever prevents that."""
        WEB_SERVER.require()
        from edge_runtime.view.address import parse_address  # here: few services have a view
        from edge_runtime.view.sink import open_view

        address = parse_address(self._settings.address)
        token = kept_token(self._layout.state(VIEW_TOKEN))
        certificate = self._certificate()
        with open_view(address, self._facts, None, certificate, token) as view:
            with self._lock:
                self._view = view
                view.begin(self._facts)
            try:
                self._note(view, certificate)
                self._stop.wait()
            finally:
                self._view, self._record = None, {}

    def _certificate(self) -> "Certificate | None":
        """The certificate of the settings; None for a view that is not encrypted."""
        settings = self._settings
        if not settings.tls and not settings.certificate:
            return None
        from edge_runtime.view.certificate import (
            OWN_CERTIFICATE,
            own_certificate,
            read_certificate,
        )

        if settings.tls:
            return own_certificate(self._layout.state(OWN_CERTIFICATE))
        key = Path(settings.key) if settings.key else None
        return read_certificate(Path(settings.certificate), key)

    def _note(self, view: "View", certificate: "Certificate | None") -> None:
        """Notes where the view is, for `device view` and for a browser on this device."""
        record = {
            "link": view.link.partition("#")[0],
            "local_link": view.local_link.partition("#")[0],
            "fingerprint": None if certificate is None else certificate.fingerprint,
            "pin": None if certificate is None else certificate.pin,
        }
        self._record, self._trouble = record, None
        self._report("view", link=record["link"])
        self._write()

    def _tell(self, trouble: str) -> None:
        """Tells once that the view fails, and why; the link of an open view stays."""
        self._failed_at = time.monotonic()
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self._report("no view", why=trouble)
        self._write()

    def _recover(self) -> None:
        """Takes a trouble back that has not come again for a while."""
        if time.monotonic() - self._failed_at >= VIEW_RETRY_SECONDS:
            self._trouble = None
            self._report("view", link=self._record.get("link"))
            self._write()

    def _write(self) -> None:
        record = self._record | {"trouble": self._trouble}
        with suppress(OSError):  # a full disk must not stop the pictures
            write_json_file(self._layout.state(VIEW_RECORD), record, durable=False)


def kept_token(path: Path) -> str:
    """The token in a file that this user alone reads; made where there is none that is sound.

    Raises BadInput where it cannot be written.
    """
    try:
        token = read_file(path).decode("ascii", "replace").strip()
        if TOKEN.fullmatch(token) and not path.stat().st_mode & 0o077:
            return token
    except (FileNotFoundError, Refused):
        pass
    from edge_runtime.view.admission import new_token

    token = new_token()
    try:
        write_file(path, f"{token}\n".encode(), mode=0o600)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from error
    return token
