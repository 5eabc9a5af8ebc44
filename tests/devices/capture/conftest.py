"""A grabber that tests plug in and pull out, and what a process holds."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

FAKE = Path(__file__).with_name("fake_v4l2.py")


@dataclass
class Grabber:
    """A V4L2 device, as far as the kernel is concerned; see `fake_v4l2.py`."""

    path: Path
    process: subprocess.Popen[str]

    def tell(self, word: str) -> None:
        """Lets it do what the word says."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(word, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"


@contextmanager
def plugged(folder: Path, modes: str) -> Iterator[Grabber]:
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(FAKE), str(folder), *modes.split()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            pytest.skip(f"no V4L2 device can be made here: {process.communicate()[1].strip()}")
        yield Grabber(folder / "video0", process)
    finally:
        process.communicate()


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Callable[[str], Grabber]]:
    """Plugs in a grabber that offers modes, as `YUYV 640 480 30 MJPG 1280 720 30`."""
    with ExitStack() as stack:
        yield lambda modes: stack.enter_context(plugged(tmp_path / "dev", modes))


def entries(kind: str) -> int:
    """How many threads (`task`) or open files (`fd`) this process has."""
    return len(list(Path("/proc/self", kind).iterdir()))


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
