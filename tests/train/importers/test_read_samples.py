"""Which layout a folder has, and what is refused in all of them."""

from pathlib import Path

import pytest

from devices import BadInput
from tests.conftest import TN5000
from tests.train.test_samples import TASK
from train.importers import read_samples
from train.importers.voc import read_voc
from train.samples import Collection


def write_csv(folder: Path, *lines: str) -> Path:
    path = folder / "samples.csv"
    path.write_text("\n".join(("path,label,xmin,ymin,xmax,ymax,frame", *lines)) + "\n")
    return path


def test_a_folder_is_read_by_its_manifest_first(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
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
    found = read_samples(
        write_csv(
            tmp_path,
            "a.png,benign,1,2,30,40",
            "a.png,malignant,1,2,30,41",
            "b.dcm,benign,,,,,0",
            "b.dcm,benign,,,,,7",
        ),
        TASK,
    )
    assert [its.frame for its in found.samples] == [0, 0, 0, 7]


@pytest.mark.parametrize("again", ["a.png,malignant,1,2,30,40", "./b/../a.png,benign,1,2,30,40"])
def test_the_same_nodule_twice_is_refused(tmp_path: Path, again: str) -> None:
    with pytest.raises(BadInput, match=r"a.png: listed twice"):
        read_samples(write_csv(tmp_path, "a.png,benign,1,2,30,40", again), TASK)


@pytest.mark.parametrize("label", ["benign", ""])
def test_a_name_that_cannot_be_written_down_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(BadInput, match="rename it"):
        read_samples(write_csv(tmp_path, f"a\x07.png,{label}"), TASK)


@pytest.mark.skipif(not TN5000.is_dir(), reason="TN5000 is not here")
def test_tn5000_reads_the_same_as_voc_and_as_table() -> None:
    def seen(found: Collection) -> dict[Path, tuple[str, object]]:
        return {its.path: (its.label, its.box) for its in found.samples}

    table = read_samples(TN5000, TASK)
    assert len(table.samples) == 3993
    assert len({its.group for its in table.samples}) == 100
    assert table.dropped == ()
    assert seen(table) == seen(read_voc(TN5000, TASK))
