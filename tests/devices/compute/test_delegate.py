"""Delegates, against a library in C that is loaded, refuses and fails as a vendor's does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import BadInput, HardwareMissing
from devices.compute import CpuBackend, DelegateBackend
from devices.compute.delegate import DELEGATE_OPERATOR, delegated_share
from edge_runtime.bundle.archive import Bundle

Opener = Callable[..., DelegateBackend]


@pytest.fixture
def opened(demo_bundle: Bundle, stand_in: Path) -> Opener:
    model = demo_bundle.read("int8.tflite")
    return lambda **options: DelegateBackend(model, "int8.tflite", str(stand_in), options)


def noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_it_answers_as_the_cpu_does(opened: Opener, demo_bundle: Bundle) -> None:
    backend = opened()
    cpu = CpuBackend(demo_bundle.read("int8.tflite"), "int8.tflite")
    picture = noise(backend.shape)
    expected, found = cpu.run(picture), backend.run(picture)
    assert {name: its.tolist() for name, its in found.items()} == {
        name: its.tolist() for name, its in expected.items()
    }


def test_its_share_is_what_the_library_took_and_not_what_xnnpack_took(opened: Opener) -> None:
    compute = opened().compute
    assert compute.kind == "delegate"
    assert 0 < compute.share < 0.05


def test_a_library_that_takes_nothing_is_refused(opened: Opener) -> None:
    with pytest.raises(BadInput, match="takes none of its operators"):
        opened(idle="1")


def test_a_library_that_is_not_there_is_missing_hardware(demo_bundle: Bundle) -> None:
    model = demo_bundle.read("int8.tflite")
    with pytest.raises(HardwareMissing, match=r"libnone\.so\.1: cannot be loaded"):
        DelegateBackend(model, "int8.tflite", "libnone.so.1")


def test_a_library_without_its_hardware_says_why(opened: Opener) -> None:
    with pytest.raises(HardwareMissing, match="stand-in: no hardware on the bus"):
        opened(missing="1")


def test_a_model_that_the_library_refuses_is_one_line(opened: Opener) -> None:
    with pytest.raises(BadInput, match=r"int8\.tflite: the interpreter refuses the model"):
        opened(refuse="1")


def test_a_failure_in_mid_stream_is_raised(opened: Opener) -> None:
    backend = opened(fail="3")
    picture = noise(backend.shape)
    backend.run(picture)
    backend.run(picture)
    with pytest.raises(RuntimeError, match="the hardware has gone"):
        backend.run(picture)


@given(first=st.integers(0, 6), last=st.integers(0, 6))
def test_in_a_chain_the_share_is_what_lies_between(first: int, last: int) -> None:
    chain = [{"op_name": "MUL", "inputs": [n], "outputs": [n + 1]} for n in range(7)]
    first, last = sorted((first, last))
    part = {"op_name": DELEGATE_OPERATOR, "inputs": [first], "outputs": [last + 1]}
    assert delegated_share([*chain, part]) == pytest.approx((last - first + 1) / 7)


def test_of_a_library_that_lists_nothing_the_share_is_unknown() -> None:
    assert np.isnan(delegated_share([]))
