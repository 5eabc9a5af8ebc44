"""Of a long recording the capturing thread judges frames too, where the judge is behind."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devices import BadInput, HardwareMissing, Pixels
from devices.capture.scripted import Scripted
from devices.compute import Outputs
from edge_runtime import ahead, watched
from edge_runtime.bundle import Bundle
from edge_runtime.classify import CPU, Classifier, Wish
from edge_runtime.judge import Session
from edge_runtime.live import run_session
from edge_runtime.result import Result
from edge_runtime.sector import Region
from edge_runtime.session import State
from edge_runtime.summary import Summary
from edge_runtime.ways import Ways
from tests.conftest import Collected

Run = Callable[..., Outputs]
FRAMES = 90


def of(bundle: Bundle, *wishes: Wish) -> Ways:
    return Ways(bundle, bundle.manifest.stages[0], wishes, threads=1, any_picture=True)


def slowed(run: Run, seconds: float = 0.004) -> Run:
    def slow(tensor):  # type: ignore[no-untyped-def]
        time.sleep(seconds)
        return run(tensor)

    return slow


def play(
    ways: Ways, pictures: list[Pixels]
) -> tuple[list[Result], Summary, BaseException | None, list[int]]:
    """Also, by thread, how many pictures it judged."""
    counts = [0, 0]
    opened = ways.beside

    def beside() -> Classifier | None:
        helper = opened()
        if helper is not None:
            count(helper, 1)
        return helper

    def count(classifier: Classifier, which: int) -> None:
        judge = classifier.judge

        def counted(tensor):  # type: ignore[no-untyped-def]
            counts[which] += 1
            return judge(tensor)

        classifier.judge = counted  # type: ignore[method-assign]

    count(ways.classifier, 0)
    ways.beside = beside  # type: ignore[method-assign]
    sink = Collected()
    many = [pictures[number % len(pictures)] for number in range(FRAMES)]
    with Scripted(many, live=False) as device:
        summary, ended = run_session(device, ways, Region(), [sink], threading.Event())
    return sink.results, summary, ended, counts


def test_a_short_recording_opens_no_second_interpreter(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = of(demo_bundle, CPU)
    backend = ways.classifier.backend
    monkeypatch.setattr(backend, "run", slowed(backend.run))
    *_, counts = play(ways, pictures)
    assert counts == [FRAMES, 0]


def test_both_threads_together_say_what_one_says_alone(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, *_ = play(of(demo_bundle, CPU), pictures)
    monkeypatch.setattr(ahead, "LONG", 0)
    ways = of(demo_bundle, CPU)
    backend = ways.classifier.backend
    monkeypatch.setattr(backend, "run", slowed(backend.run))
    together, summary, ended, counts = play(ways, pictures)
    assert min(counts) >= 10
    assert sum(counts) == FRAMES
    assert (summary.read, summary.classified, ended) == (FRAMES, FRAMES, None)
    for one, other in zip(alone, together, strict=True):
        assert (one.frame, one.label, one.probability) == (
            other.frame,
            other.label,
            other.probability,
        )
        assert one.smoothed == pytest.approx(other.smoothed)


def test_hardware_is_not_asked_by_two(
    demo_bundle: Bundle, stand_in: Path, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "LONG", 0)
    ways = of(demo_bundle, Wish("delegate", str(stand_in)))
    backend = ways.classifier.backend
    monkeypatch.setattr(backend, "run", slowed(backend.run))
    *_, counts = play(ways, pictures)
    assert counts == [FRAMES, 0]


def broken(ways: Ways, monkeypatch: pytest.MonkeyPatch, how: Callable[[], object]) -> None:
    """Its second interpreter does `how` with each picture."""
    opened = ways.beside

    def beside() -> Classifier | None:
        helper = opened()
        assert helper is not None

        def run(tensor):  # type: ignore[no-untyped-def]
            how()

        monkeypatch.setattr(helper.backend, "run", run)
        return helper

    monkeypatch.setattr(ways, "beside", beside)
    backend = ways.classifier.backend
    monkeypatch.setattr(backend, "run", slowed(backend.run))
    monkeypatch.setattr(ahead, "LONG", 0)


def test_where_it_fails_the_judge_judges(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    ways = of(demo_bundle, CPU)
    broken(ways, monkeypatch, fail)
    results, summary, ended, counts = play(ways, pictures)
    assert {its.state for its in results} == {State.LIVE}
    assert (summary.classified, ended, counts[0]) == (FRAMES, None, FRAMES)
    assert counts[1]


@pytest.mark.parametrize("error", [BadInput("no"), HardwareMissing("no"), MemoryError()])
def test_where_it_cannot_be_opened_the_judge_judges(
    demo_bundle: Bundle,
    pictures: list[Pixels],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    ways = of(demo_bundle, CPU)
    broken(ways, monkeypatch, lambda: None)
    asked = []

    def beside() -> None:
        asked.append(True)
        raise error

    monkeypatch.setattr(ways, "beside", beside)
    results, summary, ended, _ = play(ways, pictures)
    assert {its.state for its in results} == {State.LIVE}
    assert (summary.classified, ended, len(asked)) == (FRAMES, None, 1)


@pytest.mark.parametrize("where", ["judging", "opening"])
def test_where_it_hangs_the_session_ends(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(watched, "HUNG_AFTER", 1.0)
    monkeypatch.setattr(watched, "OPENS_WITHIN", 2.0)
    over = threading.Event()
    ways = of(demo_bundle, CPU)
    broken(ways, monkeypatch, over.wait)
    if where == "opening":
        monkeypatch.setattr(ways, "beside", over.wait)
    try:
        _, summary, ended, _ = play(ways, pictures)
    finally:
        over.set()
    assert isinstance(ended, HardwareMissing)
    assert summary.read == summary.classified + sum(summary.not_judged.values())


def test_what_was_judged_beside_a_backend_that_was_given_up_is_judged_again(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results would else be called the next one's."""
    monkeypatch.setattr(ahead, "LONG", 0)
    ways = of(demo_bundle, CPU, Wish("cpu"))
    first = ways.classifier.backend
    slow, count = slowed(first.run), 0

    def fails_once(tensor):  # type: ignore[no-untyped-def]
        nonlocal count
        count += 1
        if count == 20:
            raise RuntimeError("no")
        return slow(tensor)

    monkeypatch.setattr(first, "run", fails_once)
    conclude, said = Session.conclude, []

    def spy(session, view, judged):  # type: ignore[no-untyped-def]
        if view.ahead is not None and judged is view.ahead[1]:
            said.append(view.ahead[0] is session_computes[-1])
        return conclude(session, view, judged)

    session_computes = [ways.classifier]
    computes = Session.computes

    def noted(session, classifier, fallback=""):  # type: ignore[no-untyped-def]
        session_computes.append(classifier)
        computes(session, classifier, fallback)

    monkeypatch.setattr(Session, "conclude", spy)
    monkeypatch.setattr(Session, "computes", noted)
    results, *_ = play(ways, pictures)
    assert len(results) == FRAMES
    assert results[-1].fallback is not None
    assert said
    assert all(said)
