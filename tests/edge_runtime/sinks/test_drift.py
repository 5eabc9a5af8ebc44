"""Daily aggregates on the disk: when they are written, what a kill costs, and what is kept."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from devices import BadInput
from edge_runtime.release.drift_files import MAX_DAY_FILES, day_files, read_days
from edge_runtime.results.delivery import Tally
from edge_runtime.results.result import Result
from edge_runtime.sinks.drift import SAVE_SECONDS, Aggregates
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.sinks.sink import NO_PIXELS
from tests.edge_runtime.results.examples import RESULT

FILE = "2026-01-01-0123456789ab.json"


def at(moment: str, **changes: object) -> Result:
    return replace(RESULT, captured_utc=f"{moment}:00:00.000+00:00", **changes)  # type: ignore[arg-type]


def hours(path: Path) -> dict[str, int]:
    """Frames of each hour in a file."""
    record = json.loads(path.read_text())
    return {hour: sum(block["state"].values()) for hour, block in record["hours"].items()}


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Aggregates, Tally]]:
    context = SinkContext(threading.Event(), True, 30.0)
    with open_sink(f"drift:{folder}", context) as sink:
        assert isinstance(sink, Aggregates)
        yield sink, sink.tally


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_day_has_a_block_for_each_hour_and_a_file_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path / "drift") as (sink, _):
        for moment in ("2026-01-01T08", "2026-01-01T08", "2026-01-01T23", "2026-01-02T00"):
            sink.write(at(moment), NO_PIXELS)
    first, second = day_files(tmp_path / "drift")
    assert (first.name, hours(first)) == (FILE, {"08": 2, "23": 1})
    assert hours(second) == {"00": 1}


def test_another_bundle_has_another_file_of_the_day(tmp_path: Path) -> None:
    with opened(tmp_path) as (sink, _):
        for bundle in ("demo 1 0123456789ab", "own 2 ba9876543210", "demo 1 0123456789ab"):
            sink.write(at("2026-01-01T08", bundle=bundle), NO_PIXELS)
    assert [sum(hours(path).values()) for path in day_files(tmp_path)] == [2, 1]


def test_the_next_session_goes_on_with_the_day(tmp_path: Path) -> None:
    for _ in range(3):
        with opened(tmp_path) as (sink, _):
            sink.write(at("2026-01-01T08"), NO_PIXELS)
    assert hours(tmp_path / FILE) == {"08": 3}


def test_it_is_written_once_a_minute_at_most(tmp_path: Path) -> None:
    clock = Clock()
    sink = Aggregates(tmp_path, Tally("drift"), clock)
    sink.write(at("2026-01-01T08"), NO_PIXELS)
    clock.now = SAVE_SECONDS - 1
    sink.write(at("2026-01-01T08"), NO_PIXELS)
    assert not day_files(tmp_path)
    clock.now = SAVE_SECONDS
    sink.write(at("2026-01-01T08"), NO_PIXELS)
    assert hours(tmp_path / FILE) == {"08": 3}
    clock.now = 2 * SAVE_SECONDS - 1
    sink.write(at("2026-01-01T08"), NO_PIXELS)
    assert hours(tmp_path / FILE) == {"08": 3}


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
from edge_runtime.results.delivery import Tally
from edge_runtime.sinks.drift import Aggregates
from edge_runtime.sinks.sink import NO_PIXELS
from tests.edge_runtime.results.examples import RESULT

now = 0.0
sink = Aggregates(Path(sys.argv[1]), Tally("drift"), lambda: now)
for number in range(10**9):
    now += 0.5  # two frames a second
    sink.write(RESULT, NO_PIXELS)
    if number % 100 == 0:
        print(number, flush=True)
"""


def test_a_kill_loses_a_minute_at_most_and_damages_nothing(tmp_path: Path) -> None:
    """At any moment of many: half a second of the clock passes from frame to frame."""
    root = Path(__file__).parents[3]
    words: list[str] = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    ) as process:
        assert process.stdout is not None
        written = 0
        while written < 2000:
            written = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        written = int((process.stdout.read().split() or [str(written)])[-1])
    assert hours(tmp_path / FILE)["00"] >= written - 2 * SAVE_SECONDS
    with opened(tmp_path) as (_, tally):
        assert tally.delivery().last_error is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 4096, b"{}", b'{"schema":1', b'{"schema":1,"hours":{"08":7}}', b"[" * 999],
)
def test_a_damaged_day_is_set_aside_and_told_and_begins_anew(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / FILE).write_bytes(content)
    with opened(tmp_path) as (sink, tally):
        sink.write(at("2026-01-01T08"), NO_PIXELS)
        assert tally.delivery().last_error == f"{FILE} was damaged, and is {FILE}.damaged now"
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == content
    assert hours(tmp_path / FILE) == {"08": 1}


def test_the_oldest_days_make_room(tmp_path: Path) -> None:
    for number in range(MAX_DAY_FILES + 20):
        (tmp_path / f"{1000 + number}-01-01-0123456789ab.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("of a person")
    with opened(tmp_path) as (sink, _):
        sink.write(at("2026-01-01T08"), NO_PIXELS)
    files = day_files(tmp_path)
    assert len(files) == MAX_DAY_FILES
    assert files[-1].name == FILE
    assert (tmp_path / "notes.txt").exists()


def test_a_full_disk_is_told_and_loses_nothing_once_there_is_room(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    clock, tally = Clock(), Tally("drift")
    sink = Aggregates(tiny_disk, tally, clock)
    with ballast.open("wb") as file, pytest.raises(OSError, match="No space"):
        file.write(b"x" * (1 << 20))
    sink.write(at("2026-01-01T08"), NO_PIXELS)
    clock.now += SAVE_SECONDS
    sink.write(at("2026-01-01T08"), NO_PIXELS)
    assert "No space left" in (tally.delivery().last_error or "")
    ballast.unlink()
    clock.now += SAVE_SECONDS
    sink.write(at("2026-01-01T08"), NO_PIXELS)
    assert hours(tiny_disk / FILE) == {"08": 3}


def test_a_folder_of_another_sink_or_of_nobody_is_refused(tmp_path: Path) -> None:
    with (
        opened(tmp_path),
        pytest.raises(BadInput, match="another sink writes there"),
        opened(tmp_path),
    ):
        pass
    for uri, words in (
        ("drift:", "^drift: names no folder$"),
        ("drift:/nowhere/a", "No such file"),
    ):
        with (
            pytest.raises(BadInput, match=words),
            open_sink(uri, SinkContext(threading.Event(), True, 30.0)),
        ):
            pass


def test_days_of_a_time_are_read_and_damaged_ones_named(tmp_path: Path) -> None:
    with opened(tmp_path) as (sink, _):
        for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
            sink.write(at(f"{day}T08"), NO_PIXELS)
    (tmp_path / "2026-01-02-aaaaaaaaaaaa.json").write_bytes(b"\0")
    (tmp_path / "2026-01-02-bbbbbbbbbbbb.json").symlink_to("/etc/passwd")
    answer = read_days(tmp_path, "2026-01-02", "2026-01-09")
    assert [day["day"] for day in answer["days"]] == ["2026-01-02", "2026-01-03"]
    assert len(answer["damaged"]) == 2
    assert (answer["first"], answer["last"]) == ("2026-01-01", "2026-01-03")


def test_counting_costs_little_of_a_frame(tmp_path: Path) -> None:
    """Only a gross loss can be told beside other work: the usual time is some 10 us."""
    sink = Aggregates(tmp_path, Tally("drift"))
    began = time.thread_time()
    for _ in range(5000):
        sink.write(RESULT, NO_PIXELS)
    assert (time.thread_time() - began) / 5000 < 0.001
