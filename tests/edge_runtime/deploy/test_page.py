"""Every `sonolite` command of docs/deploy.md is run, on a device of the tests'."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import sonolite
from tests.edge_runtime.deploy.conftest import ROOT, SOURCE, TRIAL, Site

PAGE = (ROOT / "docs" / "deploy.md").read_text()


def commands() -> list[list[str]]:
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
        for line in block.splitlines()
    ]
    return [shlex.split(line)[1:] for line in lines if line.startswith("sonolite ")]


@pytest.mark.install
def test_the_walk_from_the_first_deployment_to_a_fleet(
    site: Site, version: Callable[[int], Path], tmp_path: Path
) -> None:
    """Only names are others: of hosts, files, the board and its scanner."""
    fleet = tmp_path / "fleet.toml"
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (one, *_) = text.partition('[[device]]\naddress = "pi@bed-2"')
    shared = f'root = "{site.root}"\nssh = "{site.far.ssh}"\n'
    fleet.write_text(
        shared
        + one.replace("raspberry-pi-5", "x86-64")
        .replace("pi@bed-1", site.far.address)
        .replace('source = "0"', f'source = "{SOURCE}"')
    )
    names = {
        "pi@bed-1": site.far.address,
        "raspberry-pi-5": "x86-64",
        "0": SOURCE,
        "nodule.sonolite": str(version(1)),
        "nodule-2.sonolite": str(version(2)),
        "fleet.toml": str(fleet),
    }
    asked = commands()
    assert {words[0] for words in asked} == {"deploy", "device"}
    for words in asked:
        here: list[str | Path] = (
            [] if "fleet.toml" in words else ["--root", site.root, "--ssh", site.far.ssh]
        )
        more: list[str | Path] = (
            ["--wheels", site.wheels, "--trial", str(TRIAL), "--trust"] if "deploy" in words else []
        )
        done = sonolite(*(names.get(word, word) for word in words), *here, *more)
        assert done.code == 0, (words, done)


def test_what_it_quotes_stands_in_the_log() -> None:
    """That of `tests.machine.test_page`."""
    log = (ROOT / "docs" / "deploy-emulated.txt").read_text()
    quoted = re.findall(r"^```\n(prepare .*?|bundle: .*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(quoted) == 2
    for block in quoted:
        assert block in log


def test_every_command_of_it_stands_in_the_log() -> None:
    log = (ROOT / "docs" / "deploy-emulated.txt").read_text()
    asked = re.findall(r"^\$ sonolite (.*)$", log, re.MULTILINE)
    there = [shlex.split(line) for line in asked]
    source = there[0][there[0].index("--source") + 1]
    assert [[source if word == "0" else word for word in words] for words in commands()] == there


def test_the_states_of_a_device_are_named_as_they_are() -> None:
    for name in ("current", "previous", "incoming", "trusted", "config.toml", "release.pyz"):
        assert name in PAGE
