"""Which backend computes: the first that opens, and the next one where it fails."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, HardwareMissing, Pixels
from devices.boards import read_board
from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.models.backends import (
    NAMED_BACKENDS,
    FallbackChain,
    parse_backend,
)
from edge_runtime.models.classifier import CPU, BackendRequest, Classifier, default_threads


def chain(bundle: Bundle, requests: Sequence[BackendRequest]) -> FallbackChain:
    return FallbackChain(bundle, bundle.manifest.classifier, requests, threads=1)


def test_the_first_that_opens_computes(demo_bundle: Bundle) -> None:
    its = chain(demo_bundle, [CPU])
    assert its.classifier.backend.compute.kind == "cpu"
    assert its.refused == []


def test_a_refused_one_is_named_with_its_reason_and_the_next_computes(
    demo_bundle: Bundle, stand_in: Path
) -> None:
    missing = BackendRequest("delegate", str(stand_in), (("missing", "1"),))
    its = chain(demo_bundle, [missing, CPU])
    assert its.classifier.backend.compute.kind == "cpu"
    (reason,) = its.refused
    assert reason.startswith("delegate int8.tflite:")
    assert "no hardware on the bus" in reason


def test_one_that_answers_the_golden_frames_otherwise_is_refused(
    demo_bundle: Bundle, stand_in: Path
) -> None:
    """Failing at its third inference, it does not even come through the golden frames."""
    failing = BackendRequest("delegate", str(stand_in), (("fail", "3"),))
    its = chain(demo_bundle, [failing, CPU])
    assert its.classifier.backend.compute.kind == "cpu"
    assert "cannot be run" in its.refused[0]


def test_one_that_is_given_up_is_followed_by_the_next(demo_bundle: Bundle, stand_in: Path) -> None:
    its = chain(demo_bundle, [BackendRequest("delegate", str(stand_in)), CPU])
    kinds = [its.classifier.backend.compute.kind]
    assert its.fall_back("it went")
    kinds.append(its.classifier.backend.compute.kind)
    assert kinds == ["delegate", "cpu"]
    assert its.refused == ["delegate int8.tflite: it went"]
    assert not its.fall_back("the last one")
    assert its.classifier.backend.compute.kind == "cpu"


def test_an_only_one_says_itself_why_it_is_refused(demo_bundle: Bundle, stand_in: Path) -> None:
    its = chain(demo_bundle, [BackendRequest("delegate", str(stand_in), (("idle", "1"),))])
    with pytest.raises(BadInput, match="takes none of its operators"):
        its.classifier  # noqa: B018


def test_where_all_are_refused_each_reason_is_told(demo_bundle: Bundle, stand_in: Path) -> None:
    requests = [
        BackendRequest("delegate", str(stand_in), ((how, "1"),)) for how in ("idle", "missing")
    ]
    its = chain(demo_bundle, requests)
    with pytest.raises(HardwareMissing, match=r"takes none.*no hardware on the bus"):
        its.classifier  # noqa: B018


def test_a_bundle_without_a_model_for_the_request_says_what_it_needs(demo_bundle: Bundle) -> None:
    with pytest.raises(BadInput, match="gpu takes float16 or float32"):
        chain(demo_bundle, [NAMED_BACKENDS["gpu"]])
    with pytest.raises(BadInput, match=r"edgetpu takes int8_edgetpu\.tflite"):
        chain(demo_bundle, [NAMED_BACKENDS["edgetpu"]])


def test_a_renewed_one_has_an_interpreter_of_its_own(demo_bundle: Bundle) -> None:
    its = chain(demo_bundle, [CPU])
    before = its.classifier
    its.reopen()
    assert its.classifier is not before
    assert its.classifier.variant == before.variant


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("cpu", CPU),
        ("edgetpu", BackendRequest("edgetpu", "libedgetpu.so.1")),
        ("/usr/lib/libvx_delegate.so", BackendRequest("delegate", "/usr/lib/libvx_delegate.so")),
        (
            "libx.so.2?a=1&b=two",
            BackendRequest("delegate", "libx.so.2", (("a", "1"), ("b", "two"))),
        ),
    ],
)
def test_a_backend_is_named_in_a_word(word: str, expected: BackendRequest) -> None:
    assert parse_backend(word) == expected


@pytest.mark.parametrize("word", ["", "npu", "libx.so?a", "cpu,gpu"])
def test_another_word_is_refused(word: str) -> None:
    with pytest.raises(BadInput, match="--backend"):
        parse_backend(word)


@given(st.text(max_size=30))
def test_no_word_is_anything_but_a_request_or_refused(word: str) -> None:
    with suppress(BadInput):
        assert parse_backend(word).kind in ("cpu", "gpu", "edgetpu", "delegate")


def test_a_recording_leaves_a_core_to_its_decoder() -> None:
    assert 1 <= default_threads(live=False) <= default_threads(live=True) <= 4


def test_what_opens_after_it_was_given_up_is_not_used(
    demo_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads would share one interpreter: the one left behind, and the one begun since."""
    its = chain(demo_bundle, [CPU])

    def slow(*words: object) -> Classifier:
        its.reopen()
        return Classifier(*words)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("edge_runtime.models.backends.Classifier", slow)
        with pytest.raises(RuntimeError, match="opened too late"):
            its.classifier  # noqa: B018
    assert its.classifier.backend.compute.kind == "cpu"


def test_one_that_hangs_while_it_is_opened_is_followed_by_the_next(
    demo_bundle: Bundle, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver may wait for its hardware for ever."""
    wedged = threading.Event()

    def open_or_hang(*words: object) -> Classifier:
        if words[-1] != CPU:
            wedged.wait()
        return Classifier(*words)  # type: ignore[arg-type]

    monkeypatch.setattr("edge_runtime.models.backends.Classifier", open_or_hang)
    hanging = BackendRequest("delegate", str(stand_in))
    its = chain(demo_bundle, [hanging, CPU])
    assert its.opened(within=3).backend.compute.kind == "cpu"
    assert its.refused == ["delegate int8.tflite: hung for 3 s while it was opened"]
    with pytest.raises(HardwareMissing, match=r"hung for 0\.1 s while it was opened"):
        chain(demo_bundle, [hanging]).opened(within=0.1)
    wedged.set()


def test_what_is_opened_beside_is_proven_and_shares_what_was_read(
    demo_bundle: Bundle, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    its = chain(demo_bundle, [CPU])
    first = its.classifier
    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "read", None)
        second = its.open_second()
    assert second is not None
    assert second.backend is not first.backend
    tensor = first.preprocessing(pictures[0])
    assert second.probability(tensor) == pytest.approx(first.probability(tensor))
    first._contents.answers[:] = 1 - first._contents.answers
    with pytest.raises(BadInput, match="answers the golden frames differently"):
        its.open_second()


def test_a_board_says_what_nobody_else_said(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    board = replace(read_board("raspberry-pi-5"), variants=("float16", "int8"), threads=1)
    its = FallbackChain(bundle, bundle.manifest.classifier, board=board)
    assert its.classifier.variant == "float16"
    assert its.classifier.backend.compute.threads == 1
    own = FallbackChain(bundle, bundle.manifest.classifier, [CPU], "int8", threads=2, board=board)
    assert own.classifier.variant == "int8"
    assert own.classifier.backend.compute.threads == 2
