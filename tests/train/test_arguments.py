"""Wrong arguments are refused before TensorFlow is loaded."""

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

PROGRAM = """
import sys
from edge_runtime.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({"keras", "sklearn", "tensorflow"} & {*sys.modules}))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Path:
    """A folder with `good` and `bad` data, and a run."""
    folder = tmp_path_factory.mktemp("arguments")
    for name in ("good/benign/a.png", "good/malignant/b.png", "bad/cyst/a.png"):
        (folder / name).parent.mkdir(parents=True)
        cv2.imwrite(str(folder / name), np.zeros((80, 80), np.uint8))
    (folder / "table.csv").write_text("path,label\ngone.png,benign\n")
    (folder / "odd.csv").write_text("path,label,patient_id\ngood/benign/a.png,benign,7\n")
    shutil.copytree(run_folder, folder / "run")
    return folder


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("train nowhere --out new", "nowhere: no such file or folder"),
        ("train bad --out new", "1 class(es), cyst; 2 to 100 different ones are needed"),
        ("train good --out new --positive cyst", "--positive cyst: no such class"),
        ("train good --out new --labels cyst,solid", "'benign' is no class"),
        ("train table.csv --out new", "1 of 1 images are missing: gone.png"),
        ("train odd.csv --out new", "'patient_id' looks like 'group'"),
        ("train good --out run", "run exists already"),
        ("train good --out no/new", "there is no folder"),
        ("train good --out new --resume", "there is no unfinished training"),
        ("train good --out new --recipe nope", "no recipe 'nope'"),
        ("train good --out new --tirads 5", "is not grade=label"),
        ("train good --out new --part-groups", "goes with --hold-out"),
        ("train good --out run --folds 3", "run exists already"),
        ("evaluate nowhere --data good", "nowhere: not a run"),
        ("evaluate run --data nowhere", "nowhere: no such file or folder"),
        ("evaluate run --data bad", "'cyst' is no class"),
        ("evaluate run --data good --out-of-scope nowhere", "nowhere: no such file"),
        ("compare nowhere", "nowhere: not a run"),
    ],
)
def test_a_wrong_argument_is_refused_before_tensorflow_is_loaded(
    place: Path, words: str, refusal: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words.split()], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 2, done
    assert refusal in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.strip() == ""
