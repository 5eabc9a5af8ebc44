"""The one command finds the others, and loads no more than it was asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.commands import COMMANDS, HIDDEN
from tests.conftest import refused, sonolite


@pytest.mark.parametrize("name", [*COMMANDS, *HIDDEN])
def test_every_command_has_help_of_its_own(name: str) -> None:
    done = sonolite(name, "--help")
    assert done.code == 0, done
    assert f" {name} [OPTIONS]" in done.stdout


def test_the_help_names_what_a_person_calls_and_the_hosts_commands() -> None:
    shown = sonolite("--help").stdout
    assert all(f" {name} " in shown for name in (*COMMANDS, "train", "convert"))
    assert not any(f"│ {name} " in shown for name in HIDDEN)
    assert sonolite().stdout == shown


def test_a_word_that_is_none_is_refused_with_one_that_is_near() -> None:
    refused(sonolite("rum"), "No such command 'rum'", "'run'")


def test_a_live_session_loads_nothing_of_the_other_commands() -> None:
    script = "import sys; from edge_runtime.cli import command_line; command_line('run')\n"
    script += "print(*(its for its in sys.modules if its.startswith(('edge_runtime', 'train'))))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert "edge_runtime.commands.run" in loaded
    for other in ("edge_runtime.bench", "edge_runtime.deploy", "edge_runtime.doctor", "train"):
        assert other not in loaded


def test_without_a_stderr_stdout_still_holds_results_alone(tmp_path: Path) -> None:
    """As a careless service leaves it; what is for a person has no other place to go then."""
    for words, code, lines in (
        ("demo 'phantom:?frames=2&live=no' --json --save a.mp4", 0, 2),
        ("demo missing.mp4 --json", 2, 0),
    ):
        command = f'exec "$0" -m edge_runtime {words} 2>&-'
        done = subprocess.run(
            ["sh", "-c", command, sys.executable], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        assert (done.returncode, len(done.stdout.splitlines())) == (code, lines)
        assert all(line.startswith("{") for line in done.stdout.splitlines())
