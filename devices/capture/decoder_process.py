"""A capture device that another process reads, so that a decoder which crashes ends alone.

The decoders of videos, DICOM files, pictures and streams are native code, fed with foreign bytes.
The other process copies each picture into shared memory, and tells of it in a message of JSON:

    session  --  time-out, and slots that nobody holds any more   -->  decoder
    session  <--  a frame and the slot of its pixels, or an error  --  decoder

A slot is memory for one picture. It is sealed, so that it cannot shrink under the session.
"""

import fcntl
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from typing import Annotated, NoReturn

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from devices.buffers import MAX_BUFFERS, NOBODY
from devices.capture import SourceUri, open_device
from devices.capture.size import MAX_PIXELS
from devices.errors import (
    BadInput,
    DeviceLost,
    DeviceStalled,
    EndOfRecording,
    HardwareMissing,
    SonoliteError,
    describe_error,
)
from devices.frame import MAX_RATE, Box, CaptureDevice, Clock, Frame
from devices.own_process import limit_this_process, module_command

DECODER_MEMORY = 1 << 30
"""Bytes that the process may have beside the slots; a video of 1280 x 720 takes 0.05 GB."""
FRAMES_AHEAD = 2
"""Frames of a recording that are asked for before they are read."""
MAX_DECODER_MESSAGE = 1 << 16
"""Bytes of a message."""
DECODER_ANSWER_SECONDS = 60.0
"""After which a process that does not answer hangs. The slowest answer is the first picture of a
large DICOM file, which takes seconds; a live device answers sooner, with DeviceStalled."""
DECODER_END_SECONDS = 5.0
"""Until a process that says nothing more must have ended."""
HEAP_BYTES = 24 << 20
"""Bytes. Once so much was freed, the C library keeps what is freed later (mallopt(3), the dynamic
threshold): fresh pages for each picture of a DICOM clip take more time than decoding it."""
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
DEVICE_ERRORS: dict[str, type[SonoliteError]] = {
    error.__name__: error
    for error in (BadInput, DeviceLost, DeviceStalled, EndOfRecording, HardwareMissing)
}
_Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
_Side = Annotated[int, Meta(ge=1, le=MAX_PIXELS)]
_Memory = NDArray[np.uint8]


class ReadRequest(msgspec.Struct, frozen=True):
    """The session asks for a frame."""

    timeout: float
    free: list[_Count]
    """Slots that nobody holds any more."""


class DeviceOpened(msgspec.Struct, frozen=True):
    """What a device says of itself when it is open."""

    live: bool
    fps: Annotated[float, Meta(gt=0, le=MAX_RATE)]
    region: Box | None


class DecodedPicture(msgspec.Struct, frozen=True):
    """A frame without its pixels; see `Frame`."""

    slot: _Count
    shape: Annotated[list[_Side], Meta(min_length=2, max_length=3)]
    captured_at: float
    index: _Count
    timestamp: float | None
    name: str | None
    region: Box | None


class DeviceRefusal(msgspec.Struct, frozen=True):
    """An error: a name of `DEVICE_ERRORS`, None for one that is not among them, and its line."""

    kind: str | None
    line: str


class DecoderAnswer(msgspec.Struct, frozen=True):
    """What the opening or a read gave, and what the device counts."""

    opened: DeviceOpened | None = None
    picture: DecodedPicture | None = None
    refusal: DeviceRefusal | None = None
    damaged: _Count = 0
    notes: dict[str, _Count] = {}


_encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(ReadRequest).decode
_decode_answer = msgspec.json.Decoder(DecoderAnswer).decode


class DecoderProcess(CaptureDevice):
    """The source `name`, read in a process of its own. It ends with this one, however that ends.

    A process that ends by itself, or hangs, is BadInput for a recording and DeviceLost for a live
    device.
    """

    def __init__(self, name: SourceUri, live: bool, clock: Clock = time.monotonic) -> None:
        """Opens the source. Raises as `open_device` does, HardwareMissing for want of a process."""
        self.live, self._name, self._clock = live, name, clock
        self._slots: dict[int, _Memory] = {}
        self._handed: set[int] = set()
        """Slots whose pictures somebody may hold."""
        self._asked = 0
        self._offset = clock() - time.monotonic()
        """Seconds from the clock of the decoder to that of the session."""
        self._busy, self._closed = threading.Lock(), threading.Event()
        self.notes = self._notes = dict[str, int]()
        # An address may hold a password, so that it does not go to the command line.
        address = name.unexpanded.encode(errors="surrogatepass")
        if len(address) > MAX_DECODER_MESSAGE:
            raise BadInput(f"{name}: too long")
        self._socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(DECODER_ANSWER_SECONDS)
        with end:
            try:
                self._process = subprocess.Popen(  # noqa: S603  our own module
                    [*module_command(__name__), str(end.fileno()), str(DECODER_MEMORY)],
                    pass_fds=[end.fileno()],
                    stdin=subprocess.PIPE,  # nothing is written: its end tells that of this process
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C means the command alone
                )
            except OSError as error:
                self._socket.close()
                line = f"{name}: no process to decode in: {error.strerror}"
                raise HardwareMissing(line) from error
        try:
            with suppress(OSError):  # the process has ended, as its answer will tell
                self._socket.send(address)
            opened = self._receive().opened
            if opened is None or opened.live != live:
                raise self._ended("makes no sense")
        except BaseException:
            self.close()
            raise
        self.fps, self.region = opened.fps, opened.region

    def read(self, timeout: float) -> Frame:
        """Returns the next frame; see `CaptureDevice.read`."""
        with self._busy:
            if self._closed.is_set():
                raise DeviceLost(f"{self._name}: closed")
            while self._asked < (1 if self.live else FRAMES_AHEAD):
                self._ask(timeout)
            self._asked -= 1
            picture = self._receive().picture
            if picture is None:
                raise self._ended("makes no sense")
            try:
                pixels = self._slots[picture.slot].reshape(picture.shape)
            except (KeyError, ValueError):
                raise self._ended("makes no sense") from None
            self._handed.add(picture.slot)
        captured = self._clock()
        if self.live:
            captured = picture.captured_at + self._offset
        return Frame(
            pixels,
            captured,
            picture.index,
            captured if self.live else picture.timestamp,
            None if picture.name is None else _from_json(picture.name),
            region=picture.region,
        )

    def _ask(self, timeout: float) -> None:
        """Asks for a frame, and gives back the slots that nobody holds."""
        free = []
        for slot in self._handed:
            memory = self._slots[slot]
            if sys.getrefcount(memory) <= NOBODY:
                free.append(slot)
        self._handed.difference_update(free)
        for slot in free:
            if slot >= MAX_BUFFERS:  # it is forgotten on both sides
                del self._slots[slot]
        with suppress(OSError):  # the process has ended, as its answer will tell
            self._socket.send(_encode(ReadRequest(timeout, free)))
        self._asked += 1

    def _receive(self) -> DecoderAnswer:
        """The next answer; raises the error that it holds."""
        try:
            content, numbers, *_ = socket.recv_fds(self._socket, MAX_DECODER_MESSAGE, 1)
        except TimeoutError:
            raise self._ended(f"did not answer for {self._socket.gettimeout():g} s") from None
        except OSError:  # closed, or reset as its process ended
            content, numbers = b"", []
        memory = _map(numbers[0]) if numbers else None
        if self._closed.is_set():
            raise DeviceLost(f"{self._name}: closed")
        if not content:
            raise self._ended("crashed")
        try:
            answer = _decode_answer(content)
        except msgspec.DecodeError:
            raise self._ended("makes no sense") from None
        if memory is not None and answer.picture is not None:
            self._slots[answer.picture.slot] = memory
        self.damaged = answer.damaged
        self._notes.update(answer.notes)
        if answer.refusal is not None:
            line = _from_json(answer.refusal.line)
            if answer.refusal.kind not in DEVICE_ERRORS:
                raise self._ended(f"failed ({line})")
            raise DEVICE_ERRORS[answer.refusal.kind](line)
        return answer

    def _ended(self, how: str) -> BadInput | DeviceLost:
        """Ends the process; the error that tells how it ended, or what it did before."""
        code = 0
        if how == "crashed":
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(DECODER_END_SECONDS)
            if code < 0:
                how = f"crashed ({signal.Signals(-code).name}"
                how += f"; at most {DECODER_MEMORY >> 20} MB of memory)"
        self._process.kill()
        return (DeviceLost if self.live else BadInput)(f"{self._name}: the decoder {how}")

    def close(self) -> None:
        """Ends the process, and with it a read in another thread."""
        self._closed.set()
        self._process.kill()
        self._process.wait()
        with self._busy:
            self._socket.close()
            self._slots.clear()  # a picture that somebody holds keeps the memory of its own
            if self._process.stdin is not None:
                self._process.stdin.close()


def _map(number: int) -> _Memory | None:
    """The memory of a slot; None for what is none, or could shrink. Closes the descriptor."""
    try:
        sealed = fcntl.fcntl(number, fcntl.F_GET_SEALS) & SEALS == SEALS
        if sealed and os.fstat(number).st_size <= 3 * MAX_PIXELS:
            return np.frombuffer(mmap.mmap(number, 0), np.uint8)
    except (OSError, ValueError):
        pass
    finally:
        os.close(number)
    return None


def _to_json(text: str) -> str:
    """Any text, as the name of a file is, in letters that JSON can hold."""
    return text.encode(errors="surrogatepass").decode("latin-1")


def _from_json(text: str) -> str:
    """What `_to_json` was given."""
    try:
        return text.encode("latin-1").decode(errors="surrogatepass")
    except ValueError:
        return "?"


class _Slots:
    """The slots of the decoding process."""

    def __init__(self) -> None:
        self._slots: dict[int, _Memory] = {}
        self._free: list[int] = []

    def give_back(self, numbers: list[int]) -> None:
        """Takes slots that the session does not hold any more."""
        for number in numbers:
            if number >= MAX_BUFFERS:
                del self._slots[number]
            else:
                self._free.append(number)

    def put(self, pixels: _Memory) -> tuple[int, list[int]]:
        """Copies pixels into a slot; its number, and the descriptor of its memory where new."""
        slot = (
            self._free.pop()
            if self._free
            else next(each for each in count() if each not in self._slots)
        )
        descriptors = []
        if slot not in self._slots or self._slots[slot].size != pixels.size:
            descriptor = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(descriptor, pixels.size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
            self._slots[slot] = np.frombuffer(mmap.mmap(descriptor, 0), np.uint8)
            descriptors = [descriptor]
        np.copyto(self._slots[slot].reshape(pixels.shape), pixels)
        return slot, descriptors


def main() -> NoReturn:
    """Opens the source that the socket names first, and answers each request."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the session ends this process
        signal.signal(number, signal.SIG_IGN)
    # The kernel sends SIGIO when the other end of stdin is closed, which ends even a busy decoder.
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    link = socket.socket(fileno=int(sys.argv[1]))
    limit_this_process(int(sys.argv[2]))
    np.empty(HEAP_BYTES, np.uint8)
    device: CaptureDevice | None = None
    slots, numbers = _Slots(), list[int]()
    while content := link.recv(MAX_DECODER_MESSAGE):
        opened = picture = refusal = None
        try:
            if device is None:
                device = open_device(content.decode(errors="surrogatepass"))
                opened = DeviceOpened(device.live, device.fps, device.region)
                _share_core()
            else:
                request = _decode_request(content)
                slots.give_back(request.free)
                frame = device.read(request.timeout)
                slot, numbers = slots.put(frame.pixels)
                picture = DecodedPicture(
                    slot,
                    list(frame.pixels.shape),
                    frame.captured_at,
                    frame.index,
                    frame.timestamp,
                    None if frame.name is None else _to_json(frame.name),
                    frame.region,
                )
                del frame
        except SonoliteError as error:
            kind = next(
                (name for name, each in DEVICE_ERRORS.items() if isinstance(error, each)), None
            )
            refusal = DeviceRefusal(kind, _to_json(str(error)))
        except Exception as error:  # in the session it would be a traceback
            refusal = DeviceRefusal(None, describe_error(error))
        damaged, notes = (0, {}) if device is None else (device.damaged, dict(device.notes))
        answer = DecoderAnswer(opened, picture, refusal, damaged, notes)
        socket.send_fds(link, [_encode(answer)], numbers)
        while numbers:
            os.close(numbers.pop())
    os._exit(0)


def _share_core() -> None:
    """Keeps this thread to the core that captures: it decodes where it did without this process.

    Threads of the decoder that were started before are free.
    """
    with suppress(OSError):  # a sandbox may forbid it
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


if __name__ == "__main__":
    main()
