"""Arguments of several subcommands, the trusted keys, and the signals that end a session."""

import math
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
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


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP set: the session ends with a summary.

    A thread sets it. A handler could wait for the lock of the event for ever, because it may
    interrupt the thread that holds the lock: a closed terminal sends SIGHUP twice.
    """
    stop = threading.Event()
    heard: SimpleQueue[int] = SimpleQueue()  # `put` is safe in a handler

    def obey() -> None:
        heard.get()
        stop.set()

    obeying = threading.Thread(target=obey, name="signals", daemon=True)
    signals = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup(1) asks
    ]
    obeying.start()
    before = [signal.signal(number, lambda number, _: heard.put(number)) for number in signals]
    try:
        yield stop
    finally:
        heard.put(0)
        obeying.join()
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
