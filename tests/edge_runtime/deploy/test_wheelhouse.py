"""The wheels of a device: those that its lock names for its processor and Python, by their hash."""

import itertools
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from devices import BadInput
from devices.boards import read_board
from edge_runtime.deploy.pack import pack_wheel
from edge_runtime.deploy.plan import needed_extras
from edge_runtime.deploy.wheelhouse import (
    LOCK_FILES,
    download_wheels,
    gather_wheels,
    lock_for_target,
    read_lock_file,
)
from edge_runtime.release.config import Config, ExamSettings, SinkConfig, ViewSettings
from edge_runtime.release.stage import file_sha256
from tests.edge_runtime.deploy.conftest import SOURCE, Site, answer, sshd

EXTRA_LOCKS = ["stream.txt", "dicom.txt", "view.txt", "prometheus.txt", "mqtt.txt"]
HASH = "--hash=sha256:" + "0" * 64


@pytest.mark.parametrize("name", [*LOCK_FILES.values(), *EXTRA_LOCKS])
def test_the_locks_ship_with_the_package(name: str) -> None:
    assert "==" in read_lock_file(name)


def test_a_line_holds_on_the_target_not_on_this_machine() -> None:
    lock = (
        f"a==1 ; python_full_version < '3.12' \\\n    {HASH}\n    # via x\n"
        f"b==2 ; python_full_version >= '3.12' \\\n    {HASH}\n"
        f"c==3 ; platform_machine == 'aarch64' \\\n    {HASH}\n"
        f"d==4 ; sys_platform == 'win32' \\\n    {HASH}\n"
        f"e==5 \\\n    {HASH} \\\n    {HASH}\n"
    )
    assert [line[:4] for line in lock_for_target(lock, "aarch64", "3.11.2").splitlines()] == [
        *("a==1", "c==3", "e==5")
    ]
    assert [line[:4] for line in lock_for_target(lock, "x86_64", "3.13.0").splitlines()] == [
        *("b==2", "e==5")
    ]
    assert lock_for_target(lock, "x86_64", "3.13.0").count(HASH) == 3


@pytest.mark.parametrize("line", ["numpy==2", "numpy --hash=sha256:0", "-r other.txt"])
def test_a_line_without_a_version_or_a_hash_is_refused(line: str) -> None:
    with pytest.raises(BadInput, match="pins no hash"):
        lock_for_target(line, "x86_64", "3.11.2")


def test_an_environment_is_what_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    board, wheels = read_board("x86-64"), tmp_path / "wheels"
    wheels.mkdir()

    def name(python: str = "/usr/bin/python3") -> str:
        return gather_wheels(board, "x86_64", python, "3.11.2", wheels).name

    alone = name()
    assert name() == alone != name("/usr/bin/python3.12")
    (wheels / "other-1-py3-none-any.whl").write_bytes(b"1")
    other = name()
    (wheels / "other-1-py3-none-any.whl").write_bytes(b"2")
    assert len({alone, other, name()}) == 3
    with pytest.raises(BadInput, match="no such folder"):
        gather_wheels(board, "x86_64", "python3", "3.11.2", tmp_path / "none")


def test_the_packed_wheel_installs_and_runs(tmp_path: Path) -> None:
    file, content = pack_wheel()
    (tmp_path / file).write_bytes(content)
    venv.create(tmp_path / "venv", with_pip=False)
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        tmp_path / "venv" / "bin" / "python",
    ]
    quiet = ["--disable-pip-version-check", "--quiet", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, *quiet, tmp_path / file], check=True)
    shown = subprocess.run(
        [tmp_path / "venv" / "bin" / "sonolite", "--help"],
        env={"PYTHONPATH": sysconfig.get_path("purelib")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "demo" in shown
    assert "train" not in shown


def test_the_configuration_decides_which_extras_a_device_gets() -> None:
    files = (SinkConfig("jsonl:/a"), SinkConfig("webhook:https://host/x"))
    assert needed_extras(Config("0", sink=files)) == set()
    assert needed_extras(Config("0", view=ViewSettings(":8765"))) == {"view"}
    broker = SinkConfig("mqtts://cart@broker/ward?password_env=MQTT_PASSWORD")
    assert needed_extras(Config("0", sink=(*files, broker))) == {"mqtt"}
    both = (SinkConfig("mqtt://localhost/ward"), SinkConfig("prometheus::9108"))
    assert needed_extras(Config("0", sink=both)) == {"mqtt", "prometheus"}


@pytest.mark.parametrize(
    ("source", "extras"),
    [
        ("0", set()),
        ("phantom:", set()),
        ("igtl://scanner:18944/US", set()),
        ("rtsp://user:${CAMERA_PASSWORD}@scanner-2/live", {"stream"}),
        ("dicom-listen:11112", {"dicom"}),
        ("/opt/clips/clip.dcm", {"dicom"}),
        ("/opt/clips/sweep.mp4", set()),
    ],
)
def test_the_source_decides_which_extras_a_device_gets(source: str, extras: set[str]) -> None:
    assert needed_extras(Config(source)) == extras


def test_a_worklist_and_a_pacs_bring_their_library() -> None:
    assert needed_extras(Config("0", exam=ExamSettings(worklist="ris:104"))) == {"dicom"}
    assert needed_extras(Config("0", exam=ExamSettings())) == set()
    assert needed_extras(Config("0", sink=(SinkConfig("dicom://pacs:104"),))) == {"dicom"}


def test_what_two_extras_share_is_pinned_to_one_version_for_every_target() -> None:
    for machine, version in itertools.product(["x86_64", "aarch64"], ["3.11.2", "3.13.5"]):
        pins: dict[str, str] = {}
        for name in ["device.txt", *EXTRA_LOCKS]:
            for line in lock_for_target(read_lock_file(name), machine, version).splitlines():
                package, _, pin = line.partition("==")
                assert pins.setdefault(package, pin) == pin, package


@pytest.mark.install
@pytest.mark.parametrize("board", ["x86-64", "raspberry-pi-5"])
def test_the_wheels_of_a_board_can_be_had_and_are_kept(
    board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    its = read_board(board)
    folder = download_wheels(its, its.architectures[0], "3.11.2")
    names = {path.name.split("-")[0] for path in folder.glob("*.whl")}
    assert {"numpy", "ai_edge_litert", "opencv_python_headless", "typer"} <= names
    native = [path.name for path in folder.glob("*linux*.whl")]
    assert native
    assert all(its.architectures[0] in name for name in native)
    before = {path: file_sha256(path) for path in folder.iterdir()}
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert download_wheels(its, its.architectures[0], "3.11.2") == folder
    assert {path: file_sha256(path) for path in folder.iterdir()} == before


@pytest.mark.slow
@pytest.mark.install
def test_a_device_is_deployed_to_with_the_wheels_of_its_lock(
    tmp_path: Path, shipped_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the tests' own Python is there, nor is the network needed on the device."""
    from tests.conftest import sonolite

    (tmp_path / "sshd").mkdir()
    programs = Path(sys.base_prefix) / "bin"
    with sshd(tmp_path / "sshd", f"PATH={programs}:/usr/bin:/bin PIP_NO_INDEX=1") as far:
        site = Site(far, tmp_path / "root", tmp_path)
        done = sonolite(
            *("deploy", shipped_path, far.address, "--board", "x86-64", "--root", site.root),
            *("--ssh", far.ssh, "--source", SOURCE, "--trial", "30", "--json"),
        )
        size = sum(path.lstat().st_size for path in site.root.rglob("*"))
        site.cut_power()
    assert done.code == 0, done
    assert answer(done)["outcome"] == "passed"
    assert size <= 350e6
