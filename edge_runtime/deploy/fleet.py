"""A fleet of devices: `fleet.toml`, and a roll-out that stops where a device fails.

board = "raspberry-pi-5"        # for each device without a board of its own
source = "v4l2:///dev/video0"
[[device]]
address = "pi@bed-1"
[[device]]
address = "pi@bed-2"
source = "rtsp://scanner-2/live"
ssh = "-J gate"
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from devices import BadInput, SonoliteError
from devices.regular_file import read_regular
from devices.schema_io import read_toml
from edge_runtime.release.layout import DEFAULT_ROOT

WAVE_SIZES = (1, 10)
"""Devices in the first waves of a roll-out; the last wave has all the others."""
MAX_CONNECTIONS = 8
"""Connections at the same time."""


@dataclass(frozen=True)
class FleetDevice:
    """One device of a fleet, with its settings."""

    address: str
    board: str | None = None
    source: str | None = None
    roi: str | None = None
    root: str = DEFAULT_ROOT
    ssh: str = ""


@dataclass(frozen=True, slots=True)
class _Shared:
    """The settings for each device without its own."""

    board: str | None = None
    source: str | None = None
    roi: str | None = None
    root: str | None = None
    ssh: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry(_Shared):
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fleet(_Shared):
    device: Annotated[tuple[_Entry, ...], Meta(min_length=1)]


def read_fleet(path: Path) -> tuple[FleetDevice, ...]:
    """The devices of a list. Raises BadInput, which names the first wrong entry."""
    try:
        content = read_regular(path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    fleet = read_toml(content, _Fleet, str(path))
    shared = {field.name: getattr(fleet, field.name) for field in fields(_Shared)}
    members = []
    for entry in fleet.device:
        own_settings = {name: value for name, value in asdict(entry).items() if value is not None}
        shared_settings = {name: value for name, value in shared.items() if value is not None}
        members.append(FleetDevice(**(shared_settings | own_settings)))
    if len({(member.address, member.ssh, member.root) for member in members}) < len(members):
        raise BadInput(f"{path}: a device stands there twice")
    return tuple(members)


def named_devices(target: str, root: str, ssh: str) -> tuple[FleetDevice, ...]:
    """The devices of a list, or the one of an address. Raises as `read_fleet` does."""
    if target.endswith(".toml"):
        return read_fleet(Path(target))
    return (FleetDevice(address=target, root=root, ssh=ssh),)


def on_every_device(
    members: Sequence[FleetDevice], do: Callable[[FleetDevice], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Calls `do` for each device, some at the same time; yields the answers in order.

    Each answer has the key `device`. A device that fails answers with the key `error`; the error of
    an only device is raised.
    """
    if len(members) == 1:
        yield _ask(members[0], do)
    else:
        yield from _ask_all(members, do)


def _ask(member: FleetDevice, do: Callable[[FleetDevice], dict[str, Any]]) -> dict[str, Any]:
    """The answer of a device. Raises the error of `do`, which then names the device."""
    try:
        return {"device": member.address, **do(member)}
    except SonoliteError as error:
        line = str(error).removeprefix(f"{member.address}: ")
        raise type(error)(f"{member.address}: {line}") from error


def _ask_all(
    members: Sequence[FleetDevice], do: Callable[[FleetDevice], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    def answer(member: FleetDevice) -> dict[str, Any]:
        try:
            return _ask(member, do)
        except SonoliteError as error:
            line = str(error).removeprefix(f"{member.address}: ")
            return {"device": member.address, "outcome": "failed", "error": line}

    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        yield from pool.map(answer, members)


def roll_out(
    members: Sequence[FleetDevice], do: Callable[[FleetDevice], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Calls `do` for one device, then for ten, then for all; stops after a wave with a failure.

    The answer of a device that was not reached has the outcome `not begun`. The error of an only
    device is raised.
    """
    if len(members) == 1:
        yield _ask(members[0], do)
        return
    left, waves = list(members), list(WAVE_SIZES)
    failed = False
    while left and not failed:
        size = waves.pop(0) if waves else len(left)
        wave, left = left[:size], left[size:]
        for answer in _ask_all(wave, do):
            failed |= "error" in answer
            yield answer
    for member in left:
        yield {"device": member.address, "outcome": "not begun"}
