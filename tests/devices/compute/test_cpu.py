"""The CPU backend, on the model that ships in the package."""

import numpy as np
import pytest

from devices import BadInput
from devices.compute import CpuBackend
from edge_runtime.bundle.archive import Bundle


def test_the_shipped_model_keeps_the_contract(demo_bundle: Bundle) -> None:
    backend = CpuBackend(demo_bundle.read("int8.tflite"), "int8.tflite", threads=1)
    assert backend.shape == (1, 128, 128, 1)
    answer = backend.run(np.zeros(backend.shape, np.uint8))
    assert set(answer) == {"probability", "evidence", "embedding"}
    assert answer["probability"].dtype == np.float32
    assert answer["probability"].sum() == pytest.approx(1, abs=0.01)


def test_it_says_what_it_really_is(demo_bundle: Bundle) -> None:
    compute = CpuBackend(demo_bundle.read("int8.tflite"), "int8.tflite", threads=2).compute
    assert (compute.kind, compute.model, compute.threads) == ("cpu", "int8.tflite", 2)
    assert compute.interpreter.split()[0] in ("ai-edge-litert", "tflite-runtime")


def test_answers_are_the_callers_to_keep(demo_bundle: Bundle) -> None:
    backend = CpuBackend(demo_bundle.read("int8.tflite"), "int8.tflite")
    first = backend.run(np.zeros(backend.shape, np.uint8))["probability"]
    kept = first.copy()
    backend.run(np.full(backend.shape, 200, np.uint8))
    assert np.array_equal(first, kept)


def test_a_wrong_shape_is_refused(demo_bundle: Bundle) -> None:
    backend = CpuBackend(demo_bundle.read("int8.tflite"), "int8.tflite")
    with pytest.raises(ValueError, match="expected"):
        backend.run(np.zeros((1, 32, 32, 1), np.uint8))


@pytest.mark.parametrize("content", [b"", b"no model", bytes(1000)])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(BadInput, match=r"x.tflite"):
        CpuBackend(content, "x.tflite")
