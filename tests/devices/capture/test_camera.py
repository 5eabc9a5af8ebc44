"""Cameras and grabbers: a V4L2 device of the test's own, through the kernel and OpenCV."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import (
    BadInput,
    CaptureDevice,
    DeviceLost,
    DeviceStalled,
    HardwareMissing,
    NoSignal,
    Pixels,
)
from devices.capture import open_device
from devices.capture.camera import MAX_DAMAGED, Camera, has_signal, parse_camera
from devices.capture.image import read_image
from devices.capture.phantom import Phantom
from devices.capture.reconnecting import Reconnecting
from devices.capture.v4l2 import ModeRequest
from tests.conftest import TN5000, Within
from tests.devices.capture.conftest import Grabber

MODES = "YUYV 640 480 30 YUYV 1280 720 10 MJPG 640 480 60 MJPG 1280 720 30"
Plug = Callable[[str], Grabber]


def step(camera: Camera) -> int:
    """The number of the next picture, which its upper left corner shows."""
    return round(float(camera.read(2.0).pixels[8:56, 8:56].mean()) / 10)


def read_on(device: CaptureDevice, timeout: float) -> None:
    """Until something goes wrong."""
    while True:
        device.read(timeout)


@pytest.mark.parametrize("mode", ["YUYV 640 480 30", "MJPG 640 480 30", "UYVY 640 480 30"])
def test_frames_come_in_their_order_and_their_colours(plug: Plug, mode: str) -> None:
    with open_device(f"v4l2://{plug(mode).path}") as camera:
        assert isinstance(camera, Camera)
        assert camera.live
        assert camera.fps == 30
        steps = [step(camera) for _ in range(4)]
        frame = camera.read(2.0)
    assert steps == sorted(set(steps))
    assert frame.index == 4
    assert frame.pixels.shape == (480, 640, 3)
    blue, green, red = frame.pixels[8:56, 8:56].reshape(-1, 3).mean(axis=0)
    assert max(blue, green, red) - min(blue, green, red) < 3


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ("", ("MJPG", 1280, 720, 30)),
        ("?format=yuyv", ("YUYV", 640, 480, 30)),
        ("?size=1280x720&format=yuyv", ("YUYV", 1280, 720, 10)),
        ("?fps=60", ("MJPG", 640, 480, 60)),
        ("?size=640x480", ("YUYV", 640, 480, 30)),
    ],
)
def test_the_mode_is_what_the_uri_asks_for(
    plug: Plug, query: str, mode: tuple[str, int, int, float]
) -> None:
    with open_device(f"v4l2://{plug(MODES).path}{query}") as camera:
        assert isinstance(camera, Camera)
        assert camera.mode == mode
        assert camera.read(2.0).pixels.shape == (mode[2], mode[1], 3)


def test_a_mode_that_is_not_granted_is_one_line(plug: Plug) -> None:
    grabber = plug(MODES)
    with pytest.raises(BadInput, match=r"video0: it does not offer that; it has 1280x720 at 30"):
        open_device(f"v4l2://{grabber.path}?size=1920x1080")


def test_a_driver_that_gives_another_mode_than_it_offers_is_refused(plug: Plug) -> None:
    with pytest.raises(BadInput, match=r"asked for 1280x720 .* it gives 640x480"):
        open_device(f"v4l2://{plug('MUTE 640 480 25 LIE 1280 720 25').path}?size=1280x720")


@pytest.mark.parametrize(
    "query", ["?size=big", "?size=3x4x5", "?fps=fast", "?format=h264", "?colour=1", "?size="]
)
def test_what_is_no_mode_is_refused(query: str) -> None:
    with pytest.raises(BadInput, match="v4l2:///dev/video0"):
        parse_camera(f"v4l2:///dev/video0{query}")


@given(st.text(max_size=30))
def test_any_uri_is_a_mode_or_refused(text: str) -> None:
    try:
        _, request = parse_camera(f"v4l2:///dev/video0?{text}")
    except BadInput:
        return
    assert isinstance(request, ModeRequest)


def test_silence_is_a_stall_after_the_time_out(plug: Plug, within: Within) -> None:
    grabber = plug(MODES)
    with Camera(str(grabber.path)) as camera:
        camera.read(2.0)
        grabber.tell("silent")
        with pytest.raises(DeviceStalled, match="no picture in time"):
            read_on(camera, 0.3)
        began = time.monotonic()
        with pytest.raises(DeviceStalled):
            camera.read(0.3)
        assert 0.25 < time.monotonic() - began < within(0.6)
        grabber.tell("live")
        camera.read(2.0)


@pytest.mark.parametrize("mode", ["YUYV 640 480 30", "MJPG 640 480 30"])
@pytest.mark.parametrize("made_up", ["blue", "bars"])
def test_a_grabbers_own_picture_is_none(plug: Plug, mode: str, made_up: str) -> None:
    grabber = plug(mode)
    with Camera(str(grabber.path)) as camera:
        camera.read(2.0)
        grabber.tell(made_up)
        with pytest.raises(NoSignal, match="a test picture"):
            read_on(camera, 2.0)
        with pytest.raises(NoSignal, match="a test picture"):
            camera.read(2.0)


@pytest.mark.parametrize("damage", ["cut", "holed"])
def test_damaged_pictures_are_no_pictures(
    plug: Plug, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    grabber = plug("MJPG 640 480 60")
    with Camera(str(grabber.path)) as camera:
        camera.read(2.0)
        grabber.tell(damage)
        with pytest.raises(DeviceLost, match=f"{MAX_DAMAGED} damaged pictures in a row"):
            read_on(camera, 5.0)
        assert camera.damaged == MAX_DAMAGED
    assert capfd.readouterr().err == ""


def test_another_size_is_a_loss_and_then_the_new_size(plug: Plug) -> None:
    grabber = plug("MJPG 640 480 30")
    with Camera(str(grabber.path)) as camera:
        camera.read(2.0)
        grabber.tell("other")
        with pytest.raises(DeviceLost, match="now gives 320x240 instead of 640x480"):
            read_on(camera, 2.0)


def test_a_cable_that_is_pulled_is_a_loss_and_put_back_a_frame(plug: Plug, within: Within) -> None:
    grabber = plug(MODES)
    with Reconnecting(lambda: Camera(str(grabber.path))) as device:
        before = device.read(2.0)
        grabber.tell("gone")
        began = time.monotonic()
        with pytest.raises(DeviceLost, match="gone; is it still plugged in"):
            read_on(device, 1.0)
        assert time.monotonic() - began < within(1.0)
        grabber.tell("live")
        after = None
        while after is None and time.monotonic() < began + 120:
            try:
                after = device.read(1.0)
            except DeviceStalled:
                continue
    assert after is not None
    assert after.index > before.index


def test_closing_ends_a_read_in_another_thread(plug: Plug, within: Within) -> None:
    grabber = plug(MODES)
    camera = Camera(str(grabber.path))
    camera.read(2.0)
    grabber.tell("silent")
    raised: list[Exception] = []

    def read() -> None:
        try:
            read_on(camera, 60.0)
        except DeviceLost as error:
            raised.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(0.2)
    began = time.monotonic()
    camera.close()
    reader.join(60.0)
    assert time.monotonic() - began < within(0.5)
    assert len(raised) == 1
    camera.close()


def test_a_driver_that_blocks_for_ever_does_not_keep_a_session_from_its_end(
    plug: Plug, monkeypatch: pytest.MonkeyPatch, within: Within
) -> None:
    """A read that hangs in the driver holds the camera, and no signal reaches it."""
    monkeypatch.setattr("devices.capture.camera.BLOCKED_AFTER", 0.2)
    camera = Camera(str(plug(MODES).path))
    camera.read(2.0)
    began = time.monotonic()
    with camera._busy:
        camera.close()
    assert time.monotonic() - began < within(1.0)
    with pytest.raises(DeviceLost, match="closed"):
        camera.read(1.0)
    camera.close()


def test_a_camera_that_is_not_there_is_missing_hardware() -> None:
    with pytest.raises(HardwareMissing, match="not there"):
        Camera("/dev/video97")


def bars(count: int) -> Pixels:
    colours = np.random.default_rng(count).integers(0, 256, (count, 3), dtype=np.uint8)
    return np.repeat(colours[np.arange(640) * count // 640][np.newaxis], 480, axis=0)


@settings(max_examples=50)
@given(st.integers(1, 16), st.integers(0, 3), st.booleans())
def test_bars_and_noise_and_a_word_are_no_signal(count: int, noise: int, word: bool) -> None:
    dice = np.random.default_rng(count)
    screen = np.clip(
        bars(count).astype(int) + dice.integers(-noise, noise + 1, (480, 640, 3)), 0, 255
    )
    if word:
        screen[200:230, 280:380] = 255 * dice.integers(0, 2, (30, 100, 1))
    assert not has_signal(screen.astype(np.uint8))


@pytest.mark.parametrize("seed", range(3))
def test_the_probe_is_a_signal(seed: int) -> None:
    phantom = Phantom(seed=seed, width=640, height=480, live=False)
    for index in range(0, 500, 50):
        screen = phantom.render(index)
        assert has_signal(screen)
        small = np.zeros((480, 640), np.uint8)
        small[200:310, 200:350] = screen[100:320:2, 150:450:2, 0]
        assert has_signal(small)


@pytest.mark.skipif(not TN5000.is_dir(), reason=f"needs {TN5000}")
def test_real_screens_are_signals() -> None:
    paths = sorted(TN5000.rglob("*.jpg"))[::50]
    assert paths
    assert [path.name for path in paths if not has_signal(read_image(path))] == []
