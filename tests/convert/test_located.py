"""The classifier on the boxes of the bundle's own locator, beside those that people marked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convert.gate import answer
from convert.located import LocatedNodules, locate_marked, located_figures
from devices import Box
from edge_runtime.bundle.archive import Bundle
from edge_runtime.models.classifier import Classifier
from edge_runtime.models.locator import Locator
from tests.conftest import draw_labelled, refused, sonolite
from train.decision_rule import DecisionRule
from train.importers import read_samples
from train.metrics import as_labels
from train.samples import Sample, Task

RULE = DecisionRule(("benign", "malignant"), {"malignant": 0.5})


@pytest.fixture(scope="module")
def locator(found_bundle: Bundle) -> Locator:
    assert found_bundle.manifest.locator is not None
    return Locator(found_bundle, found_bundle.manifest.locator, threads=1)


@pytest.fixture(scope="module")
def classifier(found_bundle: Bundle) -> Classifier:
    return Classifier(found_bundle, found_bundle.manifest.classifier, threads=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_labelled(tmp_path_factory.mktemp("located") / "images", patients=6, images=1)


@pytest.fixture(scope="module")
def samples(data: Path) -> tuple[Sample, ...]:
    task = Task("thyroid nodule", ("benign", "malignant"), {})
    return read_samples(data, task).samples


def test_a_located_box_is_the_one_that_a_device_shows(
    locator: Locator,
    classifier: Classifier,
    shipped_path: Path,
    samples: tuple[Sample, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`run` shows the boxes, and what it says of them is the answer to these pictures."""
    nodules = locate_marked(locator, samples, classifier.preprocessing)
    assert nodules.marked == len(samples)
    assert len(nodules.members) >= len(samples) // 2
    answers = answer(classifier.backend, nodules.pictures)
    for member, own in zip(nodules.members.tolist(), answers, strict=True):
        done = sonolite("run", shipped_path, "--source", samples[member].path, "--json")
        assert done.code == 0, done
        (result,) = [json.loads(line) for line in done.stdout.splitlines()]
        said = [each["probability"]["malignant"] for each in result["nodules"]]
        assert any(value == pytest.approx(float(own[-1]), abs=1e-5) for value in said)


def test_a_box_elsewhere_is_not_located(
    locator: Locator, classifier: Classifier, samples: tuple[Sample, ...]
) -> None:
    moved = [replace(each, box=Box(2, 2, 20, 20)) for each in samples]
    nodules = locate_marked(locator, moved, classifier.preprocessing)
    assert (nodules.marked, len(nodules.members), len(nodules.pictures)) == (len(samples), 0, 0)


def test_a_sample_without_a_box_is_not_looked_for(
    locator: Locator, classifier: Classifier, samples: tuple[Sample, ...]
) -> None:
    bare = [replace(each, box=None) for each in samples]
    assert locate_marked(locator, bare, classifier.preprocessing).marked == 0


def located(*members: int) -> LocatedNodules:
    pictures = np.zeros((len(members), 8, 8, 1), np.uint8)
    return LocatedNodules(4, np.array(members, np.int64), pictures)


def scores(*malignant: float) -> np.ndarray:
    one = np.array(malignant, np.float32)
    return np.stack([1 - one, one], axis=1)


def test_both_boxes_are_compared_on_the_same_pictures() -> None:
    labels = as_labels(["benign", "malignant", "benign", "malignant"], RULE.classes)
    figures = located_figures(
        labels,
        ["a", "b", "c", "d"],
        RULE,
        located(0, 2, 3),
        scores(0.6, 0.1, 0.2, 0.8),
        scores(0.9, 0.2, 0.7),
    )
    said = {name: figure.value for name, figure in figures.items()}
    assert said["located"] == 0.75
    assert said["located_images"] == 3
    assert said["located_auroc"] == 0.5
    assert said["located_auroc_less_marked"] == -0.5
    assert (said["located_sensitivity"], said["located_specificity"]) == (1, 0.5)
    assert said["located_label_agreement"] == 1


def test_of_one_class_alone_only_the_share_is_told() -> None:
    labels = as_labels(["benign", "malignant", "benign", "malignant"], RULE.classes)
    figures = located_figures(
        labels, list("abcd"), RULE, located(0, 2), scores(0.6, 0.1, 0.2, 0.8), scores(0.9, 0.2)
    )
    assert {name: figure.value for name, figure in figures.items()} == {"located": 0.5}


def test_validate_measures_both_boxes(shipped_path: Path, data: Path) -> None:
    done = sonolite("validate", shipped_path, "--data", data, "--json")
    assert done.code == 0, done
    ((row),) = json.loads(done.stdout)
    figures = row["figures"]
    assert figures["images"]["value"] == 12
    assert figures["located_images"]["value"] == round(12 * figures["located"]["value"])
    assert "located_auroc_less_marked" in figures


def test_validate_without_a_locator_measures_the_marked_boxes_alone(
    demo_path: Path, data: Path
) -> None:
    done = sonolite("validate", demo_path, "--data", data, "--json")
    assert done.code == 0, done
    assert not [name for name in json.loads(done.stdout)[0]["figures"] if "located" in name]


def test_validate_of_whole_pictures_measures_nothing_located(
    shipped_path: Path, data: Path, tmp_path: Path
) -> None:
    """Folders of classes have no boxes."""
    for label in ("benign", "malignant"):
        shutil.copytree(data / label, tmp_path / "classes" / label)
    done = sonolite("validate", shipped_path, "--data", tmp_path / "classes", "--json")
    assert done.code == 0, done
    figures = json.loads(done.stdout)[0]["figures"]
    assert figures["images"]["value"] == 12
    assert not [name for name in figures if "located" in name]


def test_an_answer_that_is_not_a_number_is_refused(
    shipped_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> np.ndarray:
        found = answer(*given)  # type: ignore[arg-type]
        found[0] = np.nan
        return found

    monkeypatch.setattr("convert.validation.answer", broken)
    refused(sonolite("validate", shipped_path, "--data", data), "not a number")
