"""The pages on running live: their commands run, and their figures are those of a stored run."""

import re
import shlex
from pathlib import Path

import pytest

from edge_runtime.bench.measure import read_bench
from edge_runtime.bench.report import markdown
from edge_runtime.results.states import State
from tests.conftest import sonolite
from tests.end_to_end.test_readme import write_sweep

DOCS = Path(__file__).parents[2] / "docs"
LIVE, BENCHMARKS = ((DOCS / f"{name}.md").read_text() for name in ("live", "benchmarks"))
STORED = sorted((DOCS / "benchmarks").glob("*.json"))


def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path / "sweep.mp4")
    (tmp_path / "nodule.sonolite").write_bytes(demo_path.read_bytes())
    (block,) = re.findall(r"```sh\n(.*?)```", LIVE, re.DOTALL)
    lines = block.splitlines()
    assert len(lines) >= 4
    for line in lines:
        done = sonolite(*shlex.split(line)[1:])
        assert done.code == 0, (line, done)


def test_its_table_has_every_state() -> None:
    named = re.findall(r"^\| ([A-Z]+) \| ", LIVE, re.MULTILINE)
    assert named == [str(state) for state in State]


@pytest.mark.parametrize("stored", STORED, ids=lambda its: its.stem)
def test_its_figures_are_those_of_the_stored_run(stored: Path) -> None:
    assert markdown(read_bench(stored)) in BENCHMARKS


def test_there_is_a_stored_run() -> None:
    assert STORED
