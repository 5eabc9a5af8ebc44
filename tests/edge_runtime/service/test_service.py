"""A release at work: it beats with a scanner and without one, and keeps its secrets."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from devices import BadInput
from devices.capture.phantom import Phantom
from edge_runtime.bundle.trust import read_trusted, trusted_folder
from edge_runtime.release.config import Config, write_config
from edge_runtime.release.layout import (
    EXAMINATION_LOCK,
    RECORD,
    Layout,
    is_locked,
    make_folders,
    set_link,
)
from edge_runtime.release.notify import NOTIFY_VARIABLE, Listener
from edge_runtime.results.states import State
from edge_runtime.service.service import PacedRecording, device_versions, run_service
from edge_runtime.service.update_lock import UpdateLock

NAME = "0a1b2c3d4e5f"


@pytest.fixture
def layout(tmp_path: Path, demo_path: Path) -> Layout:
    """A device with the shipped classifier as a release."""
    its = Layout(tmp_path / "root")
    its.root.mkdir()
    make_folders(its)
    folder = its.release(NAME)
    folder.mkdir()
    (folder / "bundle.sonolite").write_bytes(demo_path.read_bytes())
    (folder / RECORD).write_text("{}")
    (its.root / "trusted" / "own.pem").write_bytes((trusted_folder() / "own.pem").read_bytes())
    set_link(its, "current", NAME)
    return its


def heard(
    layout: Layout, source: str, enough: set[str], monkeypatch: pytest.MonkeyPatch, roi: str = ""
) -> list[dict[str, str]]:
    """Serves until all states of `enough` were said; what the supervisor hears."""
    (layout.root / "config.toml").write_text(write_config(Config(source, roi)))
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
    with pytest.raises(BadInput, match="older than 2"):
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


def test_a_model_that_is_refused_ends_a_proven_release_too(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BadInput("answers the golden frames differently")

    set_link(layout, "good", NAME)
    (layout.root / "config.toml").write_text(write_config(Config("phantom:")))
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


def test_a_recording_keeps_its_pace() -> None:
    with PacedRecording(Phantom(fps=20, live=False)) as recording:
        began = time.monotonic()
        frames = [recording.read(1).index for _ in range(8)]
        assert time.monotonic() - began >= 7 / 20 - 0.005
    assert frames == list(range(8))


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


def test_a_machine_that_was_not_deployed_to_has_no_examinations(tmp_path: Path) -> None:
    update_lock = UpdateLock(tmp_path)
    update_lock.beat(0, State.LIVE)
    update_lock.end()
    assert list(tmp_path.iterdir()) == []
