"""Folders named after the classes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from devices import BadInput
from tests.devices.capture.dicom_files import write_dicom
from tests.train.conftest import TASK
from train.importers import class_names, read_samples
from train.importers.class_folders import read_class_folders
from train.samples import Dropped, read_pixels

GREY = np.zeros((40, 60), np.uint8)


def test_the_patients_folder_is_the_group(tmp_path: Path) -> None:
    for name in ("benign/p1/a.png", "benign/b.png", "malignant/p2/c.png", "benign/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = read_class_folders(tmp_path, TASK)
    groups = [(its.label, its.group) for its in found.samples]
    notes = Dropped(str(tmp_path / "benign" / "notes.txt"), "unknown kind of file")
    assert found.dropped == (notes,)
    assert groups == [("benign", "benign/b.png"), ("benign", "p1"), ("malignant", "p2")]


def test_what_is_hidden_is_passed_over(tmp_path: Path) -> None:
    """A notebook's copies would tie their originals' patients together."""
    for name in ("benign/p1/a.png", "benign/.ipynb_checkpoints/a.png", "malignant/p2/.b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "malignant" / "p2" / "b.png").touch()
    found = read_class_folders(tmp_path, TASK)
    assert [its.group for its in found.samples] == ["p1", "p2"]
    assert found.dropped == ()


def test_masks_beside_pictures_are_counted_and_not_learnt(tmp_path: Path) -> None:
    names = ("scan (1).png", "scan (1)_mask.png", "scan (1)_mask_1.png", "scan (2).png")
    for name in (*(f"benign/{name}" for name in names), "benign/masks/scan (2).png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    collection = read_class_folders(tmp_path, TASK)
    assert [sample.path.name for sample in collection.samples] == [names[0], names[3]]
    assert [entry.reason for entry in collection.dropped] == ["mask"] * 3


def test_folders_of_a_split_hold_the_classes(tmp_path: Path) -> None:
    names = ("train/benign/a.png", "train/malignant/p1/b.png", "Val/benign/a.png")
    for name in (*names, "test/malignant/d.png", "notes/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    collection = read_samples(tmp_path, TASK)
    assert {(sample.label, sample.group, sample.part) for sample in collection.samples} == {
        ("benign", "train/benign/a.png", "train"),
        ("malignant", "p1", "train"),
        ("benign", "Val/benign/a.png", "validation"),
        ("malignant", "test/malignant/d.png", "test"),
    }
    assert class_names(tmp_path) == ("benign", "malignant")
    assert collection.summary == "class folders in a split, 2 classes, 4 images"


def test_linked_folders_are_entered_and_circles_refused(tmp_path: Path) -> None:
    for name in ("store/p1/a.png", "store/b/c.png", "data/benign/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data" / "benign" / "p1").symlink_to(tmp_path / "store" / "p1")
    (tmp_path / "data" / "malignant").symlink_to(tmp_path / "store" / "b")
    groups = [sample.group for sample in read_class_folders(tmp_path / "data", TASK).samples]
    assert groups == ["benign/d.png", "p1", "malignant/c.png"]
    (tmp_path / "store" / "p1" / "up").symlink_to(tmp_path / "data")
    with pytest.raises(BadInput, match="a link that leads back"):
        read_samples(tmp_path / "data", TASK)


@pytest.mark.parametrize("name", ["IM_0001", "a.IMA", "1.2.840.1", "a.png"])
def test_a_dicom_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / "benign").mkdir()
    write_dicom(tmp_path / "benign" / name, GREY)
    (sample,) = read_class_folders(tmp_path, TASK).samples
    assert sample.group.startswith("patient-")
    assert read_pixels(sample).shape == GREY.shape


def test_a_folder_that_is_no_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "cyst").mkdir()
    (tmp_path / "cyst" / "a.png").touch()
    with pytest.raises(BadInput, match="'cyst' is no class"):
        read_samples(tmp_path, TASK)


def test_a_dicom_file_is_of_its_folder_or_else_of_its_patient(tmp_path: Path) -> None:
    for name in ("benign/a.dcm", "benign/b.DCM", "malignant/p1/c.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_dicom(tmp_path / name, GREY)
    write_dicom(tmp_path / "benign" / "nobody.dcm", GREY, PatientID="")
    groups = {its.path.name: its.group for its in read_class_folders(tmp_path, TASK).samples}
    assert groups["a.dcm"] == groups["b.DCM"]
    assert groups["a.dcm"].startswith("patient-")
    assert groups["nobody.dcm"] == "benign/nobody.dcm"
    assert groups["c.dcm"] == "p1"


def test_a_clip_gives_frames_that_are_a_second_apart(tmp_path: Path) -> None:
    (tmp_path / "benign").mkdir()
    clip = np.stack([GREY] * 10)
    write_dicom(tmp_path / "benign" / "timed.dcm", clip, NumberOfFrames=10, FrameTime=250)
    write_dicom(tmp_path / "benign" / "untimed.dcm", clip, NumberOfFrames=10)
    samples = read_class_folders(tmp_path, TASK).samples
    assert [(its.path.stem, its.frame) for its in samples] == [
        ("timed", 0),
        ("timed", 4),
        ("timed", 8),
        ("untimed", 0),
    ]


def test_a_dicom_file_that_cannot_be_read_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "benign").mkdir()
    path = tmp_path / "benign" / "a.dcm"
    path.write_text("no DICOM")
    assert read_class_folders(tmp_path, TASK).dropped == (Dropped(str(path), "unreadable"),)


def test_dicom_files_are_not_dropped_for_want_of_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benign").mkdir()
    write_dicom(tmp_path / "benign" / "a.dcm", GREY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(BadInput, match="pip install"):
        read_class_folders(tmp_path, TASK)
