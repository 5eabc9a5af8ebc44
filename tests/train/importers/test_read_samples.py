"""Which layout a folder has, and what is refused in all of them."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from devices import BadInput
from tests.conftest import TN5000
from tests.train.conftest import TASK
from train.importers import class_names, read_samples
from train.importers.paths import MAX_MISSING
from train.importers.table import read_csv
from train.importers.voc import read_voc
from train.samples import AsWritten, Collection, Sample, read_pixels
from train.split import Split, split_csv

SCREEN = np.full((64, 64), 7, np.uint8)


def write_csv(folder: Path, *lines: str) -> Path:
    path = folder / "samples.csv"
    path.write_text("\n".join(("path,label,xmin,ymin,xmax,ymax,frame", *lines)) + "\n")
    return path


def test_a_folder_is_read_by_its_manifest_first(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "a.png").touch()
    write_csv(tmp_path, "a.png,benign").rename(tmp_path / "manifest.csv")
    assert [its.path.name for its in read_samples(tmp_path, TASK).samples] == ["a.png"]


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no labelled images; expected a CSV"):
        read_samples(tmp_path, TASK)
    with pytest.raises(BadInput, match="no such file"):
        read_samples(tmp_path / "none", TASK)


def test_a_table_of_which_nothing_is_left_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"all were dropped \(no label: 2\)"):
        read_samples(write_csv(tmp_path, "a.png,", "b.png,"), TASK)


def test_an_image_may_show_several_nodules_and_frames(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.dcm").touch()
    collection = read_samples(
        write_csv(
            tmp_path,
            "a.png,benign,1,2,30,40",
            "a.png,malignant,1,2,30,41",
            "b.dcm,benign,,,,,0",
            "b.dcm,benign,,,,,7",
        ),
        TASK,
    )
    assert [sample.frame for sample in collection.samples] == [0, 0, 0, 7]
    assert collection.summary == "table, 2 classes, 3 images"


@pytest.mark.parametrize("again", ["a.png,malignant,1,2,30,40", "./b/../a.png,benign,1,2,30,40"])
def test_the_same_nodule_twice_is_refused(tmp_path: Path, again: str) -> None:
    with pytest.raises(BadInput, match=r"a.png: listed twice"):
        read_samples(write_csv(tmp_path, "a.png,benign,1,2,30,40", again), TASK)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "cyst"
    folder.mkdir()
    (folder / os.fsdecode(b"a\xff.png")).touch()
    with pytest.raises(BadInput, match="rename it, its name is not UTF-8"):
        class_names(tmp_path)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30
).filter(lambda name: name[0] != "." and len(f"{name}.png".encode()) <= 255)


@given(label=NAMES, patient=NAMES, name=NAMES)
@example(label="-x", patient="p:1 [a]", name="--out")
@example(label="split.csv", patient="a.png", name="a")
@example(label="a\u202fb", patient="http://x".replace("/", ":"), name="\u200f\r\n\x1b[0m\"',;")
def test_any_name_that_the_system_allows_is_read(
    tmp_path_factory: pytest.TempPathFactory, label: str, patient: str, name: str
) -> None:
    assume(patient.casefold() not in ("mask", "masks", "segmentation", "segmentations"))
    folder, elsewhere = tmp_path_factory.mktemp("any"), tmp_path_factory.mktemp("elsewhere")
    image = folder / label / patient / f"{name}.png"
    image.parent.mkdir(parents=True)
    cv2.imwrite(str(elsewhere / "a.png"), SCREEN)
    (elsewhere / "a.png").rename(image)
    assert class_names(folder) == (label,)
    (sample,) = read_samples(folder, AsWritten()).samples
    assert sample == Sample(image, label, None, patient)
    assert read_pixels(sample).shape == SCREEN.shape
    table = elsewhere / "split.csv"
    table.write_bytes(split_csv(Split((sample,), ("test",)), folder).encode())
    (again,) = read_csv(table, AsWritten(), root=folder).samples
    assert again == replace(sample, part="test")


def test_a_table_elsewhere_than_its_images_is_refused_at_once(tmp_path: Path) -> None:
    rows = [f"images/{number}.png,benign" for number in range(5)]
    with pytest.raises(BadInput) as refusal:
        read_samples(write_csv(tmp_path, *rows), TASK)
    for words in ("5 of 5 images are missing: images/0.png", f"looked for in {tmp_path}"):
        assert words in str(refusal.value)


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_a_few_missing_images_are_dropped_and_more_stop_the_run(
    tmp_path: Path, missing: int
) -> None:
    table = write_csv(tmp_path, *(f"{number}.png,benign" for number in range(20)))
    for number in range(missing, 20):
        (tmp_path / f"{number}.png").touch()
    if missing > MAX_MISSING * 20:
        with pytest.raises(BadInput, match=f"{missing} of 20 images are missing: 0.png, 1.png"):
            read_samples(table, TASK)
    else:
        collection = read_samples(table, TASK)
        assert [entry.reason for entry in collection.dropped] == ["missing"] * missing
        assert len(collection.samples) == 20 - missing


def test_the_classes_are_known_before_a_task_is_fixed(tmp_path: Path) -> None:
    for name in ("solid/a.png", "cyst/b.png", "normal/p1/c.png", "notes/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert class_names(tmp_path) == ("cyst", "normal", "solid")


def test_classes_that_differ_in_spelling_alone_are_refused(tmp_path: Path) -> None:
    for name in ("cyst/a.png", "Cyst /b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(BadInput, match="'Cyst ' and 'cyst' differ only in spelling"):
        class_names(tmp_path)


@pytest.mark.skipif(not TN5000.is_dir(), reason="TN5000 is not here")
def test_tn5000_reads_the_same_as_voc_and_as_table() -> None:
    def seen(found: Collection) -> dict[Path, tuple[str, object]]:
        return {its.path: (its.label, its.box) for its in found.samples}

    table = read_samples(TN5000, TASK)
    assert len(table.samples) == 3993
    assert len({its.group for its in table.samples}) == 100
    assert table.dropped == ()
    assert seen(table) == seen(read_voc(TN5000, TASK))
