"""The service's unit: systemd takes it, and finds little exposed."""

import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

MOST_EXPOSED = 3.0
"""Of ten; `systemd-analyze security`."""


@pytest.fixture(params=["sonolite.service"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    text = (resources.files("edge_runtime") / "release" / request.param).read_text()
    for mark, word in (
        ("@PYTHON@", sys.executable),
        ("@ROOT@", "/opt/sonolite"),
        ("@GROUPS@", "video render plugdev"),
        ("@TOKEN@", "view.token"),
    ):
        text = text.replace(mark, word)
    assert not re.search(r"@[A-Z]+@", text)
    path = tmp_path / str(request.param)
    path.write_text(text)
    return path


EVERY_UNIT = pytest.mark.parametrize(
    "unit", ["sonolite.service", "sonolite-kiosk.service"], indirect=True
)


@EVERY_UNIT
def test_systemd_takes_it_without_a_word(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (
        0,
        [],
    )


def test_it_is_hardly_exposed(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"exposure level for \S+ ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= MOST_EXPOSED


def test_it_sees_grabbers_accelerators_and_gpus(unit: Path) -> None:
    allowed = re.findall(r"^DeviceAllow=(\S+) rw$", unit.read_text(), re.MULTILINE)
    assert allowed == ["char-video4linux", "/dev/apex_0", "char-usb_device", "char-drm"]


@pytest.mark.parametrize("unit", ["sonolite-kiosk.service"], indirect=True)
def test_the_kiosk_yields_to_the_service_and_has_a_user_of_its_own(unit: Path) -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))
    assert int(settings["CPUWeight"]) < 100 > int(settings["IOWeight"])
    assert int(settings["Nice"]) > 0 < int(settings["OOMScoreAdjust"])
    assert settings["MemoryMax"] == "1G"
    assert settings["User"] == "sonolite-kiosk"
    assert settings["Restart"] == "always"
    assert settings["LoadCredential"] == "view-token:/opt/sonolite/state/view.token"
