"""Arguments of several subcommands, the trusted keys, and the signals that end a session."""

import math
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from devices import BadInput
from edge_runtime.bundle.trust import read_trusted, trusted_folder
from edge_runtime.release.address import DEFAULT_ADDRESS
from edge_runtime.release.config import MAX_KEEP_DAYS, MAX_KEEP_GIGABYTES
from edge_runtime.text import printable, say

BundleArgument = Annotated[Path, typer.Argument(help="The bundle, such as nodule.sonolite.")]
RoiOption = Annotated[
    str | None,
    typer.Option(
        help="The nodule on the screen, x,y,w,h, such as 220,90,180,150; without it the locator "
        "looks for nodules."
    ),
]
FollowOption = Annotated[
    bool,
    typer.Option("--follow", help="Let the marked box follow its nodule; needs a locator."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
DAYS, GIGABYTES = MAX_KEEP_DAYS, MAX_KEEP_GIGABYTES
"""The most that an option takes."""
ADDRESS = re.compile(r"[^-/\\][^/\\]*?:\d+|:\d+")
"""What may be an address: a path holds a slash, and an option begins with a dash."""
EXAM_FOLDER = re.compile(r"[^-].*(?<!\.sonolite)", re.DOTALL)
"""What may be a folder: an option begins with a dash, and a bundle has its suffix."""


def finite(option: typer.CallbackParam, value: float | None) -> float | None:
    """The number of an option. Raises BadInput where it is not finite: no limit refuses a nan."""
    if value is not None and not math.isfinite(value):
        raise BadInput(f"{option.opts[0]} {value}: a finite number is needed")
    return value


class BareOptionCommand(TyperCommand):
    """A subcommand whose options `--view` and `--exam` may stand without their values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Adds the default behind such an option that no value follows."""
        words = []
        for word, following in pairwise([*args, ""]):
            words.append(word)
            if word == "--view" and not ADDRESS.fullmatch(following):
                words.append(DEFAULT_ADDRESS)
            if word == "--exam" and not EXAM_FOLDER.fullmatch(following):
                from edge_runtime.exams.store import own_exams_folder  # here: few keep exams

                words.append(str(own_exams_folder()))
        return super().parse_args(ctx, words)


def trusted_keys() -> dict[bytes, str]:
    """The keys that are trusted here; a line names each file that is not trusted."""
    trusted = read_trusted(trusted_folder())
    for line in trusted.refused:
        say(f"note: {printable(line)}; it is not trusted")
    return trusted.keys


class _SignalEvent(threading.Event):
    """An event that a signal handler may set while the thread that it interrupts uses the event.

    The lock of `threading.Event` would wait for itself there: a closed terminal sends SIGHUP twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cond = threading.Condition()  # its lock is reentrant


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP set: the session ends with a summary."""
    stop = _SignalEvent()
    signals = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup(1) asks
    ]
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
