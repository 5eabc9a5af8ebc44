"""CSV tables."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from tests.conftest import CASES
from tests.devices.capture.dicom_files import write_dicom
from tests.train.conftest import TASK
from train.importers import read_samples
from train.importers.columns import COLUMNS
from train.importers.table import read_csv
from train.samples import Collection, Dropped, Sample
from train.split import csv_text


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


def test_rows_of_empty_cells_are_passed_over(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "path,label\na.png,benign\n,\n , \n")
    assert [its.path.name for its in read_csv(path, TASK).samples] == ["a.png"]


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
        ('path,label\na.png,0\nb.png,"0\nc.png,0\n', "line 3: unexpected end of data; is each"),
        ('path,label\na.png,"0\nb.png,0\nc.png,"0\n', "line 2: ',' expected after '\"'"),
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


HEADER = ("path", "label", "xmin", "ymin", "xmax", "ymax", "group", "split")
ROWS = (
    ("a.png", "benign", "1", "2", "11", "22", "p1", "train"),
    ("b, c.png", "malignant", "5", "6", "30", "40", "p2", "test"),
)
SPACES = st.text(" \t\xa0\ufeff", max_size=2)


@given(
    data=st.data(),
    order=st.permutations(range(len(HEADER))),
    delimiter=st.sampled_from(",;|\t"),
    begin=st.sampled_from(["", "\ufeff"]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
)
def test_a_first_line_is_understood_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    order: list[int],
    delimiter: str,
    begin: str,
    end: str,
    encoding: str,
) -> None:
    spaces = SPACES.map(lambda text: text.replace(delimiter, ""))

    def written(name: str) -> str:
        spelt = data.draw(st.sampled_from([name, name.upper(), name.title()]))
        return f"{data.draw(spaces)}{spelt}{data.draw(spaces)}"

    lines = [delimiter.join(written(HEADER[place]) for place in order)]
    lines += [delimiter.join(f'"{row[place]}"' for place in order) for row in ROWS]
    folder = tmp_path_factory.mktemp("spelt")
    path = folder / "a.csv"
    path.write_bytes((begin + end.join(lines) + end).encode(encoding))
    collection = read_csv(path, TASK)
    assert collection.samples == (
        Sample(folder / "a.png", "benign", Box(1, 2, 10, 20), "p1", part="train"),
        Sample(folder / "b, c.png", "malignant", Box(5, 6, 25, 34), "p2", part="test"),
    )
    assert collection.notes == ()


LOOKALIKES = {
    "group": [
        "patient_id",
        "PatientID",
        "Patient",
        "case",
        "Case No",
        "subject",
        "groups",
        "gruop",
    ],
    "split": ["set", "Subset", "fold", "partition", "spilt", "data_set"],
    "xmin": ["x_min", "x1", "X", "left", "bbox", "bbox_xmin"],
    "frame": ["frame_no", "Frames", "slice"],
}


@pytest.mark.parametrize(
    ("name", "known"), [(name, known) for known, names in LOOKALIKES.items() for name in names]
)
def test_a_column_that_looks_like_a_known_one_is_refused(
    tmp_path: Path, name: str, known: str
) -> None:
    with pytest.raises(BadInput, match=rf"{name}.* looks like '{known}'; rename it"):
        read_csv(write_csv(tmp_path, f"path,label, {name}\na.png,0,1\n"), TASK)


@pytest.mark.parametrize("name", ["filename", "image", "Image Path", "file"])
def test_a_table_without_a_path_says_which_column_may_be_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=rf"'{name}' looks like 'path'"):
        read_csv(write_csv(tmp_path, f"{name},label\na.png,0\n"), TASK)


def test_what_looks_like_a_column_that_is_there_is_a_column_like_any_other(tmp_path: Path) -> None:
    text = "path,label,group,patient_id,age\na.png,0,p1,77,50\n"
    collection = read_csv(write_csv(tmp_path, text), TASK)
    assert collection.notes == ("samples.csv: columns that are not used: 'patient_id', 'age'",)
    assert collection.samples[0].group == "p1"


@pytest.mark.parametrize("name", ["age", "sex", "weight", "stage", "grade", "site", "birads", "ID"])
def test_a_column_of_something_else_is_named(tmp_path: Path, name: str) -> None:
    collection = read_csv(write_csv(tmp_path, f"path,label,{name}\na.png,0,1\n"), TASK)
    assert collection.notes == (f"samples.csv: columns that are not used: '{name}'",)


@given(names=st.lists(st.text(max_size=12), max_size=6))
def test_no_column_is_passed_over_in_silence(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = tmp_path_factory.mktemp("columns") / "a.csv"
    path.write_text(csv_text([("path", "label", *names), ("a.png", "0", *("1" for _ in names))]))
    try:
        (note,) = read_csv(path, TASK).notes or ("",)
    except BadInput:
        return
    for name in names:
        known = name.strip().casefold() in COLUMNS
        assert known or not name.strip() or repr(name.strip()) in note


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the column 'label' is there 2 times"):
        read_csv(write_csv(tmp_path, "path,label, Label\na.png,0,1\n"), TASK)


def test_a_row_that_is_longer_than_the_first_line_is_refused(tmp_path: Path) -> None:
    """A comma in a name moves all that stands behind it."""
    with pytest.raises(BadInput, match="line 3: 3 cells, but 2 columns"):
        read_csv(write_csv(tmp_path, "path,label\na.png,0,\nb,c.png,0\n"), TASK)


def test_a_spreadsheet_of_a_country_with_decimal_commas_is_read(tmp_path: Path) -> None:
    text = "sep=;\npath;label;xmin;ymin;xmax;ymax\na.png;0;1,0;2;10,6;20\nb.png;0;;;x;\n"
    with pytest.raises(BadInput, match="line 4: the box is not four numbers"):
        read_csv(write_csv(tmp_path, text), TASK)
    text = text.replace(";;;x;", "")
    first, _ = read_csv(write_csv(tmp_path, text), TASK).samples
    assert first.box == Box(1, 2, 10, 18)


def test_backslashes_stand_between_folders_unless_a_name_has_them(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("images/a.png", "b\\c.png"):
        (tmp_path / name).touch()
    text = "path,label\nimages\\a.png,0\nb\\c.png,0\n"
    paths = [sample.path for sample in read_samples(write_csv(tmp_path, text), TASK).samples]
    assert paths == [tmp_path / "images" / "a.png", tmp_path / "b\\c.png"]


def test_a_backslash_in_a_name_that_no_file_can_have_is_one_of_a_folder(tmp_path: Path) -> None:
    long = "x" * 300
    (sample,) = read_csv(write_csv(tmp_path, f"path,label\n{long}\\a.png,0\n"), TASK).samples
    assert sample.path == tmp_path / long / "a.png"


def test_the_size_of_the_picture_that_was_annotated_is_kept(tmp_path: Path) -> None:
    text = "path,label,width,height\na.png,0,640,480\nb.png,0,,\n"
    sizes = [sample.size for sample in read_csv(write_csv(tmp_path, text), TASK).samples]
    assert sizes == [(640, 480), None]


def test_a_dicom_file_is_known_by_its_content(tmp_path: Path) -> None:
    write_dicom(tmp_path / "IM_0001", np.zeros((2, 40, 60), np.uint8), NumberOfFrames=2)
    (sample,) = read_samples(write_csv(tmp_path, "path,label,frame\nIM_0001,0,1\n"), TASK).samples
    assert sample.frame == 1
    assert sample.group.startswith("patient-")


@pytest.mark.skipif(not CASES.is_dir(), reason="the small inputs are not here")
def test_tables_that_differ_in_spelling_alone_read_the_same() -> None:
    good, spaced, semicolon, split, split_spaced = (
        read_samples(CASES / "tables" / f"{name}.csv", TASK)
        for name in ("good", "spaced", "semicolon", "split_good", "split_spaced")
    )
    assert good == spaced == semicolon
    assert len({sample.group for sample in good.samples}) == 24
    assert split == split_spaced
    assert {sample.part for sample in split.samples} == {"train", "validation", "test"}


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_csv_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        read_samples(path, TASK)
