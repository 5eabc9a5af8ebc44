"""Models with an embedding: each variant's scope in the bundle, and what it withholds live."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.bundle.archive import GATE, Bundle, open_bundle
from edge_runtime.bundle.scope import read_scope
from edge_runtime.models.classifier import Classifier
from tests.conftest import sonolite
from train.importers import read_samples
from train.run import read_run
from train.samples import load_pictures

SAME_LIMIT = 0.02
"""The embeddings of Keras and of TFLite differ by how a processor rounds. A distance divides by
their smallest spreads, and so a limit differs by far more: by 0.1 % on an AMD EPYC. A scope that
is fitted on other pictures differs by more than 5 % (`tests/train/test_training.py`)."""


def test_each_variant_has_a_scope_of_its_own(scoped_bundle: Path) -> None:
    bundle = open_bundle(scoped_bundle)
    scopes = bundle.manifest.classifier.scopes
    assert set(scopes) == {"float32", "int8"}
    sizes = [read_scope(bundle.read(member)).mean.shape for member in scopes.values()]
    assert sizes[0] == sizes[1]


def test_the_scope_of_float32_is_that_of_the_run(scoped_run: Path, scoped_bundle: Path) -> None:
    run, bundle = read_run(scoped_run), open_bundle(scoped_bundle)
    scope = read_scope(bundle.read(bundle.manifest.classifier.scopes["float32"]))
    assert run.scope is not None
    assert scope.limit == pytest.approx(run.scope.limit, rel=SAME_LIMIT)
    assert scope.mean == pytest.approx(run.scope.mean, rel=1e-2, abs=1e-3)


@pytest.mark.slow
def test_other_pictures_are_a_discriminant_of_each_variant(
    scoped_run: Path, tmp_path: Path
) -> None:
    """As a run of `sonolite train --other` has them."""
    run = Path(shutil.copytree(scoped_run, tmp_path / "run"))
    side = read_run(scoped_run).outliers.shape[1]
    noise = np.random.default_rng(0).integers(0, 256, (30, side, side, 1), dtype=np.uint8)
    np.savez(run / "outliers.npz", pictures=noise)
    record = json.loads((run / "run.json").read_text()) | {"others": {"noise": 30}}
    (run / "run.json").write_text(json.dumps(record))
    path = tmp_path / "a.sonolite"
    done = sonolite("convert", run, "--out", path, "--variants", "float32,int8")
    assert done.code == 0, done
    bundle = open_bundle(path)
    for member in bundle.manifest.classifier.scopes.values():
        assert read_scope(bundle.read(member)).offsets.size == 2
    card = bundle.read("card.md").decode()
    assert "30 auxiliary pictures of something else (noise)" in card


def test_the_card_says_what_each_variant_keeps(scoped_run: Path, scoped_bundle: Path) -> None:
    run, bundle = read_run(scoped_run), open_bundle(scoped_bundle)
    card = bundle.read("card.md").decode()
    kept = [float(share) for share in re.findall(r"(?:float32|int8) ([\d.]+)%", card)]
    assert len(kept) == 2
    assert run.record.withheld is not None
    test = run.record.metrics["test"].samples  # of which one may lie at the limit
    assert kept[0] == pytest.approx(100 * (1 - run.record.withheld), abs=100 / test + 0.1)
    assert "as other scanners may show them" in card
    assert "No picture of something else was shown to it" in card


def test_validation_pictures_are_within_and_noise_is_beyond(
    scoped_run: Path, scoped_bundle: Path
) -> None:
    """Of float32: so short a training leaves an int8 embedding of few levels."""
    run, bundle = read_run(scoped_run), open_bundle(scoped_bundle)
    classifier = Classifier(bundle, bundle.manifest.classifier, "float32")
    known = load_pictures(run.split.of("validation"), classifier.preprocessing)
    noise = np.random.default_rng(0).integers(0, 256, known.shape, dtype=np.uint8)
    near = [classifier.predict(picture[np.newaxis]).out_of_scope_score for picture in known]
    far = [classifier.predict(picture[np.newaxis]).out_of_scope_score for picture in noise]
    assert np.mean([score is not None and score <= 1 for score in near]) >= 0.85
    assert all(score is not None and score > 1 for score in far)


def test_a_strange_picture_gets_no_label_unless_asked_for(
    scoped_bundle: Path, tmp_path: Path
) -> None:
    grains = np.random.default_rng(1).integers(0, 256, (24, 32), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), np.kron(grains, np.ones((10, 10), np.uint8)))
    words = ("run", scoped_bundle, "--source", tmp_path / "noise.png", "--json")
    roi = ("--roi", "100,60,120,120", "--variant", "float32")
    withheld = json.loads(sonolite(*words, *roi).stdout)
    (nodule,) = withheld["nodules"]
    assert nodule["label"] is None
    assert withheld["reason"] == "unlike the pictures that the model learnt from"
    assert nodule["out_of_scope_score"] > 1
    asked = json.loads(sonolite(*words, *roi, "--any-picture").stdout)
    assert asked["nodules"][0]["out_of_scope_score"] is None
    assert asked["reason"] != withheld["reason"]


def test_every_output_of_the_network_is_in_every_variant(
    scoped_run: Path, scoped_bundle: Path, labelled: Path
) -> None:
    run, bundle = read_run(scoped_run), open_bundle(scoped_bundle)
    samples = read_samples(labelled, run.record.recipe.task).samples[:1]
    for variant in ("float32", "int8"):
        classifier = Classifier(bundle, bundle.manifest.classifier, variant)
        outputs = classifier.backend.run(load_pictures(samples, classifier.preprocessing))
        negative, positive = outputs["probability"][0]
        evidence = float(outputs["evidence"].mean())
        assert outputs["evidence"].shape == (1, 1, 1)
        tolerance = 1e-3 if variant == "float32" else 0.5
        assert evidence == pytest.approx(np.log(positive / negative), abs=tolerance)


def test_an_embedding_that_is_no_number_gives_no_label(
    scoped_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(scoped_bundle)
    classifier = Classifier(bundle, bundle.manifest.classifier, "float32")
    side = classifier.preprocessing.side
    picture = np.zeros((1, side, side, 1), np.uint8)
    outputs = dict(classifier.backend.run(picture))
    outputs["embedding"] = np.full_like(outputs["embedding"], np.nan)
    monkeypatch.setattr(classifier.backend, "run", lambda _: outputs)
    with pytest.raises(RuntimeError, match="embedding is not a number"):
        classifier.predict(picture)


@pytest.fixture(scope="module")
def small_bundle(scoped_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of int8 alone, with a layer in float."""
    path = tmp_path_factory.mktemp("small") / "a.sonolite"
    words = ("--variants", "int8", "--keep-float", "stem_norm")
    done = sonolite("convert", scoped_run, "--out", path, *words)
    assert done.code == 0, done
    return open_bundle(path)


def test_a_layer_may_be_kept_in_float_by_the_name_of_its_normalisation(
    small_bundle: Bundle,
) -> None:
    assert json.loads(small_bundle.read(GATE))["float_layers_of_int8"] == ["stem_norm"]


def test_a_bundle_for_a_small_device_holds_int8_alone(small_bundle: Bundle) -> None:
    assert set(small_bundle.manifest.classifier.variants) == {"int8"}
