"""Network streams, from real servers on this machine: MJPEG over HTTP, and RTSP."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, CaptureDevice, DeviceLost, DeviceStalled
from devices.capture.phantom import Phantom
from devices.capture.reconnecting import Reconnecting
from devices.capture.stream import (
    BACKLOG_FRAMES,
    LIVE_WAIT_SECONDS,
    MAX_DAMAGED,
    Backlog,
    Stream,
)
from tests.conftest import Within
from tests.devices.capture.conftest import entries, resident
from tests.devices.capture.proxy import damaging
from tests.devices.capture.servers import (
    H264,
    PERIOD,
    SIDE,
    SOURCE,
    Play,
    Send,
    grey,
    jpeg,
    listening,
    live,
    rtsp,
    serving,
)


def level(stream: CaptureDevice) -> int:
    """The grey of the next frame."""
    return round(float(stream.read(2.0).pixels.mean()))


def levels(stream: CaptureDevice) -> Iterator[int]:
    """The greys of all frames."""
    while True:
        yield level(stream)


@contextmanager
def showing(kind: str, page: bytes) -> Iterator[str]:
    """An HTTP server that answers each with one page; yields host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as host:
        yield host


def once(pictures: list[bytes], then_silent: bool) -> Play:
    """Sends the pictures in their time, and then nothing, or hangs up."""

    def play(send: Send, over: threading.Event) -> None:
        for picture in pictures:
            send(picture)
            if over.wait(PERIOD):
                return
        if then_silent:
            over.wait()

    return play


def test_frames_look_as_they_were_sent() -> None:
    sent = Phantom(width=320, height=240).render(40)
    with serving(live(jpeg(sent))) as address, Stream(f"http://{address}") as stream:
        frames = [stream.read(2.0) for _ in range(3)]
    assert stream.live
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[0].pixels.dtype == np.uint8
    assert np.abs(frames[0].pixels.astype(int) - sent).mean() < 2


def test_blue_comes_first() -> None:
    blue = np.full((SIDE, SIDE, 3), (200, 60, 20), np.uint8)
    with serving(live(jpeg(blue))) as address, Stream(f"http://{address}") as stream:
        pixels = stream.read(2.0).pixels
    assert pixels.mean(axis=(0, 1)) == pytest.approx([200, 60, 20], abs=4)


def test_frames_are_stamped_with_the_clock_that_was_given() -> None:
    with (
        serving(live(grey(9))) as address,
        Stream(f"http://{address}", clock=lambda: time.monotonic() + 1e6) as stream,
    ):
        frames = [stream.read(2.0) for _ in range(3)]
    stamps = [frame.captured_at for frame in frames]
    assert 1e6 < stamps[0] <= stamps[1] <= stamps[2]  # two may come in one burst
    assert [frame.timestamp for frame in frames] == stamps


def test_a_backlog_is_thrown_away() -> None:
    def play(send: Send, over: threading.Event) -> None:
        for _ in range(30):
            send(grey(10))
        live(grey(200))(send, over)

    with serving(play) as address, Stream(f"http://{address}") as stream:
        assert level(stream) == 200


def test_what_the_line_held_back_is_as_old_as_its_silence() -> None:
    def play(send: Send, over: threading.Event) -> None:
        usual = [PERIOD] * 60  # the backlog of an opening is over by then
        for pause in (*usual, 0.5, *[0.0] * 5, *usual):
            if over.wait(pause):
                return
            send(grey(100 if pause == PERIOD else 200))

    with serving(play) as address, Stream(f"http://{address}") as stream:
        ages: dict[int, list[float]] = {100: [], 200: []}
        while len(ages[200]) < 6 or len(ages[100]) < 80:
            frame = stream.read(2.0)
            shade = 200 if frame.pixels.mean() > 150 else 100
            ages[shade].append(time.monotonic() - frame.captured_at)
    assert min(ages[200]) > 0.4
    assert np.median(ages[100]) < min(ages[200]) / 2


@given(st.lists(st.floats(0, LIVE_WAIT_SECONDS * 0.9), min_size=1, max_size=BACKLOG_FRAMES - 1))
def test_what_is_not_waited_for_is_backlog(waits: list[float]) -> None:
    backlog = Backlog(0.0)
    assert not any(backlog.over(0.0, wait) for wait in waits)


@given(st.lists(st.floats(0, 0.9), min_size=BACKLOG_FRAMES, max_size=BACKLOG_FRAMES + 9))
def test_the_backlog_ends_and_stays_over(waits: list[float]) -> None:
    backlog = Backlog(0.0)
    answers = [backlog.over(0.0, wait) for wait in waits]
    assert answers == sorted(answers)
    assert answers[BACKLOG_FRAMES - 1]


def test_the_backlog_is_over_after_a_second() -> None:
    backlog = Backlog(10.0)
    assert not backlog.over(10.9, 10.9)
    assert backlog.over(11.0, 11.0)


def test_a_burst_that_had_to_be_waited_for_is_backlog() -> None:
    backlog = Backlog(0.0)
    waits = [0.2, 0.0, 0.0, 0.05, 0.05]
    assert [backlog.over(0.0, wait) for wait in waits] == [False] * 4 + [True]


def test_a_stream_that_ends_is_lost() -> None:
    play = once([grey(9)] * 10, then_silent=False)
    with (
        serving(play) as address,
        Stream(f"http://{address}") as stream,
        pytest.raises(DeviceLost, match=r"ended|broken off"),
    ):
        list(levels(stream))


def test_silence_is_a_loss_within_a_second(within: Within) -> None:
    silent: list[float] = []

    def play(send: Send, over: threading.Event) -> None:
        once([grey(10)] * 12, then_silent=False)(send, over)
        silent.append(time.monotonic())
        over.wait()

    with serving(play) as address, Stream(f"http://{address}") as stream:
        with pytest.raises(DeviceLost, match=r"silent for 0.8 s"):
            list(levels(stream))
        assert time.monotonic() - silent[0] < within(1.0)
        with pytest.raises(DeviceLost, match="closed"):
            level(stream)


def test_a_slow_camera_is_not_a_silent_one() -> None:
    def play(send: Send, over: threading.Event) -> None:
        for number in range(9):
            send(grey(20 * number, 1280))
            if over.wait(1.2):
                return

    with serving(play) as address, Stream(f"http://{address}") as stream:
        assert len({level(stream) for _ in range(2)}) == 2


def test_a_server_that_only_listens_is_lost_in_time(within: Within) -> None:
    began = time.monotonic()
    silent = serving(once([], then_silent=True))
    with silent as address, pytest.raises(DeviceLost, match="no answer"):
        Stream(f"http://{address}")
    assert time.monotonic() - began < within(4)


def test_where_nobody_serves_the_device_is_lost() -> None:
    with serving(live(grey(9))) as address:
        pass
    for scheme in ("http", "rtsp"):
        with pytest.raises(DeviceLost, match="refused"):
            Stream(f"{scheme}://{address}")


@pytest.mark.parametrize(
    "uri",
    ["http://", "rtsp:///live", "http://host:port/", "http://[", "ftp://host/live", "rtsp:live"],
)
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(BadInput, match="no address"):
        Stream(uri)


def test_a_wrong_path_is_refused() -> None:
    with serving(live(grey(9))) as address, pytest.raises(BadInput, match="404"):
        Stream(f"http://{address}/elsewhere")


def test_a_page_without_video_is_refused() -> None:
    page = showing("text/html", b"<html>Welcome to your scanner.</html>" * 99)
    with page as host, pytest.raises(BadInput, match="Invalid data"):
        Stream(f"http://{host}")


@pytest.mark.parametrize(
    ("codec", "reason"), [(b"MJPG", None), (b"zzzz", "no decoder for the video in this stream")]
)
def test_a_video_that_nothing_decodes_is_refused(
    codec: bytes, reason: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (SIDE, SIDE))
    writer.write(np.zeros((SIDE, SIDE, 3), np.uint8))
    writer.release()
    content = path.read_bytes().replace(b"MJPG", codec)
    refused = pytest.raises(BadInput, match=reason) if reason else nullcontext()
    with showing("video/x-msvideo", content) as host, refused:
        Stream(f"http://{host}").close()


def test_an_answer_cannot_open_a_port_of_this_machine() -> None:
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=a", "c=IN IP4 127.0.0.1", "t=0 0"]
    text = "\n".join([*lines, "m=video 5004 RTP/AVP 26", ""])
    page = showing("application/sdp", text.encode())
    with page as host, pytest.raises(BadInput, match="Invalid data"):
        Stream(f"http://{host}/live.sdp")


def test_a_size_that_changes_gives_frames_of_the_new_size() -> None:
    def play(send: Send, over: threading.Event) -> None:
        once([grey(9)] * 8, then_silent=False)(send, over)
        live(grey(9, 2 * SIDE))(send, over)

    with serving(play) as address, Stream(f"http://{address}") as stream:
        sides = [stream.read(2.0).pixels.shape[0] for _ in range(12)]
    assert set(sides) == {SIDE, 2 * SIDE}
    assert sides == sorted(sides)


def test_a_size_that_is_refused_is_refused() -> None:
    with (
        serving(live(grey(9, 8))) as address,
        Stream(f"http://{address}") as stream,
        pytest.raises(BadInput, match="8 x 8 pixels are too few"),
    ):
        stream.read(2.0)


def test_damaged_pictures_are_passed_over_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    cut = jpeg(noise)[:1500]
    sent = live(grey(40), grey(40), cut, b"no picture")
    with serving(sent) as address, Stream(f"http://{address}") as stream:
        assert {level(stream) for _ in range(10)} == {40}
        assert stream.damaged >= 6
    assert capfd.readouterr().err == ""


def test_nothing_but_damage_is_a_loss() -> None:
    play = once([grey(9)] * 4 + [b"no picture"] * 2 * MAX_DAMAGED, then_silent=True)
    with (
        serving(play) as address,
        Stream(f"http://{address}") as stream,
        pytest.raises(DeviceLost, match=f"{MAX_DAMAGED} damaged packets in a row"),
    ):
        list(levels(stream))


def test_no_error_tells_the_password() -> None:
    def play(send: Send, over: threading.Event) -> None:
        once([grey(9)] * 12, then_silent=False)(send, over)

    with serving(play) as address:
        secret = f"http://me:hunter2@{address}?pwd=hunter2"
        with Stream(secret) as stream, pytest.raises(DeviceLost) as ended:
            list(levels(stream))
        with pytest.raises(BadInput) as missing:
            Stream(secret.replace("/live", "/none"))
    with pytest.raises(DeviceLost) as refused:
        Stream(secret)
    for error in (ended, missing, refused):
        assert "hunter2" not in str(error.getrepr(style="short"))
        assert address.partition("/")[0] in str(error.value)


def test_a_stream_that_was_closed_gives_no_frame() -> None:
    with serving(live(grey(9))) as address:
        stream = Stream(f"http://{address}")
        stream.close()
        stream.close()
        with pytest.raises(DeviceLost, match="closed"):
            stream.read(2.0)


def test_closing_does_not_wait_for_a_read_that_waits(within: Within) -> None:
    silent = threading.Event()

    def play(send: Send, over: threading.Event) -> None:
        once([grey(9)] * 12, then_silent=False)(send, over)
        silent.set()
        over.wait()

    with serving(play) as address:
        stream = Stream(f"http://{address}")
        files = entries("fd")
        errors: list[Exception] = []

        def read() -> None:
            try:
                list(levels(stream))
            except DeviceLost as error:
                errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert silent.wait(60.0)
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < within(0.5)
        thread.join(60.0)
        assert not thread.is_alive()
        assert len(errors) == 1
        assert entries("fd") == files - 1


def test_opening_200_times_leaves_nothing_behind() -> None:
    def visit(address: str, frames: int) -> None:
        with Stream(f"http://{address}") as stream:
            for _ in range(frames):
                stream.read(2.0)

    with serving(live(grey(9, 256))) as address:
        for _ in range(10):
            visit(address, frames=1)
    threads, files, memory = entries("task"), entries("fd"), resident()
    with serving(live(grey(9, 256))) as address:
        for number in range(200):
            visit(address, frames=number % 40 == 0)
    until = time.monotonic() + 60
    while entries("task") > threads and time.monotonic() < until:  # a decoder's thread may yet end
        time.sleep(0.05)
    assert entries("task") <= threads
    assert entries("fd") <= files
    assert resident() - memory < 4_000_000


JPEG = SOURCE + "framerate=25/1 ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"


# GStreamer puts video's narrow range of levels into JPEG, which knows none.
@pytest.mark.parametrize(
    ("launch", "red"), [(H264, (0, 0, 255)), (JPEG, (13, 14, 238))], ids=["h264", "jpeg"]
)
def test_rtsp_frames_look_as_they_were_sent(launch: str, red: tuple[int, int, int]) -> None:
    with rtsp(launch) as (uri, _), Stream(uri) as stream:
        frames = [stream.read(2.0) for _ in range(3)]
    assert frames[-1].pixels.shape == (240, 320, 3)
    assert frames[-1].pixels.mean(axis=(0, 1)) == pytest.approx(red, abs=4)
    assert stream.damaged == 0


def test_the_first_key_frame_is_not_missed(within: Within) -> None:
    with rtsp(H264.replace("key-int-max=25", "key-int-max=100000")) as (uri, _):
        began = time.monotonic()
        with Stream(uri) as stream:
            stream.read(2.0)
    assert time.monotonic() - began < within(3)  # another key frame never comes


def test_an_rtsp_server_that_is_killed_is_lost_in_time(within: Within) -> None:
    with rtsp(H264) as (uri, server), Stream(uri) as stream:
        stream.read(2.0)
        server.kill()
        began = time.monotonic()
        with pytest.raises(DeviceLost, match=r"ended|broken off"):
            list(levels(stream))
    assert time.monotonic() - began < within(3)


def test_an_rtsp_server_that_falls_silent_is_lost_and_nothing_old_comes(within: Within) -> None:
    stamps: list[float] = []

    def read_on(stream: Stream) -> None:
        while True:
            stamps.append(stream.read(2.0).captured_at)

    with rtsp(H264) as (uri, server), Stream(uri) as stream:
        for _ in range(8):
            stream.read(2.0)
        server.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        with pytest.raises(DeviceLost, match=r"silent for 0.8 s"):
            read_on(stream)
        assert time.monotonic() - stopped < within(1.1)
        assert not stamps or stamps[-1] - stopped < 0.3


def test_a_wrong_rtsp_path_is_refused() -> None:
    with rtsp(H264) as (uri, _), pytest.raises(BadInput, match="404"):
        Stream(uri + "/elsewhere")


def test_rtsp_opened_again_and_again_leaves_nothing_behind() -> None:
    with rtsp(JPEG) as (uri, _):
        counts = []
        for _ in range(8):
            with Stream(uri) as stream:
                stream.read(2.0)
            counts.append((entries("task"), entries("fd")))
    assert len(set(counts)) == 1


def test_a_server_that_comes_back_otherwise_is_read_as_it_is_now() -> None:
    """Another codec, another size, another rate."""
    with rtsp(H264) as (uri, server):
        device = Reconnecting(lambda: Stream(uri))
        before = device.read(2.0)
        server.kill()
        with pytest.raises(DeviceLost):
            list(levels(device))
    other = JPEG.replace("width=320,height=240", "width=640,height=480").replace("25/1", "10/1")
    with rtsp(other, port=str(urlsplit(uri).port)), device:
        after = None
        for _ in range(30):
            with suppress(DeviceStalled):
                after = device.read(1.0)
                break
    assert before.pixels.shape == (240, 320, 3)
    assert after is not None
    assert after.pixels.shape == (480, 640, 3)
    assert after.index > before.index


@contextmanager
def mjpeg() -> Iterator[str]:
    """A moving picture over HTTP; yields its URI."""
    phantom = Phantom(width=320, height=240)
    with serving(live(*(jpeg(phantom.render(index)) for index in range(10)))) as address:
        yield f"http://{address}"


@contextmanager
def rtsp_uri(launch: str) -> Iterator[str]:
    with rtsp(launch.replace("pattern=red", "pattern=ball")) as (uri, _):
        yield uri


@pytest.mark.parametrize(
    ("served", "share"),
    [(mjpeg, 0.01), (partial(rtsp_uri, JPEG), 0.02), (partial(rtsp_uri, H264), 0.02)],
    ids=["http", "rtsp-jpeg", "rtsp-h264"],
)
def test_a_bad_line_gives_whole_pictures_or_a_loss(
    served: Callable[[], AbstractContextManager[str]],
    share: float,
    capfd: pytest.CaptureFixture[str],
    within: Within,
) -> None:
    frames = 0
    with (
        served() as uri,
        damaging(urlsplit(uri).port or 0, share, after=50_000) as port,
        Reconnecting(lambda: Stream(f"{uri.partition(':')[0]}://127.0.0.1:{port}/live")) as device,
    ):
        end = time.monotonic() + 1.5
        while (began := time.monotonic()) < end:
            with suppress(DeviceLost, DeviceStalled):
                frames += device.read(1.0).pixels.shape == (240, 320, 3)
            assert time.monotonic() - began < within(1.5)
    assert frames > 10
    assert capfd.readouterr().err == ""


def test_a_boundary_may_follow_its_picture() -> None:
    """Each is handed out when the next one begins, and stamped when it began itself."""
    pictures = [grey(level) for level in range(20, 240, 20)]
    with serving(live(*pictures), trailing=True) as address, Stream(f"http://{address}") as stream:
        frames = [stream.read(2.0) for _ in range(8)]
        asked = time.monotonic()
        frame = stream.read(2.0)
    greys = [round(float(frame.pixels.mean())) for frame in frames]
    steps = {(after - before) % 220 for before, after in pairwise(greys)}
    assert all(min(abs(step - 20), 220 - abs(step - 20)) <= 2 for step in steps)
    assert frame.captured_at < asked + PERIOD / 2


def test_a_page_is_still_no_stream() -> None:
    def page(send: Send, over: threading.Event) -> None:
        send(b"<html>no camera</html>")

    with serving(page, trailing=True) as address, pytest.raises((BadInput, DeviceLost)):
        Stream(f"http://{address}").read(1.0)
