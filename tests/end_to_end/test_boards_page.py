"""docs/boards.md: its board reads, its commands run, and it leaves out no board and no entry."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from devices.boards import Board, Sensors, board_names, read_board
from tests.conftest import sonolite

PAGE = (Path(__file__).parents[2] / "docs" / "boards.md").read_text()


def block(kind: str) -> str:
    """The page's block in this language."""
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my-board.toml").write_text(block("toml"))
    for line in block("sh").splitlines():
        command, *words = shlex.split(line, comments=True)
        assert command == "sonolite"
        done = sonolite(*words)
        assert done.code == 0, done


def test_the_example_has_every_entry_that_the_table_tells_of(tmp_path: Path) -> None:
    path = tmp_path / "my-board.toml"
    path.write_text(block("toml"))
    read_board(str(path))
    for kind in (Board, Sensors):
        assert not {its.name for its in fields(kind) if f"`{its.name}`" not in PAGE}


def test_every_board_is_named() -> None:
    listed = next(line for line in PAGE.splitlines() if line.startswith("    coral"))
    assert listed.split() == board_names()


def test_the_ladder_has_the_degrees_of_the_raspberry_pi() -> None:
    thermal = read_board("raspberry-pi-5").thermal
    assert thermal == read_board("raspberry-pi-4").thermal
    for level in ("half", "quarter", "single", "withheld"):
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {level} |"))
        assert f"{getattr(thermal, level):g} °C" in row
