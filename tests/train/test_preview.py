"""What was read is drawn before anything is learnt."""

from pathlib import Path

import cv2
import numpy as np

from tests.conftest import refused, sonolite
from train.preview import BOX


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
