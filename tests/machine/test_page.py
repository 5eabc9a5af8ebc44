"""The commands of docs/deploy.md, from a fresh card on; what they say is the log that it quotes."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.edge_runtime.deploy.test_page import PAGE, commands
from tests.machine.conftest import SOURCE
from tests.machine.image import make_image, missing
from tests.machine.machine import Machine

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]

SONOLITE = str(Path(sys.executable).parent / "sonolite")
HEAD = f"""\
The commands of docs/deploy.md in their order, on an emulated device that was never deployed to, and
all that they said. `pi@bed-1` is that device, reached by `--ssh -F CONFIG`, left out below; the
fleet is this one device; and where the page says `--source 0`, there was no camera: `{SOURCE}`.
"""


def test_every_command_of_the_page_from_a_fresh_card_on(
    version: Callable[[int], Path], tmp_path: Path
) -> None:
    """The log is left in the test's folder, `transcript.txt`."""
    if absent := missing():
        pytest.skip(f"not installed: {', '.join(absent)}; see tests/machine/image.py")
    machine = Machine(tmp_path, make_image())
    config = tmp_path / "config"
    config.write_text(
        f"Host bed-1\nHostName 127.0.0.1\nPort {machine.far.port}\n"
        + "".join(f"{word}\n" for word in re.findall(r"-o (\S+)", machine.far.ssh))
        + f"IdentityFile {re.findall(r'-i ([^ ]+)', machine.far.ssh)[0]}\n"
    )
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (one, *_) = text.partition('[[device]]\naddress = "pi@bed-2"')
    fleet = f'ssh = "-F {config}"\n' + one.replace('source = "0"', f'source = "{SOURCE}"')
    (tmp_path / "fleet.toml").write_text(fleet)
    for name, number in (("nodule", 1), ("nodule-2", 2)):
        (tmp_path / f"{name}.sonolite").write_bytes(version(number).read_bytes())
    log = tmp_path / "transcript.txt"
    log.write_text(HEAD)
    print(f"the log: {log}")
    try:
        machine.boot()
        for words in commands():
            known = [] if "fleet.toml" in words else ["--ssh", f"-F {config}"]
            here = [SOURCE if word == "0" else word for word in words]
            done = subprocess.run(
                [SONOLITE, *here, *known],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            said = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
            with log.open("a") as out:
                out.write(f"\n$ sonolite {shlex.join(here)}\n{said}")
            assert done.returncode == 0, (words, done.stdout)
    finally:
        machine.cut_power()
