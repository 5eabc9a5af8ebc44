"""The parts of a session beside the frames, as the options of `run` and `demo` ask for them."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from devices import BadInput
from edge_runtime.files import configuration_folder
from edge_runtime.text import say
from edge_runtime.view import WEB_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_runtime.exams.store import Identity, Retention
    from edge_runtime.exams.worklist import Worklist
    from edge_runtime.view.address import Address
    from edge_runtime.view.certificate import Certificate


class WantedView(NamedTuple):
    """A view that was asked for."""

    address: "Address"
    certificate: "Certificate | None" = None
    paced: bool = False
    """Whether a recording plays at its own frame rate."""
    browse: bool = False
    """Whether the browser of the desktop opens the page, if there is a desktop."""


def view_from_options(
    text: str | None, tls: bool = False, certificate: Path | None = None, key: Path | None = None
) -> WantedView | None:
    """The view of `--view` and of the options on its certificate; None without `--view`.

    Raises BadInput where they cannot be used, or nothing can serve a view.
    """
    options = {"--view-tls": tls, "--view-certificate": certificate, "--view-key": key}
    if text is None:
        if used := [name for name, value in options.items() if value]:
            raise BadInput(f"{used[0]} needs --view")
        return None
    if key is not None and certificate is None:
        raise BadInput("--view-key needs --view-certificate")
    if tls and certificate is not None:
        raise BadInput("--view-tls makes a certificate, and --view-certificate gives one")
    WEB_SERVER.require()
    from edge_runtime.view.address import parse_address  # here: few sessions have a view

    address = parse_address(text)
    if not tls and certificate is None:
        return WantedView(address)
    from edge_runtime.view.certificate import OWN_CERTIFICATE, own_certificate, read_certificate

    if certificate is not None:
        return WantedView(address, read_certificate(certificate, key))
    return WantedView(address, own_certificate(configuration_folder() / OWN_CERTIFICATE))


def view_of_demo(browse: bool) -> WantedView | None:
    """The view of the demo for a person at a terminal; None elsewhere, and without the extra."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    if WEB_SERVER.missing() is not None:
        say(f"note: to watch it live in a browser, {WEB_SERVER.cure}")
        return None
    view = view_from_options(":0")
    return view and view._replace(paced=True, browse=browse)


def open_browser(link: str) -> None:
    """Opens a viewer's link in the browser of the desktop, if there is a desktop.

    Others on this machine can read the link in the browser's command line while it starts: they
    can watch, and not operate.
    """
    desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    program = shutil.which("xdg-open")
    if desktop and program:
        quiet = subprocess.DEVNULL
        with suppress(OSError):
            subprocess.Popen(  # noqa: S603
                [program, link], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
            )


class WantedExam(NamedTuple):
    """An exam that is to be kept of the run."""

    folder: Path
    identity: "Identity"
    retention: "Retention"


def exam_from_options(
    folder: Path | None, patient: str, days: float | None, gigabytes: float | None
) -> WantedExam | None:
    """The exam of the options of `run`; None without `--exam`. Raises BadInput for wrong ones."""
    if folder is None:
        if patient or days is not None or gigabytes is not None:
            raise BadInput("--exam-id, --keep-days and --keep-gigabytes need --exam")
        return None
    from edge_runtime.exams.store import Identity, Retention  # here: few sessions keep exams

    size = None if gigabytes is None else round(gigabytes * 1e9)
    return WantedExam(folder, Identity(patient), Retention(days, size))


def worklist_from_options(text: str | None, begins: bool) -> "Callable[[], Worklist] | None":
    """The question to the worklist of the options of `run`.

    Raises BadInput where no exam begins on a page.
    """
    if text is None:
        return None
    if not begins:
        raise BadInput("--worklist needs --exam and --view")
    from edge_runtime.exams.worklist import question_of_today

    return question_of_today(text)
