"""The deployed service shows its page, and the link from `device view` opens it; a real sshd."""

import json
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_runtime.deploy import plan as plan_module
from edge_runtime.deploy.plan import DeploymentPlan, DeploymentRequest, make_plan
from edge_runtime.deploy.probe import KIOSK_UNIT_PATH
from edge_runtime.deploy.ssh import SshDevice
from edge_runtime.deploy.steps import needed_steps
from edge_runtime.deploy.wheelhouse import download_wheels
from edge_runtime.release.layout import OPERATOR_TOKEN, VIEW_RECORD, VIEW_TOKEN
from edge_runtime.screen.saved_regions import REGIONS_FILE
from tests.conftest import sonolite
from tests.edge_runtime.deploy.conftest import REAL_TRIAL, ROOT, Site, answer, refuses
from tests.edge_runtime.view.browsing import wait_for, wait_for_text
from tests.edge_runtime.view.conftest import page  # noqa: F401  a fixture
from tests.edge_runtime.view.test_controls import draw

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGES = [(ROOT / "docs" / name).read_text() for name in ("view.md", "exams.md")]


@pytest.fixture(scope="module")
def showing(
    shipped: Site, shipped_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A device whose service shows a page at a free port."""
    shipped.cut_power()
    site = replace(shipped, root=tmp_path_factory.mktemp("showing") / "root")
    shutil.copytree(shipped.root, site.root, symlinks=True)
    done = site.deploy(shipped_path, "--view", "127.0.0.1:0", "--exams", trial=REAL_TRIAL)
    assert done.code == 0, done
    until = time.monotonic() + 60
    while not site.layout.state(VIEW_RECORD).exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    yield site
    site.cut_power()


def link_of(site: Site, *more: str) -> str:
    done = site.ask("view", *more)
    assert done.code == 0, done
    return done.stdout.strip()


def test_the_link_of_the_device_opens_the_page_of_its_service(
    showing: Site,
    page: "Page",  # noqa: F811
) -> None:
    """The source is a recording: the simulated probe at a pace of its own."""
    page.goto(link_of(showing))
    wait_for(page, "RECORDING")
    page.wait_for_function("() => document.querySelector('#rate').textContent > 0")


def test_the_token_is_kept_when_the_service_begins_anew(
    showing: Site,
    page: "Page",  # noqa: F811
) -> None:
    """The port is another one, so that the link has to be opened again."""
    first = link_of(showing)
    page.goto(first)
    wait_for(page, "RECORDING")
    showing.cut_power()
    wait_for(page, "NO LIVE VIDEO")
    showing.boot()
    assert showing.runs()
    second = link_of(showing)
    assert second.partition("#")[2] == first.partition("#")[2]
    page.goto(second)
    wait_for(page, "RECORDING")


def test_the_link_tells_how_to_reach_a_loopback_address(showing: Site) -> None:
    done = showing.ask("view")
    place = re.fullmatch(r"http://(127\.0\.0\.1:(\d+))/#[\w-]{32}\n", done.stdout)
    assert place is not None
    assert f"-L {place[2]}:{place[1]} {showing.far.address}" in done.stderr
    (same,) = json.loads(showing.ask("view", "--json").stdout)
    assert same["link"] == done.stdout.strip()
    assert same["fingerprint"] is None


def keep_still(page: "Page") -> None:  # noqa: F811
    """Presses the key as a person does: again where the page says that it kept no still."""
    until = time.monotonic() + 60
    while True:
        page.wait_for_selector("#keep-still:enabled")
        page.evaluate("document.querySelector('#answer').textContent = ''")
        page.keyboard.press("s")
        page.wait_for_function("() => document.querySelector('#answer').textContent !== ''")
        if (answer := page.text_content("#answer")) == "still kept":
            return
        assert time.monotonic() < until, answer


def test_an_operator_draws_a_region_and_keeps_an_exam_that_the_host_copies(
    showing: Site,
    page: "Page",  # noqa: F811
    tmp_path: Path,
) -> None:
    page.goto(link_of(showing, "--operator"))
    wait_for(page, "RECORDING")
    page.wait_for_selector("#picture[data-frame]")
    page.keyboard.press("r")
    draw(page, (200, 200), (280, 290))
    wait_for_text(page, "#answer", "region set")
    page.click("#region-remember")
    page.wait_for_selector("#region-remember[aria-pressed=true]")
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.fill("#patient-id", "4711")
    page.keyboard.press("Enter")
    wait_for_text(page, "#answer", "exam begun")
    keep_still(page)
    page.locator("#exam-status", has_text="stills: 1").wait_for()
    listed = json.loads(showing.ask("exams", "--json").stdout)[0]["exams"]
    assert [(each["running"], each["identity"]["patient_id"]) for each in listed] == [
        (True, "4711")
    ]
    page.keyboard.press("x")
    page.click("#exam-ok")
    wait_for_text(page, "#answer", "exam ended")
    until = time.monotonic() + 60  # the recorder writes behind the page
    while "ended" not in (table := showing.ask("exams")).stdout:
        assert time.monotonic() < until, table
    for _ in range(2):  # the second time nothing is new
        done = showing.ask("exams", "--export", str(tmp_path / "ward"), "--anonymous")
        assert done.code == 0, done
    copy = tmp_path / "ward" / "exam-1"
    assert (tmp_path / "ward").stat().st_mode & 0o077 == copy.stat().st_mode & 0o077 == 0
    assert "4711" not in (copy / "exam.json").read_text()
    assert list((copy / "pictures").glob("*.png"))
    refuses(showing.ask("exams", "--export", str(tmp_path / "ward"), "--exam", "9"), "no exam 9")
    assert (showing.layout.state(REGIONS_FILE)).is_file()


def test_the_tokens_are_told_to_nobody_else(showing: Site) -> None:
    tokens = [link_of(showing, *more).partition("#")[2] for more in ((), ("--operator",))]
    assert len(set(tokens)) == 2
    for name in (VIEW_TOKEN, OPERATOR_TOKEN):
        assert showing.layout.state(name).stat().st_mode & 0o777 == 0o600
    for words in (("status", "--json"), ("logs",)):
        shown = showing.ask(*words).stdout
        assert "http://127.0.0.1:" in shown
        assert not [token for token in tokens if token in shown]
    assert not [token for token in tokens if token in json.dumps(showing.status())]


def test_a_later_deployment_keeps_the_view_and_another_ends_it(
    showing: Site, shipped_path: Path
) -> None:
    kept = showing.deploy(shipped_path, "--dry-run", trial=REAL_TRIAL)
    assert answer(kept)["would"] == []
    without = showing.deploy(shipped_path, "--no-exams", "--dry-run", trial=REAL_TRIAL)
    ended = showing.deploy(shipped_path, "--no-view", "--dry-run", trial=REAL_TRIAL)
    assert any("write config.toml" in line for line in answer(without)["would"])
    assert any("write config.toml" in line for line in answer(ended)["would"])


def test_a_device_without_exams_says_how_to_keep_them(site: Site) -> None:
    refuses(site.ask("exams"), "no exams are kept there; see sonolite deploy --exams")


def test_the_screen_of_the_device_watches_unless_it_may_operate(
    showing: Site, shipped_path: Path
) -> None:
    plan = plan_of(showing, shipped_path, True, None)
    assert "state/view.token" in plan.kiosk_unit
    config = replace(plan.config, view=replace(plan.config.view, kiosk_role="operator"))
    assert "state/operator.token" in replace(plan, config=config).kiosk_unit


def test_a_device_without_a_view_says_how_to_get_one(site: Site) -> None:
    refuses(site.ask("view"), "no live view; see sonolite deploy --view")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--view=nowhere",), "--view nowhere: no address"),
        (("--view", ":0", "--no-view"), "--view and --no-view contradict each other"),
        (("--kiosk", "--no-view"), "--kiosk and --no-view contradict each other"),
        (("--view-tls", "--no-view"), "--view-tls and --no-view contradict each other"),
        (("--view-tls",), "--view-tls needs --view"),
        (("--kiosk-role", "operator"), "--kiosk-role needs --kiosk"),
        (("--kiosk-role", "owner"), "--kiosk-role owner: one of viewer, operator"),
        (("--kiosk-role", "operator", "--no-kiosk"), "contradict each other"),
        (("--keep-days", "3"), "--keep-days and --keep-gigabytes need --exams"),
    ],
)
def test_a_view_that_is_none_is_refused_before_anything_is_sent(
    site: Site, shipped_path: Path, options: tuple[str, ...], words: str
) -> None:
    refuses(site.deploy(shipped_path, *options), words)


def test_a_kiosk_without_systemd_is_refused(site: Site, shipped_path: Path) -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("there is a systemd here")
    refuses(site.deploy(shipped_path, "--kiosk"), "--kiosk needs systemd")


def plan_of(site: Site, bundle: Path, kiosk: bool | None, installed: str | None) -> DeploymentPlan:
    """The plan for that device as if it had systemd, and perhaps a unit of the kiosk."""
    request = DeploymentRequest(
        bundle, "x86-64", str(site.root), wheels=site.wheels, view={"address": "127.0.0.1:0"}
    )
    with SshDevice(site.far.address, site.far.ssh) as device:
        plan = make_plan(device, request)
    facts = replace(plan.facts, systemd=True, unit="", kiosk=installed, groups=("render", "video"))
    return replace(plan, facts=facts, request=replace(request, kiosk=kiosk))


@pytest.mark.parametrize(
    ("kiosk", "installed", "words"),
    [
        (True, None, f"install cage and chromium, and {KIOSK_UNIT_PATH}"),
        (None, "older", f"install cage and chromium, and {KIOSK_UNIT_PATH}"),
        (False, "older", f"remove {KIOSK_UNIT_PATH}"),
        (None, None, None),
        (False, None, None),
    ],
)
def test_the_kiosk_is_one_step_as_root(
    showing: Site, shipped_path: Path, kiosk: bool | None, installed: str | None, words: str | None
) -> None:
    plan = plan_of(showing, shipped_path, kiosk, installed)
    steps = [step for step in needed_steps(plan) if step.name == "kiosk"]
    assert [step.says(plan).partition(", started")[0] for step in steps] == (
        [words] if words else []
    )
    assert all(step.as_root(plan) for step in steps)
    assert "SupplementaryGroups=render video" in plan.kiosk_unit


def test_the_commands_of_the_pages_are_those_of_this_test(
    showing: Site, shipped_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each `deploy` of the pages is planned, each `device` done; names are others."""
    monkeypatch.chdir(tmp_path)
    command = r"^    sonolite ((?:deploy|device) .*)$"
    lines = [line for text in PAGES for line in re.findall(command, text, re.MULTILINE)]
    assert len(lines) >= 7
    for line in lines:
        words = [
            {"nodule.sonolite": str(shipped_path), "pi@bed-1": showing.far.address}.get(word, word)
            for word in shlex.split(line)
            if word not in ("--board", "raspberry-pi-5")
        ]
        here: list[str | Path] = ["--root", showing.root, "--ssh", showing.far.ssh]
        more: list[str | Path] = ["--board", "x86-64", "--wheels", showing.wheels, "--dry-run"]
        done = sonolite(*words, *here, *(more if words[0] == "deploy" else []))
        if "--kiosk" in words and not Path("/run/systemd/system").is_dir():
            refuses(done, "--kiosk needs systemd")
        else:
            assert done.code == 0, done


def test_a_view_that_a_kiosk_shows_is_not_ended_by_itself(
    showing: Site, shipped_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = plan_module.probe_device
    with_kiosk = partial(replace, kiosk="older", systemd=True)
    monkeypatch.setattr(plan_module, "probe_device", lambda *words: with_kiosk(real(*words)))
    ended = showing.deploy(shipped_path, "--no-view", "--dry-run")
    refuses(ended, "its kiosk needs the view; give --no-kiosk, too")
    both = showing.deploy(shipped_path, "--no-view", "--no-kiosk", "--dry-run")
    assert any("remove" in line for line in answer(both)["would"])


@pytest.mark.slow
@pytest.mark.install
@pytest.mark.parametrize("name", ["x86-64", "raspberry-pi-5"])
def test_the_wheels_of_a_view_and_of_sinks_can_be_had(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from devices.boards import read_board

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    board = read_board(name)
    extras = {"view", "mqtt", "prometheus"}
    folder = download_wheels(board, board.architectures[0], "3.11.2", extras)
    names = {path.name.split("-")[0] for path in folder.glob("*.whl")}
    assert {"numpy", "starlette", "uvicorn", "websockets", "cryptography", "segno"} <= names
    assert {"paho_mqtt", "prometheus_client"} <= names
