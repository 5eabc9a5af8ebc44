"""The recorder: it never makes a live session wait, and says what it did not keep."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from devices import BadInput, Frame, Pixels
from devices.capture.phantom import Phantom
from devices.capture.record_format import RecordedFrame, RecordedGap, RecordEntry, RecordManifest
from devices.capture.record_writer import RecordWriter
from devices.capture.replay import Replay
from devices.capture.scripted import Scripted
from devices.capture.source_uri import SourceUri
from edge_runtime.bundle.archive import Bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.session import frame_recorder as module
from edge_runtime.session.assemble import assemble
from edge_runtime.session.frame_recorder import MIN_FREE, FrameRecorder, open_frame_recorder
from edge_runtime.session.record_settings import RecordSettings
from tests.conftest import Collected, wait_until

MANIFEST = RecordManifest(1, "0.1.0", "2026-01-01T00:00:00+00:00", "phantom:", True, 20.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
ENOUGH = 10**9


def frame(index: int) -> Frame:
    return Frame(PIXELS, index / 20, index, index / 20)


class Disk(RecordWriter):
    """A disk that writes a frame only once `free` is set."""

    free: threading.Event

    def append_frame(self, frame: Frame) -> None:
        assert self.free.wait(60)
        super().append_frame(frame)


@contextmanager
def recording(
    folder: Path,
    free: Callable[[], int] = lambda: 2 * MIN_FREE,
    limit: int = ENOUGH,
    live: bool = True,
    slow: threading.Event | None = None,
) -> Iterator[FrameRecorder]:
    writer: RecordWriter
    if slow is None:
        writer = RecordWriter(folder, MANIFEST)
    else:
        writer = Disk(folder, MANIFEST)
        writer.free = slow
    recorder = FrameRecorder(writer, live, limit, free)
    try:
        yield recorder
    finally:
        if slow is not None:
            slow.set()
        recorder.close()


def entries(folder: Path) -> list[RecordEntry]:
    with Replay(folder) as device:
        return list(device.entries())


def frames(folder: Path) -> list[int]:
    return [entry.index for entry in entries(folder) if isinstance(entry, RecordedFrame)]


def test_a_slow_disk_makes_gaps_and_nobody_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BYTES_WAITING", 3 * PIXELS.nbytes)
    folder, disk = tmp_path / "record", threading.Event()
    with recording(folder, slow=disk) as recorder:
        for index in range(10):  # returns although the disk has not written anything
            recorder.capture(frame(index))
        assert recorder.lost == 7
    assert frames(folder) == [0, 1, 2]
    assert entries(folder)[-1] == RecordedGap(frames=7)
    assert "note: the record has gaps: 7 frames could not be kept" in recorder.lines()[1]


def test_a_gap_stands_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_WAITING", PIXELS.nbytes)
    folder, disk = tmp_path / "record", threading.Event()
    with recording(folder, slow=disk) as recorder:
        recorder.capture(frame(0))
        recorder.capture(frame(1))
        recorder.lose()
        disk.set()
    kinds = [type(entry).__name__ for entry in entries(folder)]
    assert kinds == ["RecordedFrame", "RecordedGap", "RecordedLoss"]
    with Replay(folder) as device:
        list(device.entries())
        assert "gaps" in "".join(device.notes)


def test_a_frame_that_a_mark_leaves_no_room_for_is_missed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, disk = tmp_path / "record", threading.Event()
    with recording(folder, slow=disk) as recorder:
        recorder.capture(frame(0))
        wait_until(lambda: not recorder._waiting)  # the disk holds it
        monkeypatch.setattr(module, "ITEMS_WAITING", 1)
        recorder.capture(frame(1), region_changes=1)
        assert (recorder.lost, recorder._frames, recorder._bytes) == (1, 1, PIXELS.nbytes)
    assert frames(folder) == [0]


def test_a_recording_waits_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_WAITING", PIXELS.nbytes)
    folder, disk = tmp_path / "record", threading.Event()
    with recording(folder, live=False, slow=disk) as recorder:
        recorder.capture(frame(0))
        waiting = threading.Thread(target=recorder.capture, args=[frame(1)])
        waiting.start()
        disk.set()
        waiting.join()
    assert frames(folder) == [0, 1]
    assert recorder.lost == 0


def test_a_disk_that_never_answers_does_not_hold_a_recording_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BYTES_WAITING", PIXELS.nbytes)
    monkeypatch.setattr(module, "CLOSING_TIMEOUT", 0.01)
    with recording(tmp_path / "record", live=False, slow=threading.Event()) as recorder:
        for index in range(5):
            recorder.capture(frame(index))
        recorder.close()
        assert recorder.ended == "the disk does not answer"
        assert recorder.left_out == 5


def test_the_record_ends_at_its_limit(tmp_path: Path) -> None:
    folder = tmp_path / "record"
    with recording(folder, limit=3 * PIXELS.nbytes) as recorder:
        for index in range(5):
            recorder.capture(frame(index))
        wait_until(lambda: recorder.ended is not None)
        recorder.capture(frame(5))
    assert frames(folder) == [0, 1]
    assert "reached its limit" in recorder.lines()[-1]
    assert recorder.left_out == 4
    with Replay(folder) as device:
        list(device.entries())
        assert "ends before the session: it reached its limit" in "".join(device.notes)


def test_the_record_ends_before_the_disk_is_full(tmp_path: Path) -> None:
    free = iter([MIN_FREE, MIN_FREE - 1])
    folder = tmp_path / "record"
    with recording(folder, free=lambda: next(free)) as recorder:
        for index in range(3):
            recorder.capture(frame(index))
        wait_until(lambda: recorder.ended is not None)
    assert frames(folder) == [0]
    assert "only 1,000 MB are free on the disk" in recorder.lines()[-1]


def test_a_disk_that_is_full_ends_the_record_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "record"
    with recording(folder) as recorder:
        recorder.capture(frame(0))
        wait_until(lambda: recorder._writer.frames == 1)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, recorder._writer._frames)
        os.close(full)
        recorder.capture(frame(1))
        wait_until(lambda: recorder.ended is not None)
        recorder.capture(frame(2))
    assert frames(folder) == [0]
    assert recorder.left_out == 2
    assert "No space left on device" in recorder.lines()[-1]


def opened(folder: Path) -> None:
    with (
        Phantom(frames=1) as device,
        open_frame_recorder(folder, device, SourceUri("phantom:"), RecordSettings("demo")),
    ):
        pass


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        opened(tmp_path)


def test_a_folder_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no folder"):
        opened(tmp_path / "none" / "record")


def test_a_disk_with_little_room_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIN_FREE", 10**18)
    with pytest.raises(BadInput, match="MB are free on the disk"):
        opened(tmp_path / "record")
    assert not (tmp_path / "record").exists()


def test_the_name_of_the_source_holds_no_secret(tmp_path: Path) -> None:
    folder = tmp_path / "record"
    source = SourceUri("rtsp://user:hunter2@host/stream")
    with (
        Phantom(frames=1) as device,
        open_frame_recorder(folder, device, source, RecordSettings("demo")),
    ):
        pass
    assert all(b"hunter2" not in path.read_bytes() for path in folder.iterdir())


class Paced(Scripted):
    """A live device that shows a 720p screen thirty times a second."""

    def __init__(self, screens: list[Pixels], frames: int) -> None:
        super().__init__(itertools.islice(itertools.cycle(screens), frames), live=True, fps=30.0)
        self._began = time.monotonic()

    def read(self, timeout: float) -> Frame:
        time.sleep(max(0.0, self._began + self._index / self.fps - time.monotonic()))
        return super().read(timeout)


@pytest.mark.slow
def test_a_record_costs_a_live_session_nothing(tmp_path: Path, demo_bundle: Bundle) -> None:
    """Prints the figures of docs/record.md: sessions with and without a record take turns."""
    phantom = Phantom(width=1280, height=720, live=False)
    screens = [phantom.render(index) for index in range(20)]
    latencies: dict[bool, list[float]] = {False: [], True: []}
    judged: dict[bool, int] = {False: 0, True: 0}
    lost = 0
    for turn in range(12):
        records = turn % 2 == 1
        chain = FallbackChain(demo_bundle, demo_bundle.manifest.classifier, [CPU], any_picture=True)
        with ExitStack() as stack:
            device = stack.enter_context(Paced(screens, 150))
            session = assemble(device, chain, "334,285,216,150")
            recorder = None
            if records:
                folder = tmp_path / f"record{turn}"
                recorder = stack.enter_context(
                    open_frame_recorder(folder, device, SourceUri("0"), session.settings)
                )
            sink = Collected()
            session.run([sink], threading.Event(), frame_recorder=recorder)
        lost += recorder.lost if recorder else 0
        latencies[records] += [each.latency_ms.total for each in sink.results if each.nodules]
        judged[records] += len([each for each in sink.results if each.nodules])
    for records, name in ((False, "without"), (True, "with")):
        p50, p95 = np.percentile(latencies[records], [50, 95])
        print(f"| {name} | {judged[records]} of 900 | {p50:.1f} | {p95:.1f} |")
    ratio = np.median(latencies[True]) / np.median(latencies[False])
    print(f"ratio of the medians {ratio:.2f}, frames judged {judged[True] / judged[False]:.3f}")
    print(f"frames that were not kept: {lost}")
    assert judged[True] >= 0.95 * judged[False]
