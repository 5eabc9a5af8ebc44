"""Stills and clips that a scanner sends: a C-STORE server as a capture device.

Every object is decoded once before its sender is told that it was taken, and again when its turn
has come. Its file has no name: nothing of a patient is left after a kill.
"""

import ipaddress
import logging
import os
import re
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import parse_qsl, urlsplit

from devices.capture.dicom import Dicom
from devices.capture.dicom_identity import DicomIdentity, read_identity
from devices.capture.registry import PYNETDICOM
from devices.capture.source_uri import SourceUri
from devices.errors import BadInput, DeviceLost, DeviceStalled, EndOfRecording, NothingSent
from devices.frame import CaptureDevice, Clock, Frame

if TYPE_CHECKING:
    from devices.capture.dicom_server import StoreAnswer

_LOGGER = logging.getLogger(__name__)

LISTEN_HOST, DICOM_PORT, OWN_TITLE = "127.0.0.1", 11112, "SONOLITE"
"""Where it listens, and its application entity title, where the URI does not say; the port is the
registered one (PS3.8, 9.1.1)."""
MAX_MEGABYTES = 256
"""Of an object, where the URI does not say."""
MAX_WAITING = 16
"""Objects whose turn has not come."""
MAX_WAITING_BYTES = 512_000_000
"""Of these objects together; a larger object waits alone."""
ROOM_SECONDS = 10.0
"""Seconds that a sender waits for room before it is told to try again."""
MAX_OBJECT_PIXELS = 2_000_000_000
"""Of all frames of an object, which a decoder unpacks in less than a minute."""
SHOWN_SECONDS = 60.0
"""Seconds that the last picture stays where nothing follows it."""
MAX_RECEIVED = 256
"""Objects whose identity is known: results of the first of them came long ago."""
AWAITED = "no picture was sent for a while"
FULL = "too many objects wait"

AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")
"""Of printable letters but the backslash (PS3.5, 6.2: AE)."""
LISTEN_KEYS = ("ae", "allow", "hosts", "max_mb")


@dataclass(frozen=True)
class ListenSettings:
    """What the URI of a listener says."""

    host: str
    port: int
    title: str
    callers: tuple[str, ...]
    """The titles that may call; empty for all."""
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    """Where callers may be; empty for everywhere."""
    max_bytes: int

    def admits_host(self, host: str) -> bool:
        """Whether a caller at that address is heard."""
        address = ipaddress.ip_address(host.partition("%")[0])
        return not self.networks or any(address in network for network in self.networks)


class DicomListen(CaptureDevice):
    """Recordings that are sent, one after the other, each at its own frame rate.

    A still has no time, as the stills of a folder have none. Frames are named by their object, not
    by anything that the object says of itself.
    """

    live = False
    fps = 25.0

    def __init__(self, uri: str | SourceUri, clock: Clock = time.monotonic) -> None:
        """Listens as `uri` says: `dicom-listen:[HOST:]PORT?ae=TITLE&allow=TITLE,TITLE`.

        Raises BadInput for another form of URI, and where it cannot listen there.
        """
        self._uri, self._clock = SourceUri(uri), clock
        PYNETDICOM.require()
        settings = parse_listen(self._uri)
        from devices.capture.dicom_server import DicomServer

        self._changed = threading.Condition()
        self._decoding = threading.Lock()
        self._waiting: deque[tuple[str, BinaryIO]] = deque()
        self._closed = False
        self._count = self._index = self._taken = 0
        self._name = ""
        self._clip: Dicom | None = None
        self._file: BinaryIO | None = None
        self._began = 0.0
        """Seconds of the clock at the first frame of the clip."""
        self._next: Frame | None = None
        """A frame whose time has not come."""
        self._last: float | None = None
        """When the last frame was given."""
        self._quiet = False
        """Whether it was told that nothing comes."""
        self.notes = self._notes = Counter[str]()
        self.received: dict[str, DicomIdentity] = {}
        address = settings.host, settings.port
        try:
            self._server = DicomServer(
                address,
                settings.title,
                settings.callers,
                settings.admits_host,
                settings.max_bytes,
                self._take,
            )
        except OSError as error:
            raise BadInput(f"{self._uri}: cannot listen there: {error.strerror}") from error
        self.port = self._server.port

    def close(self) -> None:
        """Ends the server, and a read that waits in another thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.stop()
        with self._changed:
            for _, file in self._waiting:
                file.close()
            self._waiting.clear()
            self._end_clip()

    def read(self, timeout: float) -> Frame:
        """Returns the next frame; see `CaptureDevice.read`."""
        deadline = time.monotonic() + timeout
        with self._changed:
            frame = self._next or self._following(deadline)
            self._next = None
            if frame.timestamp is not None:
                self._wait_until(self._began + frame.timestamp, frame, deadline)
            self._last, self._quiet = self._clock(), False
            return replace(frame, captured_at=self._last)

    # All of this is called with the condition held.

    def _following(self, deadline: float) -> Frame:
        """The next frame of the clip, or the first one of the next object."""
        while True:
            if self._clip is None:
                self._open_next(deadline)
            assert self._clip is not None
            try:
                frame = self._clip.read(0)
            except EndOfRecording:
                self._end_clip()
                continue
            except BadInput:  # it could be decoded a moment ago
                self.damaged += 1
                self._end_clip()
                continue
            if frame.index == 0:
                self._began = self._clock()
            index, self._index = self._index, self._index + 1
            return replace(
                frame,
                index=index,
                name=self._name,
                recording=self._count,
                region=self._clip.region,
            )

    def _open_next(self, deadline: float) -> None:
        """Opens the next object. Raises DeviceStalled where none comes in time."""
        left = max(0.0, deadline - time.monotonic())
        self._changed.wait_for(lambda: self._waiting or self._closed, left)
        if self._closed:
            raise DeviceLost(f"{self._uri}: it was closed")
        if not self._waiting:
            long = self._last is None or self._clock() - self._last >= SHOWN_SECONDS
            if long and not self._quiet:
                self._quiet = True
                raise NothingSent(AWAITED)
            raise DeviceStalled(f"{self._uri}: nothing was sent")
        self._name, self._file = self._waiting.popleft()
        self._changed.notify_all()
        self._clip = Dicom(_path(self._file), self._clock)
        self._count += 1

    def _end_clip(self) -> None:
        for each in (self._clip, self._file):
            if each is not None:
                each.close()
        self._clip = self._file = None

    def _wait_until(self, due: float, frame: Frame, deadline: float) -> None:
        """Waits for the time of a frame, unless another object waits.

        Raises DeviceStalled where that lies behind the deadline.
        """
        left, early = deadline - time.monotonic(), due - self._clock()
        if early <= 0:
            return
        wait = min(early, max(0.0, left))
        hurry = self._changed.wait_for(lambda: self._waiting or self._closed, wait)
        if not hurry and early > left:
            self._next = frame
            raise DeviceStalled(f"{self._uri}: the time of the next frame has not come")

    # The threads of the callers.

    def _take(self, part: BinaryIO) -> "StoreAnswer":
        """Checks an object, and lets it wait for its turn."""
        from devices.capture.dicom_server import OUT_OF_RESOURCES, STORED, StoreAnswer

        file = _path(part).open("rb")
        try:
            with self._decoding:  # one at a time: the memory of a board is small
                frames = _decode(_path(file))
            identity = read_identity(_path(file))
        except Exception as error:
            file.close()
            with self._changed:
                self.damaged += 1
                why = str(error) if isinstance(error, BadInput) else "damaged"
                self._notes[f"an object was refused: {why}"] += 1
            _LOGGER.warning("an object was refused")
            raise
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(file) or self._closed, ROOM_SECONDS)
            if self._closed or not self._has_room(file):
                file.close()
                self._notes[f"an object was refused: {FULL}"] += 1
                _LOGGER.warning("an object was refused: %s", FULL)
                return StoreAnswer(OUT_OF_RESOURCES, FULL)
            self._taken += 1
            name = f"object {self._taken}"
            self.received[name] = identity
            if len(self.received) > MAX_RECEIVED:
                del self.received[next(iter(self.received))]
            self._waiting.append((name, file))
            self._changed.notify_all()
        _LOGGER.info("%s was received: %d frames", name, frames)
        return StoreAnswer(STORED)

    def _has_room(self, file: BinaryIO) -> bool:
        """Whether an object may wait; called with the condition held."""
        if not self._waiting:
            return True
        size = _size(file) + sum(_size(waiting) for _, waiting in self._waiting)
        return len(self._waiting) < MAX_WAITING and size <= MAX_WAITING_BYTES


def _path(file: BinaryIO) -> Path:
    """A path of an open file, which has no name: see proc(5)."""
    return Path(f"/proc/self/fd/{file.fileno()}")


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _decode(path: Path) -> int:
    """Decodes every frame of an object, and returns how many there are.

    Raises BadInput, which does not name the file, where one cannot be decoded, and for more pixels
    than MAX_OBJECT_PIXELS.
    """
    try:
        with Dicom(path) as clip:
            width, height = clip.size
            if clip.frames * width * height > MAX_OBJECT_PIXELS:
                raise BadInput(f"{path}: {clip.frames} frames of {width} x {height} are too many")
            for _ in range(clip.frames):
                clip.read(0)
            return clip.frames
    except BadInput as error:
        raise BadInput(str(error).removeprefix(f"{path}: ")) from None


def parse_listen(uri: SourceUri) -> ListenSettings:
    """The settings of `dicom-listen:[HOST:]PORT?ae=TITLE&allow=TITLE,TITLE&hosts=NET&max_mb=256`.

    Raises BadInput for another form, and where anybody on a network could send.
    """
    rest, _, query = uri.unexpanded.partition(":")[2].partition("?")
    try:
        parts = urlsplit(f"//{rest if ':' in rest else f':{rest}'}")
        host, port = parts.hostname or LISTEN_HOST, parts.port
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        values = dict(pairs)
        if parts.path or parts.username is not None or len(values) < len(pairs):
            raise ValueError
        address = ipaddress.ip_address(LISTEN_HOST if host == "localhost" else host)
        networks = tuple(ipaddress.ip_network(word) for word in _words(values, "hosts"))
        megabytes = float(values.get("max_mb", MAX_MEGABYTES))
        if not set(values) <= set(LISTEN_KEYS) or not 0 < megabytes <= 4096:
            raise ValueError
    except ValueError:
        keys = ", ".join(LISTEN_KEYS)
        raise BadInput(
            f"{uri}: dicom-listen:[HOST:]PORT is expected, with HOST an address of this machine; "
            f"the options after ? are {keys}"
        ) from None
    title, callers = values.get("ae", OWN_TITLE), _words(values, "allow")
    if not all(AE_TITLE.fullmatch(word) for word in (title, *callers)):
        raise BadInput(f"{uri}: a title has 1 to 16 letters of ASCII")
    if not address.is_loopback and not callers and not networks:
        raise BadInput(
            f"{uri}: anybody on the network could send pictures; allow=TITLE or hosts=ADDRESS says "
            "who may"
        )
    return ListenSettings(
        str(address),
        DICOM_PORT if port is None else port,
        title,
        callers,
        networks,
        int(megabytes * 1e6),
    )


def _words(values: dict[str, str], key: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in values[key].split(",")) if key in values else ()
