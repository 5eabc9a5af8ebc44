"""Three classes from folders to results: trained, converted, run, evaluated and compared."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from convert.classification import classification
from devices.capture.phantom import Phantom
from edge_runtime.bundle.archive import CARD, open_bundle
from edge_runtime.bundle.manifest import Limits
from tests.conftest import TINY, Shared, sonolite
from train.classical import METHODS
from train.compare import compare
from train.decision_rule import DecisionRule
from train.run import read_run

CLASSES = ("cyst", "normal", "solid")
RECIPE = (
    TINY.replace("epochs = 30", "epochs = 3")
    .replace("patience = 30\n", "")
    .replace("auroc_drop = 0.05", "auroc_drop = 1.0")
    .replace("sensitivity_drop = 0.20", "sensitivity_drop = 1.0")
    .replace("label_agreement = 0.90", "label_agreement = 0.0")
)
LABELS = ("--labels", ",".join(CLASSES), "--task", "breast mass")


@pytest.fixture(scope="module")
def masses(shared: Shared) -> Path:
    """Class folders with a patient's folder for each two images, without a box."""

    def make(folder: Path) -> None:
        kinds = (("cyst", "benign", 34), ("normal", "benign", 8), ("solid", "malignant", 34))
        for number in range(14):
            for place, (label, nodule, moment) in enumerate(kinds):
                seed = 3 * number + place
                phantom = Phantom(seed=seed, width=320, height=240, nodule=nodule, live=False)
                patient = folder / label / f"p{seed:02}"
                patient.mkdir(parents=True)
                for still in range(2):
                    picture = phantom.render(moment + 3 * still)
                    cv2.imwrite(str(patient / f"{still}.png"), picture)

    return shared("masses", make)


@pytest.fixture(scope="module")
def masses_run(shared: Shared, masses: Path) -> Path:
    def make(folder: Path) -> None:
        (folder / "tiny.toml").write_text(RECIPE)
        words = ("--recipe", folder / "tiny.toml", "--out", folder / "run")
        done = sonolite("train", masses, *words, *LABELS)
        assert done.code == 0, done
        assert "labels: cyst, normal, solid; task: breast mass" in done.stderr

    return shared("masses_run", make) / "run"


@pytest.fixture(scope="module")
def masses_bundle(shared: Shared, masses_run: Path) -> Path:
    def make(folder: Path) -> None:
        words = ("--out", folder / "mass.sonolite", "--tflite", folder / "models")
        done = sonolite("convert", masses_run, *words, "--variants", "float32,int8")
        assert done.code == 0, done

    return shared("masses_bundle", make) / "mass.sonolite"


def test_a_run_has_the_figures_of_each_class(masses_run: Path) -> None:
    record = read_run(masses_run).record
    assert set(record.thresholds) == set(CLASSES)
    assert record.learnt == "pictures"
    assert set(record.data.boxed.values()) == {0}
    test = record.metrics["test"]
    assert tuple(test.by_class) == CLASSES
    assert np.sum(test.confusion_matrix) == test.samples
    assert test.abstained is not None
    for figures in record.metrics["validation"].by_class.values():
        assert figures.auroc is not None
    page = (masses_run / "report.html").read_text()
    for words in ("Confusion matrix", "called cyst", "balanced accuracy", "learnt whole pictures"):
        assert words in page
    assert "nodule" not in page.replace("phantom&#x27;s two kinds of nodule", "")


def test_the_answers_have_a_column_for_each_class(masses_run: Path) -> None:
    with open(masses_run / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        shares = [float(row[f"probability {label}"]) for label in CLASSES]
        assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_a_bundle_says_what_it_tells_apart(masses_bundle: Path, masses_run: Path) -> None:
    bundle = open_bundle(masses_bundle)
    stage, record = bundle.manifest.classifier, read_run(masses_run).record
    assert stage.labels == CLASSES
    assert stage.operating_point.thresholds == record.thresholds
    assert stage.learnt == "pictures"
    assert sum(stage.prevalence.values()) == pytest.approx(1)
    card = bundle.read(CARD).decode()
    for words in (
        "Tells cyst, normal, solid from one another: breast mass.",
        "The network learnt whole pictures",
        "| truth | called cyst | called normal | called solid | no label |",
        "sensitivity of solid",
        "--prevalence",
    ):
        assert words in card
    assert "thyroid" not in card
    models = sorted(path.name for path in (masses_bundle.parent / "models").iterdir())
    assert models == ["float32.tflite", "int8.tflite"]
    assert (masses_bundle.parent / "models" / "int8.tflite").read_bytes() == bundle.read(
        "int8.tflite"
    )


def test_a_folder_is_classified_without_a_box(masses_bundle: Path, masses: Path) -> None:
    done = sonolite("run", masses_bundle, "--source", masses / "solid" / "p02", "--json")
    assert done.code == 0, done
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 2
    for result in results:
        (nodule,) = result["nodules"]
        assert tuple(nodule["probability"]) == CLASSES
        assert sum(nodule["probability"].values()) == pytest.approx(1, abs=0.02)  # of int8
        assert nodule["label"] in (*CLASSES, None)


def test_other_data_is_measured(masses_run: Path, masses_bundle: Path, masses: Path) -> None:
    words = ("--data", masses, "--allow-seen", "--json")
    done = sonolite("evaluate", masses_run, *words)
    assert done.code == 0, done
    assert tuple(json.loads(done.stdout)["metrics"]["by_class"]) == CLASSES
    done = sonolite("validate", masses_bundle, "--data", masses, "--json")
    assert done.code == 0, done
    (float32, _) = json.loads(done.stdout)
    assert 0 <= float32["figures"]["sensitivity_of_cyst"]["value"] <= 1


@pytest.mark.slow
def test_classical_methods_learn_three_classes(masses_run: Path) -> None:
    few = tuple(method for method in METHODS if "intensity" in method.name)
    comparison = compare(read_run(masses_run), methods=few)
    for rival in comparison.rivals:
        assert set(rival.thresholds) == set(CLASSES)
        assert rival.metrics.by_class


@pytest.mark.slow
def test_every_fold_counts(tmp_path: Path, masses: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 1"))
    words = ("--recipe", tmp_path / "tiny.toml", "--out", tmp_path / "folds", "--folds", "2")
    done = sonolite("train", masses, *words, *LABELS, "--json")
    assert done.code == 0, done
    together = json.loads(done.stdout)["together"]
    assert together["samples"] == 84
    assert tuple(together["by_class"]) == CLASSES


def test_a_variant_that_was_asked_for_and_fails_ends_it_with_1(
    tmp_path: Path, masses: Path
) -> None:
    """No int8 answers exactly as float32 does: a limit of 0 on nothing but the AUROC."""
    strict = RECIPE.replace("auroc_drop = 1.0", "auroc_drop = 0.0").replace(
        "label_agreement = 0.0", "label_agreement = 1.0"
    )
    (tmp_path / "tiny.toml").write_text(strict.replace("crop(context=1.2)|", ""))
    words = ("--recipe", tmp_path / "tiny.toml", "--out", tmp_path / "run")
    assert sonolite("train", masses, *words, *LABELS).code == 0
    done = sonolite(
        "convert", tmp_path / "run", "--out", tmp_path / "a.sonolite", "--variants", "int8"
    )
    assert done.code == 1
    assert "may" in done.stderr
    assert "--quantisation-aware" in done.stderr
    assert "--keep-float auto" in done.stderr
    assert not (tmp_path / "a.sonolite").exists()


def test_the_gate_names_the_class_that_is_lost() -> None:
    labels = np.repeat([0, 1, 2], 40)
    rng = np.random.default_rng(0)
    floats = np.eye(3)[labels] * 0.6 + 0.13 + rng.normal(0, 0.01, (120, 3))
    lost = floats.copy()
    lost[40:44] = [0.6, 0.2, 0.2]
    rule = DecisionRule(CLASSES, dict.fromkeys(CLASSES, 0.4))
    limits = Limits(auroc_drop=1.0, sensitivity_drop=0.05, label_agreement=0.98)
    groups = [str(number) for number in range(120)]
    held = classification(labels, groups, rule, limits)
    figures, failures = held(floats.astype(np.float32), lost.astype(np.float32))
    assert failures == (
        "sensitivity of normal lower by 0.1000 > 0.05 (4 of 40 pictures, 2 may)",
        "label agreement 0.9667 < 0.98 (4 of 120 labels change, 2 may)",
    )
    assert figures["sensitivity_of_normal"].value == pytest.approx(0.9)
    assert figures["sensitivity_of_cyst"].value == 1
