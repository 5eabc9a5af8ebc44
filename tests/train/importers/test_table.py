"""CSV tables."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from tests.devices.capture.test_dicom import write_dicom
from tests.train.test_samples import TASK
from train.importers import read_samples
from train.importers.table import read_csv
from train.samples import Collection, Dropped, Sample


def write_csv(folder: Path, text: str) -> Path:
    path = folder / "samples.csv"
    path.write_text(text)
    return path


def test_a_csv_gives_labels_boxes_and_groups(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path,
        "path,label,xmin,ymin,xmax,ymax,group\na.png,malignant,1,2,11,22,p1\nb.png,0,,,,,\n",
    )
    assert read_csv(path, TASK).samples == (
        Sample(tmp_path / "a.png", "malignant", Box(1, 2, 10, 20), "p1"),
        Sample(tmp_path / "b.png", "benign", None, "b.png"),
    )


def test_a_row_without_a_label_is_dropped(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "path,label\na.png,benign\nb.png, \nc.png\n")
    assert read_csv(path, TASK) == Collection(
        (Sample(tmp_path / "a.png", "benign", None, "a.png"),),
        tuple(Dropped(str(tmp_path / name), "no label") for name in ("b.png", "c.png")),
    )


def test_a_table_may_say_what_each_image_is_for(tmp_path: Path) -> None:
    rows = "a.png,0,train\nb.png,0,val\nc.png,0,validation\nd.png,0,Test\ne.png,0,\n"
    found = read_csv(write_csv(tmp_path, f"path,label,split\n{rows}"), TASK)
    parts = [its.part for its in found.samples]
    assert parts == ["train", "validation", "validation", "test", None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label\nbenign\n", "no column 'path'"),
        ("path,label\na.png,cyst\n", "line 2: 'cyst' is no class; there are benign, malignant"),
        ("path,label\n,benign\n", "line 2: the path is empty"),
        ("path,label,xmin,ymin,xmax,ymax\na.png,0,1,2,x,4\n", "not four numbers"),
        ("path,label,split\na.png,0,holdout\n", "line 2: a split is train, validation, test"),
        ("path,label,xmin,ymin,xmax,ymax\na.png,0,1,2,inf,4\n", "not four numbers"),
        ("path,label,frame\na.dcm,0,-1\n", "line 2: a frame is a whole number from 0, not '-1'"),
        ("path,label,frame\na.dcm,0,1.5\n", "line 2: a frame is a whole number from 0"),
        ("path,label,frame\na.png,0,2\n", "line 2: frame 2 of a file that is not DICOM"),
    ],
)
def test_a_bad_line_of_a_csv_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read_csv(write_csv(tmp_path, text), TASK)
    assert said in str(refusal.value)


def test_a_dicom_file_without_a_group_is_of_its_patient(tmp_path: Path) -> None:
    grey = np.zeros((40, 60), np.uint8)
    for name in ("a", "b"):
        write_dicom(tmp_path / f"{name}.dcm", grey)
    write_dicom(tmp_path / "nobody.dcm", grey, PatientID="")
    names = ("a.dcm,0,,", "b.dcm,0,,", "nobody.dcm,0,,", "none.dcm,0,,", "a.dcm,0,,p1")
    path = write_csv(tmp_path, "\n".join(("path,label,frame,group", *names)))
    one, same, nobody, none, given_ = (its.group for its in read_csv(path, TASK).samples)
    assert one == same
    assert one.startswith("patient-")
    assert (nobody, none, given_) == ("nobody.dcm", "none.dcm", "p1")


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_csv_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        read_samples(path, TASK)
