"""Shells that say more than they are asked, and folders whose names are too long for a socket."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import BadInput, CheckFailed
from edge_runtime.deploy.pack import pack_tool
from edge_runtime.deploy.ssh import SshDevice
from edge_runtime.release.layout import TOOL
from tests.conftest import refused, sonolite
from tests.edge_runtime.deploy.conftest import Far, sshd, usual_environment

GREETING = """#!/bin/sh
echo "Welcome to bed-1. Last backup: never"
echo "{"
echo "and on stderr" >&2
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


@pytest.fixture(scope="module")
def greeting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A host whose shell greets everybody before it obeys."""
    folder = tmp_path_factory.mktemp("greeting")
    script = folder / "greet.sh"
    script.write_text(GREETING)
    script.chmod(0o755)
    with sshd(folder, usual_environment(), str(script)) as far:
        yield far


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A device with the tool, and nothing else."""
    root = tmp_path / "root"
    root.mkdir()
    (root / TOOL).write_bytes(pack_tool())
    subprocess.run([sys.executable, "-I", root / TOOL, "prepare", root], check=True)
    return root


def test_what_a_shell_says_before_it_obeys_is_not_the_answer(greeting: Far) -> None:
    with SshDevice(greeting.address, greeting.ssh) as device:
        assert device.run(["echo", "a b"]) == "a b\n"
        assert device.run(["cat"], b"in") == "in"
        assert device.read(["echo", '{"a": 1}']) == {"a": 1}
        with pytest.raises(CheckFailed, match=r"fault$"):
            device.run(["sh", "-c", "echo fault >&2; exit 1"])
        with pytest.raises(BadInput, match="answers something else: 'no JSON'"):
            device.read(["echo", "no JSON"])


@pytest.mark.parametrize("command", ["yes", "yes >&2"])
def test_an_output_without_end_is_refused(
    greeting: Far, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("edge_runtime.deploy.ssh.MAX_OUTPUT", 1000)
    with (
        SshDevice(greeting.address, greeting.ssh) as device,
        pytest.raises(BadInput, match="answers more than 1,000 bytes"),
    ):
        device.run(["sh", "-c", command])


def test_a_device_that_greets_tells_its_status(greeting: Far, root: Path) -> None:
    done = sonolite(
        "device", "status", greeting.address, "--root", root, "--ssh", greeting.ssh, "--json"
    )
    assert done.code == 0, done
    assert json.loads(done.stdout)[0]["current"] is None


def test_a_device_that_answers_nonsense_does_not_cost_the_others(
    greeting: Far, far: Far, root: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / TOOL).write_text("print('no JSON')")
    fleet = tmp_path / "fleet.toml"
    members = ((greeting, root), (far, broken), (far, root))
    fleet.write_text(
        "".join(
            f'[[device]]\naddress = "{host.address}"\nssh = "{host.ssh}"\nroot = "{folder}"\n'
            for host, folder in members
        )
    )
    done = sonolite("device", "status", fleet, "--json")
    assert done.code == 1, done
    assert "answers something else: 'no JSON'" in done.stdout
    assert done.stdout.count('"releases"') == 2
    alone = ("device", "status", far.address, "--root", broken, "--ssh", far.ssh)
    refused(sonolite(*alone), "answers something else")


def test_a_device_that_answers_something_else_is_refused(far: Far, tmp_path: Path) -> None:
    where = (far.address, "--root", tmp_path, "--ssh", far.ssh)
    for answer in ("[]", '{"current": null}'):
        (tmp_path / TOOL).write_text(f"print({answer!r})")
        refused(sonolite("device", "status", *where), "answers no status: ")
        done = sonolite("device", "rollback", *where)
        refused(done, "does not say to which release it went back")


def test_a_long_folder_for_temporary_files_does_not_part_the_connection(
    far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with SshDevice(far.address, far.ssh) as device:
        assert device.run(["echo", "here"]) == "here\n"
