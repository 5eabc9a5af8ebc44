"""A release at work: it beats with a scanner and without one, and keeps its secrets."""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from devices import BadInput
from edge_runtime.bundle.trust import read_trusted
from edge_runtime.release.config import Config, SinkConfig, write_config
from edge_runtime.release.drift_files import DRIFT_FOLDER, day_files
from edge_runtime.release.layout import (
    EXAMINATION_LOCK,
    Layout,
    hold_lock,
    is_locked,
    set_link,
)
from edge_runtime.release.notify import NOTIFY_VARIABLE, Listener
from edge_runtime.release.tool import release_status
from edge_runtime.results.result import NO_NODULE
from edge_runtime.results.states import State
from edge_runtime.service.service import device_versions, run_service
from edge_runtime.service.update_lock import UpdateLock
from tests.conftest import free_port
from tests.edge_runtime.service.conftest import NAME
from tests.edge_runtime.sinks.conftest import tiny_disk  # noqa: F401  a fixture


def heard(
    layout: Layout,
    source: str,
    enough: set[str],
    monkeypatch: pytest.MonkeyPatch,
    roi: str = "",
    sinks: tuple[str, ...] = (),
) -> list[dict[str, str]]:
    """Serves until all states of `enough` were said; what the supervisor hears."""
    (layout.root / "config.toml").write_text(
        write_config(Config(source, roi, sink=tuple(map(SinkConfig, sinks))))
    )
    stop = threading.Event()
    beats: list[dict[str, str]] = []
    with Listener() as listener:
        monkeypatch.setenv(NOTIFY_VARIABLE, listener.address)
        thread = threading.Thread(target=run_service, args=(layout, NAME, stop))
        thread.start()
        until = time.monotonic() + 120
        while not enough <= {beat["STATUS"] for beat in beats} and time.monotonic() < until:
            if said := listener.receive(1):
                beats.append(said)
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert enough <= {beat["STATUS"] for beat in beats}
    return beats


def test_a_locator_searches_where_no_region_is_given(
    layout: Layout, shipped_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = layout.release(NAME) / "bundle.sonolite"
    bundle.write_bytes(shipped_path.read_bytes())
    key = shipped_path.parent / "demo_keys" / "demo.pem"
    (layout.root / "trusted" / "demo.pem").write_bytes(key.read_bytes())
    file = layout.state("results.jsonl")
    heard(layout, "phantom:", {"LIVE"}, monkeypatch, sinks=(f"jsonl:{file}",))
    results = [json.loads(line) for line in file.read_text().splitlines()]
    judged = [result for result in results if result["state"] == "LIVE"]
    assert judged
    assert all(result["reason"] in (None, NO_NODULE) for result in judged)


def test_a_scanner_that_is_seen_is_live_and_beats(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beats = heard(layout, "phantom:", {"LIVE"}, monkeypatch)
    assert {beat["MAINPID"] for beat in beats} == {str(os.getpid())}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["event"] for line in lines} == {"state", "session ended"}
    known = {"at", "event", "release", "bundle", "state", "read", "classified", "seconds", "why"}
    assert {name for line in lines for name in line} <= {*known, "not_judged"}
    ended = lines[-1]
    assert ended["read"] == ended["classified"] + sum(ended["not_judged"].values()) > 0
    assert not is_locked(layout.state(EXAMINATION_LOCK))


def test_sinks_get_the_results_and_the_status_tells_the_counts(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = layout.state("results.jsonl")
    sinks = (f"jsonl:{file}", f"webhook:http://127.0.0.1:{free_port()}/{'x' * 9}#send=results")
    heard(layout, "phantom:", {"LIVE"}, monkeypatch, sinks=sinks)
    results = [json.loads(line) for line in file.read_text().splitlines()]
    assert [result["sequence"] for result in results] == list(range(len(results)))
    with hold_lock(layout.state("supervisor.lock")):
        counts = release_status(layout)["sinks"]
    assert counts[0]["delivered"] == len(results) > 0
    assert counts[1]["waiting"] == len(results) + 1
    assert "Connection refused" in counts[1]["last_error"]
    assert "xxxxxxxxx" not in json.dumps(counts) + capsys.readouterr().out


def test_daily_aggregates_are_kept_without_a_picture_or_the_source(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard(layout, "phantom:?seed=4711", {"LIVE"}, monkeypatch, roi="167,190,108,100")
    (path,) = day_files(layout.state(DRIFT_FOLDER))
    record = json.loads(path.read_text())
    assert set(record) == {"schema", "bundle", "day", "hours"}
    frames = sum(sum(block["state"].values()) for block in record["hours"].values())
    nodules = sum(sum(block.get("label", {}).values()) for block in record["hours"].values())
    assert frames >= nodules > 0
    assert "4711" not in path.read_text()


def test_a_folder_for_aggregates_that_cannot_be_used_costs_no_picture(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout.state(DRIFT_FOLDER).write_text("a file")
    heard(layout, "phantom:", {"LIVE"}, monkeypatch)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (told,) = [each for each in events if each["event"] == "aggregates not kept"]
    assert "File exists" in told["why"]


def test_a_sink_that_cannot_be_opened_ends_a_trial_and_no_proven_release(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinks = ("jsonl:/nowhere/a",)
    config = Config("phantom:", sink=tuple(map(SinkConfig, sinks)))
    (layout.root / "config.toml").write_text(write_config(config))
    with pytest.raises(BadInput, match="there is no folder /nowhere"):
        run_service(layout, NAME, threading.Event())
    set_link(layout, "good", NAME)
    heard(layout, "phantom:", {"LIVE"}, monkeypatch, sinks=sinks)
    with hold_lock(layout.state("supervisor.lock")):
        (count,) = release_status(layout)["sinks"]
    assert "there is no folder /nowhere" in count["last_error"]


@pytest.mark.parametrize("uri", ["jsonl:-", "terminal:", "nothing:", "video:seen.mp4"])
def test_a_sink_that_is_not_for_a_service_is_refused_before_it_opens(
    layout: Layout, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(layout.root)
    config = Config("phantom:", sink=(SinkConfig(uri),))
    (layout.root / "config.toml").write_text(write_config(config))
    before = sorted(layout.root.iterdir())
    with pytest.raises(BadInput, match=r"not for a service|no such kind"):
        run_service(layout, NAME, threading.Event())
    assert sorted(layout.root.iterdir()) == before


def test_a_full_disk_ends_no_session_of_a_recording_in_a_service(
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    tiny_disk: Path,  # noqa: F811
    make_video: Callable[..., Path],
) -> None:
    with suppress(OSError), (tiny_disk / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass
    file = tiny_disk / "results.csv"
    video = str(make_video("sweep.avi", frames=5))
    heard(layout, video, {"LIVE"}, monkeypatch, sinks=(f"csv:{file}",))
    with hold_lock(layout.state("supervisor.lock")):
        (count,) = release_status(layout)["sinks"]
    assert count["given_up"] > 0
    assert "No space left on device" in count["last_error"]


def test_without_a_scanner_it_waits_and_beats(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard(layout, "igtl://nurse:secret@127.0.0.1:1/x", {"LOST"}, monkeypatch)
    said = capsys.readouterr().out
    assert '"no scanner"' in said
    assert "secret" not in said


def test_a_release_that_passed_forbids_older_ones(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = read_trusted(layout.root / "trusted").keys
    heard(layout, "phantom:", {"LIVE"}, monkeypatch)
    device_versions(layout).require_not_older(key, "demo", 0)
    set_link(layout, "good", NAME)
    heard(layout, "phantom:", {"LIVE"}, monkeypatch)
    with pytest.raises(BadInput, match="older than 4"):
        device_versions(layout).require_not_older(key, "demo", 0)


OUTSIDE = "0,0,4000,4000"


def test_on_trial_a_region_outside_the_screen_is_named(layout: Layout) -> None:
    (layout.root / "config.toml").write_text(write_config(Config("phantom:", OUTSIDE)))
    with pytest.raises(BadInput, match="lies outside the 640 x 480 screen"):
        run_service(layout, NAME, threading.Event())


def test_a_proven_release_waits_for_a_screen_that_its_region_lies_on(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_link(layout, "good", NAME)
    beats = heard(layout, "phantom:", {"LOST"}, monkeypatch, OUTSIDE)
    assert "LIVE" not in {beat["STATUS"] for beat in beats}
    assert '"no picture to judge"' in capsys.readouterr().out


@pytest.mark.parametrize("source", ["phantom:", "v4l2:///dev/nowhere"])
def test_a_model_that_is_refused_ends_a_proven_release_too_with_a_scanner_and_without_one(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    def refuse(*_: object) -> None:
        raise BadInput("answers the golden frames differently")

    set_link(layout, "good", NAME)
    (layout.root / "config.toml").write_text(write_config(Config(source)))
    monkeypatch.setattr("edge_runtime.models.backends.Classifier", refuse)
    stop = threading.Event()
    late = threading.Timer(60, stop.set)
    late.start()
    with pytest.raises(BadInput, match="golden frames"):
        run_service(layout, NAME, stop)
    late.cancel()


def test_a_configuration_that_is_wrong_is_named(layout: Layout) -> None:
    (layout.root / "config.toml").write_text('sorce = "0"')
    with pytest.raises(BadInput, match="setting 1 is none of source"):
        run_service(layout, NAME, threading.Event())


def test_an_examination_lasts_a_little_longer_than_its_last_live_picture(layout: Layout) -> None:
    lock = layout.state(EXAMINATION_LOCK)
    update_lock = UpdateLock(layout.root)
    update_lock.beat(0, State.SEARCHING)
    assert not is_locked(lock)
    update_lock.beat(1, State.LIVE)
    assert is_locked(lock)
    update_lock.beat(10.9, State.SEARCHING)
    assert is_locked(lock)
    update_lock.beat(11, State.SEARCHING)
    assert not is_locked(lock)
    update_lock.beat(12, State.LIVE)
    update_lock.end()
    assert not is_locked(lock)


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(layout: Layout) -> None:
    lock = layout.state(EXAMINATION_LOCK)
    lock.unlink()
    os.mkfifo(lock)
    UpdateLock(layout.root).beat(1, State.LIVE)
    assert is_locked(lock)


def test_a_machine_that_was_not_deployed_to_has_no_examinations(tmp_path: Path) -> None:
    update_lock = UpdateLock(tmp_path)
    update_lock.beat(0, State.LIVE)
    update_lock.end()
    assert list(tmp_path.iterdir()) == []
