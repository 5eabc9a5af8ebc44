"""A reader of something from outside, and the one thing that it promises: a value, or one line."""

import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from devices import SonoliteError
from edge_runtime.release.layout import Refused

INPUT_SECONDS, WAIT_SECONDS = 5.0, 120.0
"""Seconds of a processor that one input may take, and seconds on a machine with other work."""
MEMORY = 3 << 30
"""Bytes of memory of a process that reads inputs, libraries included."""


@dataclass(frozen=True)
class Target:
    """One reader. `read` is called in an empty folder of its own, where it may write."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    """Makes sound inputs, from which the others are made."""
    read: Callable[[bytes], object]
    inputs: int
    """Inputs of the short run."""
    heavy: bool
    """Whether the reader loads TensorFlow, for which the short run has no time."""


TARGETS: dict[str, Target] = {}


def target(
    seeds: Callable[[], Sequence[bytes]], inputs: int = 100, heavy: bool = False
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    """Registers a reader as the target of the same name."""

    def register(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
        name = read.__name__.replace("_", "-")
        assert name not in TARGETS, name
        TARGETS[name] = Target(name, seeds, read, inputs, heavy)
        return read

    return register


class Slow(BaseException):
    """An input took too long. No reader catches it."""


def judge(each: Target, content: bytes) -> None:
    """Raises whatever is no value and no refusal in one line; AssertionError for another line.

    What a thread raises counts, too; the input may be the one before.
    """
    failures: list[BaseException | None] = []
    before = threading.excepthook
    threading.excepthook = lambda failure: failures.append(failure.exc_value)
    try:
        each.read(content)
    except (SonoliteError, Refused) as refusal:
        if len(str(refusal).splitlines()) != 1:
            raise AssertionError(f"not one line: {str(refusal)!r}") from refusal
    finally:
        threading.excepthook = before
    if failures:
        raise AssertionError("a thread raises") from failures[0]


@contextmanager
def limited() -> Iterator[None]:
    """Limits the memory of this process, and the time of each input; see `begin_input`."""

    def slow(number: int, frame: object) -> None:
        raise Slow

    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, slow)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, before[1]))
    try:
        yield
    finally:
        begin_input(0.0, 0.0)
        resource.setrlimit(resource.RLIMIT_DATA, before)


def begin_input(processor: float = INPUT_SECONDS, clock: float = WAIT_SECONDS) -> None:
    """Gives the next input its time."""
    signal.setitimer(signal.ITIMER_PROF, processor)
    signal.setitimer(signal.ITIMER_REAL, clock)
