"""The scripts of a deployment are run by a real shell; programs of the system have stand-ins."""

import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from edge_runtime.deploy import installed, plan, steps
from edge_runtime.deploy.steps import KIOSK_SCRIPT, NO_KIOSK_SCRIPT, RESTART_SCRIPT, UNIT_SCRIPT

SCRIPTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": text
    for module in (installed, plan, steps)
    for name, text in vars(module).items()
    if name.endswith("_SCRIPT")
}
PACKAGES = ["cage", "xwayland", "chromium", "seatd", "fonts-dejavu-core"]
STAND_IN = """#!/bin/sh
echo "${0##*/} $*" >> "@FOLDER@/calls"
case "${0##*/} $*" in
    dpkg-query*) for package do :; done; grep -qx "$package" "@FOLDER@/packages" || exit 1
        printf installed ;;
    apt-get*install*) for package do echo "$package" >> "@FOLDER@/packages"; done ;;
    id*) test -e "@FOLDER@/user" ;;
    useradd*) touch "@FOLDER@/user" ;;
    "systemctl is-enabled"*) test -e "@FOLDER@/login" ;;
esac
"""
"""Writes its command line down, and stands for what the command would change."""


@dataclass(frozen=True)
class System:
    """A folder that stands for a system, with programs that belong to root there."""

    folder: Path

    @property
    def unit(self) -> Path:
        return self.folder / "sonolite-kiosk.service"

    def run(self, script: str, content: bytes = b"") -> list[str]:
        """The command lines that a script calls."""
        calls = self.folder / "calls"
        calls.unlink(missing_ok=True)
        subprocess.run(
            ["/bin/sh", "-c", script, "sh", self.unit],
            input=content,
            env={"PATH": f"{self.folder}/bin:/usr/bin:/bin"},
            check=True,
        )
        return calls.read_text().splitlines()


@pytest.fixture
def system(tmp_path: Path) -> System:
    (tmp_path / "bin").mkdir()
    for name in ("systemctl", "apt-get", "dpkg-query", "id", "useradd"):
        program = tmp_path / "bin" / name
        program.write_text(STAND_IN.replace("@FOLDER@", str(tmp_path)))
        program.chmod(0o755)
    (tmp_path / "packages").write_text("seatd\n")
    return System(tmp_path)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_can_read_every_script(name: str) -> None:
    subprocess.run(["sh", "-n"], input=SCRIPTS[name].encode(), check=True)


def test_the_kiosk_gets_what_is_missing_a_user_and_its_unit(system: System) -> None:
    calls = system.run(KIOSK_SCRIPT, b"[Unit]\n")
    assert system.unit.read_bytes() == b"[Unit]\n"
    (got,) = [line for line in calls if "install " in line]
    assert got.split("install ")[1].split() == [name for name in PACKAGES if name != "seatd"]
    assert [line.split()[0] for line in calls].count("useradd") == 1
    assert calls[-3:] == [
        "systemctl daemon-reload",
        "systemctl enable --quiet sonolite-kiosk",
        "systemctl restart --no-block sonolite-kiosk",
    ]


def test_a_kiosk_that_is_complete_gets_its_new_unit_alone(system: System) -> None:
    system.run(KIOSK_SCRIPT, b"[Unit]\n")
    calls = system.run(KIOSK_SCRIPT, b"[Service]\n")
    assert system.unit.read_bytes() == b"[Service]\n"
    assert {line.split()[0] for line in calls} == {"dpkg-query", "id", "systemctl"}


@pytest.mark.parametrize("login", [True, False], ids=["login", "no login"])
def test_without_the_kiosk_the_screen_has_its_login_again(system: System, login: bool) -> None:
    """The login on the screen is what the kiosk's unit stopped, where there was one."""
    kiosk = (resources.files("edge_runtime") / "release" / "sonolite-kiosk.service").read_text()
    assert "\nConflicts=getty@tty1.service\n" in kiosk
    system.run(KIOSK_SCRIPT, kiosk.encode())
    if login:
        (system.folder / "login").touch()
    calls = system.run(NO_KIOSK_SCRIPT)
    assert not system.unit.exists()
    assert calls[0] == "systemctl disable --quiet --now sonolite-kiosk"
    assert ("systemctl start --no-block getty@tty1" in calls) == login


def test_a_service_that_ended_too_often_can_be_started_at_once(system: System) -> None:
    """A unit over StartLimitBurst= is refused until it is reset, see systemd.unit(5)."""
    assert system.run(RESTART_SCRIPT) == [
        "systemctl reset-failed sonolite",
        "systemctl restart --no-block sonolite",
    ]


def test_the_service_starts_on_boot_from_its_unit(system: System) -> None:
    calls = system.run(UNIT_SCRIPT, b"[Unit]\n")
    assert system.unit.read_bytes() == b"[Unit]\n"
    assert calls == ["systemctl daemon-reload", "systemctl enable --quiet sonolite"]
