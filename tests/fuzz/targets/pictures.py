"""Sources of pictures: files, network streams, records of sessions."""

import io
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom import dcmread, uid
from pynetdicom import AE, evt

from devices import (
    CaptureDevice,
    DeviceLost,
    DeviceStalled,
    EndOfRecording,
    NothingSent,
    SonoliteError,
)
from devices.capture import dicom_server, open_device
from devices.capture.dicom import read_frame, read_header
from devices.capture.dicom_listen import DicomListen
from devices.capture.dicom_server import ECHO_CLASS, PDU_HEAD, STORED
from devices.capture.igtl import Igtl
from devices.capture.image import open_pages, read_image, shown_size
from devices.capture.kinds import RECORD_MANIFEST
from devices.capture.record_format import RECORD_FRAMES, RECORD_INDEX
from devices.capture.replay import Replay
from devices.capture.script import parse_script
from devices.capture.stream import BACKLOG_FRAMES, Stream
from edge_runtime.session.record_settings import recorded_settings
from tests.devices.capture.dicom_files import region, write_dicom, write_jpegs
from tests.devices.capture.test_igtl import extended, image, message
from tests.fuzz.target import target

GREY = np.arange(40 * 48, dtype=np.uint8).reshape(40, 48)
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)
FRAMES = 8
"""Frames that are read of a source at most."""


def read_some(device: CaptureDevice) -> int:
    """Reads a few frames, over refused ones; raises what ended it before."""
    for index in range(FRAMES):
        try:
            frame = device.read(0.5)
        except EndOfRecording:
            return index
        assert frame.pixels.dtype == np.uint8
    return FRAMES


def stills() -> Sequence[bytes]:
    """Pictures of every format that OpenCV writes, with several pictures where it can."""
    coded = [
        cv2.imencode(suffix, pixels)[1].tobytes()
        for suffix in (".png", ".jpg", ".tiff", ".bmp", ".webp", ".jp2")
        for pixels in (GREY, COLOUR)
    ]
    _, pages = cv2.imencodemulti(".tiff", [COLOUR, COLOUR])
    coded.append(pages.tobytes())
    animation = cv2.Animation()
    animation.frames, animation.durations = [COLOUR, 255 - COLOUR], [50, 50]
    for suffix in (".gif", ".webp", ".png"):
        with suppress(cv2.error):
            coded.append(cv2.imencodeanimation(suffix, animation)[1].tobytes())
    return coded


@target(stills)
def still(content: bytes) -> object:
    path = Path("still.png")
    path.write_bytes(content)
    with suppress(SonoliteError):
        shown_size(path)
    with suppress(SonoliteError):
        list(open_pages(path)[1])
    return read_image(path)


def dicoms() -> Sequence[bytes]:
    """Files of each coding: plain, RLE, JPEG, JPEG 2000, lossless JPEG, with a region, moving."""
    path, made = Path("seed.dcm"), []
    clip = np.stack([GREY, 255 - GREY])
    write_dicom(path, clip, NumberOfFrames=2, FrameTime=50)
    made.append(path.read_bytes())
    write_dicom(path, COLOUR, SequenceOfUltrasoundRegions=[region(2, 2, 30, 30)])
    made.append(path.read_bytes())
    write_jpegs(path, [GREY, 255 - GREY])
    made.append(path.read_bytes())
    for coding in (uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless):
        write_dicom(path, COLOUR)
        dataset = dcmread(path)
        with suppress(RuntimeError, ValueError, NotImplementedError):
            dataset.compress(coding)
            written = io.BytesIO()
            dataset.save_as(written)
            made.append(written.getvalue())
    return made


@target(dicoms)
def dicom(content: bytes) -> object:
    path = Path("clip.dcm")
    path.write_bytes(content)
    read_header(path)
    read_frame(path)
    with open_device(str(path)) as device:
        return read_some(device)


@cache
def videos() -> Sequence[bytes]:
    made = []
    for suffix, code in ((".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "mp4v"), (".mov", "mp4v")):
        path = Path(f"seed{suffix}")
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 20.0, (64, 48))
        assert writer.isOpened(), suffix
        for index in range(6):
            writer.write(np.roll(cv2.resize(COLOUR, (64, 48)), index, axis=1))
        writer.release()
        made.append(path.read_bytes())
    return made


@target(videos, inputs=40)
def video(content: bytes) -> object:
    path = Path("video.mp4")
    path.write_bytes(content)
    with open_device(str(path)) as device:
        return read_some(device)


class Answering:
    """A server on loopback that answers each connection with the same bytes, and closes it."""

    def __init__(self) -> None:
        self.content, self.asked = b"", False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer, suppress(OSError):
                peer.settimeout(0.5 if self.asked else 0.0)
                with suppress(TimeoutError, BlockingIOError):
                    peer.recv(65536)
                peer.settimeout(1.0)
                peer.sendall(self.content)
                peer.shutdown(socket.SHUT_WR)
                peer.settimeout(0.1)
                while peer.recv(65536):
                    pass


@cache
def server() -> Answering:
    return Answering()


def answering(content: bytes, asked: bool = True) -> Answering:
    """The server, which answers with `content`; where it is `asked`, once it was asked."""
    there = server()
    there.content, there.asked = content, asked
    return there


def igtl_messages() -> Sequence[bytes]:
    return [
        message(image(GREY)) + message(b"\0" * 48, kind=b"TRANSFORM") + message(image(COLOUR)),
        message(extended(image(COLOUR), b"\0\0", b""), version=2) * 2,
    ]


@target(igtl_messages)
def igtl(content: bytes) -> object:
    there = answering(content, asked=False)
    with Igtl(f"igtl://{there.address}") as device:
        return read_over(device)


def read_over(device: CaptureDevice) -> int:
    """Reads until the connection ends; a refused picture is passed over. Returns the pictures."""
    count = 0
    while True:
        try:
            device.read(0.5)
            count += 1
        except DeviceLost:
            return count
        except DeviceStalled:
            raise AssertionError("it waits although the connection has ended") from None
        except SonoliteError:
            continue


def http_streams() -> Sequence[bytes]:
    jpeg = cv2.imencode(".jpg", cv2.resize(COLOUR, (64, 48)))[1].tobytes()
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n"
    mjpeg = head % b"multipart/x-mixed-replace; boundary=frame"
    return [
        mjpeg + (part % (len(jpeg), jpeg)) * (BACKLOG_FRAMES + 4),
        head % b"video/mp4" + videos()[1],
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n",
    ]


@target(http_streams, inputs=12)
def http_stream(content: bytes) -> object:
    there = answering(content)
    with Stream(f"http://{there.address}/live") as device:
        return read_over(device)


RECORDED = {
    RECORD_MANIFEST: b'{"schema": 1, "program": "0.1", "started_utc": "2026-01-01T00:00:00Z", '
    b'"source": "phantom:", "live": false, "fps": 20, "region": [0, 0, 48, 40], '
    b'"settings": {"bundle": "nodule 1 0123"}}',
}


def record_files() -> dict[str, bytes]:
    """The files of a small record, as the program writes them."""
    from devices.capture.record_format import (
        RecordedEnd,
        RecordedFrame,
        RecordedMark,
        RecordedResult,
        RecordEntry,
        pack_pixels,
        write_entry,
    )

    frames = b""
    lines: list[RecordEntry] = []
    for index, pixels in enumerate((GREY, COLOUR)):
        packed = pack_pixels(pixels)
        entry = RecordedFrame(
            index=index,
            captured_at=index / 20,
            timestamp=None,
            height=40,
            width=48,
            channels=3 if pixels.ndim == 3 else 1,
            offset=len(frames),
            size=len(packed),
        )
        lines += [entry, RecordedResult(index=index), RecordedMark(roi=None)]
        frames += packed
    index_lines = b"".join(write_entry(entry) for entry in [*lines, RecordedEnd()])
    return RECORDED | {RECORD_INDEX: index_lines, RECORD_FRAMES: frames}


def replay_with(name: str, content: bytes) -> object:
    """Plays a record of which one file is `content`."""
    folder = Path("record")
    folder.mkdir(exist_ok=True)
    for file, written in (record_files() | {name: content}).items():
        (folder / file).write_bytes(written)
    with Replay(folder) as device:
        recorded_settings(device)
        return read_some(device)


@cache
def listening() -> DicomListen:
    """A listener on loopback, which stays open."""
    dicom_server.NEGOTIATION_SECONDS = 0.1
    return DicomListen("dicom-listen:127.0.0.1:0")


@cache
def called() -> Sequence[bytes]:
    """What a scanner says that sends a still, and one that asks whether anybody is there."""
    made, still = [], Path("still.dcm")
    write_dicom(still, GREY, SOPClassUID=uid.UltrasoundImageStorage)
    for name, words in (("send_c_store", [dcmread(still)]), ("send_c_echo", [])):
        pieces: list[bytes] = []
        scanner = AE("CART")
        scanner.add_requested_context(uid.UltrasoundImageStorage, uid.ExplicitVRLittleEndian)
        scanner.add_requested_context(ECHO_CLASS)
        handlers: list[Any] = [
            (evt.EVT_DATA_SENT, lambda event, pieces=pieces: pieces.append(event.data))
        ]
        association = scanner.associate(
            "127.0.0.1", listening().port, ae_title="SONOLITE", evt_handlers=handlers
        )
        assert getattr(association, name)(*words).Status == STORED
        association.release()
        made.append(b"".join(pieces))
    return made


def call(content: bytes) -> bytes:
    """What a scanner hears that asks for an association, and says the rest once it was heard."""
    first = PDU_HEAD + int.from_bytes(content[2:PDU_HEAD])
    with closing(socket.create_connection(("127.0.0.1", listening().port), 5.0)) as scanner:
        scanner.settimeout(0.5)
        heard = b""
        with suppress(OSError):
            scanner.sendall(content[:first])
            if content[first:]:
                heard = scanner.recv(4096)
            scanner.sendall(content[first:])
            scanner.shutdown(socket.SHUT_WR)
            while piece := scanner.recv(4096):
                heard += piece
        return heard


@target(called, inputs=20)
def dicom_listen(content: bytes) -> object:
    call(content)
    end = time.monotonic() + 10  # broken callers hold their places for a while
    while not call(called()[1]).startswith(b"\x02"):
        assert time.monotonic() < end, "it hears nobody any more"
    while True:
        try:
            listening().read(0)
        except (DeviceStalled, NothingSent):
            return listening()


@target(lambda: [record_files()[RECORD_MANIFEST]])
def record_manifest(content: bytes) -> object:
    return replay_with(RECORD_MANIFEST, content)


@target(lambda: [record_files()[RECORD_INDEX]])
def record_index(content: bytes) -> object:
    return replay_with(RECORD_INDEX, content)


@target(lambda: [record_files()[RECORD_FRAMES]])
def record_frames(content: bytes) -> object:
    return replay_with(RECORD_FRAMES, content)


@target(lambda: [b"frames 40, stall 3, unplug\nsize 320x240 # comment\ntorn 4, still 2, black 1"])
def script(content: bytes) -> object:
    return parse_script(content.decode(errors="replace"))
