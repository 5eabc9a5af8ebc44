"""`sonolite run --view` as a user calls it."""

import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer.main

from devices import Box
from devices.capture.source_uri import SourceUri
from edge_runtime.cli import command_line
from edge_runtime.exams.schema import open_exams
from edge_runtime.exams.store import read_exams
from edge_runtime.files import configuration_folder
from edge_runtime.release.address import DEFAULT_ADDRESS
from edge_runtime.screen.saved_regions import save_roi, saved_regions_file
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


def run(demo_path: Path, view: str, *more: str | Path) -> Any:
    return sonolite("run", demo_path, "--source", "phantom:?frames=3", f"--view={view}", *more)


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
    assert "region: 167,190,108,100 is saved for a screen of 640 x 480" in remembered.stderr
    results = [json.loads(line) for line in remembered.stdout.splitlines()]
    assert {tuple(result["box"]) for result in results} == {box}
    given = sonolite(*words, "--roi", "20,20,90,90")
    assert "is saved" not in given.stderr
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


def test_an_encrypted_view_prints_the_fingerprint_and_keeps_its_certificate(
    demo_path: Path,
) -> None:
    done = run(demo_path, ":0", "--view-tls")
    assert done.code == 0, done
    assert "view: https://127.0.0.1:" in done.stderr
    kept = configuration_folder() / "view.pem"
    assert kept.stat().st_mode & 0o777 == 0o600
    (line,) = [line for line in done.stderr.splitlines() if "fingerprint" in line]
    assert line == f"view: the certificate's SHA-256 fingerprint is {mark(kept)}"
    again = run(demo_path, ":0", "--view-certificate", kept)
    assert line in again.stderr


def mark(certificate: Path) -> str:
    """The fingerprint, as openssl(1) shows it."""
    words = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(certificate)]
    line: str = subprocess.check_output(words, text=True)
    return line.strip().partition("=")[2]


def test_a_certificate_that_is_none_is_refused(demo_path: Path, tmp_path: Path) -> None:
    done = run(demo_path, ":0", "--view-certificate", tmp_path / "none.pem")
    refused(done, "none.pem: No such file")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--view-tls",), "--view-tls needs --view"),
        (("--view", ":0", "--view-key", "key.pem"), "--view-key needs --view-certificate"),
        (("--view", ":0", "--view-tls", "--view-certificate", "c.pem"), "--view-tls makes"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    demo_path: Path, options: tuple[str, ...], words: str
) -> None:
    refused(sonolite("run", demo_path, "--source", "phantom:?frames=3", *options), words)


def on_terminal(*words: str | Path, **around: str) -> str:
    """What the command line writes where stdin, stdout and stderr are a terminal."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "edge_runtime", *words]
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **around}
    ) as process:
        os.close(slave)
        written = b""
        with suppress(OSError):  # EIO: the last writer has gone
            while chunk := os.read(master, 65536):
                written += chunk
    os.close(master)
    assert process.returncode == 0, written.decode()
    return written.decode().replace("\r\n", "\n")


def test_a_link_for_other_machines_is_shown_as_a_qr_code(demo_path: Path) -> None:
    shown = on_terminal("run", demo_path, "--source", "phantom:?frames=3", "--view", "0.0.0.0:0")
    (link,) = re.findall(r"view: (http\S+)", shown)
    lines = [
        line for line in shown.splitlines() if line and not set(line) - set(" \u2580\u2584\u2588")
    ]
    assert link in {read_qr_code(lines, size) for size in (4, 5, 8)}


def read_qr_code(lines: list[str], size: int) -> str:
    """The text of a QR code on a dark terminal, of squares of `size` pixels.

    The reader misses one code in a hundred at one size, as a camera does at one distance.
    """
    upper, lower = "\u2580\u2588", "\u2584\u2588"
    rows = [[letter in half for letter in line] for line in lines for half in (upper, lower)]
    picture = np.kron(np.array(rows, np.uint8) * 255, np.ones((size, size), np.uint8))
    return cv2.QRCodeDetector().detectAndDecode(picture)[0]


def test_a_link_for_this_machine_alone_has_no_qr_code(demo_path: Path) -> None:
    shown = on_terminal("run", demo_path, "--source", "phantom:?frames=3", "--view", ":0")
    assert "view: http://127.0.0.1:" in shown
    assert "\u2588" not in shown.partition("{")[0]


RECORDING = "phantom:?frames=30&live=no&fps=15"


@pytest.fixture
def desktop(tmp_path: Path) -> dict[str, str]:
    """A desktop whose browser writes down what it is asked to open."""
    program = tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "DISPLAY": ":0"}


def demo(tmp_path: Path, *words: str, **around: str) -> str:
    return on_terminal("demo", *words, "--save", tmp_path / "demo.mp4", **around)


def test_the_demo_on_a_terminal_opens_the_viewers_page_and_plays_at_its_pace(
    tmp_path: Path, desktop: dict[str, str]
) -> None:
    began = time.monotonic()
    shown = demo(tmp_path, RECORDING, **desktop)
    assert time.monotonic() - began >= 29 / 15
    (link,) = re.findall(r"view: (http://127\S+)", shown)
    assert (tmp_path / "opened").read_text() == f"{link}\n"


def test_the_demo_without_a_view_opens_none(tmp_path: Path, desktop: dict[str, str]) -> None:
    shown = demo(tmp_path, RECORDING, "--no-view", **desktop)
    assert "view:" not in shown
    assert not (tmp_path / "opened").exists()


def test_without_a_desktop_the_demo_prints_the_link_alone(
    tmp_path: Path, desktop: dict[str, str]
) -> None:
    shown = demo(tmp_path, RECORDING, **{**desktop, "DISPLAY": "", "WAYLAND_DISPLAY": ""})
    assert "view: http://127" in shown
    assert not (tmp_path / "opened").exists()


def test_without_the_extra_the_demo_runs_and_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['starlette'] = None\n")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}:{Path(__file__).parents[3]}"
    shown = demo(tmp_path, RECORDING, PYTHONPATH=path)
    assert "to watch it live in a browser, pip install 'sonolite[view]'" in shown
    assert (tmp_path / "demo.mp4").is_file()


def test_the_demo_on_a_terminal_judges_a_record_as_it_was(
    tmp_path: Path, shipped_path: Path
) -> None:
    record, roi = tmp_path / "record", "167,190,108,100"
    words = ("--source", RECORDING, "--roi", roi, "--any-picture", "--record", record)
    assert sonolite("run", shipped_path, *words).code == 0
    shown = demo(tmp_path, str(record), "--roi", "160,190,108,100", DISPLAY="", WAYLAND_DISPLAY="")
    assert f"its region of interest was {roi}, now it is 160,190,108,100" in shown


def test_the_demo_of_a_program_opens_no_view(tmp_path: Path) -> None:
    done = sonolite("demo", RECORDING, "--save", tmp_path / "demo.mp4")
    assert done.code == 0
    assert "view:" not in done.stderr
