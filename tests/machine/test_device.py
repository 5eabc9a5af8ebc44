"""A whole ARM64 machine with systemd: what is deployed there runs, decides as here, and goes back.

The tests share one machine and are run in their order, each from what the one before left.
"""

import json
import re
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import av
import pytest

from devices import BadInput, EndOfRecording
from devices.capture import open_device
from edge_runtime.bundle.archive import Bundle, write_bundle
from edge_runtime.commands.run import DEMO_ROI
from edge_runtime.deploy.ssh import SshDevice
from edge_runtime.release.layout import DEFAULT_ROOT
from edge_runtime.release.stage import file_sha256
from tests.conftest import SWEEPS, sonolite
from tests.edge_runtime.deploy.conftest import Wire, answer, refuses
from tests.edge_runtime.deploy.test_deploy import damage
from tests.edge_runtime.deploy.test_hang import hanging  # noqa: F401
from tests.machine.conftest import BOARD, Bed

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]

MOST_BYTES, MOST_EXPOSED = 350e6, 3.0
LINK = 10e6
"""Bits a second."""


def test_the_service_runs_under_systemd_as_its_own_user(bed: Bed) -> None:
    assert bed.machine.say("ps -o comm= 1; uname -m").split() == ["systemd", "aarch64"]
    assert bed.runs()
    shown = bed.machine.say("systemctl show sonolite -p ActiveState -p User -p UnitFileState")
    assert set(shown.splitlines()) == {
        "ActiveState=active",
        "User=sonolite",
        "UnitFileState=enabled",
    }
    processes = "/sys/fs/cgroup/system.slice/sonolite.service/cgroup.procs"
    owners = bed.machine.say(f"ps -o user= -p $(paste -sd, {processes})").split()
    assert set(owners) == {"sonolite"}
    said = bed.machine.say("systemd-analyze security sonolite --no-pager | tail -1")
    exposed = re.search(r"exposure level for \S+ ([\d.]+)", said)
    assert exposed is not None
    assert float(exposed[1]) <= MOST_EXPOSED


def test_it_takes_no_more_than_it_may(bed: Bed) -> None:
    used = int(bed.machine.say(f"sudo du -s --block-size=1 {DEFAULT_ROOT}").split()[0])
    print(f"{DEFAULT_ROOT}: {used / 1e6:.0f} MB")
    assert used <= MOST_BYTES


def test_it_says_what_it_is_and_did(bed: Bed) -> None:
    assert "LIVE" in bed.ask("status").stdout
    done = bed.ask("doctor")
    print(done.stdout)
    assert "cpu int8" in done.stdout
    lines = [json.loads(line) for line in bed.ask("logs").stdout.splitlines() if line[0] == "{"]
    assert "LIVE" in {line.get("state") for line in lines}
    done = bed.ask("logs", "--switches")
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "passed"


def write_lossless(sweep: Path, path: Path) -> None:
    """The very pixels that this machine's OpenCV decodes, as every machine decodes them.

    FFmpeg turns the YUV of most videos into BGR by other instructions on another processor, up to
    two grey levels apart, which is not what is held against each other here.
    """
    with av.open(path, "w") as out:
        stream = out.add_stream("ffv1", rate=24)
        stream.pix_fmt = "bgr0"
        with open_device(str(sweep)) as device, suppress(EndOfRecording):
            while True:
                pixels = device.read(5).pixels
                if not stream.codec_context.is_open:
                    stream.height, stream.width = pixels.shape[:2]
                frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
                out.mux(stream.encode(frame.reformat(format="bgr0")))
        out.mux(stream.encode())


@pytest.mark.parametrize("source", ["phantom:?frames=60&live=no", "seq07.mp4", "seq24.mp4"])
def test_it_decides_frame_by_frame_as_this_machine_does(
    bed: Bed, shipped_path: Path, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = there = source
    if source.endswith(".mp4"):
        if not SWEEPS.is_dir():
            pytest.skip("the real sweeps are not here")
        here, there = str(tmp_path / "sweep.avi"), "/tmp/sweep.avi"
        write_lossless(SWEEPS / source, Path(here))
        with SshDevice(bed.far.address, bed.far.ssh) as device:
            device.run(["sh", "-c", f"cat > {there}"], Path(here).read_bytes())
    words = ["--variant", "int8", "--backend", "cpu", "--roi", DEMO_ROI, "--any-picture", "--json"]
    folder = resources.files("edge_runtime") / "demo_keys"
    monkeypatch.setenv("SONOLITE_TRUST", str(folder))
    mine = sonolite("run", shipped_path, "--source", here, *words)
    assert mine.code == 0, mine
    current = f"{DEFAULT_ROOT}/current"
    run = [f"{current}/environment/bin/sonolite", "run", f"{current}/bundle.sonolite"]
    theirs = bed.machine.say(
        f"SONOLITE_TRUST={DEFAULT_ROOT}/trusted {shlex.join([*run, '--source', there, *words])}"
    )
    pairs = list(
        zip(
            [json.loads(line) for line in mine.stdout.splitlines()],
            [json.loads(line) for line in theirs.splitlines()],
            strict=True,
        )
    )
    most = max(
        abs(here["probability"][label] - there["probability"][label])
        for one, other in pairs
        for here, there in zip(one["nodules"], other["nodules"], strict=True)
        for label in here["probability"]
    )
    print(f"{source}: {len(pairs)} frames, largest difference of a probability {most:.6f}")
    assert [decision(one) for one, _ in pairs] == [decision(other) for _, other in pairs]
    assert "int8" in pairs[0][1]["backend"]


def decision(result: dict[str, Any]) -> list[object]:
    """What a line of `run --json` decides."""
    names = ("label", "reason", "box")
    nodules = [[nodule[name] for name in names] for nodule in result["nodules"]]
    return [result["state"], result["reason"], result["box"], nodules]


@pytest.mark.parametrize("kind", ["tampered", "unsigned"])
def test_the_device_itself_refuses_what_is_not_sound(
    bed: Bed, version: Callable[[int], Path], demo_bundle: Bundle, kind: str
) -> None:
    """Sent by a host that does not look."""
    bundle = version(2)
    if kind == "tampered":
        damage(bundle)
    else:
        contents = {name: demo_bundle.read(name) for name in demo_bundle.manifest.members}
        write_bundle(bundle, demo_bundle.manifest, contents, None)
    why = "CRC" if kind == "tampered" else "not signed"
    refuses(bed.deploy(bundle), why)
    status = bed.status()
    environment = status["releases"][status["current"]]["environment"]
    digest, size = file_sha256(bundle), str(bundle.stat().st_size)
    tool = ["python3", "-I", f"{DEFAULT_ROOT}/release.pyz"]
    with SshDevice(bed.far.address, bed.far.ssh) as device:
        device.run([*tool, "receive", DEFAULT_ROOT, digest, "0", size], bundle.read_bytes())
        with pytest.raises(BadInput, match=why):
            device.run([*tool, "stage", DEFAULT_ROOT, digest, environment, BOARD])
    assert bed.status()["current"] == status["current"]


def test_a_new_model_over_a_slow_link_is_left_again_by_hand(
    bed: Bed, version: Callable[[int], Path]
) -> None:
    first, bundle = bed.status()["current"], version(3)
    began = time.monotonic()
    with Wire(bed.far, bits=LINK) as wire:
        done = replace(bed, far=wire.far).deploy(bundle)
    assert done.code == 0, done
    took = time.monotonic() - began
    print(f"over 10 Mbit/s: {took:.0f} s with the trial, {wire.bytes / bundle.stat().st_size:.2f}")
    assert wire.bytes <= 1.2 * bundle.stat().st_size
    second = answer(done)["release"]
    assert bed.status()["good"] == second
    assert bed.runs()  # so long that its version is noted
    assert bed.ask("rollback").code == 0
    assert bed.status()["current"] == first
    assert bed.runs()


def test_an_older_one_is_refused(bed: Bed, version: Callable[[int], Path]) -> None:
    before = bed.status()["current"]
    refuses(bed.deploy(version(2)), "version 2 is older than 3")
    assert bed.status()["current"] == before


def test_one_that_hangs_is_gone_back_from(bed: Bed, hanging: Path) -> None:  # noqa: F811
    before = bed.status()["current"]
    done = bed.deploy(hanging)
    assert done.code == 1, done
    assert "hang" in done.stderr
    assert bed.status()["current"] == before
    assert bed.runs()


def test_without_a_scanner_it_idles(bed: Bed, shipped_path: Path) -> None:
    """Seconds of a processor that is emulated say nothing of a real one: they are but told."""
    done = bed.deploy(shipped_path, "--reach", "LOST", source="v4l2:///dev/video9")
    assert done.code == 0, done
    used = "systemctl show sonolite -p CPUUsageNSec --value"
    before = int(bed.machine.say(used))
    time.sleep(60)
    share = (int(bed.machine.say(used)) - before) / 60e9
    print(f"without a scanner: {share:.1%} of an emulated processor")
    assert share <= 0.5
    assert bed.deploy(shipped_path, "--reach", "LIVE").code == 0
    assert bed.runs()
