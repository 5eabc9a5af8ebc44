"""`release.pyz` runs on a bare Python; what it is given is an action, or refused in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.deploy.pack import pack_tool, pack_wheel
from edge_runtime.release.layout import Layout
from edge_runtime.release.stage import WHEEL

FOREIGN = """
import runpy, sys
sys.argv = [sys.argv[1], "prepare", sys.argv[2]]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended:
    assert not ended.code
tops = {name.split(".")[0] for name in sys.modules} - {"edge_runtime", "__main__", "__mp_main__"}
print(*sorted(tops - set(sys.stdlib_module_names)))
"""


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "release.pyz"
    path.write_bytes(pack_tool())
    return path


def act(tool: Path, *words: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", tool, *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_it_needs_nothing_but_the_standard_library(tool: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", FOREIGN, tool, root],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
    assert (root / "state" / "examination.lock").is_file()


def test_the_same_code_is_the_same_bytes() -> None:
    assert pack_tool() == pack_tool()
    name, content = pack_wheel()
    assert WHEEL.fullmatch(name)
    assert pack_wheel() == (name, content)


@pytest.mark.parametrize(
    "words",
    [
        ("switch", "0a1b2c3d4e5f"),
        ("switch", "../../etc"),
        ("back",),
        ("stage", "x" * 64, "y" * 64, "x86-64"),
        ("stage", "../" * 21 + "a", "0" * 64, "x86-64"),
        ("receive", "0" * 63, "0", "1"),
        ("environment", "nothing"),
        ("await", "0a1b2c3d4e5f"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    tool: Path, layout: Layout, words: tuple[str, ...]
) -> None:
    code, said = act(tool, words[0], layout.root, *words[1:])
    assert code == 2
    assert said.count("\n") == 1, said
    assert "Traceback" not in said


def test_a_root_that_is_not_there_is_one_line_too(tool: Path, tmp_path: Path) -> None:
    code, said = act(tool, "prepare", tmp_path / "none")
    assert code == 2
    assert said.count("\n") == 1
