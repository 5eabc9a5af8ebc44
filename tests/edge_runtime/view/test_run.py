"""`sonolite run --view` as a user calls it."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from edge_runtime.cli import command_line
from edge_runtime.view import DEFAULT_ADDRESS
from tests.conftest import refused, sonolite


def view_of(*words: str) -> tuple[str, str | None]:
    """The bundle and the address that these words of `run` name."""
    app: Any = typer.main.get_command(command_line("run"))
    parameters = app.commands["run"].make_context("run", [*words, "--source", "phantom:"]).params
    return str(parameters["bundle"]), parameters["view"]


@pytest.mark.parametrize(
    ("words", "address"),
    [
        (("a.sonolite",), None),
        (("a.sonolite", "--view"), DEFAULT_ADDRESS),
        (("--view", "a.sonolite"), DEFAULT_ADDRESS),
        (("--view", "./a:1/a.sonolite"), DEFAULT_ADDRESS),
        (("a.sonolite", "--view", "--any-picture"), DEFAULT_ADDRESS),
        (("a.sonolite", "--view", ":0"), ":0"),
        (("--view", "0.0.0.0:80", "a.sonolite"), "0.0.0.0:80"),
        (("--view", "[::1]:80", "a.sonolite"), "[::1]:80"),
        (("a.sonolite", "--view=probe:80"), "probe:80"),
    ],
)
def test_the_address_may_be_left_out(words: tuple[str, ...], address: str | None) -> None:
    bundle, view = view_of(*words)
    assert Path(bundle).name == "a.sonolite"
    assert view == address


def run(demo_path: Path, view: str) -> Any:
    return sonolite("run", demo_path, "--source", "phantom:?frames=3", f"--view={view}")


def test_a_session_with_a_view_prints_the_link_and_ends(demo_path: Path) -> None:
    done = run(demo_path, ":0")
    assert done.code == 0, done
    assert "view: http://127.0.0.1:" in done.stderr


def test_without_the_extra_the_cure_is_named(
    demo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    refused(run(demo_path, ":0"), "live views need starlette: pip install 'sonolite[view]'")


def test_what_is_no_address_is_refused(demo_path: Path) -> None:
    refused(run(demo_path, "nowhere"), "--view nowhere: no address")


def test_a_taken_port_is_refused(demo_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused(run(demo_path, f":{port}"), f"--view 127.0.0.1:{port}", "in use")
