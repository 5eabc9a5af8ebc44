"""The kiosk opens the page of a view in a real Chromium, on a screen that is only memory."""

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edge_runtime.deploy.pack import pack_tool
from edge_runtime.release.kiosk import find_view
from edge_runtime.release.layout import (
    OPERATOR_TOKEN,
    TOOL,
    VIEW_RECORD,
    VIEW_TOKEN,
    Layout,
    make_folders,
)
from edge_runtime.view.address import Address
from edge_runtime.view.certificate import Certificate, own_certificate
from edge_runtime.view.sink import open_view
from tests.conftest import wait_until
from tests.edge_runtime.release.conftest import ROOT
from tests.edge_runtime.view.conftest import FACTS

ROOT_USER = os.getuid() == 0
TOKEN = "kept-for-the-kiosk" * 2


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="kiosk-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def device(folder: Path) -> Layout:
    layout = Layout(folder / "root")
    layout.root.mkdir()
    make_folders(layout)
    layout.state(VIEW_TOKEN).write_text(TOKEN)
    (layout.root / TOOL).write_bytes(pack_tool())
    return layout


def note(layout: Layout, link: str, certificate: Certificate | None = None) -> None:
    """What the service notes of its view."""
    pin = None if certificate is None else certificate.pin
    record = {"local_link": link.partition("#")[0], "pin": pin, "trouble": None}
    layout.state(VIEW_RECORD).write_text(json.dumps(record))


@contextmanager
def kiosk(layout: Layout, folder: Path, token: str = TOKEN) -> Iterator["subprocess.Popen[str]"]:
    """The kiosk as its unit starts it, but on a screen in memory; cage refuses to run as root."""
    user = pwd.getpwnam("nobody") if ROOT_USER else pwd.getpwuid(os.getuid())
    for name in ("run", "credentials"):
        (folder / name).mkdir(mode=0o700)
        os.chown(folder / name, user.pw_uid, user.pw_gid)
    (folder / "credentials" / "view-token").write_text(token)
    around = {
        "PATH": "/usr/bin:/bin",
        "RUNTIME_DIRECTORY": str(folder / "run"),
        "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "HOME": str(folder / "run"),
        "WLR_BACKENDS": "headless",
        "WLR_LIBINPUT_NO_DEVICES": "1",
        "WLR_RENDERER": "pixman",
        "CHROMIUM_FLAGS": "--no-sandbox --disable-gpu",  # a container lacks what the sandbox needs
    }
    with subprocess.Popen(
        ["/usr/bin/python3", "-I", layout.root / TOOL, "kiosk", layout.root],
        env=around,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=True,
        user=user.pw_uid if ROOT_USER else None,
        group=user.pw_gid if ROOT_USER else None,
        extra_groups=[] if ROOT_USER else None,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=60)


def command_lines() -> list[str]:
    """The command lines of all processes, as ps(1) shows them."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return lines


needs_screen = pytest.mark.skipif(
    not (shutil.which("cage") and shutil.which("chromium")),
    reason="needs cage and chromium: apt install cage xwayland chromium",
)


@needs_screen
@pytest.mark.parametrize(
    ("encrypted", "tokens"),
    [(False, (TOKEN,)), (True, (None, TOKEN))],
    ids=["a viewer, plain", "an operator, encrypted"],
)
def test_the_kiosk_watches_and_the_token_is_in_no_command_line(
    device: Layout, folder: Path, encrypted: bool, tokens: tuple[str | None, ...]
) -> None:
    """The browser knows the certificate of the device by its key."""
    certificate = own_certificate(folder / "view.pem") if encrypted else None
    with open_view(Address("127.0.0.1", 0), FACTS, None, certificate, *tokens) as view:
        watched = view.watched
        with kiosk(device, folder):
            note(device, view.local_link, certificate)  # the service may begin later
            wait_until(watched)
            lines = command_lines()
            assert any("chromium" in line and "start.html" in line for line in lines)
            assert not [line for line in lines if TOKEN in line]
            page = folder / "run" / "start.html"
            assert stat.S_IMODE(page.stat().st_mode) == 0o600


@needs_screen
def test_a_view_that_moves_ends_the_kiosk_which_is_started_again(
    device: Layout, folder: Path
) -> None:
    with open_view(Address("127.0.0.1", 0), FACTS, token=TOKEN) as view:
        note(device, view.local_link)
        with kiosk(device, folder) as process:
            wait_until(view.watched)
            note(device, "http://127.0.0.1:1/")
            assert process.wait(60) == 0


@needs_screen
def test_a_planted_token_goes_to_no_browser(device: Layout, folder: Path) -> None:
    with kiosk(device, folder, token="root:$y$j9T$a secret of root\n") as process:
        assert process.wait(60) == 2
        assert process.stderr is not None
        line = process.stderr.read()
    assert "no token of a view" in line
    assert "secret" not in line


def test_a_new_token_of_either_role_needs_another_browser(device: Layout) -> None:
    note(device, "http://127.0.0.1:1/")
    before = find_view(device)
    device.state(OPERATOR_TOKEN).write_text(TOKEN)
    assert None is not before != find_view(device)


def test_without_its_unit_the_kiosk_is_refused(device: Layout) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime.release", "kiosk", str(device.root)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "DIRECTORY" not in name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "the unit sonolite-kiosk starts the kiosk\n"


@pytest.mark.parametrize(
    "record", ["", "[]", "{}", '{"local_link": 1}', '{"local_link": "javascript:x"}']
)
def test_what_is_no_view_is_waited_for(device: Layout, record: str) -> None:
    device.state(VIEW_RECORD).write_text(record)
    assert find_view(device) is None
