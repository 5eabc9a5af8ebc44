"""The split: whole groups, about the same class shares, from a seed."""

import csv
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from train.samples import PARTS, Part, Sample, Task
from train.split import (
    Split,
    cross_validation_splits,
    given_split,
    hold_out,
    split_by_group,
    split_csv,
)

TASK = Task("nodule", ("benign", "malignant"), {})


def make(groups: int, per_group: int = 3) -> list[Sample]:
    """Groups by turns benign and malignant."""
    return [
        Sample(Path(f"/d/{group}-{n}.png"), TASK.labels[group % 2], None, f"g{group}")
        for group in range(groups)
        for n in range(per_group)
    ]


@given(groups=st.integers(6, 60), per_group=st.integers(1, 5), seed=st.integers(0, 5))
def test_no_group_stands_on_two_sides(groups: int, per_group: int, seed: int) -> None:
    split = split_by_group(make(groups, per_group), TASK, seed)
    sides = [{its.group for its in split.of(part)} for part in PARTS]
    assert sum(len(side) for side in sides) == groups


def test_the_shares_are_about_as_promised() -> None:
    split = split_by_group(make(140), TASK, 0)
    sizes = [len(split.of(part)) / len(split.samples) for part in PARTS]
    assert sizes == pytest.approx([5 / 7, 1 / 7, 1 / 7], abs=0.03)
    for part in PARTS:
        labels = [its.label for its in split.of(part)]
        assert labels.count("malignant") / len(labels) == pytest.approx(0.5, abs=0.05)


def test_the_same_seed_splits_the_same() -> None:
    samples = make(40)
    assert split_by_group(samples, TASK, 3) == split_by_group(samples, TASK, 3)
    assert split_by_group(samples, TASK, 3) != split_by_group(samples, TASK, 4)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(BadInput, match=r"the class 'malignant' has 2 group\(s\)"):
        split_by_group(make(5), TASK, 0)


def test_a_group_on_two_sides_is_an_error() -> None:
    one, two, *_ = make(1)
    with pytest.raises(BadInput, match="'g0' stands on two sides: train, test"):
        Split((one, two), ("train", "test"))


def sides(split: Split) -> list[set[str]]:
    return [{its.group for its in split.of(part)} for part in PARTS]


@given(
    groups=st.integers(20, 60),
    per_group=st.integers(1, 4),
    folds=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_cross_validation_tests_every_sample_once_and_cuts_no_group(
    groups: int, per_group: int, folds: int, seed: int
) -> None:
    samples = make(groups, per_group)
    splits = cross_validation_splits(samples, TASK, folds, seed)
    assert len(splits) == folds
    assert Counter(its for split in splits for its in split.of("test")) == Counter(samples)
    for split in splits:
        assert split.samples == tuple(samples)
        assert sum(map(len, sides(split))) == groups
        for part in PARTS:
            assert {its.label for its in split.of(part)} == set(TASK.labels)


def test_the_shares_of_cross_validation_are_about_as_promised() -> None:
    for split in cross_validation_splits(make(200), TASK, 5, 0):
        sizes = [len(split.of(part)) / len(split.samples) for part in PARTS]
        assert sizes == pytest.approx([0.7, 0.1, 0.2], abs=0.03)
        for part in PARTS:
            labels = [its.label for its in split.of(part)]
            assert labels.count("malignant") / len(labels) == pytest.approx(0.5, abs=0.1)


def test_the_same_seed_folds_the_same() -> None:
    samples = make(40)
    once, again, other = (cross_validation_splits(samples, TASK, 5, seed) for seed in (3, 3, 4))
    assert once == again
    assert once != other


@pytest.mark.parametrize(
    ("groups", "folds", "said"),
    [
        (8, 5, r"the class '\w+' has 4 group\(s\).* at least 5 are needed, one for each fold"),
        (
            4,
            2,
            r"the class '\w+' has 1 group\(s\).* at least 2 are needed, one each to train",
        ),
    ],
)
def test_too_few_groups_to_fold_are_refused(groups: int, folds: int, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        cross_validation_splits(make(groups), TASK, folds, 0)


@given(groups=st.integers(24, 60), folds=st.integers(1, 4), seed=st.integers(0, 5), data=st.data())
def test_held_out_samples_are_tested_once_and_their_groups_never_train(
    groups: int, folds: int, seed: int, data: st.DataObject
) -> None:
    samples = make(groups)
    # The first eight groups are marked, the next eight are not, the others may be mixed.
    free = st.lists(st.booleans(), min_size=len(samples) - 48, max_size=len(samples) - 48)
    test = [True] * 24 + [False] * 24 + data.draw(free)
    marked = {its for its, mark in zip(samples, test, strict=True) if mark}
    splits = hold_out(samples, TASK, test, folds, seed)
    assert len(splits) == folds
    assert Counter(its for split in splits for its in split.of("test")) == Counter(marked)
    for split in splits:
        train, validation, tested = sides(split)
        assert not (train | validation) & tested
        assert not train & validation
        assert not marked & {*split.of("train"), *split.of("validation")}
        left_out = set(samples) - marked - set(split.samples)
        assert {its.group for its in left_out} <= tested
    assert splits == hold_out(samples, TASK, test, folds, seed)


def test_without_mixed_groups_one_fold_leaves_nothing_out() -> None:
    samples = make(40)
    test = [its.group < "g20" for its in samples]
    (split,) = hold_out(samples, TASK, test, 1, 0)
    assert split.samples == tuple(samples)
    assert [part == "test" for part in split.parts] == test


def test_a_test_side_of_one_class_is_refused() -> None:
    samples = make(40)
    with pytest.raises(BadInput, match="the test: no image of class 'malignant'"):
        hold_out(samples, TASK, [its.group == "g0" for its in samples], 1, 0)


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        (1, r"the class '\w+' has 1 group\(s\).* one each to train and validate"),
        (3, r"the class '\w+' has 2 group\(s\).* at least 3 are needed, one for each fold"),
    ],
)
def test_too_few_groups_to_hold_out_are_refused(folds: int, said: str) -> None:
    samples = make(8)
    with pytest.raises(BadInput, match=said):
        hold_out(samples, TASK, [its.group >= "g3" for its in samples], folds, 0)


def test_the_table_names_every_sample_relative_to_the_data() -> None:
    split = split_by_group(make(12), TASK, 0)
    rows = list(csv.DictReader(io.StringIO(split_csv(split, Path("/d")))))
    assert [row["path"] for row in rows] == [its.path.name for its in split.samples]
    assert [row["split"] for row in rows] == list(split.parts)


def test_the_table_tells_frames_and_boxes() -> None:
    samples = (
        Sample(Path("/d/a.dcm"), "benign", Box(1, 2, 30, 40), "p", frame=7),
        Sample(Path("/d/b.png"), "malignant", None, "q"),
    )
    assert split_csv(Split(samples, ("train", "test")), Path("/d")).splitlines() == [
        "path,frame,label,xmin,ymin,xmax,ymax,group,split",
        "a.dcm,7,benign,1,2,31,42,p,train",
        "b.png,0,malignant,,,,,q,test",
    ]


def told(*parts: Part | None) -> list[Sample]:
    """Two samples of each part, one of each class, of a group of their own."""
    return [
        Sample(Path(f"{number}-{label}.png"), label, None, f"g{number}-{label}", part=part)
        for number, part in enumerate(parts)
        for label in TASK.labels
    ]


def test_a_split_that_is_given_is_taken_as_it_is() -> None:
    samples = told("test", "train", "validation", "train")
    assert given_split(samples, TASK, 0).parts == tuple(its.part for its in samples)


def test_a_given_split_without_validation_gets_one_of_what_is_not_tested() -> None:
    train: Part = "train"
    samples = told("test", *[train] * 8)
    split = given_split(samples, TASK, 0)
    assert split.of("test") == samples[:2]
    assert {its.label for its in split.of("validation")} == set(TASK.labels)
    assert len(split.of("validation")) == 2


def test_a_given_split_must_be_whole() -> None:
    with pytest.raises(BadInput, match="2 of 8 images have no split"):
        given_split(told("test", None, "train", "validation"), TASK, 0)
    with pytest.raises(BadInput, match="the test split: no image of class"):
        given_split(told("train", "validation"), TASK, 0)


def test_a_given_split_with_a_group_on_two_sides_is_refused() -> None:
    samples = [replace(its, group="p1") for its in told("test", "train", "validation")]
    with pytest.raises(BadInput, match="group 'p1' stands on two sides: test, train"):
        given_split(samples, TASK, 0)
