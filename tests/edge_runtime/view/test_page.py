"""The page in a real Chromium: what a person sees in every state.

Screenshots of the states lie in the folder that `SONOLITE_SCREENSHOTS` names, else in a folder of
pytest's.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from devices import Box, Pixels
from devices.capture.scripted import Scripted
from edge_runtime.bundle.archive import Bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.nodules.decide import OUT_OF_SCOPE, TOO_CLOSE
from edge_runtime.results.result import Nodule, Result
from edge_runtime.results.states import Event, State
from edge_runtime.screen.region import Region
from edge_runtime.session.pipeline import run_session
from edge_runtime.view.sink import View
from tests.conftest import Within
from tests.edge_runtime.results.examples import NODULE, RESULT
from tests.edge_runtime.view.browsing import serious, take, wait_for, wait_for_text
from tests.edge_runtime.view.conftest import (
    LARGE,
    PATIENCE_MS,
    Feed,
    Running,
    opened,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page, WebSocket

NO_LABEL = replace(NODULE, label=None, smoothed=None)


def changed(state: State, reason: str, **changes: Any) -> Result:
    """The result in another state, without a label."""
    nodules: tuple[Nodule, ...] = (replace(NO_LABEL, reason=reason),)
    return replace(RESULT, state=state, reason=reason, nodules=nodules, **changes)


ABSTAINED = replace(
    RESULT,
    reason=TOO_CLOSE,
    nodules=(
        replace(NODULE, label=None, reason=TOO_CLOSE, smoothed={"benign": 0.27, "malignant": 0.73}),
    ),
)
STATES: dict[str, tuple[Result, str, str, bool]] = {
    "live": (RESULT, "LIVE", "malignant", True),
    "abstained": (ABSTAINED, "LIVE", "no label", True),
    "out-of-scope": (changed(State.LIVE, OUT_OF_SCOPE), "OUT OF SCOPE", "no label", True),
    "searching": (changed(State.SEARCHING, Event.UNUSABLE), "SEARCHING", "no label", True),
    "frozen": (changed(State.FROZEN, Event.REPEATED), "FROZEN", "no label", True),
    "stale": (changed(State.STALE, Event.SILENT, frame=None), "STALE", "no label", False),
    "lost": (changed(State.LOST, Event.GONE, frame=None), "NO LIVE VIDEO", "no label", False),
    "fault": (changed(State.FAULT, Event.FAILED), "FAULT", "no label", True),
    "fallback": (
        replace(
            RESULT,
            fallback="edgetpu: hung for 5 s",
            health=("the power supply is too weak",),
            adjusted_prevalence={"benign": 0.9, "malignant": 0.1},
            nodules=(replace(NODULE, adjusted={"benign": 0.85, "malignant": 0.15}),),
        ),
        "LIVE",
        "malignant",
        True,
    ),
}
"""By name: a result, the words of the banner, the label, and whether the picture is seen."""
BRIGHTNESS = """canvas => {
    if (!canvas.width) return 0;
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return data.reduce((sum, value, place) => sum + (place % 4 < 3 ? value : 0), 0);
}"""


def brightness(page: "Page", canvas: str) -> float:
    value: float = page.eval_on_selector(f"#{canvas}", BRIGHTNESS)
    return value


@pytest.mark.parametrize("name", STATES)
def test_a_state_is_shown_in_words(
    name: str, page: "Page", view: View, feed: Feed, screenshots: Path
) -> None:
    result, words, label, seen = STATES[name]
    page.goto(view.link)
    wait_for(page, "LIVE")
    feed.result = result
    page.wait_for_function(
        """([words, label, seen, scored]) => {
            const of = id => document.getElementById(id);
            const pixels = canvas => !canvas.width ? [] :
                canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const visible = canvas => pixels(canvas).some((value, place) => place % 4 < 3 && value);
            return of("state").textContent === words && of("label").textContent === label
                && visible(of("picture")) === seen && visible(of("overlay")) === seen
                && of("score").hidden !== scored;
        }""",
        arg=[words, label, seen, label == "malignant" or name == "abstained"],
    )
    assert page.inner_text("#notice") == "research use only, not for diagnosis"
    if result.reason is not None:
        page.get_by_text(result.reason).first.wait_for()
    assert serious(page) == []
    take(page, screenshots, name, *[LARGE] * (name in ("live", "fallback")))


def test_score_threshold_and_the_zone_without_a_label_are_figures(
    page: "Page", view: View, feed: Feed
) -> None:
    page.goto(view.link)
    wait_for(page, "LIVE")
    wait_for_text(page, "#score-text", "score (malignant) 0.80")
    wait_for_text(page, "#threshold-text", "threshold 0.70")
    wait_for_text(page, "#zone-text", "no label from 0.65 to 0.75")
    assert page.eval_on_selector("#threshold", "it => it.style.left") == "70%"


def test_fallback_health_and_the_other_prevalence_are_told(
    page: "Page", view: View, feed: Feed
) -> None:
    feed.result = STATES["fallback"][0]
    page.goto(view.link)
    page.locator("#fallback", has_text="FALLBACK: edgetpu: hung for 5 s").wait_for()
    page.locator("#health", has_text="the power supply is too weak").wait_for()
    page.locator("#adjusted", has_text="probability at prevalence 0.10: 0.15").wait_for()


def test_the_overlay_is_hidden_by_key_and_by_button(page: "Page", view: View, feed: Feed) -> None:
    page.goto(view.link)
    wait_for(page, "LIVE")
    overlay, button = page.locator("#overlay"), page.locator("#toggle-overlay")
    overlay.wait_for(state="visible")
    page.keyboard.press("o")
    overlay.wait_for(state="hidden")
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator("#picture").is_visible()
    button.click()
    overlay.wait_for(state="visible")


def test_a_paused_view_stands_still_and_does_not_pass_for_live(
    page: "Page", view: View, feed: Feed, screenshots: Path
) -> None:
    page.goto(view.link)
    wait_for(page, "LIVE")
    page.wait_for_selector("#picture[data-frame]")
    page.keyboard.press("p")
    wait_for(page, "PAUSED")
    frame = page.get_attribute("#picture", "data-frame")
    page.wait_for_timeout(500)
    assert page.get_attribute("#picture", "data-frame") == frame
    feed.result = ABSTAINED
    page.wait_for_timeout(500)
    wait_for_text(page, "#label", "malignant")  # that of the picture
    take(page, screenshots, "paused")
    page.keyboard.press("p")
    wait_for(page, "LIVE")
    page.wait_for_selector(f"#picture[data-frame]:not([data-frame='{frame}'])")
    page.locator("#label", has_text="no label").wait_for()


def test_a_paused_view_whose_picture_is_gone_goes_on(page: "Page", view: View, feed: Feed) -> None:
    page.goto(view.link)
    wait_for(page, "LIVE")
    page.keyboard.press("p")
    wait_for(page, "PAUSED")
    feed.result = None
    wait_for(page, "NO LIVE VIDEO")
    feed.result = RESULT
    wait_for(page, "LIVE")
    page.wait_for_selector("#picture[data-frame]")


def test_the_page_speaks_chinese_and_remembers_it(
    page: "Page", view: View, feed: Feed, screenshots: Path
) -> None:
    page.goto(view.link)
    wait_for(page, "LIVE")
    page.select_option("#language", "zh")
    wait_for(page, "实时")
    wait_for_text(page, "#label", "恶性")
    assert page.inner_text("#notice").startswith("仅供研究使用")
    take(page, screenshots, "chinese")
    page.reload()
    wait_for(page, "实时")


def test_a_recording_does_not_pass_for_live(page: "Page", screenshots: Path) -> None:
    with opened(live=False) as view, Feed(view):
        page.goto(view.link)
        wait_for(page, "RECORDING")
        take(page, screenshots, "recording")


def test_a_picture_that_arrives_late_is_not_shown(page: "Page", view: View, feed: Feed) -> None:
    page.goto(view.link)
    wait_for(page, "LIVE")
    feed.delay = 1000
    wait_for(page, "STALE")
    page.locator("#reason", has_text="the pictures arrive late").wait_for()
    page.wait_for_timeout(200)
    assert brightness(page, "picture") == 0


def test_a_session_that_gives_no_result_any_more_does_not_pass_for_live(
    page: "Page", view: View, feed: Feed, screenshots: Path
) -> None:
    """The server still gives its sign of life."""
    page.goto(view.link)
    wait_for(page, "LIVE")
    feed.result = None
    wait_for(page, "NO LIVE VIDEO")
    assert brightness(page, "picture") == 0
    feed.result = RESULT
    wait_for(page, "LIVE")


SLOW_WAY = """const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (text) { setTimeout(() => send.call(this, text), 200); };"""
"""A server far away: what the page sends takes a fifth of a second."""


@pytest.mark.parametrize(("way", "kept"), [("", 1), (SLOW_WAY, 0)], ids=["near", "far"])
def test_a_page_near_the_server_lets_it_send_one_ahead(
    way: str, kept: int, page: "Page", view: View, feed: Feed
) -> None:
    """It keeps one confirmation of the two back; otherwise pictures wait in a slow page."""
    received, drawn = [], []

    def count(socket: "WebSocket") -> None:
        socket.on("framereceived", lambda data: received.append(isinstance(data, bytes)))
        socket.on("framesent", lambda data: drawn.append(data == "drawn"))

    page.add_init_script(way)
    page.on("websocket", count)
    page.goto(view.link)
    wait_for(page, "LIVE")
    for _ in range(20):  # while the page learns how far away the server is
        feed.result = RESULT
        wait_for(page, "LIVE")
        page.wait_for_timeout(1000)
        feed.result = None
        wait_for(page, "NO LIVE VIDEO")
        if sum(received) - sum(drawn) == kept:
            return
    pytest.fail(f"{sum(received)} pictures, {sum(drawn)} confirmations")


def test_the_figures_change_no_more_often_than_somebody_reads(
    page: "Page", view: View, feed: Feed
) -> None:
    """Each change costs the browser a painting beside that of the picture."""
    page.goto(view.link)
    wait_for(page, "LIVE")
    per_second: float = page.evaluate(
        """() => new Promise(resolve => {
            const moments = [];
            new MutationObserver(() => {
                moments.push(performance.now());
                if (moments.length > 8) resolve(8000 / (moments.at(-1) - moments[0]));
            }).observe(document.querySelector("#age"), { childList: true });
        })"""
    )
    assert per_second < 6


def test_a_wrong_token_shows_nothing_and_says_what_to_do(
    page: "Page", view: View, feed: Feed, screenshots: Path
) -> None:
    page.goto(view.link[:-1])
    page.locator("#reason", has_text="not admitted: open the link").wait_for()
    assert brightness(page, "picture") == 0
    take(page, screenshots, "refused")
    page.goto(view.link)
    page.reload()
    wait_for(page, "LIVE")


def test_the_token_leaves_the_address_and_the_cookie_stays(
    page: "Page", view: View, feed: Feed
) -> None:
    page.goto(view.link)
    wait_for(page, "LIVE")
    assert page.url == view.link.partition("#")[0]
    assert page.evaluate("document.cookie") == ""
    page.reload()
    wait_for(page, "LIVE")


def test_a_session_on_the_phantom_is_live(
    page: "Page", running: Callable[..., Running], screenshots: Path
) -> None:
    session = running("phantom:", "--roi", "167,190,108,100", "--budget", "10")
    page.goto(session.link)
    wait_for(page, "LIVE")
    page.wait_for_function("() => document.querySelector('#rate').textContent > 0")
    page.wait_for_function("() => document.querySelector('#age').textContent.endsWith(' ms')")
    assert page.inner_text("#backend").startswith("cpu ")
    assert page.inner_text("#bundle").startswith("demo 4 ")
    page.wait_for_timeout(3000)  # some of the trend
    take(page, screenshots, "phantom")
    session.process.send_signal(signal.SIGINT)
    wait_for(page, "NO LIVE VIDEO")
    assert session.process.wait(60) == 0


def test_the_faults_of_a_script_show_as_they_come(
    page: "Page", running: Callable[..., Running]
) -> None:
    script = "black 120, frames 60, still 80, frames 40, stall 4, frames 40, unplug, frames 100"
    page.add_init_script(
        """window.states = [];
        document.addEventListener("DOMContentLoaded", () =>
            new MutationObserver(() => states.push(document.body.dataset.state))
            .observe(document.body, { attributeFilter: ["data-state"] }));"""
    )
    page.goto(running(f"script:{script}", "--budget", "1").link)
    for state in ("SEARCHING", "LIVE", "FROZEN", "LIVE", "NO_LIVE_VIDEO", "LIVE"):
        page.wait_for_function(
            """state => {
                const place = states.indexOf(state);
                if (place >= 0) states.splice(0, place + 1);
                return place >= 0;
            }""",
            arg=state,
        )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_server_that_dies_shows_within_a_second(
    page: "Page",
    running: Callable[..., Running],
    number: signal.Signals,
    within: Within,
    screenshots: Path,
) -> None:
    """Killed, its connection ends; stopped, it only falls silent, as behind a pulled cable."""
    session = running("phantom:", "--budget", "10")
    page.goto(session.link)
    wait_for(page, "LIVE")
    began = time.monotonic()
    session.process.send_signal(number)
    wait_for(page, "NO LIVE VIDEO")
    assert time.monotonic() - began <= within(1.0)
    assert brightness(page, "picture") == 0
    take(page, screenshots, f"server-{number.name}")
    if number == signal.SIGSTOP:
        session.process.send_signal(signal.SIGCONT)
        wait_for(page, "LIVE")


def test_a_session_that_has_ended_is_no_lost_connection(page: "Page") -> None:
    with opened() as view, Feed(view):
        page.goto(view.link)
        wait_for(page, "LIVE")
    wait_for(page, "NO LIVE VIDEO")
    with page.expect_event("requestfailed"):  # the page asks again, and nobody answers
        wait_for_text(page, "#reason", "the session has ended")
    with page.expect_event("requestfailed"):
        wait_for_text(page, "#reason", "the session has ended")


SIDE, BITS = 16, 12
"""Pixels of a square of the bar code, and squares."""
CHECK = f"""() => {{
    window.checked = 0;
    window.wrong = [];
    document.addEventListener("drawn", ({{ detail }}) => {{
        const picture = document.querySelector("#picture").getContext("2d");
        const overlay = document.querySelector("#overlay").getContext("2d");
        const bits = picture.getImageData(0, {SIDE // 2}, {SIDE * BITS}, 1).data;
        let painted = 0;
        for (let bit = 0; bit < {BITS}; bit++) {{
            if (bits[4 * ({SIDE} * bit + {SIDE // 2})] > 127) painted |= 1 << bit;
        }}
        const row = overlay.getImageData(0, 240, 640, 1).data;
        let left = 0;
        while (left < 640 && !row[4 * left + 3]) left++;
        checked++;
        if (painted !== detail.frame || left !== boxOf(painted)) {{
            wrong.push([detail.frame, painted, left]);
        }}
    }});
}}"""


def paint(pixels: Pixels, number: int) -> Pixels:
    """A copy with the number as a bar code in the upper left corner."""
    painted = pixels.copy()
    for bit in range(BITS):
        painted[:SIDE, SIDE * bit : SIDE * (bit + 1)] = 255 * (number >> bit & 1)
    return painted


def watch_drawn(page: "Page", view: View, box_of: str) -> None:
    """Opens the page, which then compares each picture with its frame and box."""
    page.goto(view.link)
    page.evaluate(f"() => {{ window.boxOf = {box_of}; }}")
    page.evaluate(CHECK)


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_box_belongs_to_the_picture(
    page: "Page", view: View, screen: Pixels, count: int
) -> None:
    """Each picture has its number painted in, and its box at a place of its own."""
    watch_drawn(page, view, "frame => 20 + (37 * frame) % 500")
    number, deadline = 0, time.monotonic() + 4 * PATIENCE_MS / 1000
    while page.evaluate("checked") < count:
        assert time.monotonic() < deadline
        for _ in range(25):
            box = Box(20 + (37 * number) % 500, 200, 60, 80)
            result = replace(
                RESULT,
                sequence=number,
                frame=number,
                captured_at=time.monotonic(),
                nodules=(replace(NODULE, box=box),),
            )
            view.write(result, paint(screen, number % (1 << BITS)))
            number += 1
            time.sleep(0.01)
    assert number < 1 << BITS
    assert page.evaluate("wrong") == []


def test_the_picture_of_a_session_is_that_of_its_result(
    page: "Page", view: View, demo_bundle: Bundle, screen: Pixels
) -> None:
    """As above through all threads of a session; frames are lost on the way, never exchanged."""
    watch_drawn(page, view, "frame => 167")
    stages = demo_bundle.manifest.classifier
    chain = FallbackChain(demo_bundle, stages, [CPU], threads=1, any_picture=True)
    stop = threading.Event()

    def pictures() -> Iterator[Pixels]:
        for number in range(1 << BITS):
            time.sleep(0.02)
            noise = np.random.default_rng(number).integers(0, 40, screen.shape, np.uint8)
            yield paint(np.asarray(screen // 2 + noise, np.uint8), number)

    region = Region(Box(167, 190, 108, 100))
    with Scripted(pictures(), live=True) as device:
        session = threading.Thread(
            target=run_session, args=(device, chain, region, [view], stop), kwargs={"budget": 60}
        )
        session.start()
        try:
            page.wait_for_function("() => checked >= 60")
        finally:
            stop.set()
            session.join()
    assert page.evaluate("wrong") == []
