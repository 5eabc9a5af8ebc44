"""What the view costs, and how soon a picture is seen: each test prints a line for docs/view.md."""

import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devices.capture.phantom import Phantom
from tests.devices.capture.servers import Send, jpeg, serving
from tests.edge_runtime.view.client import receive_result, watch
from tests.edge_runtime.view.conftest import Running

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

FPS = 30
SECONDS = 20.0
"""Of each measurement, after WARM_SECONDS."""
WARM_SECONDS = 5.0
PAINTED = """() => {
    window.ages = [];
    document.addEventListener("drawn", ({ detail }) => {
        const drawn = performance.now();
        requestAnimationFrame(() => {
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = () => window.ages.push(detail.age + performance.now() - drawn);
            port2.postMessage(null);  // the next task, after the paint
        });
    });
}"""
"""Keeps the milliseconds from each capture until the frame was painted."""


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    """A camera of 1280 x 720 pixels and FPS frames/s, as MJPEG over HTTP."""
    phantom = Phantom(width=1280, height=720, live=False)
    pictures = [jpeg(phantom.render(4 * index)) for index in range(60)]

    def play(send: Send, over: threading.Event) -> None:
        start = time.monotonic()
        number = 0
        while not over.wait(max(0.0, start + number / FPS - time.monotonic())):
            send(pictures[number % len(pictures)])
            number += 1

    with serving(play) as address:
        yield f"http://{address}"


def ages_of(view: Running, seconds: float) -> list[float]:
    """Milliseconds from each capture to the arrival of the message, at a viewer that reads."""
    ages = []
    with watch(view) as page:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            result = receive_result(page)["result"]
            ages.append(1000 * (time.monotonic() - result["captured_at"]))
            page.send("drawn")
    return ages


def cpu_seconds(process: int) -> float:
    """User and system time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


def test_a_frame_is_painted_in_time(
    running: Callable[..., Running], source: str, page: "Page"
) -> None:
    page.goto(running(source).link)
    page.wait_for_selector("#picture[data-frame]")
    page.wait_for_timeout(1000 * WARM_SECONDS)
    page.evaluate(PAINTED)
    page.wait_for_timeout(1000 * SECONDS)
    ages = page.evaluate("window.ages")
    p50, p95 = quantile(ages, 0.5), quantile(ages, 0.95)
    print(
        f"\ncapture to paint: {p50:.0f} ms p50, {p95:.0f} ms p95,"
        f" {len(ages) / SECONDS:.1f} frames/s painted"
    )
    assert p50 <= 60
    assert p95 <= 100


def results_a_second(file: Path, work: Callable[[], object]) -> float:
    """Results that a session writes to a file while some work is done."""
    before, start = file.read_bytes().count(b"\n"), time.monotonic()
    work()
    return (file.read_bytes().count(b"\n") - before) / (time.monotonic() - start)


def test_ten_viewers_cost_no_result(
    running: Callable[..., Running], source: str, tmp_path: Path
) -> None:
    file = tmp_path / "results.jsonl"
    view = running(source, "--sink", f"jsonl:{file}")
    time.sleep(WARM_SECONDS)
    alone = results_a_second(file, lambda: time.sleep(SECONDS))
    with ThreadPoolExecutor(10) as pool:
        watched = results_a_second(
            file, lambda: list(pool.map(ages_of, [view] * 10, [SECONDS] * 10))
        )
    print(f"\nten viewers: {watched:.1f} results/s, none {alone:.1f}: {watched / alone:.3f}")
    assert watched >= 0.95 * alone


def test_a_viewer_that_stops_reading_costs_the_others_nothing(
    running: Callable[..., Running], source: str
) -> None:
    view = running(source)
    ages_of(view, WARM_SECONDS)
    before, memory = statistics.median(ages_of(view, SECONDS)), resident_mb(view.process.pid)
    with watch(view):  # which reads nothing
        beside = statistics.median(ages_of(view, SECONDS))
        growth = resident_mb(view.process.pid) - memory
    print(
        f"\nage at another viewer {beside:.1f} ms beside one that does not read, {before:.1f} ms"
        f" without; memory {growth:+.1f} MB"
    )
    assert beside <= 1.1 * before + 2
    assert growth < 10


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_the_page_says_within_a_second_that_the_server_has_gone(
    end: signal.Signals, running: Callable[..., Running], source: str, page: "Page"
) -> None:
    view = running(source)
    page.goto(view.link)
    page.wait_for_selector("#picture[data-frame]")
    told = """() => new Promise((resolve) => {
        const look = () => document.body.dataset.state === "NO_LIVE_VIDEO"
            ? resolve(performance.timeOrigin + performance.now()) : requestAnimationFrame(look);
        look();
    })"""
    page.evaluate(f"() => {{ window.told = ({told})(); }}")
    gone = time.time()
    view.process.send_signal(end)
    seconds = page.evaluate("() => window.told") / 1000 - gone
    print(f"\nthe page says NO LIVE VIDEO {seconds:.2f} s after {end.name}")
    assert seconds <= 1


def test_a_viewer_takes_a_part_of_a_core(running: Callable[..., Running], source: str) -> None:
    view = running(source)
    time.sleep(WARM_SECONDS)

    def share(work: Callable[[], object]) -> float:
        before, start = cpu_seconds(view.process.pid), time.monotonic()
        work()
        return (cpu_seconds(view.process.pid) - before) / (time.monotonic() - start)

    alone = share(lambda: time.sleep(SECONDS))
    watched = share(lambda: ages_of(view, SECONDS))
    print(f"\none viewer: {watched - alone:.2f} of a core, on top of {alone:.2f}")
    assert watched - alone < 0.5
