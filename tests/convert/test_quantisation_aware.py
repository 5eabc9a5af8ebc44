"""Quantisation-aware fine-tuning, and that it changes int8 alone."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from convert.edgetpu import operators, place
from convert.quantisation_aware import fine_tune
from convert.tflite import convert
from edge_runtime.bundle.archive import CARD, GATE, Bundle, open_bundle
from edge_runtime.bundle.preprocess import parse
from tests.conftest import refused, sonolite
from tests.convert.test_bias_correction import PICTURES, shrunk
from tests.convert.test_stops import rewritten
from train.batches import PatchSet
from train.loading import Patch
from train.recipe import read_recipe
from train.run import read_run
from train.samples import Sample, load_pictures, read_pixels

AWARE = ("--variants", "int8", "--quantisation-aware")


@pytest.fixture(scope="module")
def uneven_run(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Path:
    """The liveliest channel of conv1 is sixtyfold, which conv2 undoes: float32 answers as before,
    and int8 has few steps left for the other channels."""
    run = read_run(run_folder)
    pictures = load_pictures(run.split.of("train"), parse(run.record.recipe.preprocessing))
    read = keras.Model(run.model.input, run.model.get_layer("conv1").output)
    loud = int(np.argmax(read.predict(pictures, verbose=0).mean(axis=(0, 1, 2))))

    def change(model: keras.Model) -> None:
        first, second = model.get_layer("conv1"), model.get_layer("conv2")
        (kernel, bias), (next_kernel, next_bias) = first.get_weights(), second.get_weights()
        kernel[..., loud] *= 60
        bias[loud] *= 60
        next_kernel[:, :, loud] /= 60
        first.set_weights([kernel, bias])
        second.set_weights([next_kernel, next_bias])

    return rewritten(run_folder, tmp_path_factory.mktemp("uneven"), change)


def int8_of(bundle: Path) -> dict[str, float]:
    """What the gate says of int8."""
    variants = json.loads(open_bundle(bundle).read(GATE))["variants"]
    (its,) = [its for its in variants if its["variant"] == "int8"]
    return {name: figure["value"] for name, figure in its["figures"].items()}


@pytest.fixture(scope="module")
def aware_bundle(tmp_path_factory: pytest.TempPathFactory, uneven_run: Path) -> Bundle:
    path = tmp_path_factory.mktemp("aware") / "a.sonolite"
    done = sonolite("convert", uneven_run, "--out", path, *AWARE)
    assert done.code == 0, done
    return open_bundle(path)


def test_what_rounding_spoils_is_learnt_back(
    uneven_run: Path, aware_bundle: Bundle, tmp_path: Path
) -> None:
    words = ("convert", uneven_run, "--out", tmp_path / "a.sonolite", "--variants", "int8")
    assert sonolite(*words).code == 0
    before, after = int8_of(tmp_path / "a.sonolite"), int8_of(aware_bundle.path)
    assert after["mean_difference"] < before["mean_difference"] / 2


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(
    uneven_run: Path, aware_bundle: Bundle, tmp_path: Path
) -> None:
    assert sonolite("convert", uneven_run, "--out", tmp_path / "a.sonolite", *AWARE).code == 0
    again = open_bundle(tmp_path / "a.sonolite")
    assert again.read("int8.tflite") == aware_bundle.read("int8.tflite")


def test_it_learns_from_the_training_groups_alone(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[Sample] = []

    def spy(sample: Sample) -> np.ndarray:
        learnt.append(sample)
        return read_pixels(sample)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("train.batches.read_pixels", spy)
    monkeypatch.setattr("convert.quantisation_aware._FakeQuantisedNetwork.learn", stop)
    done = sonolite("convert", run_folder, "--out", tmp_path / "a.sonolite", *AWARE)
    assert done.code == 130, done
    assert not list(tmp_path.iterdir())  # nor does Ctrl-C leave half a bundle
    assert learnt == read_run(run_folder).split.of("train")


def test_the_graph_is_that_of_any_other_int8(aware_bundle: Bundle) -> None:
    """`convert.tflite.check` has refused floats in it; here it is held against the Edge TPU."""
    gate = json.loads(aware_bundle.read(GATE))
    assert gate["edgetpu"]["unplaced"] == []
    assert gate["float_layers_of_int8"] == []


def test_an_auditor_sees_it(aware_bundle: Bundle) -> None:
    tuned = json.loads(aware_bundle.read(GATE))["fine_tuning_of_int8"]
    assert tuned["images"] == 40
    assert tuned["divergences"][tuned["kept"]] == min(tuned["divergences"])
    said = "Int8 was fine-tuned: quantisation-aware, 240 steps of 16 pictures of 40 training images"
    assert said in aware_bundle.read(CARD).decode()
    assert said in aware_bundle.path.with_suffix(".html").read_text()


def test_without_it_nothing_is_said(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    assert json.loads(bundle.read(GATE))["fine_tuning_of_int8"] is None
    assert "fine-tuned" not in bundle.read(CARD).decode()


def test_there_must_be_an_int8_to_tune(run_folder: Path, tmp_path: Path) -> None:
    words = ("--variants", "float32", "--quantisation-aware")
    refused(sonolite("convert", run_folder, "--out", tmp_path / "a.sonolite", *words), "int8")


@pytest.mark.parametrize(
    "recipe", [pytest.param("efficientnet-lite0", marks=pytest.mark.slow), "seed-cnn"]
)
def test_every_kind_of_network_can_be_tuned_and_converted(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convert.quantisation_aware.ROUNDS", 1)
    monkeypatch.setattr("convert.quantisation_aware.STEPS", 2)
    model = shrunk(recipe)
    preprocessing = parse("gray|resize(32)")
    patches = [Patch(its[..., 0], None) for its in PICTURES]
    patch_set = PatchSet(patches, np.array([0, 1] * 4), preprocessing, None)
    fit = replace(read_recipe(recipe).fit, batch=4)
    tuned, said = fine_tune(model, model, PICTURES, patch_set, PICTURES, fit, 0)
    assert said.steps == 2
    assert len(said.divergences) == 2
    plain = convert(model, "int8", PICTURES)
    found = convert(tuned, "int8", PICTURES)  # refuses what computes with floats
    kinds = [[its.name for its in operators(model)] for model in (found, plain)]
    assert kinds[0] == kinds[1]
    assert [its.name for its in place(found, "int8").unplaced] == [
        its.name for its in place(plain, "int8").unplaced
    ]
