"""Every `sonolite` command in the README runs as it stands, every `make` command is a target, and
the map is the tree's."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from devices.capture.phantom import Phantom
from edge_runtime.sinks import FOURCC
from tests.conftest import draw_labelled, sonolite

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """The lines of the README's shell blocks, continued ones joined."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.strip()]


def write_sweep(path: Path) -> None:
    """The video that the README calls sweep.mp4."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*FOURCC[".mp4"]), 20.0, (640, 480))
    phantom = Phantom(live=False)
    for index in range(8):
        writer.write(phantom.render(index))
    writer.release()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("recipe", ["tiny", pytest.param("shipped", marks=pytest.mark.slow)])
def test_the_walk_with_your_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_recipe: Path, recipe: str
) -> None:
    """In short with a recipe that learns in seconds, at length as it stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name, first in (("my-images", 0), ("other-images", 9)):
        draw_labelled(tmp_path / name, patients=9, first=first)
    write_sweep(tmp_path / "sweep.mp4")
    walk = [shlex.split(line) for line in commands() if line.startswith("sonolite ")]
    assert {words[1] for words in walk} == {
        *("train", "evaluate", "compare", "convert", "validate", "inspect", "run", "demo"),
        *("keys", "doctor", "bench"),
    }
    for words in walk:
        if ">" in words:
            words = words[: words.index(">")]
        if words[1] == "train" and recipe == "tiny":
            words = [*words, "--recipe", str(tiny_recipe)]
        done = sonolite(*words[1:])
        allowed = {0, 1} if words[1] == "validate" else {0}  # so few images may break a limit
        assert done.code in allowed, (words, done)
    assert (tmp_path / "overlay.mp4").is_file()


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make")])
def test_each_make_command_is_a_target(line: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    kinds = {line.split()[0] for line in commands()}
    assert kinds == {"make", "sonolite", "sudo", "."}


def test_the_map_names_every_folder_and_no_other() -> None:
    block = re.search(r"```\n(pyproject\.toml.*?)```", README, re.DOTALL)
    assert block is not None
    named = {line.split()[0].rstrip("/") for line in block[1].splitlines() if line[0] != " "}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {line.split("/")[0] for line in tracked if "/" in line and line[0] != "."}
    assert folders <= named
    assert all((ROOT / name).exists() for name in named)
