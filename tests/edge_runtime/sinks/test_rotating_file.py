"""Files of results are bounded, whole, and honest about a full disk."""

import csv
import json
import os
import stat
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices import BadInput
from edge_runtime.sinks.csv_rows import CsvEncoder, csv_rows
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.sinks.queue import SinkQueue
from edge_runtime.sinks.rotating_file import RotatingFile, Rotation
from tests.edge_runtime.results.examples import NODULE, RESULT


def lines(*paths: Path) -> list[str]:
    return [line for path in paths for line in path.read_text().splitlines()]


def write_all(file: RotatingFile, numbers: Iterable[int]) -> None:
    for number in numbers:
        file.append(b"%0999d\n" % number)


def test_a_full_file_makes_room_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = RotatingFile(path, Rotation(max_bytes=8, keep=2))
    for number in range(10):
        file.append(b"%03d\n" % number)
    file.close()
    names = [tmp_path / "a.2", tmp_path / "a.1", path]
    assert sorted(tmp_path.iterdir()) == sorted(names)
    assert lines(*names) == ["004", "005", "006", "007", "008", "009"]


def test_a_file_holds_one_period_even_across_sessions(tmp_path: Path) -> None:
    path = tmp_path / "a"
    times = iter([0.0, 10.0, 99.0])
    daily = Rotation(max_seconds=100)
    file = RotatingFile(path, daily, wall_clock=lambda: next(times))
    file.append(b"1\n")
    file.append(b"2\n")
    file.close()
    assert not (tmp_path / "a.1").exists()
    later = path.stat().st_mtime + 100
    file = RotatingFile(path, daily, wall_clock=lambda: later)
    file.append(b"3\n")
    file.close()
    assert (lines(tmp_path / "a.1"), lines(path)) == (["1", "2"], ["3"])


def test_every_file_begins_with_the_head(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = RotatingFile(path, Rotation(max_bytes=10), b"head\n")
    file.append(b"one\n")
    file.append(b"two\n")
    file.close()
    assert (lines(tmp_path / "a.1"), lines(path)) == (["head", "one"], ["head", "two"])
    with pytest.raises(BadInput, match="begins with other columns"):
        RotatingFile(path, Rotation(), b"other\n")


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("content", ["to do:\nwrite a letter", '{"a": 1}\n'])
def test_the_file_of_somebody_else_is_refused_and_stays_as_it_was(
    tmp_path: Path, kind: str, content: str
) -> None:
    path = tmp_path / "a"
    path.write_text(content)
    with (
        pytest.raises(BadInput, match="choose another name"),
        open_sink(f"{kind}:{path}", SinkContext(threading.Event(), True, 30.0)),
    ):
        pass
    assert path.read_text() == content


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_results_are_for_their_owner_alone_and_come_to_the_end(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    for number in range(2):
        with open_sink(f"{kind}:{path}", SinkContext(threading.Event(), True, 30.0)) as sink:
            sink.write(replace(RESULT, sequence=number), np.zeros((4, 4), np.uint8))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(lines(path)) == 2 + (kind == "csv")


@pytest.mark.parametrize(("kind", "cut"), [("jsonl", 5), ("csv", 30)])
def test_a_first_line_that_a_power_cut_broke_off_is_written_anew(
    tmp_path: Path, kind: str, cut: int
) -> None:
    path = tmp_path / "a"
    written: list[bytes] = []
    for _ in range(2):
        with open_sink(f"{kind}:{path}", SinkContext(threading.Event(), True, 30.0)) as sink:
            sink.write(RESULT, np.zeros((4, 4), np.uint8))
        written.append(path.read_bytes())
        path.write_bytes(written[0][:cut])
    assert written[0] == written[1]


def test_one_sink_alone_writes_to_a_file(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "a", Rotation())
    with pytest.raises(BadInput, match="another sink writes to it"):
        RotatingFile(tmp_path / "a", Rotation())
    file.close()
    RotatingFile(tmp_path / "a", Rotation()).close()


def test_a_line_that_a_power_cut_broke_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one\ntw")
    file = RotatingFile(path, Rotation())
    file.append(b"three\n")
    file.close()
    assert lines(path) == ["one", "tw", "three"]


def test_a_full_disk_takes_a_line_whole_or_not_at_all(tiny_disk: Path) -> None:
    path, ballast = tiny_disk / "a", tiny_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    file = RotatingFile(path, Rotation())
    numbers = iter(range(1000))
    with pytest.raises(BadInput, match="No space left on device"):
        write_all(file, numbers)
    written = next(numbers) - 1
    ballast.unlink()
    file.append(b"%0999d\n" % 5000)
    file.close()
    assert [int(line) for line in lines(path)] == [*range(written), 5000]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_live_session_outlives_a_full_disk_and_counts_what_it_cost(
    tiny_disk: Path, kind: str
) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    with open_sink(f"{kind}:{tiny_disk}/a", SinkContext(threading.Event(), True, 30.0)) as sink:
        queue = SinkQueue(sink, live=True)
        for number in range(400):
            queue.put(replace(RESULT, sequence=number), np.zeros((4, 4), np.uint8))
        while queue.tally.delivery().waiting:
            threading.Event().wait(0.01)
        ballast.unlink()
        queue.put(replace(RESULT, sequence=400), np.zeros((4, 4), np.uint8))
        queue.close()
    delivery = queue.tally.delivery()
    assert queue.error is None
    assert delivery.given_up > 50
    assert delivery.delivered + delivery.given_up == 401
    assert (delivery.last_error or "").endswith("No space left on device")
    text = lines(tiny_disk / "a")
    assert len(text) == delivery.delivered + (kind == "csv")
    assert "400" in text[-1]


def test_a_recording_whose_results_do_not_fit_ends_with_the_reason(tiny_disk: Path) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(200_000))
    with open_sink(f"jsonl:{tiny_disk}/a", SinkContext(threading.Event(), False, 30.0)) as sink:
        queue = SinkQueue(sink, live=False)
        for number in range(400):
            queue.put(replace(RESULT, sequence=number), np.zeros((4, 4), np.uint8))
        queue.close()
    assert "No space left on device" in str(queue.error)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("max_mb=0", "max_mb is a number from 0.001"),
        ("max_mb=much", "max_mb is a number from 0.001"),
        ("max_hours=nan", "max_hours is a number"),
        ("keep=-1", "keep is a number from 0"),
        ("keep=1&keep=2", "keep needs one value"),
        ("keep=", "keep needs one value"),
        ("size=1", "option 1 is none of max_mb, max_hours, keep"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: str, why: str) -> None:
    uri = f"jsonl:{tmp_path}/a?{options}"
    with (
        pytest.raises(BadInput) as raised,
        open_sink(uri, SinkContext(threading.Event(), True, 30.0)),
    ):
        pass
    assert str(raised.value).startswith(f"jsonl:{tmp_path}/a: {why}")


def test_a_sink_without_a_name_is_told() -> None:
    context = SinkContext(threading.Event(), True, 30.0)
    with pytest.raises(BadInput, match=r"^jsonl: names no file$"), open_sink("jsonl:", context):
        pass


def test_a_row_stands_for_each_nodule_and_computes_nothing() -> None:
    second = replace(NODULE, track=2, label=None, reason="=cmd|' /C calc'!A0", smoothed=None)
    rows = csv_rows(replace(RESULT, nodules=(NODULE, second), file='a,"b".png'))
    first, other = csv.reader(CsvEncoder().encode(rows).decode().splitlines())
    assert first[5:12] == ["1", "malignant", "", "malignant", "0.8", "0.7", "100"]
    assert other[5:12] == ["2", "", "'=cmd|' /C calc'!A0", "", "", "", "100"]
    assert first[-2:] == ['a,"b".png', "research use only, not for diagnosis"]


def test_a_pipe_takes_results_as_a_file_does(tmp_path: Path) -> None:
    read, write = os.pipe()
    with open_sink(
        f"jsonl:/dev/fd/{write}?max_mb=0.001", SinkContext(threading.Event(), True, 30.0)
    ) as sink:
        for number in range(5):
            sink.write(replace(RESULT, sequence=number), np.zeros((4, 4), np.uint8))
    os.close(write)
    with open(read) as pipe:
        assert [json.loads(line)["sequence"] for line in pipe] == list(range(5))
