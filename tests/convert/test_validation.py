"""`sonolite validate`: a bundle on other data, and on what it must not judge."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from convert.gate import answer_all
from edge_runtime.bundle.archive import open_bundle
from edge_runtime.models.classifier import Classifier
from tests.conftest import draw_labelled, refused, sonolite
from tests.train.importers.test_ddti import draw_graded
from train.importers import read_samples
from train.samples import Task, load_pictures

OTHERS = {"out_of_scope_pictures", "out_of_scope_auroc", "out_of_scope_noticed"}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_labelled(tmp_path_factory.mktemp("others") / "images", patients=5, first=20)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for number in range(6):
        grains = rng.integers(0, 256, (24, 32), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), np.kron(grains, np.ones((4, 4), np.uint8)))
    return folder


@pytest.fixture(scope="module")
def int8_bundle(scoped_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.sonolite"
    assert sonolite("convert", scoped_run, "--out", path, "--variants", "int8").code == 0
    return path


def figures(*words: str | Path) -> dict[str, dict[str, Any]]:
    """What `validate` says of each variant."""
    done = sonolite("validate", *words, "--json")
    assert done.code in {0, 1}, done  # so few images may break a limit
    return {row["variant"]: row for row in json.loads(done.stdout)}


def test_a_bundle_without_float32_is_measured_alone(int8_bundle: Path, others: Path) -> None:
    done = sonolite("validate", int8_bundle, "--data", others)
    assert done.code == 0, done
    assert "no float32 in it, so no limit was judged" in done.stderr
    assert "not judged" in done.stdout
    its = figures(int8_bundle, "--data", others)["int8"]
    assert its["failures"] is None
    assert its["figures"]["images"]["value"] == 20
    assert "label_agreement" not in its["figures"]


def test_its_figures_are_those_beside_float32(
    int8_bundle: Path, scoped_bundle: Path, others: Path
) -> None:
    (alone,) = figures(int8_bundle, "--data", others).values()
    beside = figures(scoped_bundle, "--data", others)["int8"]
    for name, its in alone["figures"].items():
        assert its == beside["figures"][name], name


def test_each_variant_is_told_what_it_withholds(
    scoped_bundle: Path, others: Path, noise: Path, tmp_path: Path
) -> None:
    """Six pictures of noise among twenty of nodules; each scope is that of its own variant."""
    rows = [f"{path},benign,0,0,128,96" for path in sorted(noise.iterdir())]
    header, *known = (others / "manifest.csv").read_text().split()
    known = [f"{others}/" + line.rpartition(",")[0] for line in known]
    table = tmp_path / "mixed.csv"
    table.write_text("\n".join([header.rpartition(",")[0], *known, *rows]))
    bundle = open_bundle(scoped_bundle)
    stage = bundle.manifest.classifier
    samples = read_samples(table, Task(stage.task, stage.labels, {})).samples
    found = figures(scoped_bundle, "--data", table)
    assert set(found) == set(stage.variants)
    for variant in stage.variants:
        its = found[variant]
        assert not {*its["figures"]} & OTHERS
        classifier = Classifier(bundle, stage, variant)
        pictures = load_pictures(samples, classifier.preprocessing)
        far = [classifier.predict(each[np.newaxis]).out_of_scope_score for each in pictures]
        beyond = sum(
            out_of_scope_score is not None and out_of_scope_score > 1 for out_of_scope_score in far
        )
        assert its["figures"]["withheld"]["value"] == pytest.approx(beyond / 26)
        assert beyond >= 6 or variant == "int8"  # so short a training leaves int8 few levels


@pytest.mark.parametrize(
    ("output", "said"), [("probability", "not numbers"), ("embedding", "int8: an embedding is not")]
)
def test_what_is_not_a_number_is_told(
    int8_bundle: Path, others: Path, monkeypatch: pytest.MonkeyPatch, output: str, said: str
) -> None:
    def broken(*given: Any) -> dict[str, np.ndarray]:
        found = answer_all(*given)
        found[output][3] = np.nan
        return found

    monkeypatch.setattr("convert.validation.answer_all", broken)
    done = sonolite("validate", int8_bundle, "--data", others)
    assert done.code == (1 if output == "probability" else 2), done
    assert said in " ".join((done.stdout + done.stderr).split())


def test_pictures_of_something_else_are_told_apart(
    scoped_bundle: Path, others: Path, noise: Path
) -> None:
    its = figures(scoped_bundle, "--data", others, "--out-of-scope", noise)["float32"]["figures"]
    assert its["out_of_scope_pictures"]["value"] == 6
    assert its["out_of_scope_auroc"]["value"] == 1
    assert its["out_of_scope_noticed"]["value"] == 1


def test_a_model_without_a_scope_cannot_tell(bundle_path: Path, others: Path, noise: Path) -> None:
    words = ("validate", bundle_path, "--data", others, "--out-of-scope", noise)
    refused(sonolite(*words), "no scope")


def test_other_pictures_that_are_not_there_are_named(scoped_bundle: Path, others: Path) -> None:
    words = ("validate", scoped_bundle, "--data", others, "--out-of-scope", others / "gone")
    refused(sonolite(*words), "gone: no such file or folder")


def test_grades_are_mapped_to_the_classes(int8_bundle: Path, others: Path, tmp_path: Path) -> None:
    graded = draw_graded(tmp_path, others)
    (found,) = figures(int8_bundle, "--data", graded, "--tirads", "2=benign,5=malignant").values()
    assert 0 <= found["figures"]["auroc"]["value"] <= 1
    refused(sonolite("validate", int8_bundle, "--data", graded), "--tirads 2=")


def test_images_that_cannot_be_used_are_counted(int8_bundle: Path, tmp_path: Path) -> None:
    folder = draw_labelled(tmp_path / "images", patients=5, first=30)
    broken = next((folder / "benign").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:100])
    done = sonolite("validate", int8_bundle, "--data", folder)
    assert done.code == 0, done
    assert "1 dropped: unreadable; the first: " in done.stderr
