"""The page on one's own data: each layout that it shows is built as shown, and read as it says."""

import re
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from edge_runtime.bundle.preprocess import parse
from tests.devices.capture.dicom_files import write_dicom
from train.importers import read_samples
from train.importers.columns import COLUMNS
from train.importers.ddti import TIRADS
from train.importers.paths import MAX_MISSING
from train.loading import load
from train.samples import AsWritten, Naming, Task

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text()
BLOCK = re.compile(
    r"```(files|csv|xml) ?(\S*)\n(.*?)```|^`data: ([^`]*)`$", re.DOTALL | re.MULTILINE
)
WIDTH, HEIGHT = 120, 90


class Layout(NamedTuple):
    """Files with their text, those that are pictures, and the line that reading them gives."""

    texts: dict[str, str]
    pictures: list[str]
    summary: str


def layouts() -> list[Layout]:
    shown, texts, pictures = [], dict[str, str](), list[str]()
    for kind, name, content, summary in BLOCK.findall(PAGE):
        if summary:
            shown.append(Layout(texts, pictures, summary))
            texts, pictures = {}, []
        elif kind == "files":
            pictures += content.splitlines()
        else:
            texts[name] = content
    return shown


@pytest.mark.parametrize("layout", layouts(), ids=lambda layout: layout.summary)
def test_each_layout_is_read_as_the_page_says(tmp_path: Path, layout: Layout) -> None:
    random = np.random.default_rng(0)
    for name in (*layout.texts, *layout.pictures):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    for name, text in layout.texts.items():
        (tmp_path / name).write_text(text)
    for name in layout.pictures:
        pixels = random.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
        if Path(name).suffix in (".png", ".jpg", ".bmp", ".tif"):
            cv2.imwrite(str(tmp_path / name), pixels)
        else:
            write_dicom(tmp_path / name, pixels)
    task: Naming = AsWritten()
    if layout.summary.startswith("DDTI"):
        task = Task("nodule", ("benign", "malignant"), {}, TIRADS)
    collection = read_samples(tmp_path, task)
    assert collection.summary == layout.summary
    assert collection.notes == ()
    loaded = load(collection, parse("gray|crop(1.2)|resize(32)"))
    assert len(loaded.samples) == len(collection.samples)
    assert {entry.reason for entry in loaded.dropped} <= {"mask"}


def test_every_layout_is_shown() -> None:
    kinds = {layout.summary.partition(",")[0] for layout in layouts()}
    assert kinds == {"class folders", "class folders in a split", "table", "Pascal VOC", "DDTI"}


def test_every_column_is_explained() -> None:
    cells = re.findall(r"^\| (`[^|]*) \|", PAGE, re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(COLUMNS)


def test_its_numbers_are_those_of_the_code() -> None:
    assert MAX_MISSING == 0.1
    assert "more than a\n  tenth of the images is missing" in PAGE
    grades = ",".join(f"{grade}={label}" for grade, label in TIRADS.items())
    assert f"--tirads {grades}" in PAGE
