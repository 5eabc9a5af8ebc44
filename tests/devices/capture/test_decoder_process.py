"""Foreign bytes are decoded in a process of their own, which gives the same and may crash."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import BadInput, CaptureDevice, DeviceLost, DeviceStalled, EndOfRecording, Frame
from devices.capture import decoder_process, device_opener, open_device
from devices.capture.reconnecting import Reconnecting
from tests.devices.capture.dicom_files import write_jpegs

GREYS = [np.full((40, 60), 6 * number, np.uint8) for number in range(40)]


def apart(source: object) -> CaptureDevice:
    return device_opener(str(source), apart=True)()


def decoders(parent: int | None = None) -> list[int]:
    """The decoding processes that a process has started, by default this one."""
    made_by = parent or os.getpid()
    processes = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    children = [each for each in processes if parent_of(each) == made_by]
    return [each for each in children if b"decoder_process" in command_line(each)]


def parent_of(process: int) -> int | None:
    with suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def command_line(process: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def frames_of(device: CaptureDevice) -> Iterator[Frame]:
    with suppress(EndOfRecording):
        while True:
            yield device.read(5.0)


def facts(frame: Frame) -> tuple[object, ...]:
    place = (frame.index, frame.timestamp, frame.name, frame.recording, frame.region)
    return (*place, frame.pixels.shape, frame.pixels.tobytes())


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Its header makes no sense in one place, of which the device has a note."""
    return write_jpegs(tmp_path / "clip.dcm", GREYS, FrameTime=0.04)


def test_a_source_is_the_same_in_a_process_of_its_own(
    make_video: Callable[..., Path], tmp_path: Path, clip: Path
) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    for number, side in enumerate((40, 64, 40)):  # the size changes between two pictures
        cv2.imwrite(str(folder / f"{number}.png"), np.full((side, side, 3), number, np.uint8))
    write_jpegs(folder / "x.dcm", GREYS[:3], FrameTime=0.04)
    for source in (make_video("a.mp4", frames=30), clip, folder, folder / "1.png"):
        with open_device(str(source)) as device, apart(source) as same:
            assert (same.live, same.fps, same.region) == (device.live, device.fps, device.region)
            assert dict(same.notes) == dict(device.notes)
            for inside, outside in zip(frames_of(device), frames_of(same), strict=True):
                assert facts(inside) == facts(outside)
            assert dict(same.notes) == dict(device.notes)
            assert same.damaged == device.damaged
    assert decoders() == []


def test_what_is_no_source_is_refused_with_the_same_line(tmp_path: Path, clip: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff\n.mp4")
    odd.write_text("no video")
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(clip.read_bytes()[:-2000])
    for source in (odd, cut, "http://user:secret@127.0.0.1:1/live?key=secret"):
        with pytest.raises((BadInput, DeviceLost)) as inside:
            open_device(str(source))
        with pytest.raises(type(inside.value)) as outside:
            apart(source)
        assert str(outside.value) == str(inside.value)


def test_a_record_and_a_simulation_stay_in_the_session() -> None:
    with device_opener("phantom:?frames=1", apart=True)():
        assert decoders() == []


def test_a_picture_that_somebody_holds_is_never_painted_over(clip: Path) -> None:
    with apart(clip) as device:
        held = list(frames_of(device))
    levels = [round(float(frame.pixels.mean())) for frame in held]
    with open_device(str(clip)) as device:
        assert levels == [round(float(frame.pixels.mean())) for frame in frames_of(device)]


def test_pictures_that_nobody_holds_leave_few_slots(clip: Path) -> None:
    with apart(clip) as device:
        addresses = Counter(frame.pixels.ctypes.data for frame in frames_of(device))
    assert len(addresses) <= decoder_process.FRAMES_AHEAD + 2


def test_a_decoder_that_crashes_is_the_end_of_a_recording(clip: Path) -> None:
    with apart(clip) as device:
        device.read(5.0)
        os.kill(decoders()[0], signal.SIGSEGV)
        with pytest.raises(BadInput, match=r"clip\.dcm: the decoder crashed \(SIGSEGV; at most"):
            list(frames_of(device))


def test_a_decoder_that_hangs_is_the_end_of_a_recording(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_process, "DECODER_ANSWER_SECONDS", 2.0)
    with apart(clip) as device:
        device.read(5.0)
        os.kill(decoders()[0], signal.SIGSTOP)
        with pytest.raises(BadInput, match=r"clip\.dcm: the decoder did not answer for 2 s"):
            list(frames_of(device))
    assert decoders() == []


def test_a_recording_that_hangs_as_it_is_opened_is_refused(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_process, "DECODER_ANSWER_SECONDS", 0.5)
    receive = decoder_process.DecoderProcess._receive

    def stopped(self: decoder_process.DecoderProcess) -> decoder_process.DecoderAnswer:
        os.kill(decoders()[0], signal.SIGSTOP)
        return receive(self)

    monkeypatch.setattr(decoder_process.DecoderProcess, "_receive", stopped)
    with pytest.raises(BadInput, match=r"clip\.dcm: the decoder did not answer for 0\.5 s"):
        apart(clip)
    assert decoders() == []


def test_a_decoder_that_needs_too_much_memory_is_refused(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video("large.mp4", frames=3, width=2560, height=1440)
    monkeypatch.setattr(decoder_process, "DECODER_MEMORY", 48 << 20)
    with pytest.raises(BadInput, match=r"large\.mp4: "), apart(video) as device:
        list(frames_of(device))
    assert decoders() == []


def test_the_limits_are_those_of_the_decoder_alone(clip: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with apart(clip):
        limits = Path(f"/proc/{decoders()[0]}/limits").read_text().splitlines()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    words = {line[:26].strip(): line[26:].split()[0] for line in limits}
    assert words["Max data size"] == str(decoder_process.DECODER_MEMORY)
    assert words["Max core file size"] == "0"


def test_a_message_that_makes_no_sense_ends_the_decoder(clip: Path) -> None:
    device = apart(clip)
    assert isinstance(device, decoder_process.DecoderProcess)
    link = device._socket
    for message in (b"{", b'{"picture":{}}', b"{}", b'{"refusal":{"kind":"X","line":"\xc4\x80"}}'):
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        device._socket = ours
        with ours, theirs:
            theirs.send(message)
            with pytest.raises(BadInput, match=r"clip\.dcm: the decoder (makes no sense|failed)"):
                device.read(1.0)
    assert device._process.wait() == -signal.SIGKILL
    device._socket = link
    device.close()


HOLDER = """
import sys, time
from devices.capture import device_opener
device = device_opener(sys.argv[1], apart=True)()
device.read(5.0)
print("open", flush=True)
time.sleep(600)
"""


def test_the_decoder_ends_with_a_process_that_is_killed(clip: Path) -> None:
    shared = set(Path("/dev/shm").iterdir())
    words = [sys.executable, "-c", HOLDER, str(clip)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        decoder = decoders(holder.pid)[0]
        os.kill(decoder, signal.SIGSTOP)  # as one that is busy, and asks for nothing
        holder.kill()
        holder.wait()
        os.kill(decoder, signal.SIGCONT)
    end = time.monotonic() + 120
    while command_line(decoder):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert set(Path("/dev/shm").iterdir()) <= shared


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGSEGV, "the decoder crashed"), (signal.SIGSTOP, "the decoder did not answer")],
)
def test_a_stream_whose_decoder_crashes_or_hangs_is_opened_again(
    number: signal.Signals, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av", reason="needs PyAV, the extra `stream`")
    from tests.devices.capture.servers import grey, live, serving

    if number == signal.SIGSTOP:
        monkeypatch.setattr(decoder_process, "DECODER_ANSWER_SECONDS", 5.0)
    with serving(live(*map(grey, (50, 100, 150)))) as address:
        source = f"http://user:hunter2@{address}?key=hunter3"
        with Reconnecting(device_opener(source, apart=True)) as device:
            assert device.live
            index = read_one(device).index
            decoder = decoders()[0]
            assert b"hunter" not in command_line(decoder)
            os.kill(decoder, number)
            with pytest.raises(DeviceLost, match=said) as lost:
                list(frames_of(device))
            assert "hunter" not in str(lost.value)
            assert read_one(device).index > index
            assert decoders() != [decoder]


def read_one(device: CaptureDevice) -> Frame:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with suppress(DeviceStalled):
            return device.read(1.0)
    raise TimeoutError
