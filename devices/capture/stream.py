"""A live stream from the network, RTSP or HTTP, read with PyAV, which the extra `stream` installs.

PyAV is imported where it is used: the device runs without it, and starts sooner. A URI may hold a
password: messages show a `SourceUri`, and FFmpeg's errors, which quote the URI, are not chained.
"""

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import urlsplit

import numpy as np

from devices.capture.capture_time import CaptureTime
from devices.capture.registry import PYAV
from devices.capture.silence_limit import SilenceLimit
from devices.capture.size import MAX_MOVING_PIXELS, check_size
from devices.capture.source_uri import SourceUri
from devices.errors import BadInput, DeviceLost, DeviceStalled
from devices.frame import CaptureDevice, Clock, Frame, Pixels, nominal_rate

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

OPEN_TIMEOUT = 3.0
"""Seconds without an answer after which FFmpeg lets go; for each step of the opening, of which
there are two: the connection, and a look at what comes. The first frames may take as long."""
MIN_SILENCE_SECONDS = 0.8
"""Seconds without data after which a live stream is lost: a pulled cable shows within a second. A
slower stream has twice the time that its last frames took; see `SilenceLimit`."""

BACKLOG_SECONDS, BACKLOG_FRAMES = 1.0, 100
"""After opening no more is thrown away than this: what is buffered at first is up to 0.9 s old."""
LIVE_WAIT_SECONDS = 0.01
"""Seconds that the reader waits at least for a live frame, up to 100 frames/s; a buffered frame is
there sooner."""
LIVE_WAITS = 2
"""Frames in a row that must be waited for; a single wait also comes before a burst."""

MAX_DAMAGED = 25
"""Damaged packets in a row after which nothing useful is to be expected."""

# An answer may name other addresses, but open no file and no port of this machine.
PROTOCOLS = "rtsp,rtp,tcp,http,https,tls"
STREAM_OPTIONS = {
    "rtsp": {
        "rtsp_transport": "tcp",  # over UDP a lost packet is a damaged picture
        "allowed_media_types": "video",
        # The codec is known from the description. With a longer look, or with nobuffer, the first
        # key frame would be gone before anyone decodes.
        "probesize": "32",
        "protocol_whitelist": PROTOCOLS,
    },
    "http": {"fflags": "nobuffer", "protocol_whitelist": PROTOCOLS},
}
STREAM_OPTIONS["https"] = STREAM_OPTIONS["http"]
DECODER = {
    "flags": "low_delay",
    "threads": "1",  # each further thread holds a frame back
    "err_detect": "explode",  # instead of a picture with its holes painted over
    "max_pixels": str(MAX_MOVING_PIXELS),
}


class Backlog:
    """Tells frames that were buffered before anyone read from those that come live.

    A buffered frame is there at once, a live one is waited for. So the backlog is over once
    LIVE_WAITS frames in a row were waited for, and at the latest after BACKLOG_SECONDS or
    BACKLOG_FRAMES: a stream that is faster than its reader never makes it wait.
    """

    def __init__(self, now: float) -> None:
        """Begins when the stream was opened, `now` on the clock in seconds."""
        self._until = now + BACKLOG_SECONDS
        self._left = BACKLOG_FRAMES
        self._waits = 0

    def over(self, asked: float, arrived: float) -> bool:
        """Whether the next frame, asked for and arrived at these seconds, is a live one."""
        self._waits = self._waits + 1 if arrived - asked >= LIVE_WAIT_SECONDS else 0
        self._left -= 1
        if self._waits >= LIVE_WAITS or arrived >= self._until:
            self._left = 0
        return self._left <= 0


class Connection(NamedTuple):
    """What an open stream is read by."""

    container: "InputContainer"
    video: "VideoStream"
    backlog: Backlog
    capture_time: CaptureTime
    silence_limit: SilenceLimit
    """How long FFmpeg waits for data; PyAV asks for it anew at every packet."""
    behind: bool
    """Whether a picture is handed out only when the next one begins."""


class Stream(CaptureDevice):
    """`rtsp://...`, `http://...` or `https://...`; MJPEG, and what else FFmpeg reads.

    Silence ends the connection, because FFmpeg cannot be trusted to read on where it was
    interrupted, and what the network held back would be old.
    """

    live = True

    def __init__(self, uri: str | SourceUri, clock: Clock = time.monotonic) -> None:
        """Connects. Raises BadInput for what can never work, DeviceLost where nobody answers."""
        PYAV.require()
        self._name, self._clock = SourceUri(uri), clock
        self._uri = self._name.reveal()
        self._options = STREAM_OPTIONS[_scheme(self._uri, self._name)]
        self._busy = threading.Lock()
        self._closed = False
        self._index = 0
        self._began = 0.0
        """When the picture began that is handed out next, where they come behind."""
        self._connection: Connection | None = self._connect()
        self.fps = nominal_rate(float(self._connection.video.guessed_rate or 0))

    def close(self) -> None:
        """Ends the connection; one that a read still waits on is ended by that read."""
        self._closed = True
        if self._busy.acquire(blocking=False):
            try:
                self._hang_up()
            finally:
                self._busy.release()

    def read(self, timeout: float) -> Frame:
        """Returns the next frame; see `CaptureDevice.read`.

        Silence is noticed after the seconds of the `SilenceLimit` whatever `timeout` says: FFmpeg
        is told beforehand. Raises DeviceLost where the server has gone, is silent or sends nothing
        but damage, and BadInput for a size that is refused.
        """
        try:
            with self._busy:
                return self._read(timeout)
        finally:
            if self._closed:
                self.close()

    def _read(self, timeout: float) -> Frame:
        """`read`, with the connection to itself."""
        from av import FFmpegError
        from av.error import ExitError

        connection = self._connection
        if self._closed or connection is None:
            raise DeviceLost(f"{self._name}: closed")
        try:
            pixels, captured = self._next_live(connection, self._clock() + timeout)
        except ExitError:
            self._hang_up()
            raise self._silent(connection.silence_limit) from None
        except FFmpegError as error:
            self._hang_up()
            raise DeviceLost(f"{self._name}: broken off: {error.strerror}") from None
        except DeviceLost:
            self._hang_up()
            raise
        index, self._index = self._index, self._index + 1
        return Frame(pixels, captured, index, timestamp=captured)

    def _next_live(self, connection: Connection, deadline: float) -> tuple[Pixels, float]:
        """The next frame that is neither backlog nor damaged, and when it was captured."""
        from av import InvalidDataError

        container, video, backlog, capture_time, silence_limit, behind = connection
        damaged = 0
        while self._clock() < deadline:
            asked = self._clock()
            try:
                packet = next(container.demux(video))
                arrived = self._clock()
                if arrived - asked >= silence_limit.seconds:  # as old as the silence before it
                    raise self._silent(silence_limit)
                captured = capture_time.of_message(asked, arrived)
                if behind:
                    captured, self._began = self._began, captured
                if not packet.size:
                    raise DeviceLost(f"{self._name}: the stream has ended")
                pictures = packet.decode()
            except InvalidDataError:
                pictures = None
            if pictures is None or any(picture.is_corrupt for picture in pictures):
                self.damaged += 1
                damaged += 1
                if damaged == MAX_DAMAGED:
                    raise DeviceLost(f"{self._name}: {damaged} damaged packets in a row")
            elif pictures and backlog.over(asked, arrived):
                silence_limit.learn(arrived - asked)
                return self._unpack(pictures[-1]), captured
        raise DeviceStalled(f"{self._name}: no picture within the time-out")

    def _silent(self, silence_limit: SilenceLimit) -> DeviceLost:
        return DeviceLost(f"{self._name}: silent for {silence_limit.seconds:.1f} s")

    def _connect(self) -> Connection:
        """Opens the stream at the address, and begins with its backlog."""
        import av
        from av.error import HTTPClientError
        from av.error import LookupError as NotBuiltIn

        began, silence_limit = self._clock(), SilenceLimit(MIN_SILENCE_SECONDS, OPEN_TIMEOUT)
        timeout = cast("tuple[float, float]", (OPEN_TIMEOUT, silence_limit))
        behind = False
        try:
            try:
                container = av.open(
                    self._uri, timeout=timeout, options=self._options, metadata_errors="replace"
                )
            except av.InvalidDataError:
                bare = self._open_bare(timeout)
                if bare is None:
                    raise
                container, behind = bare, True
        except av.FFmpegError as error:
            # An interrupted opening ends in one error or another.
            if self._clock() - began >= OPEN_TIMEOUT:
                raise DeviceLost(f"{self._name}: no answer") from None
            if isinstance(error, (HTTPClientError, av.InvalidDataError, NotBuiltIn)):
                raise BadInput(f"{self._name}: {error.strerror}") from None
            raise DeviceLost(f"{self._name}: {error.strerror}") from None
        if not container.streams.video:
            container.close()
            raise BadInput(f"{self._name}: there is no video in this stream")
        video = container.streams.video[0]
        if video.codec_context is None:
            container.close()
            raise BadInput(f"{self._name}: no decoder for the video in this stream")
        video.codec_context.options = DECODER
        self._began = now = self._clock()
        return Connection(container, video, Backlog(now), CaptureTime(now), silence_limit, behind)

    def _open_bare(self, timeout: tuple[float, float]) -> "InputContainer | None":
        """MJPEG whose boundaries do not precede the pictures, found by the pictures themselves.

        None where no picture comes.
        """
        import av

        if _scheme(self._uri, self._name) == "rtsp":
            return None
        options = {**self._options, "probesize": "32"}  # with more, seconds are read beforehand
        with suppress(av.FFmpegError):
            bare = av.open(self._uri, "r", format="mjpeg", timeout=timeout, options=options)
            if bare.streams.video[0].codec_context.width:
                return bare
            bare.close()
        return None

    def _unpack(self, picture: "VideoFrame") -> Pixels:
        """The pixels, uint8 ``H x W x 3`` (BGR). Raises BadInput for a size that is refused."""
        check_size(str(self._name), picture.width, picture.height, MAX_MOVING_PIXELS)
        return np.asarray(picture.to_ndarray(format="bgr24"), dtype=np.uint8)

    def _hang_up(self) -> None:
        """Ends the connection, where there is one."""
        if self._connection is not None:
            self._connection.container.close()
            self._connection = None


def _scheme(uri: str, name: SourceUri) -> str:
    """The scheme of an address that can be called. Raises BadInput for any other."""
    try:
        parts = urlsplit(uri)
        called = parts.scheme in STREAM_OPTIONS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        called = False
    if not called:
        raise BadInput(f"{name}: no address of a stream, as rtsp://host:554/path is one")
    return parts.scheme
