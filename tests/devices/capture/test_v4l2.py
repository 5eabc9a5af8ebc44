"""Which mode of a V4L2 device is taken, and what the kernel is asked."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, HardwareMissing
from devices.capture.v4l2 import Mode, ModeRequest, choose_mode, offered_modes
from tests.devices.capture.conftest import Grabber

SIZES = st.sampled_from([(160, 120), (640, 480), (1280, 720), (1920, 1080), (3840, 2160)])
RATES = st.sampled_from([0.0, 5.0, 24.0, 25.0, 29.97, 30.0, 60.0])
FOURCCS = st.sampled_from(["YUYV", "UYVY", "MJPG"])
MODES = st.builds(lambda code, size, fps: Mode(code, size[0], size[1], fps), FOURCCS, SIZES, RATES)
REQUESTS = st.builds(ModeRequest, st.none() | SIZES, st.none() | RATES, st.none() | FOURCCS)


@given(st.lists(MODES, max_size=12), REQUESTS)
def test_what_is_chosen_is_offered_and_asked_for(modes: list[Mode], asked: ModeRequest) -> None:
    if any(asked.allows(mode) for mode in modes):
        chosen = choose_mode(modes, asked)
        assert chosen in modes
        assert asked.allows(chosen)
    else:
        with pytest.raises(BadInput, match=r"^it does not offer that; it has .+$"):
            choose_mode(modes, asked)


@given(st.permutations([Mode("MJPG", 1280, 720, 30), Mode("YUYV", 1280, 720, 10)]), REQUESTS)
def test_the_order_in_which_modes_are_offered_means_nothing(
    modes: list[Mode], asked: ModeRequest
) -> None:
    try:
        chosen = choose_mode(modes, asked)
    except BadInput:
        return
    assert chosen == choose_mode(sorted(modes), asked)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (Mode("YUYV", 640, 480, 30), Mode("MJPG", 640, 480, 30)),
        (Mode("MJPG", 1280, 720, 30), Mode("YUYV", 1280, 720, 10)),
        (Mode("MJPG", 1280, 720, 30), Mode("YUYV", 640, 480, 30)),
        (Mode("MJPG", 1280, 720, 30), Mode("MJPG", 1920, 1080, 30)),
        (Mode("MJPG", 1280, 720, 30), Mode("MJPG", 1280, 720, 60)),
        (Mode("MJPG", 640, 480, 25), Mode("YUYV", 1280, 720, 15)),
        (Mode("YUYV", 640, 480, 15), Mode("YUYV", 160, 120, 30)),
        (Mode("YUYV", 1920, 1080, 30), Mode("YUYV", 160, 120, 30)),
    ],
)
def test_the_better_mode_is_taken(better: Mode, worse: Mode) -> None:
    assert choose_mode([worse, better], ModeRequest()) == better


def test_a_refusal_tells_what_there_is() -> None:
    modes = [Mode("YUYV", 640, 480, 30), Mode("MJPG", 1280, 720, 29.97)]
    with pytest.raises(BadInput, match=r"1280x720 at 30 frames/s, mjpeg; 640x480 at 30.*yuyv$"):
        choose_mode(modes, ModeRequest(size=(800, 600)))
    with pytest.raises(BadInput, match="none of mjpeg, yuyv"):
        choose_mode([], ModeRequest())


def test_the_kernel_tells_every_mode(plug: Callable[[str], Grabber]) -> None:
    grabber = plug("YUYV 640 480 30 YUYV 640 480 15 H264 640 480 30 MJPG 1280 720 60")
    assert offered_modes(grabber.path) == [
        ("YUYV", 640, 480, 30),
        ("YUYV", 640, 480, 15),
        ("MJPG", 1280, 720, 60),
    ]


def test_a_range_is_offered_as_what_is_usual_in_it(plug: Callable[[str], Grabber]) -> None:
    modes = offered_modes(plug("RANGE 1280 720 30").path)
    assert {mode[1:3] for mode in modes} == {(640, 480), (720, 576), (800, 600), (1280, 720)}
    assert {mode.fps for mode in modes} == {10, 15, 20, 25, 30}


def test_what_a_driver_does_not_tell_is_what_is_set(plug: Callable[[str], Grabber]) -> None:
    assert offered_modes(plug("MUTE 720 576 25").path) == [("YUYV", 720, 576, 0)]


def test_what_is_no_capture_device_is_missing_hardware(tmp_path: Path) -> None:
    file = tmp_path / "video1"
    file.touch()
    for path, said in (
        (file, "no capture device"),
        (tmp_path, "Is a directory"),
        (tmp_path / "video2", "not there"),
        (Path("a\0b"), "null byte"),
    ):
        with pytest.raises(HardwareMissing, match=said):
            offered_modes(path)
