"""Numbers and names as annotations have them."""

from math import isfinite
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from train.importers.boxes.files import part_of_path, read_bytes, read_entries
from train.importers.boxes.marking import (
    MAX_COORDINATE,
    around_flat,
    box_of,
    corners_of,
    number,
    numbers,
)
from train.marked import check_box
from train.samples import Part

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(ANYTHING)
@example(10**400)
@example("9" * 5000)
@example("1e999")
@example("nan")
@example(True)
def test_any_value_is_a_usable_number_or_none(value: object) -> None:
    its = number(value)
    assert its is None or (isfinite(its) and abs(its) <= MAX_COORDINATE)
    assert number(True) is None


@given(st.lists(ANYTHING, max_size=6) | ANYTHING)
def test_any_values_are_a_box_that_can_be_judged_or_none(values: object) -> None:
    corners = corners_of(values)
    if corners is not None:
        check_box(box_of(corners), (100, 100))


@given(st.lists(st.floats(-9, 9), max_size=12))
def test_an_outline_is_within_its_box(values: list[float]) -> None:
    corners = around_flat(values)
    if corners is None:
        assert len(values) < 6 or len(values) % 2
    else:
        assert all(corners[0] <= x <= corners[2] for x in values[::2])
        assert all(corners[1] <= y <= corners[3] for y in values[1::2])


def test_numbers_are_all_or_none() -> None:
    assert numbers([1, "2", 3.5]) == (1, 2, 3.5)
    assert numbers([1, None]) is None
    assert numbers([1, 2], 3) is None
    assert numbers("12") is None


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("instances_train2017.json", "train"),
        ("a/Valid/x.json", "validation"),
        ("val/instances_train.json", "validation"),
        ("train_val.json", None),
        ("trainval.json", None),
        ("train/test/x.json", None),
        ("labels.json", None),
    ],
)
def test_names_tell_the_part(tmp_path: Path, name: str, part: Part | None) -> None:
    assert part_of_path(tmp_path / name, tmp_path) == part


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.importers.boxes.files.MAX_MARKS_BYTES", 3)
    path = tmp_path / "a.json"
    path.write_bytes(b"[1,]")
    assert read_bytes(path) is None
    path.write_bytes(b"[1]")
    assert read_entries(path, list[int]) == [1]
