"""Any byte may stand in any file of the state: the device starts, judges its trial, goes back."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.release.layout import (
    CONFIG,
    RECORD,
    Layout,
    Refused,
    log_event,
    read_event_log,
    read_link,
)
from edge_runtime.release.prune import find_surplus, remove_surplus
from edge_runtime.release.switch import (
    damaged_files,
    fail_trial,
    pass_trial,
    read_trial,
    release_to_start,
    repair_state,
    roll_back,
    switch_release,
)
from edge_runtime.release.tool import release_status
from tests.edge_runtime.sinks.conftest import tiny_disk  # noqa: F401  a fixture

Damage = Callable[[Path], object]


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


def test_a_device_that_has_never_switched_has_nothing_to_repair(
    layout: Layout, staged: Callable[[str], str]
) -> None:
    staged("lives")
    (layout.root / CONFIG).unlink()  # the first switch writes it
    repair_state(layout)
    assert read_link(layout, "current") is None
    assert not read_event_log(layout)


def test_a_full_disk_keeps_no_device_from_going_back(
    layout: Layout,
    good: str,
    staged: Callable[[str], str],
    tiny_disk: Path,  # noqa: F811
) -> None:
    switch_release(layout, staged("hangs"))
    device = Layout(tiny_disk / "root")
    shutil.copytree(layout.root, device.root, symlinks=True)
    trial = read_trial(device)
    assert trial is not None
    with suppress(OSError), open(tiny_disk / "fill", "wb", buffering=0) as file:
        while file.write(b"0" * 512):
            pass
    fail_trial(device, trial, "it hangs")
    assert (read_link(device, "current"), read_trial(device)) == (good, None)


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


DEEP = b"[" * 100_000
DAMAGE: dict[str, Damage] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: replace_by(path, b""),
    "zeros": lambda path: replace_by(path, bytes(4096)),
    "not UTF-8": lambda path: replace_by(path, b"\xff\xfe{}"),
    "half": lambda path: replace_by(path, path.read_bytes()[:20] if path.is_file() else b"x"),
    "deep": lambda path: replace_by(path, DEEP),
    "long number": lambda path: replace_by(path, b'{"a": ' + b"9" * 5000 + b"}"),
    "list": lambda path: replace_by(path, b"[1, 2]"),
    "number": lambda path: replace_by(path, b"7"),
    "null": lambda path: replace_by(path, b"null"),
    "strange object": lambda path: replace_by(path, b'{"release": ["x"], "event": 3}'),
    "strange record": lambda path: replace_by(
        path, b'{"bundle": "a", "sha256": "b", "environment": [1]}'
    ),
    "huge": lambda path: replace_by(path, b"x" * (5 << 20)),
    "folder": put_folder,
    "pipe": put_pipe,
    "link to nothing": lambda path: put_link(path, "nothing here"),
    "link to itself": lambda path: put_link(path, path.name),
    "link elsewhere": lambda path: put_link(path, "/etc/passwd"),
}
FILES = (
    "state/log.jsonl",
    "state/trial.json",
    "state/status.json",
    "state/versions.json",
    "state/current",
    "state/previous",
    "state/good",
    "state/switch.lock",
    "state/log.lock",
    "state/supervisor.lock",
    "trusted/own.pem",
    "releases/NEW/release.json",
    "releases/OLD/release.json",
    "environments/ENV/complete",
)


def replace_by(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


@pytest.fixture
def on_trial(layout: Layout, good: str, staged: Callable[[str], str]) -> tuple[str, str]:
    """The release before, and the one that is on trial."""
    new = staged("new")
    switch_release(layout, new)
    release_to_start(layout)
    layout.state("status.json").write_text(json.dumps({"release": new, "state": "LIVE"}))
    layout.state("versions.json").write_text("{}")
    (layout.root / "trusted" / "own.pem").write_text("a key")
    (layout.root / "releases" / "pipe").mkdir()
    return good, new


def path_of(layout: Layout, name: str, on_trial: tuple[str, str]) -> Path:
    environment = next(layout.environment("").iterdir()).name
    old, new = on_trial
    words = name.replace("NEW", new).replace("OLD", old).replace("ENV", environment)
    return layout.root / words


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_leaves_a_device_that_starts_and_goes_back(
    file: str, kind: str, layout: Layout, on_trial: tuple[str, str]
) -> None:
    old, new = on_trial
    DAMAGE[kind](path_of(layout, file, on_trial))
    json.dumps(release_status(layout))
    find_surplus(layout)
    release, trial = release_to_start(layout)
    assert release in on_trial
    assert damaged_files(layout) == []
    if file == "state/trial.json" and kind != "gone":
        assert trial is not None
        assert (trial.release, trial.back) == (new, old)
        assert "damaged" in [entry["event"] for entry in read_event_log(layout)]
        assert layout.state("trial.json.damaged").exists() or "link" in kind
    if trial is not None:
        assert release == new
        fail_trial(layout, trial, "for a test")
        assert read_link(layout, "current") == old
    json.dumps(release_status(layout))
    remove_surplus(layout)
    assert release_to_start(layout)[0] in on_trial


@pytest.mark.parametrize("file", FILES)
def test_every_action_of_the_tool_ends_in_a_value_or_one_line(
    file: str, layout: Layout, on_trial: tuple[str, str], tmp_path: Path
) -> None:
    kinds = ("not UTF-8", "deep", "folder", "link to itself")
    for kind in kinds[FILES.index(file) % 2 :: 2]:
        there = Layout(tmp_path / kind)
        shutil.copytree(layout.root, there.root, symlinks=True)
        DAMAGE[kind](path_of(there, file, on_trial))
        for words in (
            ("status",),
            ("log",),
            ("switch", on_trial[1], "--force"),
            ("prune",),
            ("back",),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "edge_runtime.release", words[0], there.root, *words[1:]],
                capture_output=True,
                text=True,
                check=False,
                input="",
                timeout=60,
            )
            assert done.returncode in (0, 1, 2), done
            assert "Traceback" not in done.stderr, done


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["release", "back", "before", "seconds", "state", "starts", "event"]
                    ),
                    inner,
                    max_size=7,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
    file=st.sampled_from(["log.jsonl", "trial.json", "status.json"]),
)
def test_any_content_is_a_value_or_set_aside(
    content: bytes, file: str, layout: Layout, on_trial: tuple[str, str]
) -> None:
    path = layout.state(file)
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(content)
    json.dumps(release_status(layout))
    repair_state(layout)
    trial = read_trial(layout)
    if trial is not None:
        json.dumps(asdict(trial))
    log_event(layout, "written")
    assert read_event_log(layout)[-1]["event"] == "written"
    path.unlink(missing_ok=True)
    if before is not None:
        path.write_bytes(before)


def test_a_damaged_link_of_the_running_release_leaves_the_good_one(
    layout: Layout, good: str
) -> None:
    layout.state("current").unlink()
    layout.state("current").write_bytes(b"\0")
    assert release_to_start(layout) == (good, None)
    assert [entry["event"] for entry in read_event_log(layout)][-2:] == ["damaged", "repaired"]


def test_a_release_without_a_sound_record_is_not_switched_to(
    layout: Layout, good: str, staged: Callable[[str], str]
) -> None:
    new = staged("new")
    (layout.release(new) / RECORD).write_bytes(DEEP)
    with pytest.raises(Refused, match="there is no release"):
        switch_release(layout, new)
    with pytest.raises(Refused, match="no other release"):
        roll_back(layout, 0, False)


def test_a_file_among_the_releases_goes_with_what_can_be_removed(layout: Layout, good: str) -> None:
    layout.release("stray").touch()
    assert remove_surplus(layout) == ["stray"]
    assert [path.name for path in layout.release("").iterdir()] == [good]


def test_the_links_of_an_earlier_version_are_taken_over(layout: Layout, good: str) -> None:
    from edge_runtime.release.supervise import take_over_links

    for name in ("current", "previous", "good"):
        layout.state(name).unlink()
        (layout.root / name).symlink_to(Path("releases", good))
    assert read_link(layout, "good") == good
    take_over_links(layout)
    assert layout.link("current") == layout.state("current")
    assert {read_link(layout, name) for name in ("current", "previous", "good")} == {good}
    remove_surplus(layout)
    assert not (layout.root / "current").is_symlink()


def test_a_trial_that_passed_is_noted_where_the_log_is_a_folder(
    layout: Layout, on_trial: tuple[str, str]
) -> None:
    DAMAGE["folder"](layout.state("log.jsonl"))
    trial = read_trial(layout)
    assert trial is not None
    pass_trial(layout, trial)
    assert read_link(layout, "good") == on_trial[1]
    assert read_event_log(layout)[-1]["event"] == "passed"
