"""`sonolite run --view` as a user calls it."""

import json
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer.main

from devices import Box
from devices.capture.source_uri import SourceUri
from edge_runtime.cli import command_line
from edge_runtime.exams.schema import open_exams
from edge_runtime.exams.store import read_exams
from edge_runtime.screen.saved_regions import save_roi, saved_regions_file
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
    assert "operate: http://127.0.0.1:" in done.stderr


def test_without_the_extra_the_cure_is_named(
    demo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    refused(run(demo_path, ":0"), "live views need starlette: pip install 'sonolite[view]'")


def test_a_remembered_region_is_used_and_told_and_roi_goes_before_it(demo_path: Path) -> None:
    source, box = "phantom:?frames=3&seed=20", Box(167, 190, 108, 100)
    save_roi(saved_regions_file(), SourceUri(source), (640, 480), box)
    words = ("run", demo_path, "--source", source, "--json", "--any-picture")
    remembered = sonolite(*words)
    assert "region: 167,190,108,100 is remembered for a screen of 640 x 480" in remembered.stderr
    results = [json.loads(line) for line in remembered.stdout.splitlines()]
    assert {tuple(result["box"]) for result in results} == {box}
    given = sonolite(*words, "--roi", "20,20,90,90")
    assert "is remembered" not in given.stderr
    assert json.loads(given.stdout.splitlines()[0])["box"] == [20, 20, 90, 90]


@pytest.mark.parametrize(("identity", "count"), [((), 0), (("--exam-id", "4711"), 1)])
def test_with_a_view_an_exam_begins_on_the_page_or_with_an_identity(
    demo_path: Path, tmp_path: Path, identity: tuple[str, ...], count: int
) -> None:
    words = ("--source", "phantom:?frames=3", "--view=:0", "--exam", tmp_path / "exams")
    done = sonolite("run", demo_path, *words, *identity)
    assert done.code == 0, done
    with closing(open_exams(tmp_path / "exams")) as connection:
        assert len(read_exams(connection, None)) == count


def test_what_is_no_address_is_refused(demo_path: Path) -> None:
    refused(run(demo_path, "nowhere"), "--view nowhere: no address")


def test_a_taken_port_is_refused(demo_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused(run(demo_path, f":{port}"), f"--view 127.0.0.1:{port}", "in use")
