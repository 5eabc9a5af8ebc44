"""The view as a sink of a session."""

import json
import threading
from dataclasses import replace

import pytest
from websockets.sync.client import ClientConnection

from devices import Pixels
from devices.capture.scripted import Scripted
from edge_runtime.bundle.archive import Bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.results.states import State
from edge_runtime.screen.region import Region
from edge_runtime.session.pipeline import run_session
from edge_runtime.view import message
from edge_runtime.view.sink import View
from tests.edge_runtime.results.examples import RESULT
from tests.edge_runtime.view.client import receive_result, watch


@pytest.fixture
def coded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the thread of each picture that was coded."""
    names: list[str] = []
    encode = message.encode_picture

    def spy(pixels: Pixels) -> bytes:
        names.append(threading.current_thread().name)
        return encode(pixels)

    monkeypatch.setattr(message, "encode_picture", spy)
    return names


def run(demo_bundle: Bundle, pictures: list[Pixels], view: View) -> None:
    """A session on those pictures."""
    chain = FallbackChain(demo_bundle, demo_bundle.manifest.classifier, [CPU], threads=1)
    with Scripted(pictures, live=True) as device:
        run_session(device, chain, Region(), [view], threading.Event(), budget=60)


def test_nobody_watches_and_nothing_is_coded(
    demo_bundle: Bundle, pictures: list[Pixels], view: View, coded: list[str]
) -> None:
    run(demo_bundle, pictures, view)
    assert coded == []


def test_a_picture_is_coded_in_the_thread_of_the_sink(
    demo_bundle: Bundle, pictures: list[Pixels], view: View, coded: list[str]
) -> None:
    with watch(view):
        run(demo_bundle, pictures, view)
    assert set(coded) == {"View"}


def test_a_picture_is_coded_once_for_all_viewers(
    view: View, screen: Pixels, coded: list[str]
) -> None:
    with watch(view) as first, watch(view) as second, watch(view) as third:
        view.write(RESULT, screen)
        assert len({receive(page) for page in (first, second, third)}) == 1
    assert len(coded) == 1


def receive(page: ClientConnection) -> bytes:
    while not isinstance(data := page.recv(timeout=60), bytes):
        pass
    return data


def missed(view: View, screen: Pixels, *frames: int | None) -> list[int]:
    """The count after each result of these frames."""
    counts = []
    with watch(view) as page:
        for sequence, frame in enumerate(frames):
            state = State.STALE if frame is None else State.LIVE
            view.write(replace(RESULT, sequence=sequence, frame=frame, state=state), screen)
            counts.append(receive_result(page)["missed"])
            page.send("drawn")
    return counts


@pytest.mark.parametrize(
    ("frames", "counts"),
    [
        ((7, 8, 9), [0, 0, 0]),
        ((0, 2, 3, 7), [0, 1, 1, 4]),
        ((None, 0, None, 1, 3), [0, 0, 0, 0, 1]),
        ((5, 9, 0, 1), [0, 3, 0, 0]),  # the device was opened again
    ],
)
def test_frames_without_a_result_are_counted(
    view: View, screen: Pixels, frames: tuple[int | None, ...], counts: list[int]
) -> None:
    assert missed(view, screen, *frames) == counts


def test_a_viewer_who_joins_learns_at_once_that_the_device_has_gone(
    view: View, screen: Pixels
) -> None:
    view.write(replace(RESULT, state=State.LOST, frame=None), screen)
    with watch(view) as page:
        assert receive_result(page)["result"]["state"] == "LOST"


def test_a_viewer_who_joins_gets_no_picture_of_before(view: View, screen: Pixels) -> None:
    view.write(RESULT, screen)
    with watch(view) as page:
        view.write(replace(RESULT, sequence=1), screen)
        assert receive_result(page)["result"]["sequence"] == 1


def test_results_after_the_end_of_the_server_harm_nobody(view: View, screen: Pixels) -> None:
    with watch(view):
        view.write(RESULT, screen)
    view.write(RESULT, screen)


def test_a_new_session_has_facts_and_counts_of_its_own(view: View, screen: Pixels) -> None:
    with watch(view) as page:
        for sequence, frame in enumerate((7, 9)):
            view.write(replace(RESULT, sequence=sequence, frame=frame), screen)
            receive_result(page)
            page.send("drawn")
        view.begin({"live": True, "second": True})
        view.write(replace(RESULT, sequence=0, frame=40), screen)
        while "facts" not in (facts := json.loads(page.recv(timeout=60))):
            pass
        assert facts == {"facts": {"live": True, "second": True, "role": "viewer"}}
        assert receive_result(page)["missed"] == 0
