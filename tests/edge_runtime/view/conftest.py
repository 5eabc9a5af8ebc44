"""A view on loopback that is fed with results, a session that shows one, and a real Chromium."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devices import Pixels
from devices.capture.phantom import Phantom
from devices.capture.source_uri import SourceUri
from edge_runtime.results.result import Result
from edge_runtime.screen.region import Region
from edge_runtime.view.address import Address
from edge_runtime.view.operator import Operator
from edge_runtime.view.sink import View, open_view
from tests.edge_runtime.results.examples import RESULT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FACTS = {"live": True, "budget": 60.0, "margin": 0.05, "evidence": True, "exams": False}
"""A budget that a machine with other work keeps."""
NO_REGIONS = Path("/nowhere/sectors.toml")
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
LARGE = {"width": 1920, "height": 1080}
PATIENCE_MS = 60_000


@contextmanager
def opened(operator: Operator | None = None, **facts: object) -> Iterator[View]:
    """A view on a free port."""
    operator = operator or Operator(Region(), SourceUri("phantom:"), NO_REGIONS)
    with open_view(Address("127.0.0.1", 0), FACTS | facts, operator) as view:
        yield view


@pytest.fixture
def view() -> Iterator[View]:
    with opened() as view:
        yield view


class Feed:
    """Writes one result again and again, as a session does, until another takes the place."""

    def __init__(self, view: View) -> None:
        self._view, self._stop, self._written = view, threading.Event(), 0
        phantom = Phantom(live=False)
        self._pictures = [phantom.render(6 * index) for index in range(8)]
        self.result: Result | None = RESULT
        """None writes nothing."""
        self.delay = 0.0
        """Seconds by which the pictures are older than they were."""
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        while not self._stop.wait(0.04):
            if self.result is not None:
                self._view.write(*self._next(self.result))

    def _next(self, result: Result) -> tuple[Result, Pixels]:
        number, self._written = self._written, self._written + 1
        frame = None if result.frame is None else number
        moved = replace(
            result, sequence=number, frame=frame, captured_at=time.monotonic() - self.delay
        )
        return moved, self._pictures[number % len(self._pictures)]

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def feed(view: View) -> Iterator[Feed]:
    with Feed(view) as feed:
        yield feed


@dataclass
class Running:
    """`sonolite run --view` in a process of its own."""

    process: "subprocess.Popen[str]"
    link: str
    operator_link: str
    rest: list[str]
    """The lines that it has printed since."""


@pytest.fixture
def running(demo_path: Path) -> Iterator[Callable[..., Running]]:
    """`running(source, *options)` starts one; the end of the test ends it."""
    with ExitStack() as stack:

        def start(source: str, *options: str) -> Running:
            words = ["run", str(demo_path), "--source", source, "--view", "127.0.0.1:0"]
            process = subprocess.Popen(
                [sys.executable, "-m", "edge_runtime", *words, "--any-picture", *options],
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                text=True,
                env=os.environ,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stderr is not None
            stack.callback(process.stderr.close)
            lines = []
            for line in process.stderr:
                lines.append(line)
                if match := re.match(r"operate: (\S+)", line):
                    break
            else:
                pytest.fail(f"the session printed no link: {lines}")
            viewer = re.search(r"^view: (\S+)", "".join(lines), re.MULTILINE)
            assert viewer is not None
            rest: list[str] = []
            reader = threading.Thread(
                target=lambda lines: rest.extend(lines), args=[process.stderr]
            )
            reader.start()
            stack.callback(reader.join)
            stack.callback(process.kill)
            return Running(process, viewer[1], match[1], rest)

        yield start


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = os.environ.get("SONOLITE_SCREENSHOTS")
    path = Path(folder) if folder else tmp_path_factory.mktemp("screenshots")
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """A page of a browser without cookies, in English; an error on the page fails the test."""
    context = browser.new_context(viewport=WIDE, locale="en-GB", has_touch=True)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []
