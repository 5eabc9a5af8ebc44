"""Arguments that several commands take, the keys they trust, and how a session is ended."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.bundle.trust import read_trusted, trusted_folder
from edge_runtime.text import printable, say

BundleArgument = Annotated[Path, typer.Argument(help="The bundle, NAME.sonolite.")]
RoiOption = Annotated[
    str | None,
    typer.Option(help="x,y,w,h of the nodule on the screen; without it the picture is searched."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Results as JSON lines on stdout.")]


def trusted_keys() -> dict[bytes, str]:
    """The keys that are trusted here; a file beside them that is none is named, not trusted."""
    trusted = read_trusted(trusted_folder())
    for line in trusted.refused:
        say(f"note: {printable(line)}; it is not trusted")
    return trusted.keys


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a session ends with its summary."""
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
