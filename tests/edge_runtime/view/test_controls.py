"""What an operator does on the page, in a real Chromium and with a real session."""

import logging
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devices import BadInput, Box
from devices.capture.phantom import Phantom
from devices.capture.source_uri import SourceUri
from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.exams.recorder import open_exam_recorder
from edge_runtime.exams.schema import DATABASE, open_exams
from edge_runtime.exams.store import Identity, read_exams
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.nodules.decide import OUT_OF_SCOPE
from edge_runtime.nodules.pooling import NOT_ENOUGH
from edge_runtime.results.states import State
from edge_runtime.screen.region import Misplaced, Region
from edge_runtime.screen.saved_regions import saved_regions_of
from edge_runtime.session.assemble import assemble
from edge_runtime.session.pipeline import run_session
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.view.address import Address
from edge_runtime.view.operator import Operator
from edge_runtime.view.sink import View, open_view
from tests.conftest import Collected, free_port
from tests.edge_runtime.results.examples import NODULE, RESULT
from tests.edge_runtime.view.browsing import serious, take, wait_for, wait_for_text
from tests.edge_runtime.view.conftest import FACTS, LARGE, NARROW, Feed, opened

if TYPE_CHECKING:
    from playwright.sync_api import Page, WebSocket

SOURCE = SourceUri("phantom:")
GIVEN = Box(167, 190, 108, 100)
TOLERANCE = 2
"""Pixels of the picture by which a pointer may miss: one CSS pixel is up to two of them."""
FOUND = replace(NODULE, locator_score=0.9, interval={"malignant": (0.74, 0.86)})
TWO = replace(
    RESULT,
    nodules=(
        FOUND,
        replace(
            FOUND, track=2, box=Box(300, 180, 90, 70), label=None, reason=NOT_ENOUGH, smoothed=None
        ),
        replace(FOUND, track=3, box=Box(420, 260, 60, 60), label="benign", evidence=None),
    ),
)


@dataclass
class Examination:
    """A session on the simulated probe, which takes commands."""

    view: View
    region: Region
    file: Path
    exams: Path


@pytest.fixture
def examination(demo_bundle: Bundle, tmp_path: Path) -> Iterator[Examination]:
    region, stop = Region(GIVEN, whole=False), threading.Event()
    file, exams = tmp_path / "sectors.toml", tmp_path / "exams"
    stage = demo_bundle.manifest.classifier
    chain = FallbackChain(demo_bundle, stage, [CPU], threads=1, any_picture=True)
    with ExitStack() as stack:
        device = stack.enter_context(Phantom(fps=15))
        recorder = stack.enter_context(open_exam_recorder(exams, demo_bundle, str(SOURCE), True))
        operator = Operator(region, SOURCE, file, recorder=recorder)
        view = stack.enter_context(opened(operator, exams=True))
        sinks = [view, recorder]
        session = threading.Thread(
            target=run_session, args=(device, chain, region, sinks, stop), kwargs={"budget": 60}
        )
        session.start()
        try:
            yield Examination(view, region, file, exams)
        finally:
            stop.set()
            session.join()


def operate(page: "Page", view: View) -> None:
    """Opens the page as an operator, with a picture."""
    page.goto(view.operator_link)
    wait_for(page, "LIVE")
    page.wait_for_selector("#picture[data-frame]")


def draw(page: "Page", corner: tuple[int, int], other: tuple[int, int]) -> None:
    """Drags the mouse between two pixels of the picture."""
    place: Any = page.evaluate(
        """() => {
            const picture = document.querySelector("#picture");
            const { left, top, width, height } = picture.getBoundingClientRect();
            const scale = Math.min(width / picture.width, height / picture.height);
            return [left + (width - picture.width * scale) / 2,
                    top + (height - picture.height * scale) / 2, scale];
        }"""
    )
    left, top, scale = place
    start, end = ((left + x * scale, top + y * scale) for x, y in (corner, other))
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def is_near(box: Box | None, expected: Box) -> bool:
    return box is not None and all(
        abs(one - other) <= TOLERANCE for one, other in zip(box, expected, strict=True)
    )


def test_a_viewer_sees_no_controls(page: "Page", examination: Examination) -> None:
    page.goto(examination.view.link)
    wait_for(page, "LIVE")
    assert not page.locator("#operate").is_visible()
    page.keyboard.press("r")
    assert not page.locator("#region-bar").is_visible()


def test_a_region_is_drawn_moved_and_resized_with_the_mouse_and_cleared(
    page: "Page", examination: Examination, screenshots: Path
) -> None:
    operate(page, examination.view)
    page.click("#toggle-region")
    draw(page, (60, 80), (160, 200))
    wait_for_text(page, "#answer", "region set")
    assert is_near(examination.region.next_roi, Box(60, 80, 100, 120))
    draw(page, (110, 140), (210, 170))
    page.wait_for_function("() => document.querySelector('#answer').textContent")
    drawn = wait_for_region(page, examination, Box(160, 110, 100, 120))
    draw(page, (drawn.x + drawn.w, drawn.y + drawn.h), (300, 260))
    wait_for_region(page, examination, Box(160, 110, 140, 150))
    assert serious(page) == []
    take(page, screenshots, "region", LARGE)
    page.click("#region-clear")
    wait_for_text(page, "#answer", "region cleared")
    wait_for_text(page, "#why", "no nodule is marked")
    take(page, screenshots, "region-cleared")
    page.keyboard.press("Escape")
    assert not page.locator("#region-bar").is_visible()


def wait_for_region(page: "Page", examination: Examination, expected: Box) -> Box:
    """Waits until the session has this region; returns it."""
    for _ in range(600):
        if is_near(roi := examination.region.next_roi, expected):
            assert roi is not None
            return roi
        page.wait_for_timeout(50)
    pytest.fail(f"the region is {examination.region.next_roi}")


def test_results_carry_the_region_that_was_drawn(page: "Page", examination: Examination) -> None:
    page.add_init_script(
        """document.addEventListener("drawn", () => {
            const overlay = document.querySelector("#overlay");
            const row = overlay.getContext("2d").getImageData(0, 140, overlay.width, 1).data;
            let left = 0;
            while (left < overlay.width && !row[4 * left + 3]) left++;
            window.left = left;
        });"""
    )
    operate(page, examination.view)
    page.keyboard.press("r")
    draw(page, (60, 80), (160, 200))
    page.wait_for_function("() => Math.abs(window.left - 60) <= 2")


def test_a_region_is_drawn_with_the_keyboard(page: "Page", examination: Examination) -> None:
    operate(page, examination.view)
    page.keyboard.press("r")
    page.locator("#region").wait_for()
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert examination.region.next_roi == GIVEN
    page.keyboard.press("Enter")
    wait_for_text(page, "#answer", "region set")
    step = 640 / 50
    moved = Box(*map(round, (167 - step, 190 - step, 108 + step, 100 + step)))
    assert is_near(examination.region.next_roi, moved)
    page.keyboard.press("Delete")
    wait_for_text(page, "#answer", "region cleared")
    page.wait_for_function("() => document.querySelector('#region').hidden")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    wait_for_text(page, "#answer", "region set")
    assert is_near(examination.region.next_roi, Box(240, 180, 160, 120))


def test_a_region_is_drawn_with_a_finger(page: "Page", examination: Examination) -> None:
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    operate(page, examination.view)
    page.tap("#toggle-region")
    touch = page.context.new_cdp_session(page)
    box = page.locator("#picture").bounding_box()
    assert box is not None
    scale = box["width"] / 640
    for kind, pixel in (
        ("touchStart", (60, 80)),
        ("touchMove", (90, 90)),
        ("touchMove", (160, 200)),
    ):
        point = {"x": box["x"] + pixel[0] * scale, "y": box["y"] + pixel[1] * scale}
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait_for_text(page, "#answer", "region set")
    assert is_near(examination.region.next_roi, Box(60, 80, 100, 120))


def test_a_region_is_remembered_for_the_source(page: "Page", examination: Examination) -> None:
    operate(page, examination.view)
    page.keyboard.press("r")
    page.click("#region-remember")
    wait_for_text(page, "#answer", "region set")
    assert saved_regions_of(examination.file, SOURCE)[640, 480].roi == GIVEN
    page.reload()
    wait_for(page, "LIVE")
    page.keyboard.press("r")
    page.wait_for_selector("#region-remember[aria-pressed=true]")
    page.keyboard.press("m")
    wait_for_text(page, "#answer", "region set")
    assert saved_regions_of(examination.file, SOURCE) == {}


def test_a_refusal_is_told(
    page: "Page", examination: Examination, monkeypatch: pytest.MonkeyPatch
) -> None:
    operate(page, examination.view)
    page.keyboard.press("r")

    def refuse(*_: object) -> None:
        raise BadInput(Misplaced.OTHER_SIZE)

    monkeypatch.setattr(examination.region, "mark", refuse)
    draw(page, (60, 80), (160, 200))
    wait_for_text(page, "#answer", Misplaced.OTHER_SIZE)
    assert page.get_attribute("#answer", "data-refused") == "true"


@pytest.fixture
def found(feed: Feed) -> Feed:
    """A view with three nodules that a locator found."""
    feed.result = TWO
    return feed


def test_nodules_are_listed_and_one_is_chosen(
    page: "Page", view: View, found: Feed, screenshots: Path
) -> None:
    operate(page, view)
    rows = page.locator("#nodules button")
    page.wait_for_function("() => document.querySelectorAll('#nodules button').length === 3")
    assert rows.nth(0).inner_text().split("\n") == ["1", "malignant", "0.80 (0.74\N{EN DASH}0.86)"]
    assert rows.nth(1).inner_text().split("\n") == ["2", "no label", NOT_ENOUGH]
    wait_for_text(page, "#label", "1 malignant")
    take(page, screenshots, "nodules", LARGE)
    rows.nth(2).click()
    wait_for_text(page, "#label", "3 benign")
    assert rows.nth(2).get_attribute("aria-pressed") == "true"
    assert serious(page) == []
    take(page, screenshots, "nodule-chosen")
    page.keyboard.press("2")
    wait_for_text(page, "#label", "2 no label")
    found.result = replace(TWO, nodules=TWO.nodules[1:])
    page.wait_for_function("() => document.querySelectorAll('#nodules button').length === 2")
    page.keyboard.press("3")  # the number of the nodule, not its place in the list
    wait_for_text(page, "#label", "3 benign")
    found.result = replace(TWO, nodules=TWO.nodules[:1])
    wait_for_text(page, "#label", "1 malignant")
    page.wait_for_function("() => document.querySelectorAll('#nodules button').length === 1")
    found.result = replace(RESULT, state=State.STALE, reason="", nodules=(), frame=None)
    page.wait_for_function("() => document.querySelector('#nodules').hidden")


def test_the_page_speaks_of_the_nodule_that_leads(page: "Page", view: View, found: Feed) -> None:
    malignant, silent, benign = TWO.nodules
    operate(page, view)
    found.result = replace(TWO, nodules=(silent, benign, replace(malignant, track=4)))
    wait_for_text(page, "#label", "4 malignant")
    found.result = replace(TWO, nodules=(benign, silent))
    wait_for_text(page, "#label", "2 no label")
    found.result = replace(TWO, nodules=(benign,))
    wait_for_text(page, "#label", "3 benign")


def test_the_words_of_a_nodule_lie_on_no_other(page: "Page", view: View, found: Feed) -> None:
    left = replace(FOUND, box=Box(200, 200, 80, 80))
    right = replace(FOUND, track=2, box=Box(300, 120, 120, 75))
    found.result = replace(TWO, nodules=(left, right))
    operate(page, view)
    page.wait_for_function("() => document.querySelectorAll('#nodules button').length === 2")
    drawn = page.evaluate(
        """([x, y, w, h]) => {
            const overlay = document.querySelector("#overlay").getContext("2d");
            return overlay.getImageData(x, y, w, h).data.some((value) => value > 0);
        }""",
        [306, 126, 108, 63],  # within the line of the box on the right
    )
    assert not drawn


def test_a_picture_is_out_of_scope_where_every_nodule_is(
    page: "Page", view: View, found: Feed
) -> None:
    silent = TWO.nodules[1]
    beyond = replace(silent, track=1, reason=OUT_OF_SCOPE)
    operate(page, view)
    found.result = replace(TWO, nodules=(beyond,), reason=OUT_OF_SCOPE)
    wait_for_text(page, "#state", "OUT OF SCOPE")
    found.result = replace(TWO, nodules=(beyond, silent), reason=OUT_OF_SCOPE)
    wait_for_text(page, "#state", "LIVE")
    wait_for_text(page, "#why", OUT_OF_SCOPE)


TINTED = """() => {
    const overlay = document.querySelector("#overlay");
    const data = overlay.getContext("2d").getImageData(86, 81, 60, 30).data;
    return data.some((value, place) => place % 4 === 3 && value > 0 && value < 140);
}"""


def test_evidence_tints_the_picture_on_request(
    page: "Page", view: View, feed: Feed, screenshots: Path
) -> None:
    operate(page, view)
    assert not page.evaluate(TINTED)
    page.keyboard.press("e")
    page.wait_for_function(TINTED)
    wait_for_text(page, "#evidence-text", "amber speaks for malignant, teal for benign")
    take(page, screenshots, "evidence")
    page.click("#toggle-evidence")
    page.wait_for_function(f"() => !({TINTED})()")


def test_a_model_without_evidence_has_no_button_for_it(page: "Page") -> None:
    with opened(evidence=False) as view, Feed(view):
        operate(page, view)
        assert not page.locator("#toggle-evidence").is_visible()


def test_the_temperature_is_shown(page: "Page") -> None:
    operator = Operator(Region(), SOURCE, Path("/nowhere/sectors.toml"), lambda: 61.4)
    with opened(operator) as view, Feed(view):
        operate(page, view)
        wait_for_text(page, "#celsius", "61 °C")


def test_a_view_that_nobody_operates_says_nothing_of_a_temperature(page: "Page") -> None:
    with open_view(Address("127.0.0.1", 0), FACTS) as view, Feed(view):
        page.goto(view.link)
        wait_for(page, "LIVE")
        assert page.locator("#temperature").is_hidden()


@pytest.mark.parametrize("size", [NARROW, LARGE], ids=["narrow", "large"])
def test_every_control_can_be_touched_and_covers_no_other(
    page: "Page", examination: Examination, size: dict[str, int]
) -> None:
    page.set_viewport_size(size)  # type: ignore[arg-type]
    operate(page, examination.view)
    page.keyboard.press("r")
    page.locator("#region-bar").wait_for()
    boxes = page.evaluate(
        """() => [...document.querySelectorAll("button, select")]
            .filter(each => each.checkVisibility() && !each.closest("#nodules"))
            .map(each => each.getBoundingClientRect())
            .map(({ x, y, width, height }) => [x, y, width, height])"""
    )
    assert len(boxes) == 10
    assert min(side for box in boxes for side in box[2:]) >= 44
    for place, (x, y, w, h) in enumerate(boxes):
        assert x >= 0
        assert x + w <= size["width"]
        for left, top, wide, tall in boxes[place + 1 :]:
            assert x + w <= left or left + wide <= x or y + h <= top or top + tall <= y


def begin_exam(page: "Page", examination: Examination) -> None:
    operate(page, examination.view)
    page.keyboard.press("x")
    page.fill("#patient-id", "4711")
    page.keyboard.press("Enter")
    wait_for_text(page, "#answer", "exam begun")
    page.locator("#exam-status", has_text="exam since").wait_for()


def test_an_exam_is_begun_with_an_identity_gets_a_still_and_ends(
    page: "Page",
    examination: Examination,
    screenshots: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    operate(page, examination.view)
    assert page.locator("#keep-still").is_disabled()
    page.click("#exam")
    assert serious(page) == []
    take(page, screenshots, "exam-form", LARGE)
    page.click("#exam-cancel")
    begin_exam(page, examination)
    page.wait_for_selector("#keep-still:enabled")
    for _ in range(3):  # a key that is held is one still
        page.keyboard.down("s")
    page.keyboard.up("s")
    wait_for_text(page, "#answer", "still kept")
    page.locator("#exam-status", has_text="stills: 1").wait_for()
    assert serious(page) == []
    take(page, screenshots, "exam", LARGE)
    page.click("#exam")
    page.click("#exam-ok")
    wait_for_text(page, "#answer", "exam ended")
    page.locator("#exam-status").wait_for(state="hidden")
    assert "4711" not in caplog.text
    deadline = time.monotonic() + 60  # the recorder writes behind the page
    with closing(open_exams(examination.exams)) as connection:
        while not (exam := read_exams(connection, None)[0]).ended:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert (exam.identity, exam.stills) == (Identity(patient_id="4711"), 1)


def test_who_was_examined_is_told_to_no_page(page: "Page", examination: Examination) -> None:
    heard: list[str] = []

    def listen(stream: "WebSocket") -> None:
        stream.on("framereceived", lambda data: heard.append(str(data)))

    page.on("websocket", listen)
    begin_exam(page, examination)
    assert any("begun" in text for text in heard)
    assert not any("4711" in text for text in heard)
    page.keyboard.press("x")
    assert page.input_value("#patient-id") == ""


def test_an_exam_that_cannot_be_kept_is_told_and_the_picture_goes_on(
    page: "Page", examination: Examination, screenshots: Path
) -> None:
    begin_exam(page, examination)
    shutil.rmtree(examination.exams)
    examination.exams.write_text("a file where the folder should be")
    page.locator("#exam-status", has_text="the exam cannot be kept").wait_for()
    page.select_option("#language", "zh")
    removed = re.compile("文件夹已被删除|无法打开数据库")
    page.locator("#exam-status", has_text=removed).wait_for()
    page.select_option("#language", "en")
    take(page, screenshots, "exam-trouble")
    frame = page.get_attribute("#picture", "data-frame")
    page.wait_for_selector(f"#picture[data-frame]:not([data-frame='{frame}'])")
    wait_for(page, "LIVE")


def test_an_exam_that_is_not_sent_is_told(
    page: "Page", demo_bundle: Bundle, tmp_path: Path
) -> None:
    pytest.importorskip("highdicom", reason="needs the extra `dicom`")
    context = SinkContext(
        threading.Event(), True, 15.0, outboxes=tmp_path / "outbox", exam_sinks=[]
    )
    with ExitStack() as stack:
        stack.enter_context(open_sink(f"dicom://127.0.0.1:{free_port()}", context))
        sinks, exams = context.exam_sinks or [], tmp_path / "exams"
        recorder = stack.enter_context(
            open_exam_recorder(exams, demo_bundle, str(SOURCE), True, exam_sinks=sinks)
        )
        operator = Operator(Region(), SOURCE, tmp_path / "sectors.toml", recorder=recorder)
        view = stack.enter_context(opened(operator, exams=True))
        stack.enter_context(Feed(view))
        operate(page, view)
        recorder.begin()
        recorder.end()
        page.locator("#exam-status", has_text="exams not sent: 1").wait_for()


def test_a_still_that_is_not_written_yet_is_not_said_to_be_kept(
    page: "Page", examination: Examination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.exams.schema.LOCK_SECONDS", 0.1)
    begin_exam(page, examination)
    page.wait_for_selector("#keep-still:enabled")
    with closing(sqlite3.connect(examination.exams / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        page.locator("#exam-status", has_text="another program holds the database").wait_for()
        page.keyboard.press("s")
        wait_for_text(page, "#answer", "the still waits for the disk")
        other.execute("ROLLBACK")
    page.locator("#exam-status", has_text="another program").wait_for(state="hidden")
    page.keyboard.press("s")
    wait_for_text(page, "#answer", "still kept")


def test_a_paused_page_keeps_no_still_and_says_why(page: "Page", examination: Examination) -> None:
    operate(page, examination.view)
    page.keyboard.press("s")
    wait_for_text(page, "#answer", "no still: begin an exam first")
    begin_exam(page, examination)
    page.wait_for_selector("#keep-still:enabled")
    page.keyboard.press("p")
    page.wait_for_selector("#keep-still:disabled")
    page.keyboard.press("s")
    wait_for_text(page, "#answer", "no still: there is no live picture of this exam")


def test_a_box_follows_its_nodule_once_somebody_says_so(
    page: "Page", shipped_path: Path, tmp_path: Path, screenshots: Path
) -> None:
    bundle, sink, stop = open_bundle(shipped_path), Collected(), threading.Event()
    chain = FallbackChain(bundle, bundle.manifest.classifier, [CPU], threads=1, any_picture=True)

    def marked() -> bool:
        newest = sink.results[-1].nodules if sink.results else ()
        return any(nodule.locator_score == 1 for nodule in newest)

    with Phantom(fps=10) as device:
        session = assemble(device, chain, budget=60, operated=True)
        operator = Operator(session.region, SOURCE, tmp_path / "sectors.toml")
        with opened(operator, follow=True) as view:
            running = threading.Thread(target=session.run, args=([view, sink], stop))
            running.start()
            try:
                operate(page, view)
                page.keyboard.press("r")
                page.keyboard.press("f")
                draw(page, (180, 190), (260, 290))
                page.wait_for_selector("#region-follow[aria-pressed=true]")
                wait_for_text(page, "#answer", "region set")
                wait_until(page, marked)
                assert serious(page) == []
                take(page, screenshots, "region-follows", LARGE)
                page.keyboard.press("f")
                page.wait_for_selector("#region-follow[aria-pressed=false]")
                wait_until(page, lambda: session.region.fixed_roi is not None)
                wait_until(page, lambda: not marked())
            finally:
                stop.set()
                running.join()


def wait_until(page: "Page", holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        page.wait_for_timeout(50)
    pytest.fail("it never came to that")


def test_without_a_locator_no_box_is_offered_to_follow(
    page: "Page", examination: Examination
) -> None:
    operate(page, examination.view)
    page.click("#toggle-region")
    page.locator("#region-done").wait_for()
    assert not page.locator("#region-follow").is_visible()
