"""The scope: distances as Mahalanobis defines them, and bytes that are checked."""

import io
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import BadInput
from edge_runtime.bundle.scope import Scope, read_scope, write_scope

COVARIANCE = np.array([[2.0, 0.6], [0.6, 1.0]])
WHITENING = np.linalg.cholesky(np.linalg.inv(COVARIANCE)).astype(np.float32)
NONE = (np.zeros((2, 0), np.float32), np.zeros(0, np.float32))
SCOPE = Scope(np.array([1, -2], np.float32), WHITENING, 3.5, *NONE)
TWO = (np.array([[0.5, 0], [0, 1]], np.float32), np.array([0, -0.25], np.float32))
WHOLE = write_scope(SCOPE)


def test_the_distance_is_mahalanobis() -> None:
    points = np.random.default_rng(0).normal(0, 3, (20, 2)).astype(np.float32)
    away = points - SCOPE.mean
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(COVARIANCE), away))
    assert SCOPE.distance(points) == pytest.approx(expected, rel=1e-5)
    assert SCOPE.distance(points).dtype == np.float32
    assert SCOPE.distance(SCOPE.mean[np.newaxis]) == pytest.approx([0])


def test_without_discriminants_the_score_is_the_distance_over_the_limit() -> None:
    points = np.random.default_rng(0).normal(0, 3, (20, 2)).astype(np.float32)
    assert SCOPE.score(points) == pytest.approx(SCOPE.distance(points) / 3.5, rel=1e-6)
    assert SCOPE.score(points).dtype == np.float32
    assert float(SCOPE.score(points[0])) == pytest.approx(float(SCOPE.score(points)[0]))


def test_the_largest_of_distance_and_discriminants_is_the_score() -> None:
    white = np.array([[-0.5, 0], [3, 0], [0, 2], [-7, 0]], np.float32)
    scope = Scope(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), 3.5, *TWO)
    expected = [0.5 / 3.5, 3 * 0.5, 2 - 0.25, 7 / 3.5]
    assert scope.score(white) == pytest.approx(expected)
    assert scope.score(np.zeros(2, np.float32)) == pytest.approx(0)


def test_an_embedding_that_is_no_number_has_no_score() -> None:
    scope = Scope(SCOPE.mean, WHITENING, 3.5, *TWO)
    for given_scope in (SCOPE, scope):
        assert np.isnan(given_scope.score(np.array([np.nan, 0], np.float32)))


def test_a_score_beyond_all_numbers_is_no_warning() -> None:
    far = np.full(2, 3e38, np.float32)
    scope = Scope(-far, np.eye(2, dtype=np.float32), 3.5, *TWO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not np.isfinite(scope.score(far))


def test_a_scope_of_before_there_were_discriminants_is_read() -> None:
    written = io.BytesIO()
    np.savez(written, mean=SCOPE.mean, whitening=WHITENING, limit=np.float32(3.5))
    again = read_scope(written.getvalue())
    assert again.discriminants.shape == (2, 0)
    assert again.score(SCOPE.mean + 9) == pytest.approx(SCOPE.score(SCOPE.mean + 9))


@pytest.mark.parametrize("discriminants", [NONE, TWO])
def test_a_scope_is_read_back(
    discriminants: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    scope = Scope(SCOPE.mean, WHITENING, 3.5, *discriminants)
    again = read_scope(write_scope(scope))
    assert np.array_equal(again.discriminants, scope.discriminants)
    assert np.array_equal(again.offsets, scope.offsets)
    assert np.array_equal(again.mean, SCOPE.mean)
    assert np.array_equal(again.whitening, SCOPE.whitening)
    assert again.limit == SCOPE.limit


@settings(max_examples=60)
@given(length=st.integers(0, len(WHOLE) - 1))
def test_a_scope_that_ends_early_is_refused(length: int) -> None:
    with pytest.raises(BadInput, match=r"scope\.npz: not the arrays of a scope"):
        read_scope(WHOLE[:length])


@settings(max_examples=200)
@given(place=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255))
def test_a_damaged_scope_is_the_same_or_refused(place: int, byte: int) -> None:
    try:
        again = read_scope(WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :])
    except BadInput:
        return
    assert again.mean.shape == (2,)
    assert again.whitening.shape == (2, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": np.zeros((2, 2), np.float32)},
        {"mean": np.zeros(3, np.float32)},
        {"mean": np.array(["a", "b"])},
        {"mean": np.array([None, None], dtype=object)},
        {"mean": np.array([np.nan, 0], np.float32)},
        {"whitening": np.zeros((2, 3), np.float32)},
        {"whitening": np.full((2, 2), np.inf, np.float32)},
        {"limit": np.float32(np.nan)},
        {"limit": np.zeros(2, np.float32)},
        {"discriminants": np.zeros((3, 1), np.float32)},
        {"discriminants": np.zeros(2, np.float32)},
        {"discriminants": np.full((2, 1), np.nan, np.float32)},
        {"offsets": np.zeros(2, np.float32)},
        {"offsets": np.zeros((1, 1), np.float32)},
        {"offsets": np.full(1, np.inf, np.float32)},
        {"discriminants": np.zeros((2, 9), np.float32), "offsets": np.zeros(9, np.float32)},
        {"limit": np.array("far")},
        {"limit": np.float64(3.5)},
        {"mean": np.zeros(2, "datetime64[s]")},
        {"whitening": WHITENING.astype(np.complex64)},
        {"whitening": np.full((2, 2), np.longdouble("1e4000"))},
    ],
)
def test_arrays_that_are_no_scope_are_refused(wrong: dict[str, NDArray[Any]]) -> None:
    arrays: dict[str, Any] = {
        "mean": SCOPE.mean,
        "whitening": WHITENING,
        "limit": np.float32(3.5),
        "discriminants": np.zeros((2, 1), np.float32),
        "offsets": np.zeros(1, np.float32),
    } | wrong
    written = io.BytesIO()
    np.savez(written, allow_pickle=True, **arrays)
    with pytest.raises(BadInput, match=r"scope\.npz: not the arrays of a scope"):
        read_scope(written.getvalue())


def test_a_missing_array_is_refused() -> None:
    written = io.BytesIO()
    np.savez(written, mean=SCOPE.mean, limit=np.float32(3.5))
    with pytest.raises(BadInput, match=r"scope\.npz"):
        read_scope(written.getvalue())
    np.savez(
        written := io.BytesIO(),
        mean=SCOPE.mean,
        whitening=WHITENING,
        limit=np.float32(3.5),
        offsets=np.zeros(0, np.float32),
    )
    with pytest.raises(BadInput, match=r"scope\.npz"):
        read_scope(written.getvalue())
    np.save(written := io.BytesIO(), SCOPE.mean)
    with pytest.raises(BadInput, match=r"scope\.npz"):
        read_scope(written.getvalue())


@pytest.mark.parametrize(
    ("scope", "word"),
    [
        (replace(SCOPE, limit=0.0), "limit 0 is out of range"),
        (replace(SCOPE, limit=-1.0), "limit -1 is out of range"),
        (replace(SCOPE, limit=1e9), "limit 1e.09 is out of range"),
        (replace(SCOPE, whitening=np.zeros((2, 2), np.float32)), "does not see every deviation"),
        (replace(SCOPE, whitening=np.ones((2, 2), np.float32)), "does not see every deviation"),
        (replace(SCOPE, whitening=WHITENING * np.float32(1e-9)), "does not see every deviation"),
    ],
)
def test_numbers_that_switch_the_scope_off_are_refused(scope: Scope, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        read_scope(write_scope(scope))


def test_a_small_file_of_large_arrays_is_refused() -> None:
    written = io.BytesIO()
    np.savez_compressed(written, mean=np.zeros(2), whitening=np.zeros((4096, 4096)), limit=1.0)
    assert len(written.getvalue()) < 1 << 20
    with pytest.raises(BadInput, match=r"scope\.npz"):
        read_scope(written.getvalue())
