"""`sonolite evaluate` of a locator on pictures that it never saw."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import refused, sonolite
from train.duplicates import NAMED


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of six stills, four of them with a box, and an unreadable one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    rng = np.random.default_rng(77)
    rows = []
    for number in range(6):
        pixels = cv2.GaussianBlur(rng.integers(0, 256, (90, 120), np.uint8), (0, 0), 3)
        corners = ("", "", "", "")
        if number < 4:
            cv2.circle(pixels, (30 + 10 * number, 45), 12, 10, -1)
            left = 18 + 10 * number
            corners = (str(left), "33", str(left + 24), "57")
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        rows.append((f"{number}.png", *corners, f"g{number}"))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    rows.append(("broken.png", "1", "1", "40", "40", "g9"))
    with open(folder / "manifest.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "xmin", "ymin", "xmax", "ymax", "group"))
        table.writerows(rows)
    return folder


def test_other_pictures_are_measured(locator_run: Path, elsewhere: Path) -> None:
    done = sonolite("evaluate", locator_run, "--data", elsewhere, "--json")
    assert done.code == 0, done
    measured = json.loads(done.stdout)
    assert (measured["pictures"], measured["boxes"], measured["empty"]) == (6, 4, 2)
    assert measured["dropped"] == {"unreadable": 1}
    assert 0 <= measured["metrics"]["AP50"]["value"] <= 1
    assert measured["clips"] is None


def test_the_figures_of_the_test_part_are_those_of_the_run(
    locator_run: Path, marked_clips: Path, tmp_path: Path
) -> None:
    record = json.loads((locator_run / "run.json").read_text())
    for path in marked_clips.iterdir():
        if path.name not in ("train.avi", "validation.avi"):
            shutil.copy(path, tmp_path)
    table = tmp_path / "boxes.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], *(row for row in rows if "test.avi" in row)]) + "\n")
    page = tmp_path / "page.html"
    words = ("evaluate", locator_run, "--data", tmp_path, "--allow-seen", "--report", page)
    done = sonolite(*words, "--json")
    assert done.code == 0, done
    measured = json.loads(done.stdout)
    assert measured["clips"] == record["clips"]["test"]
    for words_of_page in ("FROC", "test.avi", "Research use only"):
        assert words_of_page in page.read_text()


def test_pictures_that_it_learnt_from_are_refused(locator_run: Path, marked: Path) -> None:
    done = sonolite("evaluate", locator_run, "--data", marked)
    refused(done, "the locator learnt from pictures of this data")


def test_a_refusal_counts_pictures(locator_run: Path, marked_clips: Path) -> None:
    """Each frame is also a near duplicate of its neighbours."""
    done = sonolite("evaluate", locator_run, "--data", marked_clips)
    assert done.stderr.count(" is ") == NAMED
    refused(done, f"train.avi, frame 9; and {40 - NAMED} more")


def test_a_folder_without_marked_pictures_is_refused(locator_run: Path, tmp_path: Path) -> None:
    refused(sonolite("evaluate", locator_run, "--data", tmp_path), str(tmp_path))


def test_options_of_a_classifier_are_refused(locator_run: Path, elsewhere: Path) -> None:
    words = ("evaluate", locator_run, "--data", elsewhere, "--out-of-scope", elsewhere)
    refused(sonolite(*words), "a locator takes --data")
