"""What a machine can do is tried, not asked."""

import json
import platform
import sys
from pathlib import Path

import pytest

from devices.boards import read_board
from edge_runtime import doctor
from edge_runtime.bundle.archive import open_bundle
from tests.conftest import refused, sonolite
from tests.edge_runtime.models.broken import resigned


def test_each_variant_is_tried_and_timed(bundle_path: Path) -> None:
    done = sonolite("doctor", bundle_path, "--json")
    assert done.code == 0, done
    found = {its["name"]: its for its in json.loads(done.stdout)}
    for variant in ("float32", "float16", "dynamic", "int8"):
        assert found[f"cpu {variant}"]["there"]
        assert "ms a picture" in found[f"cpu {variant}"]["says"]
    assert {"gpu float32", "gpu float16", "edgetpu"} <= set(found), found
    assert "gpu int8" not in found


def test_without_a_bundle_the_shipped_one_is_tried() -> None:
    done = sonolite("doctor")
    assert done.code == 0, done
    assert "network streams" in done.stdout
    assert "cpu int8" in done.stdout


def test_a_locator_that_does_not_run_is_no_sound_bundle(finder_path: Path, tmp_path: Path) -> None:
    finder = open_bundle(finder_path)
    assert finder.manifest.locator is not None
    classifier = finder.read(finder.manifest.classifier.variants["int8"])
    member = finder.manifest.locator.variants["int8"]
    path = resigned(finder, member, classifier, tmp_path / "x.sonolite")
    done = sonolite("doctor", path)
    line = "sonolite: no locator of the bundle runs on this machine\n"
    assert (done.code, done.stderr) == (3, line), done


def test_what_is_missing_is_said_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pylibjpeg", None)  # pydicom alone is not enough
    cameras, _, dicom, *_ = doctor._sources(tmp_path)
    assert not cameras.there
    assert "is a grabber plugged in?" in cameras.says
    assert (dicom.there, dicom.says) == (
        False,
        "pylibjpeg is missing: pip install 'sonolite[dicom]'",
    )


def test_a_camera_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "video0").write_text("no camera")
    camera, *_ = doctor._sources(tmp_path)
    assert (camera.name, camera.there) == (str(tmp_path / "video0"), False)


def test_a_bundle_that_is_not_trusted_is_not_tried(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONOLITE_TRUST", str(tmp_path))
    refused(sonolite("doctor", bundle_path), "not trusted here")


def test_a_board_is_found_or_told(bundle_path: Path) -> None:
    done = sonolite("doctor", bundle_path, "--board", "coral-dev-board", "--json")
    assert done.code == 0, done
    its = next(its for its in json.loads(done.stdout) if its["part"] == "board")
    assert its["name"] == "coral-dev-board"
    assert its["there"] == (platform.machine() == "aarch64")
    refused(sonolite("doctor", bundle_path, "--board", "toaster"), "no board 'toaster'")


def test_packages_that_are_missing_come_with_the_line_that_installs_them(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: libstdc++6\nStatus: install ok installed\nVersion: 12\n\n"
        "Package: libvulkan1\nStatus: deinstall ok config-files\nVersion: 1\n\n"
    )
    found = {its.name: its for its in doctor._packages(read_board("x86-64"), status)}
    assert found["for run"].there
    assert not found["for gpu"].there
    assert found["for gpu"].says == "sudo apt install libvulkan1 mesa-vulkan-drivers"


def test_without_dpkg_nothing_is_said_of_its_packages(tmp_path: Path) -> None:
    assert not list(doctor._packages(read_board("x86-64"), tmp_path / "status"))


def test_health_is_told_and_what_is_not_known_is_named(tmp_path: Path) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/temp": "76000",
        "sys/class/hwmon/hwmon0/in0_lcrit_alarm": "1",
        "proc/meminfo": "MemAvailable: 50000 kB",
        "run/systemd/timesync/synchronized": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    found = {its.name: its for its in doctor._health(read_board("raspberry-pi-5"), tmp_path)}
    assert found["temperature"].says == "76.0 °C, fewer frames from 75 on"
    assert not found["temperature"].there
    assert not found["power"].there
    assert not found["memory"].there
    assert found["clock"].there
    assert found["not told"].says == "throttling"


def test_a_supply_that_was_too_weak_is_told(tmp_path: Path) -> None:
    board = read_board("raspberry-pi-5")
    assert board.sensors.firmware is not None
    flags = tmp_path / board.sensors.firmware.lstrip("/")
    flags.parent.mkdir(parents=True)
    flags.write_text("10000")
    found = {its.name: its for its in doctor._health(board, tmp_path)}
    assert found["power"].there
    assert "was too weak since the start" in found["power"].says


def test_a_machine_of_no_known_kind_has_its_health_told_too(tmp_path: Path) -> None:
    (tmp_path / "sys/class/thermal/thermal_zone0").mkdir(parents=True)
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").write_text("99000")
    found = {its.name: its for its in doctor._health(None, tmp_path)}
    assert (found["temperature"].there, found["temperature"].says) == (True, "99.0 °C")
