"""Of a long recording the capturing thread runs the models too, where inference is behind."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devices import BadInput, HardwareMissing, Pixels
from devices.capture.phantom import Phantom
from devices.capture.scripted import Scripted
from devices.compute import Outputs
from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.models import watchdog
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU, BackendRequest, Classifier
from edge_runtime.models.locator import Locator
from edge_runtime.results.result import Result
from edge_runtime.results.states import State
from edge_runtime.results.summary import Summary
from edge_runtime.screen.region import Region
from edge_runtime.session import helper
from edge_runtime.session.account import Account
from edge_runtime.session.pipeline import run_session
from tests.conftest import Collected

Run = Callable[..., Outputs]
FRAMES = 90


def of(bundle: Bundle, *requests: BackendRequest) -> FallbackChain:
    return FallbackChain(bundle, bundle.manifest.classifier, requests, threads=1, any_picture=True)


def slowed(run: Run, seconds: float = 0.004) -> Run:
    def slow(tensor):  # type: ignore[no-untyped-def]
        time.sleep(seconds)
        return run(tensor)

    return slow


def play(
    chain: FallbackChain, pictures: list[Pixels]
) -> tuple[list[Result], Summary, BaseException | None, list[int]]:
    """Also, by thread, how many pictures it judged."""
    counts = [0, 0]
    opened = chain.open_second

    def open_second() -> Classifier | None:
        helper = opened()
        if helper is not None:
            count(helper, 1)
        return helper

    def count(classifier: Classifier, which: int) -> None:
        predict = classifier.predict

        def counted(tensor):  # type: ignore[no-untyped-def]
            counts[which] += 1
            return predict(tensor)

        classifier.predict = counted  # type: ignore[method-assign]

    count(chain.classifier, 0)
    chain.open_second = open_second  # type: ignore[method-assign]
    sink = Collected()
    many = [pictures[number % len(pictures)] for number in range(FRAMES)]
    with Scripted(many, live=False) as device:
        summary, ended = run_session(device, chain, Region(), [sink], threading.Event())
    return sink.results, summary, ended, counts


def test_a_short_recording_opens_no_second_interpreter(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = of(demo_bundle, CPU)
    backend = chain.classifier.backend
    monkeypatch.setattr(backend, "run", slowed(backend.run))
    *_, counts = play(chain, pictures)
    assert counts == [FRAMES, 0]


def test_both_threads_together_say_what_one_says_alone(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, *_ = play(of(demo_bundle, CPU), pictures)
    monkeypatch.setattr(helper, "MIN_FRAMES_READ", 0)
    chain = of(demo_bundle, CPU)
    backend = chain.classifier.backend
    monkeypatch.setattr(backend, "run", slowed(backend.run))
    together, summary, ended, counts = play(chain, pictures)
    assert min(counts) >= 10
    assert sum(counts) == FRAMES
    assert (summary.read, summary.classified, ended) == (FRAMES, FRAMES, None)
    for one, other in zip(alone, together, strict=True):
        assert (one.frame, one.nodules) == (other.frame, other.nodules)


def test_hardware_is_not_asked_by_two(
    demo_bundle: Bundle, stand_in: Path, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "MIN_FRAMES_READ", 0)
    chain = of(demo_bundle, BackendRequest("delegate", str(stand_in)))
    backend = chain.classifier.backend
    monkeypatch.setattr(backend, "run", slowed(backend.run))
    *_, counts = play(chain, pictures)
    assert counts == [FRAMES, 0]


def broken(
    chain: FallbackChain, monkeypatch: pytest.MonkeyPatch, how: Callable[[], object]
) -> None:
    """Its second interpreter does `how` with each picture."""
    opened = chain.open_second

    def open_second() -> Classifier | None:
        helper = opened()
        assert helper is not None

        def run(tensor):  # type: ignore[no-untyped-def]
            how()

        monkeypatch.setattr(helper.backend, "run", run)
        return helper

    monkeypatch.setattr(chain, "open_second", open_second)
    backend = chain.classifier.backend
    monkeypatch.setattr(backend, "run", slowed(backend.run))
    monkeypatch.setattr(helper, "MIN_FRAMES_READ", 0)


def test_where_it_fails_the_judge_judges(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    chain = of(demo_bundle, CPU)
    broken(chain, monkeypatch, fail)
    results, summary, ended, counts = play(chain, pictures)
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
    chain = of(demo_bundle, CPU)
    broken(chain, monkeypatch, lambda: None)
    asked = []

    def open_second() -> None:
        asked.append(True)
        raise error

    monkeypatch.setattr(chain, "open_second", open_second)
    results, summary, ended, _ = play(chain, pictures)
    assert {its.state for its in results} == {State.LIVE}
    assert (summary.classified, ended, len(asked)) == (FRAMES, None, 1)


@pytest.mark.parametrize("where", ["judging", "opening"])
def test_where_it_hangs_the_session_ends(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(watchdog, "INFERENCE_TIMEOUT", 1.0)
    monkeypatch.setattr(watchdog, "OPENING_TIMEOUT", 2.0)
    over = threading.Event()
    chain = of(demo_bundle, CPU)
    broken(chain, monkeypatch, over.wait)
    if where == "opening":
        monkeypatch.setattr(chain, "open_second", over.wait)
    try:
        _, summary, ended, _ = play(chain, pictures)
    finally:
        over.set()
    assert isinstance(ended, HardwareMissing)
    assert summary.read == summary.classified + sum(summary.not_judged.values())


def test_what_was_judged_beside_a_backend_that_was_given_up_is_judged_again(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results would else be called the next one's."""
    monkeypatch.setattr(helper, "MIN_FRAMES_READ", 0)
    chain = of(demo_bundle, CPU, BackendRequest("cpu"))
    first = chain.classifier.backend
    slow, count = slowed(first.run), 0

    def fails_once(tensor):  # type: ignore[no-untyped-def]
        nonlocal count
        count += 1
        if count == 20:
            raise RuntimeError("no")
        return slow(tensor)

    monkeypatch.setattr(first, "run", fails_once)
    conclude, said = Account.conclude, []

    def spy(account, prepared, prediction, findings):  # type: ignore[no-untyped-def]
        if prepared.helper_prediction is not None and prediction is prepared.helper_prediction[1]:
            said.append(prepared.helper_prediction[0] is session_computes[-1])
        return conclude(account, prepared, prediction, findings)

    session_computes = [chain.classifier]
    computes = Account.set_classifier

    def noted(account, classifier, fallback=""):  # type: ignore[no-untyped-def]
        session_computes.append(classifier)
        computes(account, classifier, fallback)

    monkeypatch.setattr(Account, "conclude", spy)
    monkeypatch.setattr(Account, "set_classifier", noted)
    results, *_ = play(chain, pictures)
    assert len(results) == FRAMES
    assert results[-1].fallback is not None
    assert said
    assert all(said)


@pytest.fixture(scope="module")
def neck() -> list[Pixels]:
    """Frames of the phantom, most of them with a nodule."""
    return [Phantom(live=False).render(number) for number in range(40, 40 + FRAMES)]


def find(
    path: Path, neck: list[Pixels], second: Callable[[Locator], object] = lambda _: None
) -> tuple[list[Result], Summary, BaseException | None, list[int]]:
    """Also, by thread, how many pictures were searched. `second` changes the second locator."""
    bundle = open_bundle(path)
    chain = FallbackChain(bundle, bundle.manifest.classifier, [CPU], threads=1, any_picture=True)
    assert bundle.manifest.locator is not None
    first, counts = Locator(bundle, bundle.manifest.locator, threads=1), [0, 0]
    clone = first.clone

    def count(locator: Locator, which: int, seconds: float) -> None:
        locate = locator.locate

        def counted(tensor, window):  # type: ignore[no-untyped-def]
            counts[which] += 1
            time.sleep(seconds)
            return locate(tensor, window)

        locator.locate = counted  # type: ignore[method-assign]

    def opened(threads: int | None) -> Locator:
        other = clone(threads)
        second(other)
        count(other, 1, 0)
        return other

    count(first, 0, 0.004)
    first.clone = opened  # type: ignore[method-assign]
    sink = Collected()
    with Scripted(neck, live=False) as device:
        summary, ended = run_session(
            device, chain, Region(whole=False), [sink], threading.Event(), locator=first
        )
    return sink.results, summary, ended, counts


def test_both_threads_together_find_what_one_finds_alone(
    shipped_path: Path, neck: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, *_, counts = find(shipped_path, neck)
    assert counts == [FRAMES, 0]
    monkeypatch.setattr(helper, "MIN_FRAMES_READ", 0)
    together, _, ended, counts = find(shipped_path, neck)
    assert min(counts) >= 10
    assert sum(counts) == FRAMES
    assert (len(together), ended) == (FRAMES, None)
    assert any(its.nodules for its in alone)
    for one, other in zip(alone, together, strict=True):
        assert (one.frame, one.nodules) == (other.frame, other.nodules)


def test_where_the_second_locator_fails_the_first_finds(
    shipped_path: Path, neck: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensor: object, window: object) -> list[object]:
        raise RuntimeError("no")

    monkeypatch.setattr(helper, "MIN_FRAMES_READ", 0)
    results, _, ended, counts = find(shipped_path, neck, lambda its: setattr(its, "locate", fail))
    assert (len(results), ended, counts[0]) == (FRAMES, None, FRAMES)
    assert counts[1]


def test_where_the_second_locator_cannot_be_opened_the_first_finds(
    shipped_path: Path, neck: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(_: Locator) -> None:
        asked.append(True)
        raise BadInput("no")

    monkeypatch.setattr(helper, "MIN_FRAMES_READ", 0)
    results, _, ended, counts = find(shipped_path, neck, refuse)
    assert (len(results), ended, counts) == (FRAMES, None, [FRAMES, 0])
    assert len(asked) == 1


def test_where_the_second_locator_hangs_the_session_ends(
    shipped_path: Path, neck: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "MIN_FRAMES_READ", 0)
    monkeypatch.setattr(watchdog, "INFERENCE_TIMEOUT", 1.0)
    over = threading.Event()
    try:
        _, summary, ended, _ = find(
            shipped_path, neck, lambda its: setattr(its, "locate", lambda *_: over.wait())
        )
    finally:
        over.set()
    assert isinstance(ended, HardwareMissing)
    assert summary.read == summary.classified + sum(summary.not_judged.values())
