"""Scripts as people write them, and the ones in the package."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, DeviceLost, DeviceStalled, EndOfRecording, Pixels
from devices.capture import device_opener, open_device
from devices.capture.reconnecting import Reconnecting
from devices.capture.script import SCRIPTS_FOLDER, WORDS, find_script, parse_script, play_script
from devices.capture.scripted import SizeChange, Stall, Torn, Unplug


def ticking() -> Iterator[float]:
    """Moments a twentieth of a second apart: nobody waits for the probe."""
    now = 0.0
    while True:
        yield now
        now += 0.05


def test_commas_and_lines_are_the_same_and_comments_are_none() -> None:
    written = "frames 2, stall 0.5 # a pause\n\n  size 320x240  ,unplug\n# frames 9\nblack 1,"
    assert parse_script(written) == (
        ("frames", 2),
        ("stall", 0.5),
        ("size", SizeChange(320, 240)),
        ("unplug", None),
        ("black", 1),
    )


def test_each_step_plays_what_it_says() -> None:
    clock = ticking()
    steps = parse_script("frames 2, still 2, black 2, torn 2, stall 3, size 64x48, unplug")
    lines = list(play_script(steps, lambda: next(clock)))
    events = [line for line in lines if not isinstance(line, np.ndarray)]
    assert events == [Torn(0), Torn(1), Stall(3), SizeChange(64, 48), Unplug()]
    pictures: list[Pixels] = [line for line in lines if isinstance(line, np.ndarray)]
    assert len(pictures) == 8
    assert not np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[2], pictures[3])
    assert [bool(its.any()) for its in pictures] == [True] * 4 + [False] * 2 + [True] * 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it says nothing"),
        ("# frames 4", "it says nothing"),
        ("none.txt", "no file, and none of frames, still"),
        ("frames 4\ndance", "line 2: 'dance'"),
        ("frames", "write it like 'frames 40'"),
        ("frames -1", "write it like 'frames 40'"),
        ("frames 9999999999", "write it like 'frames 40'"),
        ("stall nan", "write it like 'stall 0.5'"),
        ("stall 0", "write it like 'stall 0.5'"),
        ("size 320", "write it like 'size 320x240'"),
        ("size 4x4", "4 x 4 pixels are too few"),
        ("size 99999x99999", "too many"),
        ("unplug 3", "write it like 'unplug'"),
    ],
)
def test_what_is_no_script_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        device_opener(f"script:{text}")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@given(st.text("0123456789.,x# \nabcefiklmnrstuz", max_size=60) | st.text(max_size=30))
def test_any_text_is_a_script_or_refused(text: str) -> None:
    with suppress(BadInput):
        assert {step.word for step in parse_script(text)} <= set(WORDS)


def test_a_script_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("unplug")
    assert find_script(str(path)) == "unplug"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"mine.txt: not a script"):
        find_script(str(path))


def test_every_word_is_in_a_script_that_ships() -> None:
    words = set()
    for file in SCRIPTS_FOLDER.iterdir():
        words |= {step.word for step in parse_script(find_script(file.name[: -len(".txt")]))}
    assert words == set(WORDS)


def test_a_script_named_by_its_uri_goes_on_after_the_cable_was_out() -> None:
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    def clock() -> float:
        now[0] += 0.05
        return now[0]

    opener = device_opener("script:frames 2, unplug, size 64x48, frames 2", clock)
    shapes = []
    with Reconnecting(opener, clock, wait) as device, suppress(EndOfRecording):
        assert device.live
        while True:
            with suppress(DeviceLost, DeviceStalled):
                shapes.append(device.read(1.0).pixels.shape[:2])
    assert shapes == [(480, 640)] * 2 + [(48, 64)] * 2


def test_a_script_may_be_longer_than_the_name_of_a_file() -> None:
    script = ", ".join(["frames 1"] * 600)
    with open_device(f"script:{script}") as device:
        assert device.live
