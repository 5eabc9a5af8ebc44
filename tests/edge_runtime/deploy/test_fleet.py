"""Many devices: read from a list, rolled out in waves, stopped at the first that falls back."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, CheckFailed, HardwareMissing, SonoliteError
from edge_runtime.deploy.fleet import (
    WAVE_SIZES,
    FleetDevice,
    on_every_device,
    read_fleet,
    roll_out,
)
from tests.conftest import refused, sonolite
from tests.edge_runtime.deploy.conftest import Far, Site


def test_a_device_takes_what_the_fleet_says_unless_it_says_its_own(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(
        'board = "raspberry-pi-5"\nsource = "0"\n[[device]]\naddress = "pi@a"\n'
        '[[device]]\naddress = "pi@b"\nsource = "1"\nssh = "-J gate"\n'
    )
    assert read_fleet(path) == (
        FleetDevice(address="pi@a", board="raspberry-pi-5", source="0"),
        FleetDevice(address="pi@b", board="raspberry-pi-5", source="1", ssh="-J gate"),
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "device"),
        ("device = []", "device"),
        ("[[device]]", "address"),
        ('[[device]]\naddress = "a"\nbord = "x"', "bord"),
        ('[[device]]\naddress = "a"\n[[device]]\naddress = "a"', "twice"),
        ("[[", "fleet.toml"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=word):
        read_fleet(path)


@given(count=st.integers(2, 40), bad=st.integers(0, 60))
def test_a_roll_out_begins_no_device_after_the_wave_of_a_failure(count: int, bad: int) -> None:
    begun: list[str] = []

    def do(member: FleetDevice) -> dict[str, Any]:
        begun.append(member.address)
        if member.address == str(bad):
            raise CheckFailed(f"{member.address}: fell back")
        return {"outcome": "passed"}

    members = [FleetDevice(address=str(number)) for number in range(count)]
    outcomes = list(roll_out(members, do))
    assert [its["device"] for its in outcomes] == [its.address for its in members]
    ends = [WAVE_SIZES[0], sum(WAVE_SIZES), count]
    expected = next((end for end in ends if bad < end), count) if bad < count else count
    assert sorted(begun) == sorted(str(number) for number in range(min(expected, count)))
    spared = [its for its in outcomes if its["outcome"] == "not begun"]
    assert len(spared) == count - len(begun)
    assert [its["error"] for its in outcomes if "error" in its] == ["fell back"] * (bad < count)


@pytest.mark.parametrize("ask", [on_every_device, roll_out])
@pytest.mark.parametrize("error", [CheckFailed, BadInput, HardwareMissing])
def test_the_error_of_an_only_device_is_raised(
    ask: Callable[..., Iterator[dict[str, Any]]], error: type[SonoliteError]
) -> None:
    """With the exit code of that error."""

    def do(member: FleetDevice) -> dict[str, Any]:
        raise error("away")

    with pytest.raises(error, match="cart: away"):
        list(ask([FleetDevice(address="cart")], do))


def test_a_fleet_stops_at_the_first_that_falls_back(
    site: Site, version: Callable[[int], Path], tmp_path: Path
) -> None:
    (site.root / "hangs").touch()
    fleet = tmp_path / "fleet.toml"
    shared = f'board = "x86-64"\nsource = "phantom:"\nssh = "{site.far.ssh}"\n'
    second = replace(site, root=tmp_path / "second" / "root")
    fleet.write_text(
        shared
        + "".join(
            f'[[device]]\naddress = "{its.far.address}"\nroot = "{its.root}"\n'
            for its in (site, second)
        )
    )
    before = site.status()["current"]
    words = ("--wheels", site.wheels, "--trust")
    done = sonolite("deploy", version(2), fleet, *words, "--json")
    assert done.code == 1, done
    first, other = json.loads(done.stdout)
    assert "it hangs" in first["error"]
    assert other["outcome"] == "not begun"
    assert not second.root.exists()
    assert site.status()["current"] == before

    done = sonolite("device", "status", fleet, "--json")
    assert done.code == 1
    one, none = json.loads(done.stdout)
    assert one["state"] == "LIVE"
    assert "nothing was deployed here" in none["error"]


def test_a_device_that_fails_costs_no_other_its_log(far: Far, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "state").mkdir(parents=True)
        (tmp_path / name / "state" / "service.log").write_text(f"{name}\n")
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(
        f'ssh = "{far.ssh}"\n'
        + "".join(
            f'[[device]]\naddress = "{far.address}"\nroot = "{tmp_path / name}"\n'
            for name in ("one", "gone", "two")
        )
    )
    done = sonolite("device", "logs", fleet)
    assert done.code == 1, done
    assert done.stdout.splitlines() == [far.address, "one", far.address, "two"]
    assert f"{tmp_path}/gone/state/service.log: cannot be read" in done.stderr


def test_a_list_that_is_not_there_is_named(shipped_path: Path, tmp_path: Path) -> None:
    refused(sonolite("deploy", shipped_path, tmp_path / "fleet.toml"), "fleet.toml", "No such file")
