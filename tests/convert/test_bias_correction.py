"""The weights of int8, before TFLite rounds them."""

from collections.abc import Collection
from pathlib import Path

import keras
import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from convert.bias_correction import SHARING, correct_biases, fold, round_kernel
from convert.layer_errors import convert_keeping
from convert.tflite import choose_representative
from devices.compute import CpuBackend
from edge_runtime.bundle import open_bundle
from edge_runtime.preprocess import parse
from tests.conftest import sonolite
from train.network import answer, build, predict
from train.recipe import InvertedResiduals, read_recipe, shipped
from train.run import Run, read_run
from train.samples import load_pictures

PICTURES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), dtype=np.uint8)


def shrunk(recipe: str) -> keras.Model:
    """The network of a shipped recipe, as narrow as can be, with all weights at random."""
    network = read_recipe(recipe).network
    if isinstance(network, InvertedResiduals):
        network = structs.replace(network, weights="random", width=0.25, depth=0.25)
    else:
        network = structs.replace(network, filters=(4, 4, 8), dense=network.dense and 16)
    keras.utils.set_random_seed(3)
    model = build(network, 32, 2)
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, its.shape) for its in layer.get_weights()])
    return model


def rounded(model: keras.Model) -> keras.Model:
    """A copy with every kernel at the steps of int8, and the rest in float."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        if type(layer) in SHARING:
            kernel, bias = layer.get_weights()
            layer.set_weights([np.asarray(round_kernel(kernel, SHARING[type(layer)])), bias])
    return copy


def representative(run: Run) -> NDArray[np.uint8]:
    recipe = run.record.recipe
    chosen = choose_representative(run.split.of("train"), recipe.task.labels, run.record.seed)
    return load_pictures(chosen, parse(recipe.preprocessing))


@pytest.mark.parametrize("recipe", shipped())
def test_a_folded_network_answers_the_same(recipe: str) -> None:
    model = shrunk(recipe)
    folded = fold(model)
    assert not [its for its in folded.layers if isinstance(its, keras.layers.BatchNormalization)]
    expected, found = answer(model, PICTURES), answer(folded, PICTURES)
    assert set(found) == set(expected)
    for name, its in expected.items():
        np.testing.assert_allclose(found[name], its, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "layer"),
    [("seed-cnn", "conv2"), ("efficientnet-lite0", "block0_depthwise"), ("mobilenet-v2", "head")],
)
def test_a_rounded_layer_answers_as_the_float_one_on_average(recipe: str, layer: str) -> None:
    """Before its activation, and reading what it reads in float."""
    model = shrunk(recipe)
    folded, corrected = fold(model), fold(correct_biases(model, PICTURES))

    def mean(model: keras.Model) -> NDArray[np.float32]:
        its = model.get_layer(layer)
        linear = its.from_config(its.get_config() | {"activation": None})
        read = keras.Model(folded.input, linear(folded.get_layer(layer).input))
        linear.set_weights(its.get_weights())
        return np.asarray(read.predict(PICTURES, verbose=0).mean(axis=(0, 1, 2)))

    np.testing.assert_allclose(mean(rounded(corrected)), mean(folded), atol=1e-5)
    assert np.abs(mean(rounded(folded)) - mean(folded)).max() > 1e-4


@pytest.mark.parametrize("recipe", shipped())
def test_answers_are_no_longer_moved_to_one_side(recipe: str) -> None:
    model = shrunk(recipe)

    def moved(its: keras.Model) -> float:
        off = np.log(predict(its, PICTURES)) - np.log(predict(model, PICTURES))
        return float(np.abs(off.mean(axis=0)).max())

    assert moved(rounded(fold(correct_biases(model, PICTURES)))) < moved(rounded(fold(model))) / 2


@pytest.mark.parametrize("keep", [(), ("conv1",), ("conv1", "pool1", "logits")])
def test_a_layer_that_is_not_rounded_keeps_its_bias(keep: Collection[str]) -> None:
    model = shrunk("seed-cnn")
    corrected = correct_biases(model, PICTURES, keep)
    for name in ("conv1", "conv2", "logits"):
        same = corrected.get_layer(name).get_weights()[1] == model.get_layer(name).get_weights()[1]
        assert same.all() == (name in keep), name


@pytest.mark.parametrize("name", ["head", "head_norm", "head_active"])
def test_a_layer_is_kept_by_the_name_of_any_that_is_fused_with_it(name: str) -> None:
    model = shrunk("efficientnet-lite0")
    offsets = [
        correct_biases(model, PICTURES, keep).get_layer("head_norm").beta.numpy()
        for keep in ((), (name,))
    ]
    before = model.get_layer("head_norm").beta.numpy()
    assert [np.array_equal(its, before) for its in offsets] == [False, True]


def test_all_but_the_biases_is_as_it_was() -> None:
    model = shrunk("mobilenet-v2")
    corrected = correct_biases(model, PICTURES)
    moved = {
        its.path
        for its, other in zip(model.weights, corrected.weights, strict=True)
        if not np.array_equal(its, other)
    }
    assert moved == {its.path for its in model.weights if its.name in {"beta", "bias"}}


@pytest.mark.parametrize("keep", [(), ("conv2",)])
def test_int8_of_a_bundle_is_corrected(
    run_folder: Path, tmp_path: Path, keep: Collection[str]
) -> None:
    words = [word for layer in keep for word in ("--keep-float", layer)]
    out = tmp_path / "a.sonolite"
    assert sonolite("convert", run_folder, "--out", out, "--variants", "int8", *words).code == 0
    run = read_run(run_folder)
    pictures = representative(run)

    def answers(content: bytes) -> list[NDArray[np.float32]]:
        backend = CpuBackend(content, "int8.tflite")
        return [backend.run(its[np.newaxis])["probability"] for its in pictures]

    packed = answers(open_bundle(out).read("int8.tflite"))
    corrected = convert_keeping(correct_biases(run.model, pictures, keep), pictures, [*keep])
    np.testing.assert_array_equal(packed, answers(corrected))
    assert not np.array_equal(packed, answers(convert_keeping(run.model, pictures, [*keep])))
