"""The browser on a device's own screen, without tabs; the unit `sonolite-kiosk` starts it.

The browser learns the token from a file of its user's alone. Others could read a command line
(proc(5)).
"""

import html
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.release.layout import (
    OPERATOR_TOKEN,
    TOKEN,
    VIEW_RECORD,
    VIEW_TOKEN,
    Layout,
    Refused,
    read_file,
    read_record,
    write_file,
)

BROWSERS = ("chromium", "chromium-browser")
"""The programs of Debian's and of Raspberry Pi OS's package."""
COMPOSITOR = "cage"
BROWSER_OPTIONS = (
    *("--kiosk", "--ozone-platform=wayland", "--no-first-run", "--no-default-browser-check"),
    *("--noerrdialogs", "--password-store=basic", "--disable-sync", "--disable-component-update"),
    *("--disable-background-networking", "--disable-features=Translate,MediaRouter"),
    *("--disable-pinch", "--overscroll-history-navigation=0", "--disk-cache-size=1"),
)
START_PAGE = """\
<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={link}">
<title>sonolite</title>
<body style="background: black">
"""
KIOSK_POLL_SECONDS = 1.0
"""Seconds between two looks for the view."""


@dataclass(frozen=True)
class ViewPlace:
    """Where the view of this device is; another place needs another browser."""

    link: str
    pin: str | None
    """The SHA-256 of the public key of its certificate in base64; None without encryption."""
    tokens_at: tuple[int, ...]
    """When its tokens were made."""


def run_kiosk(layout: Layout) -> None:
    """Shows the view on the screen until the browser ends, or the view moves.

    Raises Refused where the unit did not start this, or a program is missing.
    """
    folders = [os.environ.get(name) for name in ("RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY")]
    if None in folders:
        raise Refused("the unit sonolite-kiosk starts the kiosk")
    folder, credentials = (Path(str(name)) for name in folders)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    compositor = shutil.which(COMPOSITOR)
    if browser is None or compositor is None:
        raise Refused(f"there is no {COMPOSITOR} or no chromium; deploy with --kiosk again")
    token = _read_token(credentials / "view-token")
    while (place := find_view(layout)) is None:
        time.sleep(KIOSK_POLL_SECONDS)
    page = folder / "start.html"
    text = START_PAGE.format(link=html.escape(f"{place.link}#{token}"))
    write_file(page, text.encode(), durable=False, mode=0o600)
    words = [compositor, "-d", "--", browser, *BROWSER_OPTIONS, f"--user-data-dir={folder}/browser"]
    if place.pin is not None:
        words.append(f"--ignore-certificate-errors-spki-list={place.pin}")
    with subprocess.Popen([*words, page.as_uri()]) as process:  # noqa: S603
        while process.poll() is None:
            if find_view(layout) not in (None, place):
                process.terminate()
            time.sleep(KIOSK_POLL_SECONDS)


def find_view(layout: Layout) -> ViewPlace | None:
    """Where the view of this device is now; None while there is none."""
    record = read_record(layout.state(VIEW_RECORD))
    link, pin = record.get("local_link"), record.get("pin")
    if not isinstance(link, str) or not link.startswith(("http://", "https://")):
        return None
    tokens_at = tuple(_made_at(layout.state(name)) for name in (VIEW_TOKEN, OPERATOR_TOKEN))
    if not any(tokens_at):
        return None
    return ViewPlace(link, pin if isinstance(pin, str) else None, tokens_at)


def _made_at(path: Path) -> int:
    """When a file was made; 0 where there is none: an earlier release has no operator."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read_token(path: Path) -> str:
    """The token. Raises Refused for a file that holds anything else: it may be a planted link."""
    try:
        token = read_file(path).decode("ascii", "replace").strip()
    except FileNotFoundError as error:
        raise Refused(f"{path}: there is no token; is the service running?") from error
    if not TOKEN.fullmatch(token):
        raise Refused(f"{path}: no token of a view")
    return token
