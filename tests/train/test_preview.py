"""What was read is drawn before anything is learnt."""

from pathlib import Path

import cv2
import numpy as np

from tests.conftest import FINDER, refused, sonolite
from train.preview import BAND, BOX, CELL


def test_what_was_read_is_drawn_with_its_boxes(labelled: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = sonolite("train", labelled, "--preview", sheet)
    assert done.code == 0, done
    assert "labels: benign, malignant; positive: malignant" in done.stderr
    assert "60 of 60 images" in done.stderr
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert np.all(picture == BOX, axis=-1).sum() > 60 * 40
    refused(sonolite("train", labelled, "--preview", sheet), "exists already")
    refused(sonolite("train", labelled, "--preview", tmp_path / "a.txt"), "NAME.png")
    refused(sonolite("train", labelled), "--out FOLDER")


def test_marked_pictures_and_clips_are_drawn_with_all_their_boxes(
    marked: Path, marked_clips: Path, tmp_path: Path
) -> None:
    recipe, sheet = tmp_path / "finder.toml", tmp_path / "sheet.png"
    recipe.write_text(FINDER)
    words = ("train", marked, "--also", marked_clips, "--recipe", recipe, "--preview", sheet)
    done = sonolite(*words)
    assert done.code == 0, done
    assert "24 pictures, 16 boxes, 8 without a nodule" in done.stderr
    assert f"{sheet}: 56 of 84 pictures" in done.stderr
    picture = cv2.imread(str(sheet))
    assert picture is not None
    rows = picture.reshape(-1, CELL + BAND, 8, CELL, 3).swapaxes(1, 2)
    drawn = np.all(rows.reshape(-1, CELL + BAND, CELL, 3) == BOX, axis=-1).sum(axis=(1, 2)) > 20
    assert drawn.tolist() == [True] * 16 + [False] * 8 + [True] * 16 + [False] * 16
    refused(sonolite(*words), "exists already")


def test_a_marked_picture_with_two_nodules_has_both_boxes(marked: Path, tmp_path: Path) -> None:
    (name,) = (path.name for path in marked.glob("p00_5.png"))
    rows = [
        "path,xmin,ymin,xmax,ymax",
        f"{marked / name},10,10,60,60",
        f"{marked / name},90,90,140,140",
    ]
    (tmp_path / "two.csv").write_text("\n".join(rows) + "\n")
    words = ("train", tmp_path / "two.csv", "--recipe", "nodule-locator")
    assert sonolite(*words, "--preview", tmp_path / "two.png").code == 0
    picture = cv2.imread(str(tmp_path / "two.png"))
    assert picture is not None
    boxes = np.all(picture == BOX, axis=-1).astype(np.uint8)
    assert cv2.connectedComponents(boxes)[0] == 1 + 2
