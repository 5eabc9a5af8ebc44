"""Commands of the page: what is read, what is refused, and who may give them, over real sockets."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from devices import Box, Pixels
from devices.capture.source_uri import SourceUri
from edge_runtime.bundle.archive import Bundle
from edge_runtime.exams.recorder import NotKept, open_exam_recorder
from edge_runtime.exams.store import Identity
from edge_runtime.screen.region import Misplaced, Region
from edge_runtime.screen.saved_regions import saved_regions_of
from edge_runtime.view.commands import (
    BeginExam,
    ClearRegion,
    Command,
    EndExam,
    KeepStill,
    MarkRegion,
    Refusal,
)
from edge_runtime.view.operator import MAX_WAITING_COMMANDS, Answer, Operator
from edge_runtime.view.sink import View
from edge_runtime.view.viewers import COMMAND_BURST
from tests.edge_runtime.results.examples import RESULT
from tests.edge_runtime.view.client import ask, exchange, host_of, watch
from tests.edge_runtime.view.conftest import opened

SOURCE = SourceUri("rtsp://user:secret@scanner/screen")
ROI, SCREEN = Box(100, 120, 80, 60), (640, 480)
MARK = {"do": "mark", "box": list(ROI), "screen": list(SCREEN), "remember": False}


@pytest.fixture
def region(screen: Pixels) -> Region:
    """Of a session that has seen one frame."""
    region = Region()
    region.locate(screen)
    return region


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "sectors.toml"


@pytest.fixture
def operated(region: Region, file: Path) -> Iterator[View]:
    with opened(Operator(region, SOURCE, file)) as view:
        yield view


def token(view: View) -> str:
    return urlsplit(view.operator_link).fragment


def give(page: ClientConnection, command: object, number: int = 7) -> str | None:
    """The answer to a command: None where it was carried out, else the reason why not."""
    page.send(json.dumps({"id": number, "command": command}))
    while "answer" not in (heard := json.loads(page.recv(timeout=60))):
        pass
    assert heard["answer"]["id"] == number
    refused: str | None = heard["answer"]["refused"]
    return refused


def status(page: ClientConnection) -> Any:
    """The next status."""
    while "status" not in (heard := json.loads(page.recv(timeout=60))):
        pass
    return heard["status"]


def test_an_operator_marks_a_region_for_the_next_frame(
    operated: View, region: Region, screen: Pixels
) -> None:
    with watch(operated, token(operated)) as page:
        assert status(page)["region"] is None
        assert give(page, MARK) is None
        assert region.locate(screen) == ROI
        assert give(page, {"do": "clear", "screen": SCREEN}) is None
        region.locate(screen)
        assert region.roi is None


def test_the_status_comes_before_the_answer_that_speaks_of_it(operated: View) -> None:
    """Else a page would show the region from before for a moment, and take a drag on it."""
    with watch(operated, token(operated)) as page:
        assert status(page)["region"] is None
        page.send(json.dumps({"id": 1, "command": MARK}))
        regions = []
        while "answer" not in (heard := json.loads(page.recv(timeout=60))):
            regions += [heard["status"]["region"]] if "status" in heard else []
        assert regions[-1:] == [list(ROI)]


def test_every_page_learns_of_the_region(operated: View) -> None:
    with watch(operated, token(operated)) as page, watch(operated) as other:
        assert status(other)["region"] is None
        give(page, MARK)
        assert status(other)["region"] == list(ROI)


def test_a_viewer_gives_no_command(operated: View, region: Region, screen: Pixels) -> None:
    with watch(operated) as page:
        assert give(page, MARK) == Refusal.VIEWER
    region.locate(screen)
    assert region.roi is None


def test_no_command_is_given_by_get(operated: View) -> None:
    cookie = exchange(operated, token(operated))[1].partition(";")[0]
    own = {"cookie": cookie, "origin": f"http://{host_of(operated)}"}
    assert ask(operated, "GET", "/command", None, **own)[0] == 404
    assert ask(operated, "GET", "/stream", None, **own)[0] == 404


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"box": [600, 0, 41, 50]}, Misplaced.OUTSIDE),
        ({"box": [10, -1, 50, 50]}, Misplaced.OUTSIDE),
        ({"box": [10, 10, 0, 50]}, Misplaced.TOO_SMALL),
        ({"screen": [1280, 720]}, Misplaced.OTHER_SIZE),
        ({"box": [10, 10, None, 50]}, Refusal.UNKNOWN),
        ({"box": [10, 10, 50.5, 50]}, Refusal.UNKNOWN),
        ({"box": [10, 10, 1e300, 50]}, Refusal.UNKNOWN),
        ({"box": [10, 10, 10**30, 50]}, Misplaced.OUTSIDE),
        ({"box": [10, 10, float("nan"), 50]}, None),
        ({"box": [10, 10, 50]}, Refusal.UNKNOWN),
        ({"do": "delete"}, Refusal.UNKNOWN),
        ({"more": 1}, Refusal.UNKNOWN),
    ],
)
def test_a_wrong_command_is_refused_in_a_line_and_changes_nothing(
    operated: View, region: Region, screen: Pixels, changes: dict[str, Any], why: str | None
) -> None:
    with watch(operated, token(operated)) as page:
        if why is None:  # no JSON at all: no page sends it
            with pytest.raises(ConnectionClosed):
                give(page, MARK | changes)
        else:
            assert give(page, MARK | changes) == why
    region.locate(screen)
    assert region.roi is None


@pytest.mark.parametrize(
    "text", ['{"id": -1, "command": {}}', '{"command": {}}', "[" * 1000, '{"id": 1, "x": 2}']
)
def test_a_message_that_is_no_command_ends_the_stream(operated: View, text: str) -> None:
    with watch(operated, token(operated)) as page:
        page.send(text)
        with suppress(ConnectionClosed):
            for sign in page:
                assert json.loads(sign).keys() <= {"status"}
        assert page.close_code == 1008


def test_many_commands_at_once_are_refused(operated: View) -> None:
    with watch(operated, token(operated)) as page:
        answers = [give(page, {"do": "none"}, number) for number in range(3 * int(COMMAND_BURST))]
    assert set(answers[: int(COMMAND_BURST)]) == {Refusal.UNKNOWN}
    assert Refusal.TOO_MANY in answers


class Held:
    """A session part that is slow until it is let go."""

    def __init__(self, region: Region, file: Path) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.operator = Operator(region, SOURCE, file)
        carry_out = self.operator._carry_out

        def slow(command: Command) -> str | None:
            self.begun.set()
            self.go.wait(60)
            return carry_out(command)

        self.operator._carry_out = slow  # type: ignore[method-assign]


def test_commands_that_wait_are_bounded_and_the_stream_goes_on(region: Region, file: Path) -> None:
    held = Held(region, file)
    answers: list[str | None] = []
    answer: Answer = answers.append
    with opened(held.operator) as view, watch(view, token(view)) as page:
        assert held.operator.submit(ClearRegion(SCREEN), answer)
        assert held.begun.wait(60)
        for _ in range(MAX_WAITING_COMMANDS):
            assert held.operator.submit(ClearRegion(SCREEN), answer)
        assert give(page, MARK) == Refusal.BUSY
        held.go.set()
        while len(answers) <= MAX_WAITING_COMMANDS:
            page.recv(timeout=60)
    assert set(answers) == {None}


def carry_out(operator: Operator, *commands: Command) -> list[str | None]:
    return [operator._carry_out(command) for command in commands]


def test_a_region_is_remembered_and_clearing_forgets_it(
    region: Region, file: Path, screen: Pixels
) -> None:
    operator = Operator(region, SOURCE, file)
    assert carry_out(operator, MarkRegion(ROI, SCREEN, remember=True)) == [None]
    assert saved_regions_of(file, SOURCE)[SCREEN].roi == ROI
    assert "secret" not in file.read_text()
    later = Region(saved=saved_regions_of(file, SOURCE))
    assert later.locate(screen) == ROI
    assert carry_out(Operator(later, SOURCE, file), ClearRegion(SCREEN)) == [None]
    assert saved_regions_of(file, SOURCE) == {}


def test_a_region_for_now_leaves_what_is_remembered_of_another(
    region: Region, file: Path, screen: Pixels
) -> None:
    carry_out(Operator(region, SOURCE, file), MarkRegion(ROI, SCREEN, remember=True))
    own = Region(Box(9, 9, 50, 50), saved_regions_of(file, SOURCE))
    own.locate(screen)
    for_now = MarkRegion(Box(20, 20, 50, 50), SCREEN, remember=False)
    assert carry_out(Operator(own, SOURCE, file), for_now, ClearRegion(SCREEN)) == [None, None]
    assert saved_regions_of(file, SOURCE)[SCREEN].roi == ROI


def test_a_region_that_cannot_be_remembered_holds_now_and_says_so(
    region: Region, file: Path
) -> None:
    operator = Operator(region, SOURCE, file)
    file.parent.write_text("a file where the folder should be")
    assert carry_out(operator, MarkRegion(ROI, SCREEN, remember=True)) == [Refusal.NOT_REMEMBERED]
    assert region.next_roi == ROI


def test_a_command_on_exams_that_makes_no_sense_now_is_refused(
    region: Region, file: Path, demo_bundle: Bundle, tmp_path: Path
) -> None:
    begin = BeginExam(Identity())
    with open_exam_recorder(tmp_path / "exams", demo_bundle, str(SOURCE), True) as recorder:
        operator = Operator(region, SOURCE, file, recorder=recorder)
        operator.hold(RESULT, np.zeros((240, 320), np.uint8))
        still = KeepStill(RESULT.sequence)
        asked = still, EndExam(), begin, begin, still, EndExam()
        answers = carry_out(operator, *asked)
    no_exam, runs = NotKept.NO_EXAM, NotKept.EXAM_RUNS
    assert answers == [no_exam, no_exam, None, runs, None, None]


def test_where_no_exams_are_kept_none_begins(region: Region, file: Path) -> None:
    operator = Operator(region, SOURCE, file)
    assert carry_out(operator, BeginExam(Identity()), EndExam()) == [Refusal.NO_EXAMS] * 2


def test_a_command_that_fails_ends_nothing(
    region: Region, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(region, "mark", fail)
    operator = Operator(region, SOURCE, file)
    assert carry_out(operator, ClearRegion(SCREEN)) == [Refusal.FAILED]
