"""Scripts as people write them: `frames 40, stall 3, unplug, frames 40`.

What there is to say, in a line each or between commas; `#` begins a comment:

    frames 40       so many pictures of the simulated probe, in their time
    still 40        one of them, so many times
    black 40        so many black pictures
    torn 4          so many pictures of which the lower part is missing
    stall 3         no picture for so many seconds
    size 320x240    all later pictures have this size, until the device goes
    unplug          the device goes; the rest is played once it is back
"""

import time
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from devices.capture.phantom import Phantom
from devices.capture.registry import on_disk
from devices.capture.scripted import Scripted, ScriptEvent, SizeChange, Stall, Torn, Unplug
from devices.capture.size import check_size
from devices.capture.source_uri import SourceUri
from devices.errors import BadInput
from devices.frame import Clock
from devices.regular_file import read_regular

FPS = 20.0
MAX_COUNT = 1_000_000
"""Pictures in one line: half a day of them."""
SCRIPTS_FOLDER = resources.files("devices") / "capture" / "scripts"


class ScriptLine(NamedTuple):
    """One line of a script; `value` is what `WORDS` made of what stands behind the word."""

    word: str
    value: Any


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= MAX_COUNT:
        raise ValueError(text)
    return count


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 24 * 3600:
        raise ValueError(text)
    return seconds


def _size(text: str) -> SizeChange:
    width, height = map(int, text.split("x"))
    check_size(text, width, height)
    return SizeChange(width, height)


def _nothing(text: str) -> None:
    if text:
        raise ValueError(text)


WORDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "frames": ("frames 40", _count),
    "still": ("still 40", _count),
    "black": ("black 40", _count),
    "torn": ("torn 4", _count),
    "stall": ("stall 0.5", _seconds),
    "size": ("size 320x240", _size),
    "unplug": ("unplug", _nothing),
}
"""Each with an example, and how what stands behind it is read."""


def find_script(name: str) -> str:
    """The text of the file `name` or of a script of that name in the package; else `name` itself.

    Raises BadInput for a file that cannot be read.
    """
    shipped = SCRIPTS_FOLDER / f"{name}.txt"
    if name.isidentifier() and shipped.is_file():
        return shipped.read_text()
    path = Path(name)
    try:
        return read_regular(path).decode() if on_disk(name) and path.is_file() else name
    except (OSError, ValueError) as error:
        raise BadInput(f"{name}: not a script that can be read") from error


def parse_script(text: str) -> tuple[ScriptLine, ...]:
    """Reads a script. Raises BadInput, naming the line, for what is none."""
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        for part in line.partition("#")[0].split(","):
            word, _, value = part.strip().partition(" ")
            if not word:
                continue
            where = f"script, line {number}: {str(SourceUri(part.strip()))!r}"
            if word not in WORDS:
                raise BadInput(f"{where}: no file, and none of {', '.join(WORDS)}")
            example, read = WORDS[word]
            try:
                steps.append(ScriptLine(word, read(value.strip())))
            except ValueError as error:
                raise BadInput(f"{where}: write it like {example!r}") from error
    if not steps:
        raise BadInput("script: it says nothing; for example 'frames 40, stall 3, unplug'")
    return tuple(steps)


def play_script(
    steps: Iterable[ScriptLine], clock: Clock = time.monotonic
) -> Iterator[ScriptEvent]:
    """The script's lines with pictures of the simulated probe, which come in their time."""
    phantom = Phantom(fps=FPS, clock=clock)
    for word, value in steps:
        match word:
            case "frames":
                for _ in range(value):
                    yield phantom.read(1.0).pixels
            case "still" | "black":
                pixels = phantom.read(1.0).pixels
                if word == "black":
                    pixels = np.zeros_like(pixels)
                yield pixels
                for _ in range(value - 1):
                    phantom.read(1.0)
                    yield pixels
            case "torn":
                for seed in range(value):
                    yield Torn(seed)
                    yield phantom.read(1.0).pixels
            case "stall":
                yield Stall(value)
            case "size":
                yield value
            case "unplug":
                yield Unplug()


def script_opener(uri: str | SourceUri, clock: Clock = time.monotonic) -> Callable[[], Scripted]:
    """Returns what opens the device of a `script:` again and again: each goes on with the rest.

    Raises BadInput where it is no script.
    """
    lines = play_script(
        parse_script(find_script(SourceUri(uri).unexpanded.partition(":")[2])), clock
    )
    return lambda: Scripted(lines, live=True, fps=FPS, clock=clock)


def open_script(uri: str | SourceUri, clock: Clock = time.monotonic) -> Scripted:
    """The device of a `script:`, until it is unplugged."""
    return script_opener(uri, clock)()
