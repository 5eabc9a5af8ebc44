"""The user of the service cannot change what the deploying user runs; two real users, real sshd."""

import fcntl
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import CheckFailed
from edge_runtime.deploy.installed import KEPT_SCRIPT, LOGS_SCRIPT, OWNER_SCRIPT, TOOL_SCRIPT
from edge_runtime.deploy.pack import pack_tool
from edge_runtime.deploy.steps import PREPARE_SCRIPT, PUT_SCRIPT
from tests.conftest import sonolite
from tests.edge_runtime.deploy.conftest import Far

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can make users")
SERVICE, DEPLOYER = "sonolite", "sonolite-tester"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A prepared root, as the step `prepare` makes it as root, below a folder that all can see."""
    folder = Path(f"/opt/sonolite-two-users-{os.getpid()}")
    lock = open("/tmp/sonolite-two-users.lock", "w")  # noqa: SIM115  two processes make one user
    fcntl.flock(lock, fcntl.LOCK_EX)
    made = []
    for name in (SERVICE, DEPLOYER):
        try:
            pwd.getpwnam(name)
        except KeyError:
            subprocess.run(["useradd", "--system", "--user-group", "-M", name], check=True)
            made.append(name)
    script = ["sh", "-c", PREPARE_SCRIPT, "sh", str(folder), DEPLOYER, "service"]
    subprocess.run(script, check=True)
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)
    for name in made:
        subprocess.run(["userdel", name], check=True)
    lock.close()


def by(user: str, *words: str | Path, content: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    entry = pwd.getpwnam(user)
    return subprocess.run(
        words,
        input=content,
        capture_output=True,
        check=False,
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        umask=0o022,
        cwd="/",
    )


@pytest.fixture(scope="module")
def installed(root: Path) -> Path:
    """The root with the tool that the deploying user put there."""
    tool = root / "release.pyz"
    digest = subprocess.check_output(["sha256sum"], input=pack_tool()).split()[0].decode()
    for path in (tool,):
        put = by(DEPLOYER, "sh", "-c", PUT_SCRIPT, "sh", path, digest, content=pack_tool())
        assert put.returncode == 0, put
    done = by(DEPLOYER, "/usr/bin/python3", "-I", tool, "prepare", root)
    assert done.returncode == 0, done
    return root


@pytest.mark.parametrize(
    "command",
    [
        'echo x > "$1/release.pyz"',
        'mv "$1/release.pyz" "$1/old"',
        'ln -s /etc/passwd "$1/release.pyz.sent"',
        'mv "$1/releases" "$1/mine"',
        'echo x > "$1/releases/x"',
        'echo x > "$1/environments/x"',
        'echo x > "$1/trusted/own.pem"',
        'echo x > "$1/config.toml"',
        'ln -s /tmp "$1/current"',
    ],
)
def test_the_service_cannot_change_what_others_run(installed: Path, command: str) -> None:
    assert by(SERVICE, "sh", "-c", command, "sh", installed).returncode != 0


def test_the_service_can_write_the_state(installed: Path) -> None:
    done = by(
        SERVICE, "sh", "-c", 'ln -s ../releases/a "$1/state/x"; rm "$1/state/x"', "sh", installed
    )
    assert done.returncode == 0, done


def test_the_configuration_is_read_by_the_service_alone(installed: Path) -> None:
    config = installed / "config.toml"
    assert by(DEPLOYER, "sh", "-c", 'echo "source = 0" > "$1"', "sh", config).returncode == 0
    tool = installed / "release.pyz"
    assert by(DEPLOYER, "/usr/bin/python3", "-I", tool, "prepare", installed).returncode == 0
    assert config.stat().st_mode & 0o777 == 0o640
    assert by(SERVICE, "cat", config).returncode == 0
    assert by("nobody", "cat", config).returncode != 0


def test_a_planted_link_in_the_state_is_not_followed(installed: Path) -> None:
    private = installed / "private"
    private.write_text('{"event": "secret of the deploying user"}')
    os.chown(private, pwd.getpwnam(DEPLOYER).pw_uid, 0)
    private.chmod(0o600)
    log = installed / "state" / "log.jsonl"
    assert by(SERVICE, "ln", "-sf", private, log).returncode == 0
    done = by(DEPLOYER, "/usr/bin/python3", "-I", installed / "release.pyz", "log", installed)
    assert b"secret" not in done.stdout + done.stderr
    log.unlink()


def test_daily_aggregates_behind_a_link_are_not_read(installed: Path) -> None:
    private = installed / "aside"
    private.mkdir(mode=0o700)
    day = private / "2026-01-01-0123456789ab.json"
    day.write_text('{"day": "secret of the deploying user"}')
    for path in (private, day):
        os.chown(path, pwd.getpwnam(DEPLOYER).pw_uid, 0)
    place = installed / "state" / "drift"
    assert by(SERVICE, "ln", "-s", private, place).returncode == 0
    words = ("drift", installed, "2026-01-01", "2026-12-31")
    done = by(DEPLOYER, "/usr/bin/python3", "-I", installed / "release.pyz", *words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == f"{place}: not a folder; remove it there\n".encode()
    assert by(SERVICE, "rm", place).returncode == 0


@pytest.mark.parametrize("command", ['mkfifo "$1"', 'ln -s /dev/zero "$1"', 'mkdir "$1"'])
@pytest.mark.parametrize("script", [KEPT_SCRIPT, LOGS_SCRIPT], ids=["token", "log"])
def test_what_stands_in_the_place_of_a_file_of_the_state_is_not_read(
    installed: Path, script: str, command: str
) -> None:
    """A pipe would never end, and /dev/zero would fill the host."""
    if script == LOGS_SCRIPT and Path("/run/systemd/system").is_dir():
        pytest.skip("there is a systemd here, whose journal is read")
    place = installed / "state" / "planted"
    assert by(SERVICE, "sh", "-c", command, "sh", place).returncode == 0
    try:
        done = by(DEPLOYER, "sh", "-c", script, "sh", place, "5")
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr == f"{place}: not a file; remove it there\n".encode()
    finally:
        assert by(SERVICE, "rm", "-r", place).returncode == 0


def test_exams_behind_a_link_are_not_looked_for(installed: Path) -> None:
    place = installed / "state" / "exams"
    assert by(SERVICE, "ln", "-s", "/etc", place).returncode == 0
    done = by(DEPLOYER, "sh", "-c", OWNER_SCRIPT, "sh", place, "echo", "ran")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"no exams are kept there" in done.stderr
    assert by(SERVICE, "rm", place).returncode == 0


def test_of_a_token_and_of_a_log_little_is_read(installed: Path) -> None:
    place = installed / "state" / "long"
    place.write_bytes(b"x" * (3 << 20) + b"\none\ntwo\n")
    kept = by(DEPLOYER, "sh", "-c", KEPT_SCRIPT, "sh", place)
    assert kept.stdout == b"x" * 200
    if not Path("/run/systemd/system").is_dir():
        log = by(DEPLOYER, "sh", "-c", LOGS_SCRIPT, "sh", place, "3")
        assert log.stdout.endswith(b"x\none\ntwo\n")
        assert len(log.stdout) <= 1 << 20
    place.unlink()


@pytest.mark.parametrize("mode", [0o2775, 0o2755])
def test_a_tool_that_another_user_can_change_is_not_run(
    root: Path, tmp_path: Path, mode: int
) -> None:
    folder, mark = (
        root.with_name(f"sonolite-planted-{os.getpid()}"),
        Path("/tmp/sonolite-planted-ran"),
    )
    folder.mkdir()
    try:
        tool = folder / "release.pyz"
        tool.write_text(f"open({str(mark)!r}, 'w')")
        owner = pwd.getpwnam(SERVICE if mode == 0o2755 else DEPLOYER)
        os.chown(tool, owner.pw_uid, owner.pw_gid)
        os.chown(folder, pwd.getpwnam(DEPLOYER).pw_uid, pwd.getpwnam(SERVICE).pw_gid)
        folder.chmod(mode)
        done = by(DEPLOYER, "sh", "-c", TOOL_SCRIPT, "sh", tool, "status", folder)
        assert done.returncode != 0
        assert b"so that it is not run" in done.stderr
        assert not mark.exists()
    finally:
        subprocess.run(["rm", "-rf", folder, mark], check=True)


def test_a_command_over_ssh_does_not_run_it_either(far: Far, installed: Path) -> None:
    """The one who asks is another user than the one who deployed: here root."""
    done = sonolite("device", "status", far.address, "--root", installed, "--ssh", far.ssh)
    assert done.code == CheckFailed.exit_code, done
    assert "so that it is not run" in done.stderr
