"""An epoch's batches follow from the seed, the epoch and the place alone."""

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import Box
from edge_runtime.preprocess import parse
from train.augmentation import Augmentation, redraw
from train.batches import Batches, PatchSet, order
from train.loading import Patch, cut, prepare
from train.recipe import Fit

PREPROCESSING = parse("gray|crop(context=1.6)|resize(32)")
FIT = Fit(learning_rate=1e-3, batch=4, epochs=3)


@cache
def patch_set(augmentation: Augmentation | None) -> PatchSet:
    """Nine pictures of noise, two of them malignant, which the noise tells apart."""
    draw = np.random.default_rng(0)
    patches = [Patch(draw.integers(0, 256, (60, 80), np.uint8), Box(20, 15, 30, 25))] * 9
    patches = [Patch(draw.integers(0, 256, (60, 80), np.uint8), its.box) for its in patches]
    return PatchSet(patches, np.array([0, 0, 0, 1, 0, 0, 1, 0, 0]), PREPROCESSING, augmentation)


@cache
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (240, 320), np.uint8)


def epoch(batches: Batches) -> list[NDArray[Any]]:
    """Pictures, labels and weights of all batches, each as one array."""
    columns = zip(*(batches[number] for number in range(len(batches))), strict=True)
    return [np.concatenate(its) for its in columns]


def same(one: list[NDArray[Any]], other: list[NDArray[Any]]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_same_seed_and_epoch_give_the_same_batches() -> None:
    given = patch_set(Augmentation())
    assert same(epoch(Batches(given, FIT, 5, 2)), epoch(Batches(given, FIT, 5, 2)))


@pytest.mark.parametrize(("seed", "number"), [(6, 2), (5, 3)])
def test_another_seed_or_epoch_gives_others(seed: int, number: int) -> None:
    given = patch_set(Augmentation())
    assert not same(epoch(Batches(given, FIT, 5, 2)), epoch(Batches(given, FIT, seed, number)))


def test_a_batch_does_not_depend_on_those_before_it() -> None:
    given = patch_set(Augmentation())
    batches = Batches(given, FIT, 5, 2)
    last = batches[2]
    epoch(batches)
    assert same(list(last), list(batches[2]))


@pytest.mark.parametrize("workers", [2, 3])
def test_the_workers_shares_are_the_whole_batch(workers: int) -> None:
    given = patch_set(Augmentation())
    whole = Batches(given, FIT, 5, 2)
    for number in range(len(whole) - 1):  # of the last, one picture is left
        shares = [Batches(given, FIT, 5, 2, its, workers)[number] for its in range(workers)]
        for worker, share in enumerate(shares):
            assert same([its[worker::workers] for its in whole[number]], list(share))


def test_all_are_varied_once_in_their_order_and_the_same_by_the_same_seed() -> None:
    given = patch_set(Augmentation(mirror=0, shift=0, scale=0))
    plain, varied = prepare(given.patches, PREPROCESSING), given.varied(5)
    assert varied.shape == plain.shape
    assert varied.dtype == np.uint8
    likeness = np.corrcoef(np.concatenate([plain, varied]).reshape(18, -1))[:9, 9:]
    assert likeness.argmax(axis=1).tolist() == list(range(9))
    assert (varied != plain).any(axis=(1, 2, 3)).all()
    assert np.array_equal(varied, given.varied(5))
    assert not np.array_equal(varied, given.varied(6))


@given(
    st.integers(0, 260),
    st.integers(0, 180),
    st.integers(4, 60),
    st.integers(4, 60),
    st.sampled_from([0.8, 1.25]),
    st.sampled_from([1.0, 1.6]),
)
def test_a_redrawn_box_of_a_patch_is_that_of_the_whole_picture(
    x: int, y: int, w: int, h: int, factor: float, context: float
) -> None:
    pixels, preprocessing = noise(), parse(f"gray|crop(context={context})|resize(32)")
    box = Box(x, y, w, h)
    patch = cut(pixels, box, preprocessing)
    patch_set = PatchSet([patch], np.array([0]), preprocessing, None)
    whole = preprocessing(pixels, redraw(box, factor, 320, 240))
    assert np.array_equal(patch_set.redrawn(0, factor), whole)


def test_where_nothing_is_varied_they_are_as_they_are() -> None:
    given = patch_set(None)
    assert np.array_equal(given.varied(5), prepare(given.patches, PREPROCESSING))


def test_without_augmentation_the_pictures_are_those_of_the_device() -> None:
    given = patch_set(None)
    pictures, labels, weights = epoch(Batches(given, FIT, 0, 0))
    places = order(given.labels, FIT, 0, 0)
    device = prepare(given.patches, PREPROCESSING)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, device[places])
    assert labels.argmax(axis=1).tolist() == given.labels[places].tolist()
    assert labels.sum(axis=1).tolist() == [1] * 9
    assert weights.tolist() == [1] * 9


def test_with_augmentation_they_are_others_of_the_same_shape() -> None:
    plain = epoch(Batches(patch_set(None), FIT, 0, 0))[0]
    varied = epoch(Batches(patch_set(Augmentation()), FIT, 0, 0))[0]
    assert varied.shape == plain.shape
    assert varied.dtype == np.uint8
    assert all(not np.array_equal(one, other) for one, other in zip(plain, varied, strict=True))


def test_each_place_has_random_numbers_of_its_own() -> None:
    given = patch_set(Augmentation())
    alike = replace(given, patches=[given.patches[0]] * 9)
    pictures = epoch(Batches(alike, FIT, 0, 0))[0]
    assert len({its.tobytes() for its in pictures}) == 9


def test_a_patch_without_a_box_is_varied_too() -> None:
    given = patch_set(Augmentation())
    boxless = replace(given, patches=[Patch(its.pixels, None) for its in given.patches])
    assert epoch(Batches(boxless, FIT, 0, 0))[0].shape == (9, 32, 32, 1)


def test_the_weights_make_both_classes_count_alike() -> None:
    given = patch_set(None)
    _, labels, weights = epoch(Batches(given, replace(FIT, balance="weights"), 0, 0))
    positive = labels[:, 1] == 1
    assert weights[positive].sum() == pytest.approx(weights[~positive].sum())
    assert weights.sum() == pytest.approx(9)


@settings(max_examples=100)
@given(
    labels=st.lists(st.integers(0, 1), min_size=2, max_size=60).filter(lambda its: len({*its}) > 1),
    number=st.integers(0, 5),
    balance=st.sampled_from(["none", "weights"]),
)
def test_each_sample_has_one_place_in_an_epoch(
    labels: list[int], number: int, balance: str
) -> None:
    places = order(np.array(labels), replace(FIT, balance=balance), 0, number)  # type: ignore[arg-type]
    assert sorted(places) == list(range(len(labels)))


@settings(max_examples=100)
@given(
    labels=st.lists(st.integers(0, 1), min_size=2, max_size=60).filter(lambda its: len({*its}) > 1),
    number=st.integers(0, 5),
)
def test_balanced_sampling_draws_both_classes_equally(labels: list[int], number: int) -> None:
    drawn = order(np.array(labels), replace(FIT, balance="sampling"), 0, number)
    classes = Counter(labels[place] for place in drawn)
    larger = int(sum(labels) * 2 >= len(labels))
    times = Counter(drawn.tolist())
    assert classes[0] == classes[1] == labels.count(larger)
    assert len(times) == len(labels)
    for label in (0, 1):
        counts = {times[place] for place, its in enumerate(labels) if its == label}
        assert max(counts) - min(counts) <= 1
        assert label != larger or counts == {1}


def test_the_order_changes_from_epoch_to_epoch() -> None:
    labels = np.array([0, 1] * 10)
    assert not np.array_equal(order(labels, FIT, 0, 0), order(labels, FIT, 0, 1))
