"""An OpenIGTLink server: 3D Slicer and others receive the picture, the boxes and the labels.

Each result is four messages with the time of the frame, by the names of NAMES: the picture as
IMAGE, the outlines of all boxes as POLYDATA, the centre of each nodule with the label as POINT, and
the JSON of the result as STRING. A pixel is a millimetre, since a screen does not tell the scale.
The picture lies in the axial plane, column 0 at the right of the patient and row 0 in front, so
that 3D Slicer shows it upright.
"""

import math
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime

import cv2
import numpy as np

from devices import BadInput, Box, Pixels
from devices.openigtlink import IMAGE, PORT, UINT8, pack_message
from edge_runtime.release.address import LOOPBACK, is_loopback, split_address
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import Nodule, Result, to_json
from edge_runtime.sinks.overlay import nodule_color
from edge_runtime.sinks.sink_uri import SinkUri, is_host

NAMES = {
    "IMAGE": "sonolite picture",
    "POLYDATA": "sonolite boxes",
    "POINT": "sonolite nodules",
    "STRING": "sonolite result",
}
"""The device name of each type of message."""
MAX_IGTL_CLIENTS = 8
QUEUE_RESULTS = 512
"""Results that may wait for a client."""
CLIENT_SECONDS = 5.0
"""Seconds after which a client that takes nothing is disconnected."""
LAST_SECONDS = 10.0
"""Seconds that a client has at the end for the results that still wait, and that a recording waits
for room in the queue of a client."""
ACCEPT_PAUSE = 0.2
"""Seconds before the next attempt where a connection could not be taken."""
CLIENT_TOO_SLOW = "a client is too slow, and the oldest results made room"
RAS = 1
"""The code of the coordinates that grow to the right, to the front and to the head."""
UTF8 = 106
"""The code of UTF-8 among the character sets of IANA."""
MAX_STRING = 65_535
"""Bytes of a STRING."""
POINT = struct.Struct(">64s 32s 4B 3f f 20s")
"""Name, group, red, green, blue and opacity, place, diameter, owner."""
POLYDATA = struct.Struct(">10I")
"""Points, then number and bytes of vertices, lines, polygons and strips, then attributes."""


@dataclass
class _Waiting:
    """A result on the way to a client."""

    picture: bytes
    rest: bytes


class _Client:
    """One connection, with a thread of its own and a slot of one picture."""

    def __init__(
        self, connection: socket.socket, tally: Tally, live: bool, count: Callable[[], None]
    ) -> None:
        """`count` is called where the client has got a result."""
        self._count = count
        self._connection, self._tally, self._waits = connection, tally, not live
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = self.gone = self._sending = False
        self._until = math.inf
        connection.settimeout(CLIENT_SECONDS)
        self._thread = threading.Thread(target=self._run, name="igtl client", daemon=True)
        self._thread.start()

    def put(self, message: _Waiting) -> None:
        """Adds a result. An older picture that was not sent makes room for the new one.

        A recording waits for room for LAST_SECONDS, and never again for a client that made none.
        """
        with self._changed:
            if self._waits:
                self._waits = self._changed.wait_for(self._has_room, LAST_SECONDS)
            if self.gone:
                return
            if not self._has_room():
                self._waiting.popleft()
                self._tally.give_up(1, CLIENT_TOO_SLOW)
            if self._waiting:
                self._waiting[-1].picture = b""
            self._waiting.append(message)
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self.gone or len(self._waiting) < QUEUE_RESULTS

    @property
    def waiting(self) -> int:
        """Results that the client has not got."""
        return len(self._waiting) + self._sending

    def end(self) -> None:
        """Ends the connection once the rest is sent, for which the client has LAST_SECONDS."""
        with self._changed:
            self._until = time.monotonic() + LAST_SECONDS
            self._closing = True
            self._changed.notify_all()

    def join(self) -> None:
        """Waits for the end of the connection."""
        self._thread.join()

    def _run(self) -> None:
        """Sends one result after the other until the client has gone, or the sink closes."""
        try:
            while (message := self._next()) is not None:
                self._send(message.picture)
                self._send(message.rest)
                self._sending = False
                self._tally.deliver()
                self._count()
        except OSError:  # it has gone, or takes nothing
            pass
        finally:
            with self._changed:
                self.gone = True
                self._tally.give_up(self.waiting)
                self._sending = False
                self._waiting.clear()
                self._changed.notify_all()
            self._connection.close()

    def _send(self, data: bytes) -> None:
        """Raises OSError where the client has gone, takes nothing, or takes too long at the end."""
        rest = memoryview(data)
        while rest:
            if time.monotonic() > self._until:
                raise TimeoutError
            rest = rest[self._connection.send(rest) :]

    def _next(self) -> _Waiting | None:
        """The next result; None where the client has gone, or nothing is left at the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing, timeout=1.0)
                if self._waiting:
                    self._sending = True
                    message = self._waiting.popleft()
                    self._changed.notify_all()
                elif self._closing:
                    return None
                else:
                    message = None
            if self._has_left():
                return None
            if message is not None:
                return message

    def _has_left(self) -> bool:
        """Reads away some of what the client says; tells whether it has ended the connection."""
        ready, _, _ = select.select([self._connection], [], [], 0)
        return bool(ready) and not self._connection.recv(65_536)


class IgtlServer:
    """Sends each result to every client; costs next to nothing while nobody is connected."""

    wants_pixels, latest_only = True, False

    def __init__(self, listener: socket.socket, tally: Tally, live: bool) -> None:
        self.tally, self._live, self._listener = tally, live, listener
        self._clients: list[_Client] = []
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="igtl", daemon=True)
        self._thread.start()

    def write(self, result: Result, pixels: Pixels) -> None:
        """Hands one result to every client; see `Sink.write`."""
        with self._lock:
            self._clients = [client for client in self._clients if not client.gone]
            clients = list(self._clients)
        if clients:
            at = datetime.fromisoformat(result.captured_utc).timestamp()
            picture = pack_picture(pixels, at) if result.frame is not None else b""
            rest = pack_result(result, at)
            for client in clients:
                client.put(_Waiting(picture, rest))
        self._count_waiting()

    @property
    def clients(self) -> int:
        """How many are connected."""
        with self._lock:
            return sum(not client.gone for client in self._clients)

    def close(self) -> None:
        """Ends the server, and every connection once the client has taken the rest."""
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for client in self._clients:
            client.end()
        for client in self._clients:
            client.join()
        self.tally.kept = 0

    def _count_waiting(self) -> None:
        self.tally.kept = sum(client.waiting for client in self._clients)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                self.tally.fail(f"a client cannot connect: {error.strerror}")
                time.sleep(ACCEPT_PAUSE)  # there may be no file left for a connection
                continue
            with self._lock:
                self._clients = [client for client in self._clients if not client.gone]
                if len(self._clients) >= MAX_IGTL_CLIENTS:
                    connection.close()
                    continue
                self._clients.append(
                    _Client(connection, self.tally, self._live, self._count_waiting)
                )


@contextmanager
def open_igtl(uri: SinkUri, tally: Tally, live: bool) -> Iterator[IgtlServer]:
    """A server at `igtl:HOST:PORT`; without HOST at the loopback address, without a port at PORT.

    Raises BadInput for an invalid address, where nothing can listen there, and for an address
    that other machines reach, unless `unprotected=yes` allows it: the protocol knows no password.
    """
    place, options = uri.split(("unprotected",))
    host, port = split_address(place or f":{PORT}") or ("", 0)
    host = host or LOOPBACK
    if not port or not is_host(host):
        raise BadInput(f"{uri}: needs HOST:PORT, such as igtl:127.0.0.1:{PORT}")
    if options.choice("unprotected", ("no", "yes")) == "no" and not is_loopback(host):
        raise BadInput(
            f"{uri}: OpenIGTLink knows no password: everybody who reaches this address would see "
            "the screen; ?unprotected=yes allows it, on a network of your own"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise BadInput(f"{uri}: cannot listen there: {error.strerror}") from error
    with listener:
        sink = IgtlServer(listener, tally, live)
        try:
            yield sink
        finally:
            sink.close()


def pack_picture(pixels: Pixels, at: float) -> bytes:
    """The IMAGE of a screen, uint8 ``H x W`` or ``H x W x 3`` (BGR), in grey or RGB."""
    height, width = pixels.shape[:2]
    colours = 1 if pixels.ndim == 2 else 3
    sent = pixels if colours == 1 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    centre = ((1 - width) / 2, (1 - height) / 2, 0.0)
    matrix = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0, *centre)
    whole = (width, height, 1)
    head = IMAGE.pack(1, colours, UINT8, 1, RAS, *whole, *matrix, 0, 0, 0, *whole)
    return pack_message("IMAGE", NAMES["IMAGE"], at, head + np.ascontiguousarray(sent).tobytes())


def pack_result(result: Result, at: float) -> bytes:
    """The POLYDATA, the POINT and the STRING of a result. The name of a file is left out."""
    anonymous = replace(result, file=None)  # it may be that of a patient
    text = to_json(anonymous).rstrip()[:MAX_STRING]
    bodies = {
        "POLYDATA": _outlines([nodule.box for nodule in result.nodules]),
        "POINT": b"".join(_point(result, nodule) for nodule in result.nodules),
        "STRING": struct.pack(">HH", UTF8, len(text)) + text,
    }
    return b"".join(pack_message(kind, NAMES[kind], at, body) for kind, body in bodies.items())


def _outlines(boxes: list[Box]) -> bytes:
    """The body of a POLYDATA with a closed line around each box."""
    corners = [
        (-float(column), -float(row), 0.0)
        for x, y, w, h in boxes
        for column, row in ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
    ]
    lines = [(5, *(4 * n + place for place in (0, 1, 2, 3, 0))) for n in range(len(boxes))]
    head = POLYDATA.pack(len(corners), 0, 0, len(lines), 24 * len(lines), 0, 0, 0, 0, 0)
    points = np.asarray(corners, ">f4").tobytes()
    return head + points + np.asarray(lines, ">u4").tobytes()


def _point(result: Result, nodule: Nodule) -> bytes:
    """A nodule as a part of the body of a POINT: the number, and the label or a question mark."""
    x, y, w, h = nodule.box
    name = f"{nodule.track} {nodule.label or '?'}"
    if nodule.score is not None:
        name += f" {nodule.score[1]:.2f}"
    blue, green, red = nodule_color(result, nodule)
    place = (-(x + w / 2), -(y + h / 2), 0.0)
    diameter = float(min(w, h))
    group, owner = b"nodules", NAMES["IMAGE"].encode()
    return POINT.pack(name.encode()[:63], group, red, green, blue, 255, *place, diameter, owner)
