"""The state of a device, which may be damaged, and what a device answers to its host."""

import io
import json
import shutil
import socket
import sqlite3
import tarfile
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from devices import BadInput
from devices.boards import read_board
from devices.schema_io import plain
from edge_runtime.bench.measure import read_bench
from edge_runtime.bundle.gate import DriftReference
from edge_runtime.commands.device_drift import _plain
from edge_runtime.deploy.drift import AskDays, Period, compare_days, folder_days
from edge_runtime.deploy.exam_archive import parse_exams, unpack_exam
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
from edge_runtime.results.aggregates import DailyAggregates, count_result
from edge_runtime.results.delivery import Delivery, Tally
from edge_runtime.screen.saved_regions import read_saved_regions
from edge_runtime.sinks.dicom import QueuedExam
from edge_runtime.sinks.drift import Aggregates
from edge_runtime.sinks.messages import Messages
from edge_runtime.sinks.mqtt import newest_state
from edge_runtime.sinks.outbox import Outbox, Rejected, read_message
from edge_runtime.sinks.sink import NO_PIXELS
from tests.edge_runtime.results.examples import RESULT
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


DAY = "2026-01-01"
DAY_NAME = f"{DAY}-0123456789ab.json"


def day_of_results() -> DailyAggregates:
    """A day of a few results."""
    day = DailyAggregates(1, RESULT.bundle, DAY, {"00": {}, "01": {}})
    for block in day.hours.values():
        count_result(block, RESULT)
    return day


def compare(ask: AskDays) -> str:
    """What `device drift` says of a day, as JSON."""
    period = Period(DAY, DAY)
    blocks = tuple(day_of_results().hours.values())
    reference = DriftReference("int8", "test", 2, 2, blocks)
    return json.dumps(_plain("pi@one", compare_days(ask, period, given=("x 1 0", reference))))


@target(lambda: [json.dumps(plain(day_of_results())).encode()])
def drift_day(content: bytes) -> object:
    folder = Path("drift")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / DAY_NAME).write_bytes(content)
    with suppress(BadInput):
        compare(folder_days(folder))
    sink = Aggregates(folder, Tally("drift"))
    sink.write(RESULT, NO_PIXELS)
    sink.save()
    return compare(folder_days(folder))


def drift_answers() -> Sequence[bytes]:
    day = plain(day_of_results())
    answer = {"days": [day], "damaged": ["a"], "first": DAY, "last": DAY, "bundle": RESULT.bundle}
    return [json.dumps(answer | {"reference": None}).encode()]


@target(drift_answers)
def drift_answer(content: bytes) -> object:
    device = DeployedDevice(Answered(content), "/opt/sonolite")  # type: ignore[arg-type]
    return compare(device.drift)


EXAM = {
    "id": 1,
    "begun": "2026-01-01T00:00:00+00:00",
    "ended": None,
    "running": False,
    "interrupted": True,
    "identity": {"patient_id": "4711", "name": "Doe"},
    "provenance": {"bundle": "nodule", "version": 1},
    "nodule_count": 1,
    "picture_count": 2,
}


@target(lambda: [json.dumps([EXAM]).encode()])
def exam_list(content: bytes) -> object:
    exams = parse_exams(content.decode(errors="replace"), "pi@one")
    return json.dumps([exam.row() for exam in exams])


def archives() -> Sequence[bytes]:
    """The archive of an exam, in each form that tar has."""
    made = []
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=form) as tar:
            for name in ("./exam.json", "./pictures/1.png", f"./{'a' * 90}.csv"):
                info = tarfile.TarInfo(name)
                info.size = 600
                tar.addfile(info, io.BytesIO(bytes(600)))
        made.append(packed.getvalue())
    return made


@target(archives)
def exam_archive(content: bytes) -> object:
    folder = Path("unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        unpack_exam(io.BytesIO(content), folder / "exam", "pi@one")
    except BadInput:
        assert not [*folder.iterdir()], "a refused archive leaves files"
        raise
    assert all(path.is_file() or path.is_dir() for path in folder.rglob("*"))
    return folder


MESSAGES = [
    b'{"kind":"end","frames":3}',
    next(Messages("results").of(RESULT)),
    msgspec.json.encode(QueuedExam("/exams", 3)),
]


@cache
def outboxes() -> Sequence[bytes]:
    """An outbox with a few messages."""
    path = Path("seed.sqlite3")
    with closing(sqlite3.connect(path)) as base:
        base.execute("CREATE TABLE outbox (name TEXT NOT NULL)")
        base.execute(
            "CREATE TABLE message (number INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)"
        )
        base.execute("INSERT INTO outbox VALUES ('a')")
        base.executemany("INSERT INTO message (body) VALUES (?)", [(body,) for body in MESSAGES])
        base.commit()
    return [path.read_bytes()]


@target(outboxes, inputs=50)
def outbox(content: bytes) -> object:
    folder = Path("outbox")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "a.sqlite3"
    path.write_bytes(content)
    sent: list[bytes] = []
    tally = Tally("webhook:there", counts_itself=True)
    box = Outbox(path, tally, lambda _, messages: sent.extend(m.body for m in messages), 10**6, 10)
    try:
        box.put(b"last")
    finally:
        box.close()
    assert b"last" in sent or tally.delivery().last_error, "a message is lost in silence"
    return tally.delivery()


@target(lambda: MESSAGES)
def outbox_message(content: bytes) -> object:
    """A message whose bytes changed on the disk."""
    for read in (newest_state, lambda body: read_message(body, QueuedExam)):
        with suppress(Rejected):
            read(content)
    return content
