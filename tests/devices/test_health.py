"""Health is read from a tree of files as the kernel shows them; what is not there is None."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.boards import Sensors, read_board
from devices.health import Health, ask_kernel_clock, read_health, troubles
from tests.conftest import Within

PI = read_board("raspberry-pi-5").sensors
JETSON = read_board("jetson-orin-nano").sensors
PC = read_board("x86-64").sensors
FLAGS = "sys/devices/platform/soc/soc:firmware/get_throttled"


def write(root: Path, files: dict[str, str]) -> Path:
    """A tree of files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def read(root: Path, sensors: Sensors, files: dict[str, str]) -> Health:
    """What is read of a tree whose kernel does not tell of its clock."""
    return read_health(sensors, root, write(root, files), lambda: None)


def test_a_machine_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for sensors in (PI, JETSON, PC, Sensors()):
        assert read_health(sensors, absent, absent, lambda: None) == Health()


def test_a_raspberry_pi_in_order(tmp_path: Path) -> None:
    health = read(
        tmp_path,
        PI,
        {
            "sys/class/thermal/thermal_zone0/temp": "48850\n",
            "sys/class/hwmon/hwmon2/in0_lcrit_alarm": "0\n",
            FLAGS: "0\n",
            "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "2400000\n",
            "proc/meminfo": "MemTotal: 8245 kB\nMemAvailable:    7000000 kB\n",
        },
    )
    assert health.celsius == 48.85
    assert health.megahertz == 2400
    assert health.memory_free == 7_168_000_000
    assert (health.throttled, health.undervoltage) == (False, False)
    assert (health.was_throttled, health.was_undervoltage) == (False, False)
    assert troubles(health) == []


@pytest.mark.parametrize(
    ("flags", "throttled", "was_throttled", "undervoltage", "was_undervoltage"),
    [
        ("50005", True, True, True, True),
        ("50000", False, True, False, True),
        ("0x80008", True, True, False, False),
        ("2", True, False, False, False),
        ("20000", False, True, False, False),
        ("1", False, False, True, False),
        ("nothing", None, None, None, None),
        ("", None, None, None, None),
    ],
)
def test_the_firmware_tells_of_now_and_of_before(
    tmp_path: Path,
    flags: str,
    throttled: bool | None,
    was_throttled: bool | None,
    undervoltage: bool | None,
    was_undervoltage: bool | None,
) -> None:
    health = read(tmp_path, PI, {FLAGS: flags})
    assert (health.throttled, health.was_throttled) == (throttled, was_throttled)
    assert (health.undervoltage, health.was_undervoltage) == (undervoltage, was_undervoltage)


def test_newer_kernels_tell_of_a_weak_supply_without_the_flags(tmp_path: Path) -> None:
    health = read(tmp_path, PI, {"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1"})
    assert health.undervoltage is True
    assert health.throttled is None
    assert troubles(health) == ["under-voltage: the power supply or its cable is too weak"]


def test_the_hottest_sensor_counts_and_one_that_is_off_does_not(tmp_path: Path) -> None:
    zones = {"0": "61000", "1": "72500", "2": "-256000", "3": "off", "4": "200000"}
    files = {f"sys/class/thermal/thermal_zone{number}/temp": its for number, its in zones.items()}
    (tmp_path / "sys/class/thermal/thermal_zone5/temp").mkdir(parents=True)  # cannot be read
    assert read(tmp_path, JETSON, files).celsius == 72.5


@pytest.mark.parametrize(
    ("kind", "state", "throttled"),
    [
        ("cpufreq-cpu0", "3", True),
        ("thermal-cpufreq-0", "1", True),
        ("cpufreq-cpu0", "0", False),
        ("pwm-fan", "3", None),
    ],
)
def test_a_cooled_processor_is_a_slowed_one_and_a_fan_is_not(
    tmp_path: Path, kind: str, state: str, throttled: bool | None
) -> None:
    device = "sys/class/thermal/cooling_device0"
    health = read(tmp_path, JETSON, {f"{device}/type": f"{kind}\n", f"{device}/cur_state": state})
    assert health.throttled is throttled


def test_a_pc_counts_how_often_it_was_throttled(tmp_path: Path) -> None:
    count = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    assert read(tmp_path, PC, {count: "0"}).was_throttled is False
    assert read(tmp_path, PC, {count: "7"}).was_throttled is True


def test_the_clock_is_known_by_timesyncd_where_it_runs(tmp_path: Path) -> None:
    def forbidden() -> bool | None:
        raise AssertionError

    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    assert read_health(PI, tmp_path, tmp_path, forbidden).clock_synchronised is False
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert read_health(PI, tmp_path, tmp_path, forbidden).clock_synchronised is True


@pytest.mark.parametrize("answer", [True, False, None])
def test_the_clock_is_known_by_the_kernel_elsewhere(tmp_path: Path, answer: bool | None) -> None:
    assert read_health(PI, tmp_path, tmp_path, lambda: answer).clock_synchronised is answer


def test_this_kernel_tells_of_its_clock() -> None:
    assert ask_kernel_clock() in (True, False)


def test_the_room_on_the_disk_is_that_of_the_path(tmp_path: Path) -> None:
    free = read(tmp_path, PI, {}).disk_free
    room = os.statvfs(tmp_path)
    assert free is not None
    assert abs(free - room.f_bavail * room.f_frsize) < 1e9


def test_every_trouble_is_said() -> None:
    ill = Health(
        throttled=True,
        undervoltage=True,
        disk_free=1,
        memory_free=1,
        clock_synchronised=False,
    )
    assert len(troubles(ill)) == 5
    assert troubles(Health()) == []


@given(st.binary(max_size=20))
def test_no_content_of_a_sensor_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    root = tmp_path_factory.mktemp("machine")
    for name in (FLAGS, "sys/class/thermal/thermal_zone0/temp", "proc/meminfo"):
        write(root, {name: ""})
        (root / name).write_bytes(content)
    read(root, PI, {})


def test_a_reading_takes_less_than_a_millisecond(tmp_path: Path, within: Within) -> None:
    """The best of many, since other programs run here too."""
    root = write(tmp_path, {f"sys/class/thermal/thermal_zone{n}/temp": "5" for n in range(9)})
    took = []
    for _ in range(200):
        began = time.perf_counter()
        read_health(JETSON, tmp_path, root)
        took.append(time.perf_counter() - began)
    assert min(took) < within(1e-3)
