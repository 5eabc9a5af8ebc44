"""Pictures from an OpenIGTLink server: 3D Slicer, PLUS, and scanners for research.

The lengths of a message come from the network, and are believed only within limits. See
`devices.openigtlink` for the protocol.

The picture's first row is taken for its top and its first column for its left, as PLUS sends
ultrasound, skin up; the matrix that places the picture in the room is not read.
"""

import errno
import socket
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
from fastcrc.crc64 import ecma_182

from devices.capture.capture_time import CaptureTime
from devices.capture.size import check_size
from devices.capture.source_uri import SourceUri
from devices.errors import BadInput, DeviceLost, DeviceStalled, HardwareMissing, SonoliteError
from devices.frame import CaptureDevice, Clock, Frame, Pixels
from devices.openigtlink import EXTENDED, HEADER, IMAGE, NAME_BYTES, PORT, UINT8

CONNECT_SECONDS = 2.0

VERSIONS = frozenset({1, 2, 3})
SCALARS = {
    2: "int8",
    4: "int16",
    5: "uint16",
    6: "int32",
    7: "uint32",
    10: "float32",
    11: "float64",
}
TO_BGR = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGR}

MAX_IMAGE = 64_000_000
"""Bytes of a message that are held: a screen of 3840 x 2160 in four components has 33 million."""
MAX_MESSAGE = 2**31 - 1
"""Bytes of a message that are thrown away; the reference implementation counts them in an int."""
CHUNK = 65_536
MAX_DAMAGED = 3
"""Messages in a row whose CRC is wrong: TCP loses nothing, so this is no OpenIGTLink."""
IGNORE = "crc=ignore"
"""The query of a URI that takes pictures with a CRC of 0, which some servers send for none."""

KEEPALIVE = {
    socket.TCP_KEEPIDLE: 1,
    socket.TCP_KEEPINTVL: 1,
    socket.TCP_KEEPCNT: 2,
    socket.TCP_USER_TIMEOUT: 3000,
}
"""Seconds of silence until the server is asked whether it is there, between two such questions, how
many stay unanswered, and milliseconds after which it counts as gone (tcp(7))."""


class Igtl(CaptureDevice):
    """A client of the server: every IMAGE in its order, and nothing that is not whole."""

    live = True
    fps = 25.0  # the protocol does not tell

    def __init__(self, uri: str | SourceUri, clock: Clock = time.monotonic) -> None:
        """Connects to `uri`, `igtl://HOST:PORT/NAME`; with NAME only that device's pictures count.

        With `?crc=ignore` at its end pictures without a CRC, which is 0 then, are taken.

        Raises BadInput for another form of URI, HardwareMissing where no server answers.
        """
        self._clock = clock
        self._uri = uri = SourceUri(uri)
        host, port, self._name, self._lenient = _parse(uri)
        try:
            self._socket = socket.create_connection((host, port), CONNECT_SECONDS)
        except ValueError as error:
            raise BadInput(f"{uri}: no name of a host") from error
        except OSError as error:
            reason = error.strerror or "no answer"
            raise HardwareMissing(f"{uri}: no OpenIGTLink server there: {reason}") from error
        # A cable that is pulled says nothing: the system asks the server when it is silent.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            self._socket.setsockopt(socket.IPPROTO_TCP, option, value)
        self._reading = threading.RLock()  # a signal's handler may close in the midst of a read
        self._events = self._follow()
        self._deadline = 0.0
        self._came = False
        self._passed = ""

    def close(self) -> None:
        """Ends the connection, and a read that waits in another thread."""
        with suppress(OSError):  # the server has ended it
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._reading:
            self._socket.close()

    def read(self, timeout: float) -> Frame:
        """Returns the next picture; see `CaptureDevice.read`.

        What has come of a message is kept for the next read. Raises BadInput for a picture that
        cannot be used as it is; the one after it can be read.
        """
        with self._reading:
            self._deadline, self._came = time.monotonic() + timeout, False
            event = next(self._events, None)
            if event is None:
                raise DeviceLost(f"{self._uri}: the connection has ended")
        if isinstance(event, SonoliteError):
            raise event
        return event

    def _follow(self) -> Generator[Frame | SonoliteError, None, None]:
        """Frames and what keeps them away; holds the half-read message. Ends with DeviceLost."""
        index = wrong = 0
        capture_time = CaptureTime(self._clock())
        while True:
            asked = self._clock()
            header = yield from self._receive(HEADER.size)
            captured = capture_time.of_message(asked, self._clock())
            version, kind, device, _, size, crc = HEADER.unpack(header)
            if version not in VERSIONS or size > MAX_MESSAGE:
                raise DeviceLost(
                    f"{self._uri}: this is no OpenIGTLink: version {version}, {size:,} bytes"
                )
            kind, device = kind.partition(b"\0")[0], device.partition(b"\0")[0].strip()
            wanted = kind == b"IMAGE" and self._name in (b"", device)
            source = f"{self._uri}: {kind.decode(errors='replace')!r}"
            source += f" of {device.decode(errors='replace')!r}"
            if wanted and size > MAX_IMAGE:
                yield BadInput(f"{source}: {size:,} bytes are too many; at most {MAX_IMAGE:,}")
            if not wanted or size > MAX_IMAGE:
                self._passed = f"; last came {source}"
                for start in range(0, size, CHUNK):
                    yield from self._receive(min(CHUNK, size - start))
                continue
            body = yield from self._receive(size)
            if not (self._lenient and crc == 0) and ecma_182(body) != crc:
                self.damaged, wrong = self.damaged + 1, wrong + 1
                if wrong == MAX_DAMAGED:
                    fault = f"the CRC is wrong, {wrong} times in a row"
                    if crc == 0:
                        fault += f", and 0; ?{IGNORE} at the end of the URI takes such pictures"
                    raise DeviceLost(f"{source}: {fault}")
                continue
            wrong = 0
            try:
                pixels = decode(source, version, body)
            except BadInput as error:
                yield error
            else:
                yield Frame(pixels, captured, index, timestamp=captured)
                index += 1

    def _receive(self, size: int) -> Generator[DeviceStalled, None, memoryview]:
        """The next `size` bytes. Raises DeviceLost where the connection has ended."""
        part = np.empty(size, np.uint8).data  # takes memory only as it is filled
        filled = 0
        while filled < size:
            left = max(0.0, self._deadline - time.monotonic())
            try:
                if self._came and not left:  # other messages without end are no reason to stay
                    raise TimeoutError
                self._socket.settimeout(left)
                count = self._socket.recv_into(part[filled:])
            except (TimeoutError, BlockingIOError) as error:
                if error.errno == errno.ETIMEDOUT:
                    raise DeviceLost(f"{self._uri}: the server does not answer") from error
                yield DeviceStalled(f"{self._uri}: no picture came in time{self._passed}")
                continue
            except OSError as error:
                raise DeviceLost(f"{self._uri}: {error.strerror}") from error
            if not count:
                raise DeviceLost(f"{self._uri}: the connection has been closed")
            filled, self._came = filled + count, True
        return part


def decode(source: str, version: int, body: memoryview) -> Pixels:
    """Returns the picture in the body of an IMAGE, uint8 ``H x W`` or ``H x W x 3`` (BGR).

    A grey picture is a view of `body`; `version` is that of the header, and `source` is shown.
    Raises BadInput for all but a whole plane of bytes in 1, 3 or 4 components.
    """
    start, end = 0, len(body)
    if version > 1 and end >= EXTENDED.size:
        start, *metadata = EXTENDED.unpack_from(body)
        end -= sum(metadata)
        if start < EXTENDED.size:
            raise BadInput(f"{source}: an extended header of {start} bytes")
    if end - start < IMAGE.size:
        raise BadInput(f"{source}: too short for its headers")
    layout, components, scalar, *rest = IMAGE.unpack_from(body, start)
    # Byte order, which means nothing to pixels of one byte, coordinate system and matrix follow.
    (width, height, depth), part = rest[2:5], rest[17:]
    if layout != 1:
        raise BadInput(f"{source}: version {layout} of the image's header; 1 is known")
    if depth != 1:
        raise BadInput(f"{source}: a volume of {depth} planes; a picture is one")
    if scalar != UINT8:
        kind = SCALARS.get(scalar, f"type {scalar}")
        raise BadInput(f"{source}: {kind} pixels; window them to 8 bits first")
    if components not in (1, *TO_BGR):
        raise BadInput(f"{source}: {components} components; grey has 1, RGB 3, RGBA 4")
    if part != [0, 0, 0, width, height, depth]:
        raise BadInput(f"{source}: a part of the picture; it must be sent as a whole")
    check_size(source, width, height)
    pixels = np.frombuffer(body[start + IMAGE.size : end], np.uint8)
    if pixels.size != width * height * components:
        raise BadInput(
            f"{source}: {width} x {height} x {components} pixels in {pixels.size:,} bytes"
        )
    if components == 1:
        return pixels.reshape(height, width)
    colours = pixels.reshape(height, width, components)
    return np.asarray(cv2.cvtColor(colours, TO_BGR[components]), dtype=np.uint8)


def _parse(uri: SourceUri) -> tuple[str, int, bytes, bool]:
    """Host, port and the device's name, empty for any; and whether a CRC may be 0."""
    try:
        parts = urlsplit(uri.reveal())
        host, port = parts.hostname, parts.port
    except ValueError:  # its text quotes a part of the address
        raise BadInput(f"{uri}: igtl://HOST:PORT/NAME is expected") from None
    if parts.scheme != "igtl" or not host or parts.query not in ("", IGNORE) or parts.fragment:
        raise BadInput(f"{uri}: igtl://HOST:PORT/NAME is expected, or with ?{IGNORE}")
    name = unquote(parts.path).removeprefix("/").encode(errors="replace")
    name = name[:NAME_BYTES].strip()
    return host, PORT if port is None else port, name, parts.query == IGNORE
