"""`sonolite device drift`: twelve hours of twelve necks a day, judged by real sessions.

The first day is the reference. On the second day other necks are seen in the same way, and on the
third day by a scanner with another gain.
"""

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from devices import BadInput, Pixels
from devices.capture.phantom import Phantom
from edge_runtime.bundle.archive import GATE, Bundle, list_members, write_bundle
from edge_runtime.bundle.signing import read_signing_key
from edge_runtime.deploy.drift import (
    MAX_DRIFT_ANSWER,
    DriftComparison,
    DriftDays,
    Period,
    compare_days,
    parse_days,
)
from edge_runtime.deploy.pack import pack_tool
from edge_runtime.models.backends import FallbackChain
from edge_runtime.release.drift_files import DRIFT_FOLDER, device_days
from edge_runtime.release.layout import RECORD, TOOL, Layout, set_link
from edge_runtime.results.result import Result
from edge_runtime.results.stability import Stability
from edge_runtime.session.assemble import assemble
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.sinks.sink import Sink
from tests.conftest import Outcome, Shared, refused, sonolite
from tests.edge_runtime.deploy.conftest import Far

HOURS, FRAMES = 12, 4
RELEASE = "0a1b2c3d4e5f"
REFERENCE, UNCHANGED, CHANGED = "2026-01-01", "2026-01-02", "2026-01-03"


class OtherGain(Phantom):
    """A scanner whose gain is turned up and whose range is smaller."""

    def render(self, index: int) -> Pixels:
        return np.asarray(cv2.convertScaleAbs(super().render(index), alpha=0.5, beta=90), np.uint8)


class AtHour:
    """Moves results to an hour, as if the session had run then."""

    wants_pixels, latest_only = False, False

    def __init__(self, sink: Sink, moment: str) -> None:
        self._sink, self._moment = sink, moment

    def write(self, result: Result, pixels: Pixels) -> None:
        self._sink.write(replace(result, captured_utc=f"{self._moment}:00:00+00:00"), pixels)


def examine(bundle: Bundle, folder: Path) -> None:
    """Three days of sessions into a folder."""
    chain = FallbackChain(bundle, bundle.manifest.classifier, any_picture=False)
    days = ((REFERENCE, Phantom), (UNCHANGED, Phantom), (CHANGED, OtherGain))
    with open_sink(f"drift:{folder}", SinkContext(threading.Event(), False, 1.0)) as sink:
        for number, (day, probe) in enumerate(days):
            for hour in range(HOURS):
                seed, kind = 100 * number + hour, ("benign", "malignant")[hour % 2]
                with probe(seed, 1.0, FRAMES, 320, 240, kind, live=False) as device:
                    session = assemble(device, chain, "60,85,80,80")
                    session.run([AtHour(sink, f"{day}T{hour:02}")], threading.Event())


@pytest.fixture(scope="module")
def folder(shared: Shared, demo_bundle: Bundle) -> Path:
    return shared("drift", lambda made: examine(demo_bundle, made / "days")) / "days"


def drift(target: str | Path, day: str, *more: str | Path) -> Outcome:
    return sonolite("device", "drift", target, "--since", day, "--until", day, *more)


def measures(outcome: Outcome) -> dict[str, dict[str, Any]]:
    (answer,) = json.loads(outcome.stdout)
    return {each["measure"]: each for each in answer["measures"]}


def test_the_same_scanner_has_not_changed(folder: Path) -> None:
    done = drift(folder, UNCHANGED, "--reference", REFERENCE, "--json")
    assert done.code == 0, done
    compared = measures(done)
    assert compared["out-of-scope score"]["blocks"] == HOURS
    assert compared["out-of-scope score"]["count"] > HOURS
    assert "a change" not in {each["verdict"] for each in compared.values()}


def test_another_gain_is_noticed(folder: Path) -> None:
    done = drift(folder, CHANGED, "--reference", REFERENCE)
    assert done.code == 1, done
    assert "a change of" in done.stderr
    assert "out-of-scope score" in done.stderr
    assert f"reference: {REFERENCE} to {REFERENCE} of this device" in done.stdout


def test_a_simulated_neck_is_unlike_the_images_of_the_packaged_bundle(
    folder: Path, shipped_path: Path
) -> None:
    done = drift(folder, UNCHANGED, "--bundle", shipped_path, "--json")
    assert done.code == 1, done
    (answer,) = json.loads(done.stdout)
    assert "559 images of its test split in 13 groups, by int8" in answer["reference"]
    assert measures(done)["out-of-scope score"]["verdict"] == "a change"
    assert measures(done)["state"]["verdict"] == "no reference"


def with_gate(bundle: Bundle, path: Path, reference: object) -> Path:
    """A bundle with the same models and another reference."""
    contents = {name: bundle.read(name) for name in bundle.manifest.members}
    contents[GATE] = json.dumps(json.loads(contents[GATE]) | {"reference": reference}).encode()
    manifest = replace(bundle.manifest, members=list_members(contents))
    write_bundle(path, manifest, contents, read_signing_key(None))
    return path


@pytest.fixture(scope="module")
def referred(folder: Path, demo_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the sessions with the first day as the reference."""
    (day,) = folder.glob(f"{REFERENCE}-*.json")
    blocks = list(json.loads(day.read_text())["hours"].values())
    reference = {"variant": "int8", "split": "test", "images": 48, "groups": 12, "blocks": blocks}
    path = tmp_path_factory.mktemp("referred") / "referred.sonolite"
    return with_gate(demo_bundle, path, reference)


def test_the_reference_of_a_bundle_is_compared_with(folder: Path, referred: Path) -> None:
    assert drift(folder, UNCHANGED, "--bundle", referred).code == 0
    done = drift(folder, CHANGED, "--bundle", referred)
    assert done.code == 1, done
    assert "48 images of its test split in 12 groups, by int8" in done.stdout
    assert "images of the gate" in done.stderr


@pytest.fixture
def device(folder: Path, tmp_path: Path, demo_bundle: Bundle) -> Layout:
    """A device with the tool, those days, and the bundle that ran."""
    layout = Layout(tmp_path / "root")
    layout.root.mkdir()
    (layout.root / TOOL).write_bytes(pack_tool())
    subprocess.run([sys.executable, "-I", layout.root / TOOL, "prepare", layout.root], check=True)
    shutil.copytree(folder, layout.state(DRIFT_FOLDER))
    release = layout.release(RELEASE)
    release.mkdir()
    shutil.copy(demo_bundle.path, release / "bundle.sonolite")
    (release / RECORD).write_text(json.dumps({"bundle": f"{demo_bundle.id} int8"}))
    set_link(layout, "current", release.name)
    return layout


def test_a_device_is_asked_over_ssh(far: Far, device: Layout, referred: Path) -> None:
    shutil.copy(referred, device.release(RELEASE) / "bundle.sonolite")
    done = drift(far.address, CHANGED, "--root", device.root, "--ssh", far.ssh, "--json")
    assert done.code == 1, done
    assert measures(done)["out-of-scope score"]["verdict"] == "a change"


def test_a_fleet_is_asked_and_a_device_that_fails_costs_the_others_nothing(
    far: Far, device: Layout, tmp_path: Path
) -> None:
    fleet = tmp_path / "fleet.toml"
    entry = f'[[device]]\naddress = "{far.address}"\nroot = '
    text = f'ssh = "{far.ssh}"\n{entry}"{device.root}"\n{entry}"{tmp_path / "none"}"\n'
    fleet.write_text(text)
    done = drift(fleet, UNCHANGED, "--reference", REFERENCE, "--json")
    assert done.code == 1, done
    first, second = json.loads(done.stdout)
    assert first["measures"]
    assert "nothing was deployed here" in second["error"]
    assert "a device failed" in done.stderr


def compared(device: Layout, day: str, earlier: str | None = None) -> DriftComparison:
    """The same without SSH."""

    def ask(since: str, until: str) -> DriftDays:
        return parse_days(json.dumps(device_days(device, since, until)), "bed-1")

    return compare_days(
        ask, Period(day, day), None if earlier is None else Period(earlier, earlier)
    )


def test_a_device_tells_the_reference_of_the_bundle_that_runs(
    device: Layout, referred: Path, demo_bundle: Bundle
) -> None:
    shutil.copy(referred, device.release(RELEASE) / "bundle.sonolite")
    answer = compared(device, UNCHANGED)
    assert answer.bundle == demo_bundle.id
    assert "in 12 groups" in answer.reference
    assert Stability.CHANGE not in {shift.verdict for shift in answer.shifts}


def test_a_bundle_without_a_reference_is_told(
    device: Layout, demo_bundle: Bundle, tmp_path: Path
) -> None:
    bare = with_gate(demo_bundle, tmp_path / "bare.sonolite", reference=None)
    shutil.copy(bare, device.release(RELEASE) / "bundle.sonolite")
    with pytest.raises(BadInput, match=r"the bundle has no reference; convert it again"):
        compared(device, UNCHANGED)


def test_days_of_another_bundle_are_not_compared(device: Layout) -> None:
    record = {"bundle": "other 1 0123456789ab int8"}
    (device.release(RELEASE) / RECORD).write_text(json.dumps(record))
    with pytest.raises(BadInput, match=f"no aggregates of other 1 0123456789ab.*{REFERENCE} to"):
        compared(device, UNCHANGED)


def test_a_damaged_day_is_told_and_the_others_count(device: Layout) -> None:
    """One is no JSON; one is JSON of counts that nobody can have counted."""
    folder = device.state(DRIFT_FOLDER)
    (folder / f"{UNCHANGED}-aaaaaaaaaaaa.json").write_bytes(b"\0" * 99)
    (folder / f"{UNCHANGED}-bbbbbbbbbbbb.json").write_text('{"day": "\\u001b[31m", "hours": 7}')
    answer = compared(device, UNCHANGED, REFERENCE)
    assert answer.notes[0] == f"damaged, and not counted: {UNCHANGED}-aaaaaaaaaaaa.json"
    assert len(answer.notes) == 2
    (folder / f"{REFERENCE}-cccccccccccc.json").write_bytes(b"\0" * 99)
    told = compared(device, UNCHANGED, REFERENCE).notes
    assert f"damaged, and not counted: {REFERENCE}-cccccccccccc.json" in told
    assert len(set(told)) == len(told)
    done = drift(folder, UNCHANGED, "--reference", REFERENCE)
    assert done.code == 0, done
    assert "\x1b" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--reference", "yesterday"), "a day is written like 2026-11-29"),
        (("--reference", "2026-01-09..2026-01-02"), "ends before it begins"),
        (("--reference", UNCHANGED), "days in common"),
        (("--reference", "2025-01-01"), "no aggregates"),
        (("--reference", REFERENCE, "--bundle", "a.sonolite"), "give one of them"),
        (("--until", "2025-01-01"), "is after --until"),
    ],
)
def test_a_time_that_is_none_is_one_line(folder: Path, more: tuple[str, ...], words: str) -> None:
    refused(drift(folder, UNCHANGED, *more), words)


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    refused(drift(tmp_path / "nothing", UNCHANGED), "there is no such folder")
    refused(drift(tmp_path, UNCHANGED), "no aggregates of any bundle")


def test_a_device_with_an_older_tool_is_told_to_be_deployed_to(far: Far, device: Layout) -> None:
    words = "release.pyz: error: argument action: invalid choice: 'drift'"
    (device.root / TOOL).write_text(f'import sys; print("{words}", file=sys.stderr); sys.exit(2)')
    done = drift(far.address, UNCHANGED, "--root", device.root, "--ssh", far.ssh)
    refused(done, "keeps no aggregates yet; deploy to it with this version")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        '{"days": 7}',
        '{"days": [7], "damaged": [], "first": null, "last": null}',
        '{"days": [], "damaged": [], "first": null, "last": null, "reference": {"variant": "x"}}',
        "x" * (MAX_DRIFT_ANSWER + 1),
        "[" * 100_000,
    ],
)
def test_an_answer_that_is_none_is_refused(answer: str) -> None:
    with pytest.raises(BadInput, match="bed-1: "):
        parse_days(answer, "bed-1")
