"""A DICOM server that takes images: C-STORE and C-ECHO, with pynetdicom of the extra `dicom`.

Whoever calls is held to limits before memory is taken: connections, bytes and seconds of one
object. Objects go to a file without a name as they come. PS3.4, PS3.7 and PS3.8 are parts of the
standard (dicom.nema.org).
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pynetdicom import AE, _config, evt
from pynetdicom.transport import ThreadedAssociationServer

from devices.capture.dicom_network import end_quietly, keep_silent
from devices.capture.dicom_pixels import DECODABLE
from devices.errors import BadInput

MAX_ASSOCIATIONS = 4
"""Callers that may send at a time; the next one is told to try again."""
MAX_CALLERS = 8
NEGOTIATION_SECONDS = 5.0
"""Seconds that a caller that has connected may say nothing."""
CALLER_SILENCE_SECONDS = 30.0
"""Seconds that a caller may be silent in the midst of an object."""
OBJECT_SECONDS = 300.0
"""Seconds that an object may take to come."""
ASSOCIATION_IDLE_SECONDS = 60.0
"""Seconds that a caller may keep an association without using it."""
NEGOTIATION_BYTES = 1 << 20
"""Bytes that may come beside the object itself."""
PDU_BYTES = 128 * 1024
MAX_PDU_BYTES = 1 << 20
"""Of a message of the upper layer, which is held in memory whole; a caller was told PDU_BYTES."""
PDU_HEAD = 6
"""Bytes of its type and its length (PS3.8, 9.3.1)."""

ECHO_CLASS = "1.2.840.10008.1.1"
"""The SOP class of C-ECHO (PS3.4, annex A)."""
IMAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image
    "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image
    "1.2.840.10008.5.1.4.1.1.6",  # the retired forms of both
    "1.2.840.10008.5.1.4.1.1.3",
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image
    "1.2.840.10008.5.1.4.1.1.7.2",  # Multi-frame Grayscale Byte, and True Color, Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.4",
)
"""The SOP classes of the pictures that scanners send (PS3.4, B.5)."""

STORED = 0x0000
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
"""Statuses of C-STORE (PS3.4, B.2.3)."""


class StoreAnswer(NamedTuple):
    """What a caller is told of an object."""

    status: int
    comment: str = ""
    """Why not, without any word of the object."""


class _Connection(socket.socket):
    """The connection of a caller, within the limits for one object after the other."""

    def __init__(self, connected: socket.socket, max_bytes: int) -> None:
        super().__init__(fileno=connected.detach())
        self.settimeout(CALLER_SILENCE_SECONDS)
        self._max_bytes = max_bytes + NEGOTIATION_BYTES
        self._head, self._rest = b"", 0
        """The head of a message as far as it has come, and the bytes that are to follow it."""
        self.begin()

    def begin(self) -> None:
        """Begins to count for another object."""
        self._came, self._since = 0, 0.0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receives bytes. Raises OSError beyond a limit, which ends the association."""
        now = time.monotonic()
        self._since = self._since or now
        if self._came > self._max_bytes or now - self._since > OBJECT_SECONDS:
            raise ConnectionAbortedError("too large, or too slow")
        data = super().recv(size, flags)
        self._came += len(data)
        if self._rest:
            self._rest -= len(data)
            return data
        self._head += data  # pynetdicom asks for a head, and then for what follows it
        if len(self._head) == PDU_HEAD:
            self._rest, self._head = int.from_bytes(self._head[2:]), b""
            if self._rest > MAX_PDU_BYTES:
                raise ConnectionAbortedError("too large")
        return data


class _Server(ThreadedAssociationServer):
    """Takes connections of admitted hosts, up to MAX_CALLERS."""

    daemon_threads = True

    def __init__(
        self, *args: Any, admits_host: Callable[[str], bool], max_bytes: int, **options: Any
    ) -> None:
        self._admits_host, self._max_bytes = admits_host, max_bytes
        super().__init__(*args, **options)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection."""
        connected, address = super().get_request()
        return _Connection(connected, self._max_bytes), address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Whether a connection is served."""
        few = len(self.active_associations) < MAX_CALLERS
        return few and self._admits_host(client_address[0])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: a caller that goes is no trouble."""


class DicomServer:
    """A server in threads of its own, until it is stopped."""

    def __init__(
        self,
        address: tuple[str, int],
        title: str,
        callers: tuple[str, ...],
        admits_host: Callable[[str], bool],
        max_bytes: int,
        take: Callable[[BinaryIO], StoreAnswer],
    ) -> None:
        """Listens at `address` as the application entity `title`.

        `callers` are the titles that may call; empty for all. `take` is given the file of an
        object, open for the time of the call, in the thread of the caller. Raises OSError where it
        cannot listen.
        """
        keep_silent()
        _config.STORE_RECV_CHUNKED_DATASET = True
        entity = AE(title)
        entity.require_called_aet = True
        entity.require_calling_aet = [*callers]
        entity.maximum_associations = MAX_ASSOCIATIONS
        entity.maximum_pdu_size = PDU_BYTES
        entity.acse_timeout, entity.dimse_timeout = NEGOTIATION_SECONDS, CALLER_SILENCE_SECONDS
        entity.network_timeout = ASSOCIATION_IDLE_SECONDS
        for image in IMAGE_CLASSES:
            entity.add_supported_context(image, sorted(DECODABLE))
        entity.add_supported_context(ECHO_CLASS)
        self._take = take
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, end_quietly),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_FSM_TRANSITION, _remove_name),  # while an object comes
            (evt.EVT_DIMSE_RECV, _remove_name),  # of an object that came at once
            (evt.EVT_CONN_CLOSE, _close_part),
        ]
        self._server = entity.make_server(
            address,
            evt_handlers=handlers,
            server_class=_Server,
            admits_host=admits_host,
            max_bytes=max_bytes,
        )
        entity._servers.append(self._server)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[0.1], name="dicom", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ends every association, and the server."""
        self._server.shutdown()
        association: Any
        for association in self._server.active_associations:
            with suppress(AttributeError, OSError):  # it has ended meanwhile
                association.dul.socket.socket.shutdown(socket.SHUT_RDWR)

    def _store(self, event: Any) -> Any:
        """Answers one C-STORE (PS3.7, 9.1.1)."""
        from pydicom import Dataset

        try:
            answer = self._take(event.request._dataset_file)
        except BadInput as error:
            answer = StoreAnswer(CANNOT_UNDERSTAND, str(error))
        except Exception:  # whatever it is, it ends neither the server nor the session
            answer = StoreAnswer(CANNOT_UNDERSTAND)
        with suppress(AttributeError):  # the caller may have gone
            event.assoc.dul.socket.socket.begin()
        status = Dataset()
        status.Status = answer.status
        if answer.comment:
            status.ErrorComment = answer.comment[:64]
        return status


def _remove_name(event: Any) -> None:
    """Removes the name of the file of an object, so that a kill leaves nothing of the object."""
    message = getattr(event, "message", event.assoc.dimse.message)
    part = getattr(message, "_data_set_file", None)
    if part is not None:
        with suppress(OSError):  # it was removed
            Path(part.name).unlink()


def _close_part(event: Any) -> None:
    """Closes the file of an object that has not come whole."""
    part = getattr(event.assoc.dimse.message, "_data_set_file", None)
    if part is not None:
        with suppress(OSError):
            part.close()
