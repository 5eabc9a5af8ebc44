"""Records as a source: what was kept comes back, and a hostile folder is refused in one line."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from devices import BadInput, EndOfRecording, Frame
from devices.capture import open_device
from devices.capture.kinds import RECORD_MANIFEST
from devices.capture.record_format import (
    RECORD_FRAMES,
    RECORD_INDEX,
    RecordedEnd,
    RecordedFrame,
    RecordManifest,
)
from devices.capture.record_writer import RecordWriter
from devices.capture.replay import Replay

MANIFEST = RecordManifest(1, "0.1.0", "2026-01-01T00:00:00+00:00", "v4l2:///dev/video0", True, 20.0)
DICE = np.random.default_rng(0)
FRAMES = [
    Frame(DICE.integers(0, 256, (48, 64, 3), np.uint8), 100.125, 0, 100.125),
    Frame(DICE.integers(0, 256, (48, 64), np.uint8), 100.5, 3, None, "a.png"),
    Frame(DICE.integers(0, 256, (36, 40, 3), np.uint8), 101.0, 4, 101.0),
]


def write_record(folder: Path) -> Path:
    writer = RecordWriter(folder, MANIFEST)
    for frame in FRAMES:
        writer.append_frame(frame)
    writer.append(RecordedEnd())
    writer.close()
    return folder


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return write_record(tmp_path / "record")


def play(folder: Path) -> list[Frame]:
    with Replay(folder) as device:
        return [device.frame(each) for each in device.entries() if isinstance(each, RecordedFrame)]


def test_every_frame_comes_back_with_its_time(record: Path) -> None:
    for before, after in zip(FRAMES, play(record), strict=True):
        assert np.array_equal(before.pixels, after.pixels)
        assert before.pixels.shape == after.pixels.shape
        assert (before.captured_at, before.index, before.timestamp, before.name) == (
            after.captured_at,
            after.index,
            after.timestamp,
            after.name,
        )


def test_a_record_is_a_source_like_any_recording(record: Path) -> None:
    with open_device(str(record), lambda: 7.0) as device:
        assert isinstance(device, Replay)
        assert (device.live, device.fps) == (False, 20.0)
        assert [device.read(1.0).captured_at for _ in FRAMES] == [7.0, 7.0, 7.0]
        with pytest.raises(EndOfRecording):
            device.read(1.0)
        assert not device.notes


def test_only_its_owner_can_read_a_record(record: Path) -> None:
    assert stat.S_IMODE(record.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in record.iterdir()} == {0o600}


def test_nothing_is_overwritten(record: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        RecordWriter(record, MANIFEST)


def test_a_record_that_was_cut_off_is_played_up_to_its_last_whole_frame(record: Path) -> None:
    index = record / RECORD_INDEX
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:2]) + lines[2][:30])
    with Replay(record) as device:
        assert [device.read(1.0).index for _ in range(2)] == [0, 3]
        with pytest.raises(EndOfRecording):
            device.read(1.0)
        assert "line 3 of index.jsonl is broken (cut off)" in "".join(device.notes)


def test_a_record_without_its_last_line_says_so(record: Path) -> None:
    index = record / RECORD_INDEX
    index.write_bytes(b"".join(index.read_bytes().splitlines(keepends=True)[:-1]))
    with Replay(record) as device:
        assert len(list(device.entries())) == 3
        assert "cut off" in "".join(device.notes)


def rewrite(record: Path, **entries: object) -> None:
    """Changes entries of the first frame."""
    index = record / RECORD_INDEX
    first, *rest = index.read_text().splitlines(keepends=True)
    index.write_text(json.dumps(json.loads(first) | entries) + "\n" + "".join(rest))


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"width": 65}, "another size"),
        ({"height": 47}, "another size"),
        ({"channels": 1}, "another size|too many"),
        ({"width": 60_000, "height": 60_000}, "more than"),
        ({"size": 2**40}, "too many"),
        ({"size": 0}, "damaged"),
        ({"offset": 1}, "damaged"),
        ({"offset": 2**53}, "missing"),
    ],
)
def test_a_frame_that_is_not_what_its_line_says_is_refused(
    record: Path, entries: dict[str, object], problem: str
) -> None:
    rewrite(record, **entries)
    with pytest.raises(BadInput, match=problem) as refusal:
        play(record)
    assert "frame 0" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_frames_that_are_missing_are_refused(record: Path) -> None:
    os.truncate(record / RECORD_FRAMES, 100)
    with pytest.raises(BadInput, match=r"frame 0: its pixels are missing in frames\.bin"):
        play(record)


def by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", [RECORD_FRAMES, RECORD_INDEX])
@pytest.mark.parametrize("replace", [by_link, by_pipe, by_folder, Path.unlink])
def test_a_member_that_is_no_regular_file_is_refused(
    record: Path, name: str, replace: Callable[[Path], None]
) -> None:
    replace(record / name)
    with pytest.raises(BadInput, match=name):
        Replay(record)


@pytest.mark.parametrize("replace", [by_pipe, by_folder])
def test_a_manifest_that_is_no_regular_file_is_refused(
    record: Path, replace: Callable[[Path], None]
) -> None:
    replace(record / RECORD_MANIFEST)
    with pytest.raises(BadInput, match=RECORD_MANIFEST):
        Replay(record)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"schema": 2}, "newer sonolite"),
        ({"schema": 0}, "schema"),
        ({"fps": 0}, "fps"),
        ({"fps": 1e300}, "fps"),
        ({"live": "yes"}, "live"),
        ({"path": "/etc/passwd"}, "path: there is no such entry"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(
    record: Path, entries: dict[str, object], problem: str
) -> None:
    path = record / RECORD_MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    with pytest.raises(BadInput, match=problem):
        Replay(record)
