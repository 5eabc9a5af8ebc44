"""What every capture device promises, one test for all of them: recordings, and live devices."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyigtl
import pytest

from devices import CaptureDevice, DeviceLost, DeviceStalled, EndOfRecording, Frame, Pixels
from devices.capture import device_opener
from devices.capture.camera import Camera
from devices.capture.dicom import Dicom
from devices.capture.folder import ImageFolder
from devices.capture.igtl import Igtl
from devices.capture.phantom import Phantom
from devices.capture.reconnecting import Reconnecting
from devices.capture.record_writer import RecordWriter
from devices.capture.replay import Replay
from devices.capture.scripted import Scripted, Unplug
from devices.capture.stream import Stream
from devices.capture.video import Video
from devices.frame import MAX_RATE
from tests.conftest import Within
from tests.devices.capture.conftest import Grabber, entries
from tests.devices.capture.dicom_files import write_jpegs
from tests.devices.capture.servers import H264, jpeg, live, rtsp, serving
from tests.devices.capture.test_replay import MANIFEST

Clock = Callable[[], float]
Opener = Callable[[Clock], CaptureDevice]
GREYS: list[Pixels] = [np.full((40, 60), number, np.uint8) for number in range(3)]
SCREENS: list[Pixels] = [Phantom(width=320, height=240).render(index) for index in range(10)]


@pytest.fixture(
    params=[
        "video",
        "folder",
        "dicom",
        "dicom folder",
        "video apart",
        "phantom",
        "scripted",
        "record",
    ]
)
def recording(request: pytest.FixtureRequest, make_video: Callable[..., Path]) -> Opener:
    """Opens a recording with three frames and the clock it is given."""
    video = make_video("three.mp4", frames=3)
    stills, clips = video.parent / "stills", video.parent / "clips"
    for folder in (stills, clips):
        folder.mkdir()
    for number, grey in enumerate(GREYS):
        cv2.imwrite(str(stills / f"{number}.png"), grey)
    write_jpegs(clips / "a.dcm", GREYS[:2], FrameTime=40)
    write_jpegs(clips / "b.dcm", GREYS[2:])
    three = write_jpegs(video.parent / "three.dcm", GREYS, FrameTime=40)
    record = video.parent / "record"
    writer = RecordWriter(record, MANIFEST)
    for number, grey in enumerate(GREYS):
        writer.append_frame(Frame(grey, number / 20, number, number / 20))
    writer.close()
    openers: dict[str, Opener] = {
        "video": lambda clock: Video(video, clock),
        "folder": lambda clock: ImageFolder(stills, clock),
        "dicom": lambda clock: Dicom(three, clock),
        "dicom folder": lambda clock: ImageFolder(clips, clock),
        "video apart": lambda clock: device_opener(str(video), clock, apart=True)(),
        "phantom": lambda clock: Phantom(frames=3, live=False, clock=clock),
        "scripted": lambda clock: Scripted(GREYS, clock=clock),
        "record": lambda clock: Replay(record, clock),
    }
    return openers[request.param]


def test_every_frame_comes_in_order_and_then_the_end(recording: Opener) -> None:
    with recording(lambda: 7.0) as device:
        frames = [device.read(1.0) for _ in range(3)]
        with pytest.raises(EndOfRecording):
            device.read(1.0)
    assert [frame.index for frame in frames] == [0, 1, 2]


def test_frames_are_stamped_with_the_clock_that_was_given(recording: Opener) -> None:
    ticks = iter(range(100, 200))
    with recording(lambda: float(next(ticks))) as device:
        stamps = [device.read(1.0).captured_at for _ in range(3)]
    assert stamps == sorted(stamps)
    assert stamps[0] >= 100


def test_times_in_a_recording_rise_or_are_none(recording: Opener) -> None:
    with recording(lambda: 0.0) as device:
        times = [device.read(1.0).timestamp for _ in range(3)]
    told = [its for its in times if its is not None]
    assert len(told) in (0, 3)
    assert told == sorted(set(told))


def test_pixels_are_bytes_in_one_or_three_channels(recording: Opener) -> None:
    with recording(lambda: 0.0) as device:
        check_pixels(device.read(1.0).pixels)


def check_pixels(pixels: Pixels) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2 or pixels.shape[2:] == (3,)


def test_the_end_stays_the_end(recording: Opener) -> None:
    with recording(lambda: 0.0) as device:
        for _ in range(3):
            device.read(1.0)
        for _ in range(2):
            with pytest.raises(EndOfRecording):
                device.read(1.0)


def test_the_frame_rate_is_a_rate(recording: Opener) -> None:
    with recording(lambda: 0.0) as device:
        assert 1 <= device.fps <= MAX_RATE
        assert device.live is False


def test_a_recording_leaves_nothing_open(recording: Opener) -> None:
    recording(lambda: 0.0).close()
    before = entries("fd"), threading.active_count()
    for frames in range(4):
        device = recording(lambda: 0.0)
        for _ in range(frames):
            device.read(1.0)
        device.close()
        device.close()
    assert (entries("fd"), threading.active_count()) == before


class Source(NamedTuple):
    """A live device and what a test does to it."""

    open: Opener
    pull: Callable[[], None]
    """Takes the source away."""


@pytest.fixture(params=["http", "http apart", "rtsp", "igtl", "camera", "scripted", "reconnecting"])
def source(request: pytest.FixtureRequest, plug: Callable[[str], Grabber]) -> Iterator[Source]:
    """A real source that shows a moving picture until it is pulled out."""
    with ExitStack() as stack:
        yield SOURCES[request.param](stack, plug)


def http(stack: ExitStack, _: object) -> Source:
    server = stack.enter_context(ExitStack())
    address = server.enter_context(serving(live(*map(jpeg, SCREENS))))
    return Source(lambda clock: Stream(f"http://{address}", clock), server.close)


def http_apart(stack: ExitStack, _: object) -> Source:
    server = stack.enter_context(ExitStack())
    address = server.enter_context(serving(live(*map(jpeg, SCREENS))))
    return Source(
        lambda clock: device_opener(f"http://{address}", clock, apart=True)(), server.close
    )


def rtsp_source(stack: ExitStack, _: object) -> Source:
    uri, server = stack.enter_context(rtsp(H264.replace("pattern=red", "pattern=ball")))
    return Source(lambda clock: Stream(uri, clock), server.kill)


def igtl(stack: ExitStack, _: object) -> Source:
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    server = pyigtl.OpenIGTLinkServer(port=0)  # which takes the signals for itself
    for number, handler in handlers:
        signal.signal(number, handler)
    over = threading.Event()

    def send() -> None:
        index = 0
        while not over.wait(0.03):
            pixels = SCREENS[index % len(SCREENS)][np.newaxis, :, :, ::-1]
            server.send_message(pyigtl.ImageMessage(pixels, device_name="Probe"), wait=False)
            index += 1

    sender = threading.Thread(target=send)
    sender.start()

    def pull() -> None:
        over.set()
        if sender.is_alive():
            sender.join()
            server.stop()

    stack.callback(pull)
    port = server.server_address[1]
    return Source(lambda clock: Igtl(f"igtl://127.0.0.1:{port}", clock), pull)


def camera(_: ExitStack, plug: Callable[[str], Grabber]) -> Source:
    grabber = plug("MJPG 320 240 30")
    return Source(lambda clock: Camera(str(grabber.path), clock), lambda: grabber.tell("gone"))


def scripted(_: ExitStack, __: object) -> Source:
    pulled = threading.Event()

    def script() -> Iterator[Pixels | Unplug]:
        while not pulled.is_set():
            yield from SCREENS
        while True:
            yield Unplug()

    return Source(lambda clock: Scripted(script(), live=True, clock=clock), pulled.set)


def reconnecting(stack: ExitStack, plug: object) -> Source:
    its = scripted(stack, plug)
    return Source(lambda clock: Reconnecting(lambda: its.open(clock), clock), its.pull)


SOURCES: dict[str, Callable[[ExitStack, Callable[[str], Grabber]], Source]] = {
    "http": http,
    "http apart": http_apart,
    "rtsp": rtsp_source,
    "igtl": igtl,
    "camera": camera,
    "scripted": scripted,
    "reconnecting": reconnecting,
}


def read(device: CaptureDevice, count: int) -> list[Frame]:
    """So many frames, each of which may be late."""
    frames: list[Frame] = []
    end = time.monotonic() + 120
    while len(frames) < count and time.monotonic() < end:
        with suppress(DeviceStalled):
            frames.append(device.read(1.0))
    return frames


def test_live_frames_are_counted_and_their_stamps_rise(source: Source) -> None:
    ahead = 1e6
    with source.open(lambda: time.monotonic() + ahead) as device:
        assert device.live
        assert 1 <= device.fps <= MAX_RATE
        frames = read(device, 5)
    assert [frame.index for frame in frames] == list(range(5))
    stamps = [frame.captured_at for frame in frames]
    assert stamps == sorted(stamps)
    assert stamps[0] > ahead
    assert [frame.timestamp for frame in frames] == stamps
    for frame in frames:
        check_pixels(frame.pixels)


def test_a_source_that_goes_is_a_loss_within_a_second(source: Source, within: Within) -> None:
    with source.open(time.monotonic) as device:
        read(device, 3)
        source.pull()
        began = time.monotonic()
        with pytest.raises(DeviceLost) as lost:
            read(device, 1_000_000)
        assert time.monotonic() - began < within(1.0)
    assert "\n" not in str(lost.value)


def test_a_live_device_leaves_nothing_open(source: Source) -> None:
    counts = []
    for _ in range(4):
        device = source.open(time.monotonic)
        read(device, 2)
        device.close()
        device.close()
        counts.append((entries("fd"), threading.active_count()))
    # A server in this process may still be putting away its end of a connection.
    assert counts[-1][0] <= counts[0][0] + 2
    assert counts[-1][1] <= counts[0][1] + 2


def test_a_device_that_is_closed_gives_no_frame(source: Source) -> None:
    device = source.open(time.monotonic)
    read(device, 1)
    device.close()
    with pytest.raises(DeviceLost):
        device.read(1.0)


def test_closing_ends_a_read_in_another_thread(source: Source, within: Within) -> None:
    device = source.open(time.monotonic)
    begun, ended = threading.Event(), threading.Event()

    def reading() -> None:
        with suppress(DeviceLost):
            while True:
                with suppress(DeviceStalled):
                    device.read(1.0)
                begun.set()
        ended.set()

    thread = threading.Thread(target=reading, daemon=True)
    thread.start()
    assert begun.wait(60)
    device.close()
    assert ended.wait(within(1.5))
    thread.join()
