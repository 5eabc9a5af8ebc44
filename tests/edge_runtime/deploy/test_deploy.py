"""`sonolite deploy` and `device` against a real sshd: from nothing, again, newer, refused, back."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from devices import BadInput, HardwareMissing
from edge_runtime.bundle.archive import Bundle, open_bundle, write_bundle
from edge_runtime.deploy.ssh import SshDevice
from edge_runtime.models.known_models import KNOWN_FOLDER
from edge_runtime.release.layout import EXAMINATION_LOCK, hold_lock, read_event_log, read_link
from edge_runtime.release.stage import file_sha256
from edge_runtime.service.service import device_versions
from tests.conftest import Within, free_port, sonolite
from tests.edge_runtime.deploy.conftest import (
    REAL_TRIAL,
    Far,
    Site,
    Wire,
    answer,
    environment,
    refuses,
)

Version = Callable[[int], Path]


def asked(site: Site) -> dict[str, object]:
    done = site.ask("status", "--json")
    assert done.code == 0, done
    first: dict[str, object] = json.loads(done.stdout)[0]
    return first


def test_the_shipped_bundle_was_deployed_from_nothing_and_runs(shipped: Site) -> None:
    """The real service, on a simulated probe; it is back after a power cut."""
    shipped.cut_power()
    assert asked(shipped)["state"] is None
    shipped.boot()
    assert shipped.runs()
    assert asked(shipped)["good"] == asked(shipped)["current"]
    known = shipped.root / "state" / "sonolite" / KNOWN_FOLDER
    assert len(list(known.iterdir())) == 2  # both models, so that no later start tries them
    logs = shipped.ask("logs").stdout
    lines = [json.loads(line) for line in logs.splitlines()]
    assert "LIVE" in {line.get("state") for line in lines}
    for key in ("nodules", "label", "probability", "smoothed"):
        assert f'"{key}"' not in logs


def test_the_same_again_finds_nothing_new(site: Site, shipped_path: Path) -> None:
    done = site.deploy(shipped_path)
    assert done.code == 0, done
    assert answer(done)["outcome"] == "unchanged"
    assert answer(done)["steps"] == []


def test_what_a_power_cut_left_behind_is_removed_by_the_same_again(
    site: Site, shipped_path: Path
) -> None:
    left = site.layout.incoming("0" * 64)
    left.write_text("sent, and then the power went")
    done = site.deploy(shipped_path)
    assert (answer(done)["outcome"], answer(done)["steps"]) == ("unchanged", ["prune"])
    assert not left.exists()


def test_a_new_model_sends_little_else_and_can_be_left_again(
    site: Site, version: Version, within: Within
) -> None:
    """Over 10 Mbit/s; counted on the wire, both ways, the keys' exchange and all."""
    first = site.status()["current"]
    bundle = version(2)
    began = time.monotonic()
    with Wire(site.far, bits=10e6) as wire:
        done = replace(site, far=wire.far).deploy(bundle, "--trust")
    assert done.code == 0, done
    assert time.monotonic() - began <= within(30)
    assert answer(done)["outcome"] == "passed"
    assert bundle.stat().st_size < wire.bytes <= 1.2 * bundle.stat().st_size
    assert answer(done)["sent_bytes"] <= wire.bytes
    second = answer(done)["release"]
    assert site.status()["good"] == second

    assert site.ask("rollback").code == 0
    assert (read_link(site.layout, "current"), read_link(site.layout, "previous")) == (
        first,
        second,
    )
    assert site.runs()
    assert site.ask("rollback").code == 0
    assert read_link(site.layout, "current") == second
    assert [line["event"] for line in read_event_log(site.layout)][-2:] == [
        "went back",
        "went back",
    ]


def test_a_dry_run_says_each_step_and_does_none(site: Site, version: Version) -> None:
    before = sorted(site.root.rglob("*.json"))
    done = site.deploy(version(2), "--trust", "--dry-run")
    assert done.code == 0, done
    would = [line.partition(":")[0] for line in answer(done)["would"]]
    assert would == ["bundle", "trust", "stage", "switch", "trial", "prune"]
    assert sorted(site.root.rglob("*.json")) == before


def test_a_first_dry_run_touches_nothing(shipped: Site, tmp_path: Path, shipped_path: Path) -> None:
    there = replace(shipped, root=tmp_path / "none" / "root")
    done = there.deploy(shipped_path, "--dry-run")
    assert done.code == 0, done
    assert [line.split(":")[0] for line in answer(done)["would"]][:3] == [
        "prepare",
        "tool",
        "wheels",
    ]
    assert not (tmp_path / "none").exists()


def test_an_older_version_is_refused_on_the_device(site: Site, version: Version) -> None:
    bundle = version(2)
    signature = open_bundle(bundle).signature
    assert signature is not None
    device_versions(site.layout).admit(signature.key, "own", 3)
    running = site.status()["current"]
    done = site.deploy(bundle, "--trust")
    refuses(done, "version 2 is older than 3")
    assert site.status()["current"] == running
    assert read_event_log(site.layout)[-1]["event"] == "refused"


def test_a_signer_whom_only_the_host_trusts_is_refused_on_the_device(
    site: Site, version: Version
) -> None:
    running = site.status()["current"]
    refuses(site.deploy(version(2)), "not trusted here")
    assert site.status()["current"] == running


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["tampered", "unsigned"])
def test_what_is_wrong_with_a_bundle_is_found_on_the_device_too(
    site: Site, version: Version, demo_bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    """By a host that does not look: it sends the file and asks for a release of it."""
    bundle = version(2)
    if kind == "tampered":
        damage(bundle)
    else:
        contents = {name: demo_bundle.read(name) for name in demo_bundle.manifest.members}
        write_bundle(bundle, demo_bundle.manifest, contents, None)
    why = "CRC" if kind == "tampered" else "not signed"
    refuses(site.deploy(bundle), why)
    digest = file_sha256(bundle)
    tool = ["python3", "-I", str(site.root / "release.pyz")]
    size = str(bundle.stat().st_size)
    with SshDevice(site.far.address, site.far.ssh) as device:
        device.run([*tool, "receive", str(site.root), digest, "0", size], bundle.read_bytes())
        words = [*tool, "stage", str(site.root), digest, environment(site), "x86-64"]
        with pytest.raises(BadInput, match=why):
            device.run(words)


def test_the_wrong_architecture_is_refused_before_anything_is_touched(
    shipped: Site, tmp_path: Path, shipped_path: Path
) -> None:
    done = sonolite(
        *("deploy", shipped_path, shipped.far.address, "--board", "raspberry-pi-5"),
        *("--ssh", shipped.far.ssh, "--root", tmp_path / "root", "--source", "0"),
    )
    refuses(done, shipped.far.address, "raspberry-pi-5", "x86_64")
    assert not (tmp_path / "root").exists()


def test_a_host_that_is_not_there_is_missing_hardware(shipped_path: Path, shipped: Site) -> None:
    nowhere = replace(shipped.far, ssh=f"-p {free_port()} -F none")
    done = replace(shipped, far=nowhere).deploy(shipped_path)
    assert done.code == 3, done
    assert "refused" in done.stderr


def test_a_link_that_breaks_without_a_word_is_called_so(far: Far) -> None:
    with (
        SshDevice(far.address, far.ssh) as device,
        pytest.raises(HardwareMissing, match="the link broke"),
    ):
        device.run(["sh", "-c", "exit 255"])


@pytest.mark.parametrize("address", ["-oProxyCommand=touch$IFS/tmp/x", "a b", "$(id)", ""])
def test_an_address_never_becomes_an_option_or_a_command(address: str, shipped_path: Path) -> None:
    done = sonolite("deploy", shipped_path, "--board", "x86-64", "--source", "0", "--", address)
    refuses(done, "USER@HOST")


@pytest.mark.parametrize("root", ["relative", "/opt/../etc", "/opt/a b", "/opt/$(id)", "/opt"])
def test_a_root_that_a_shell_would_read_otherwise_is_refused(
    root: str, shipped_path: Path, far: Far
) -> None:
    done = sonolite(
        *("deploy", shipped_path, far.address, "--board", "x86-64", "--source", "0"),
        *("--root", root, "--ssh", far.ssh),
    )
    refuses(done, "--root")


def test_a_source_with_quotes_and_dollars_arrives_as_it_is(site: Site, shipped_path: Path) -> None:
    source = "rtsp://user:p'a\"$(id)`w@127.0.0.1:1/x"
    done = site.deploy(shipped_path, source=source)
    assert done.code == 0, done
    words = 'source = "rtsp://user:p\'a\\"$(id)`w@127.0.0.1:1/x"'
    assert words in (site.root / "config.toml").read_text()


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [("--roi", "abc", "four whole numbers"), ("--roi", "1,2,3", "four whole numbers")]
    + [(option, "\udcff", "not UTF-8") for option in ("--source", "--reach")],
)
def test_a_setting_that_is_none_is_refused_before_anything_is_sent(
    shipped: Site, shipped_path: Path, option: str, value: str, word: str
) -> None:
    refuses(shipped.deploy(shipped_path, option, value), word)


def test_settings_that_the_service_refuses_are_no_success(
    shipped: Site, shipped_path: Path, tmp_path: Path
) -> None:
    """The region does not lie on the screen, so that the release ends with each start."""
    shipped.cut_power()
    site = replace(shipped, root=tmp_path / "root")
    shutil.copytree(shipped.root, site.root, symlinks=True)
    site.boot()
    assert site.runs()
    try:
        refuses(
            site.deploy(shipped_path, "--roi", "5000,5000,50,50", trial=REAL_TRIAL),
            "does not run with these settings",
        )
    finally:
        site.cut_power()


def test_the_first_deployment_needs_a_source(
    shipped: Site, tmp_path: Path, shipped_path: Path
) -> None:
    done = sonolite(
        *("deploy", shipped_path, shipped.far.address, "--board", "x86-64"),
        *("--ssh", shipped.far.ssh, "--root", tmp_path / "root"),
    )
    refuses(done, "--source")


@pytest.mark.slow
def test_an_upload_goes_on_where_the_link_broke(site: Site, version: Version) -> None:
    bundle = version(2)
    size = bundle.stat().st_size
    with Wire(site.far, breaks_after=0.8 * size) as wire:
        done = replace(site, far=wire.far).deploy(bundle, "--trust")
    assert done.code == 3, done
    part = site.layout.incoming(f"{file_sha256(bundle)}.part")
    here = part.stat().st_size
    assert here > 0
    done = site.deploy(bundle, "--trust")
    assert done.code == 0, done
    assert answer(done)["sent_bytes"] < size - here + 50_000


def test_no_way_back_is_said(site: Site) -> None:
    refuses(site.ask("rollback"), "no other release")


def test_an_examination_holds_off_an_update_unless_forced(
    site: Site, version: Version, within: Within
) -> None:
    running = site.status()["current"]
    bundle = version(2)
    with hold_lock(site.layout.state(EXAMINATION_LOCK)):
        began = time.monotonic()
        done = site.deploy(bundle, "--trust", "--wait", "0.5")
        assert time.monotonic() - began < within(20)
        refuses(done, "an examination is under way")
        refuses(site.ask("rollback", "--wait", "0"), "an examination is under way")
        assert site.status()["current"] == running
        assert site.deploy(bundle, "--force").code == 0
    assert site.status()["previous"] == running
    switched = [line for line in read_event_log(site.layout) if line["event"] == "switched"]
    assert switched[-1]["forced"] is True


def test_a_device_says_what_it_can_do_and_what_it_did(site: Site) -> None:
    done = site.ask("doctor")
    assert done.code == 0, done
    assert "cpu int8" in done.stdout
    done = site.ask("logs", "--switches")
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "passed"
    done = site.ask("status")
    assert "LIVE" in done.stdout


def test_a_device_without_anything_says_so(shipped: Site, tmp_path: Path) -> None:
    refuses(replace(shipped, root=tmp_path / "root").ask("status"), "nothing was deployed here")
