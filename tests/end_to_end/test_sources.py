"""The page on sources: its commands run, and its words are those that are read."""

import re
import shlex
from pathlib import Path

import pytest

from devices.capture import device_opener
from devices.capture.camera import parse_camera
from devices.capture.script import WORDS
from tests.conftest import sonolite

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()


def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    block = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in "".join(block).splitlines():
        done = sonolite(*shlex.split(line)[1:])
        assert done.code == 0, done
        assert "60 read" in done.stderr


def test_its_steps_are_all_that_there_are() -> None:
    steps = re.findall(r"^\| `(\w+[^`]*)` \| ", PAGE.partition("| step |")[2], re.MULTILINE)
    assert {step.split()[0] for step in steps} == set(WORDS)
    for step in steps:
        device_opener(f"script:{step}")


def test_its_camera_is_a_wish() -> None:
    (uri,) = re.findall(r"^    (v4l2:\S+)$", PAGE, re.MULTILINE)
    assert all(parse_camera(uri)[1])
