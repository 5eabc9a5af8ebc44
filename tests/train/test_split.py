"""The split: whole groups, about the same class shares, from a seed."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput
from train.samples import Sample, Task
from train.split import PARTS, Split, split_by_group, split_csv

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
    with pytest.raises(BadInput, match=r"a class has 2 group\(s\)"):
        split_by_group(make(5), TASK, 0)


def test_a_group_on_two_sides_is_an_error() -> None:
    one, two, *_ = make(1)
    with pytest.raises(BadInput, match="'g0' stands on two sides: train, test"):
        Split((one, two), ("train", "test"))


def test_the_table_names_every_sample_relative_to_the_data() -> None:
    split = split_by_group(make(12), TASK, 0)
    rows = list(csv.DictReader(io.StringIO(split_csv(split, Path("/d")))))
    assert [row["path"] for row in rows] == [its.path.name for its in split.samples]
    assert [row["split"] for row in rows] == list(split.parts)
