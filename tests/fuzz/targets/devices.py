"""The state of a device, which may be damaged, and what a device answers to its host."""

import json
import shutil
import socket
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from devices import BadInput
from devices.boards import read_board
from edge_runtime.bench.measure import read_bench
from edge_runtime.deploy.fleet import read_fleet
from edge_runtime.deploy.installed import DeployedDevice
from edge_runtime.release.config import Config, SinkConfig, ViewSettings, read_config, write_config
from edge_runtime.release.layout import (
    COMPLETE,
    RECORD,
    SINK_COUNTS,
    VIEW_RECORD,
    Layout,
    make_folders,
    read_event_log,
    set_link,
    write_json_file,
)
from edge_runtime.release.notify import Listener
from edge_runtime.release.prune import find_surplus
from edge_runtime.release.switch import read_trial, release_to_start, repair_state
from edge_runtime.release.tool import release_status
from edge_runtime.release.trial import Trial, TrialCheck
from edge_runtime.results.delivery import Delivery
from edge_runtime.screen.saved_regions import read_saved_regions
from tests.fuzz.target import target

ROOT = Path(__file__).parents[3]
OLD, NEW, ENVIRONMENT = "0123456789ab", "ba9876543210", "e" * 64
FILES = (
    "state/log.jsonl",
    "state/trial.json",
    "state/status.json",
    f"state/{SINK_COUNTS}",
    f"state/{VIEW_RECORD}",
    f"releases/{NEW}/{RECORD}",
    f"environments/{ENVIRONMENT}/{COMPLETE}",
)
"""Files of the state; the first byte of an input says which of them is damaged."""
SOUND: dict[str, Any] = {
    "state/trial.json": {
        "release": NEW,
        "back": OLD,
        "before": OLD,
        "seconds": 60.0,
        "state": "LIVE",
        "starts": 1,
    },
    "state/status.json": {"release": NEW, "state": "LIVE"},
    f"state/{SINK_COUNTS}": {"sinks": [asdict(Delivery("csv:x.csv", 3, 0, 0, None))]},
    f"state/{VIEW_RECORD}": {"link": "http://127.0.0.1:8765/", "fingerprint": None},
    f"releases/{NEW}/{RECORD}": {
        "bundle": "nodule 1 0123456789ab",
        "sha256": "a" * 64,
        "environment": ENVIRONMENT,
        "board": "x86-64",
        "made": "2026-01-01T00:00:00+00:00",
    },
    f"environments/{ENVIRONMENT}/{COMPLETE}": {"one.whl": "b" * 64},
}
LOG = b'{"at": "2026-01-01T00:00:00+00:00", "event": "passed", "release": "0123456789ab"}\n' * 3


def new_device() -> Layout:
    """A device with two releases, of which the newer is on trial."""
    layout = Layout(Path("root"))
    shutil.rmtree(layout.root, ignore_errors=True)
    layout.root.mkdir()
    make_folders(layout)
    for name in (OLD, NEW):
        layout.release(name).mkdir()
        write_json_file(layout.release(name) / RECORD, SOUND[FILES[5]], durable=False)
    layout.environment(ENVIRONMENT).mkdir()
    for name, content in SOUND.items():
        write_json_file(layout.root / name, content, durable=False)
    layout.state("log.jsonl").write_bytes(LOG)
    for link, name in (("good", OLD), ("previous", OLD), ("current", NEW)):
        set_link(layout, link, name)
    return layout


def states() -> Sequence[bytes]:
    sound = {name: json.dumps(content).encode() for name, content in SOUND.items()}
    return [bytes([n]) + (sound | {FILES[0]: LOG})[name] for n, name in enumerate(FILES)]


@target(states)
def device_state(content: bytes) -> object:
    layout = new_device()
    path = layout.root / FILES[content[0] % len(FILES) if content else 0]
    path.unlink()
    path.write_bytes(content[1:])
    json.dumps(release_status(layout))
    read_event_log(layout)
    read_trial(layout)
    any(find_surplus(layout))
    repair_state(layout)
    release, _ = release_to_start(layout)
    assert release in (OLD, NEW)
    return json.dumps(release_status(layout))


def configs() -> Sequence[bytes]:
    whole = Config(
        "rtsp://user:word@host/live",
        roi="1,2,30,40",
        prevalence="0.1",
        board="x86-64",
        view=ViewSettings("127.0.0.1:8765", certificate="a.pem"),
        sink=(SinkConfig("csv:/x.csv"), SinkConfig("mqtts://u:p@host/t")),
    )
    return [write_config(each).encode() for each in (Config("phantom:"), whole)]


@target(configs)
def config(content: bytes) -> object:
    path = Path("config.toml")
    path.write_bytes(content)
    return write_config(read_config(path))


FLEET = b"""board = "raspberry-pi-5"
source = "0"
[[device]]
address = "pi@one"
[[device]]
address = "pi@two"
ssh = "-p 2222"
root = "/opt/x"
"""


@target(lambda: [FLEET])
def fleet(content: bytes) -> object:
    path = Path("fleet.toml")
    path.write_bytes(content)
    return read_fleet(path)


def boards() -> Sequence[bytes]:
    paths = sorted((ROOT / "devices/boards").glob("*.toml"))
    return [path.read_bytes().replace(path.stem.encode(), b"own", 1) for path in paths]


@target(boards)
def board(content: bytes) -> object:
    path = Path("own.toml")
    path.write_bytes(content)
    return read_board(str(path)).unfit("x86_64", "3.11.2", "2.36")


REGIONS = b"""[[sector]]
source = "v4l2:///dev/video0"
screen = [1280, 720]
polygon = [[400, 40], [880, 40], [1100, 660], [180, 660]]
roi = [560, 240, 180, 150]

[[sector]]
source = "phantom:"
screen = [640, 480]
box = [10, 10, 100, 90]
"""


@target(lambda: [REGIONS])
def saved_regions(content: bytes) -> object:
    path = Path("sectors.toml")
    path.write_bytes(content)
    return [region.outline for region in read_saved_regions(path)]


@cache
def listener() -> Listener:
    return Listener().__enter__()


@target(lambda: [b"MAINPID=123\nSTATUS=LIVE\nWATCHDOG=1"])
def beat(content: bytes) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(content[:4096], listener().address)
    message = listener().receive(1.0) or {}
    check = TrialCheck(0.0, Trial(NEW, OLD, OLD, 60.0, "LIVE"))
    check.beat(1.0, message.get("STATUS", ""))
    check.failure(2.0)
    return message


class Answered:
    """A device at the other end of a connection that answers every question alike."""

    address = "pi@one"

    def __init__(self, content: bytes) -> None:
        self._output = content.decode(errors="replace")

    def run(self, words: Sequence[str]) -> str:
        return self._output

    def read(self, words: Sequence[str]) -> Any:
        try:
            return json.loads(self._output)
        except (ValueError, RecursionError) as error:
            raise BadInput("pi@one: answers something else") from error


def answers() -> Sequence[bytes]:
    layout = new_device()
    status = release_status(layout)
    layout.state(VIEW_RECORD).unlink()
    return [
        json.dumps(each).encode() for each in ({"release": OLD, **status}, release_status(layout))
    ]


@target(answers)
def device_answer(content: bytes) -> object:
    device = DeployedDevice(Answered(content), "/opt/sonolite")  # type: ignore[arg-type]
    for ask in (device.summary, device.doctor, device.view):
        try:
            json.dumps(ask())
        except BadInput:
            continue
    return device.rollback(1.0, force=False)


BENCH = {
    "machine": {"processor": "x", "cores": "2", "system": "Linux", "python": "3.11"},
    "bundle": "nodule 1 0123",
    "source": "sweep.mp4",
    "frames": 20,
    "threads": 1,
    "rounds": {},
    "commands": [],
}


@target(lambda: [json.dumps(BENCH).encode()])
def bench(content: bytes) -> object:
    path = Path("bench.json")
    path.write_bytes(content)
    return read_bench(path)
