"""Many devices at a time: `fleet.toml`, and a roll-out that stops where one of them fails.

board = "raspberry-pi-5"        # of each device that does not say its own
source = "v4l2:///dev/video0"
[[device]]
address = "pi@bed-1"
[[device]]
address = "pi@bed-2"
source = "rtsp://scanner-2/live"
ssh = "-J gate"
"""

import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devices import BadInput, SonoliteError
from edge_runtime.deploy.plan import ROOT

WAVES = (1, 10)
"""Devices of the first waves of a roll-out; the last one is all that are left."""
AT_ONCE = 8
"""Connections at a time."""


class Member(BaseModel):
    """One device of a fleet, with all that is said of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    address: str
    board: str | None = None
    source: str | None = None
    roi: str | None = None
    root: str = ROOT
    ssh: str = ""


class _Fleet(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    board: str | None = None
    source: str | None = None
    roi: str | None = None
    root: str = ROOT
    ssh: str = ""
    device: Annotated[list[Member], Field(min_length=1)]


def read_fleet(path: Path) -> tuple[Member, ...]:
    """The devices of a list. Raises BadInput, naming the first thing wrong in it."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        fleet = _Fleet.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path}: {where}: {first['msg']}") from error
    shared = fleet.model_dump(exclude={"device"}, exclude_unset=True)
    members = [Member(**(shared | its.model_dump(exclude_unset=True))) for its in fleet.device]
    addresses = [(its.address, its.ssh, its.root) for its in members]
    if len(set(addresses)) < len(addresses):
        raise BadInput(f"{path}: a device stands there twice")
    return tuple(members)


def everywhere(
    members: Sequence[Member], do: Callable[[Member], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Does the same to each device, some at a time; each answer says whose it is, in order.

    What one of them raises for a user to read is its answer: `error`.
    """

    def answer(member: Member) -> dict[str, Any]:
        try:
            return {"device": member.address, **do(member)}
        except SonoliteError as error:
            line = str(error).removeprefix(f"{member.address}: ")
            return {"device": member.address, "outcome": "failed", "error": line}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(answer, members)


def roll_out(
    members: Sequence[Member], do: Callable[[Member], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Does it to one device, then to ten, then to all; after a wave with a failure to no other.

    Those that were spared answer that they were not begun.
    """
    left, waves = list(members), list(WAVES)
    failed = False
    while left and not failed:
        size = waves.pop(0) if waves else len(left)
        wave, left = left[:size], left[size:]
        for said in everywhere(wave, do):
            failed |= "error" in said
            yield said
    for member in left:
        yield {"device": member.address, "outcome": "not begun"}
