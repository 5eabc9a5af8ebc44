"""From a run to a bundle."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from convert.golden import make_golden
from convert.tflite import (
    REPRESENTATIVE_PER_CLASS,
    calibration,
    choose_representative,
    convert,
)
from devices import BadInput
from devices.compute import CpuBackend
from devices.compute.interpreter import find_interpreter
from edge_runtime.bundle.archive import GATE, open_bundle
from edge_runtime.bundle.golden import read_golden
from edge_runtime.bundle.manifest import EDGETPU_MEMBER, Variant
from edge_runtime.bundle.preprocess import parse
from tests.conftest import refused, sonolite
from train.network import build as build_network
from train.recipe import Convolutions
from train.run import read_run
from train.samples import Sample

VARIANTS: tuple[Variant, ...] = ("float32", "float16", "dynamic", "int8")
DENSE = Convolutions(filters=(4, 8), head="flatten", dropout=0.2, dense=24)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    return build_network(DENSE, 32, 2)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 32, 1), dtype=np.uint8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_answers_as_the_float_model(
    model: keras.Model, pictures: np.ndarray, variant: Variant
) -> None:
    backend = CpuBackend(convert(model, variant, pictures), "m.tflite")
    expected = model.predict(pictures[:8], verbose=0)["probability"]
    answers = np.concatenate([backend.run(its[None])["probability"] for its in pictures[:8]])
    tolerance = {"float32": 1e-5, "float16": 2e-3, "dynamic": 2e-2, "int8": 2e-2}[variant]
    assert np.abs(answers - expected).max() < tolerance


def test_int8_is_integer_from_end_to_end(model: keras.Model, pictures: np.ndarray) -> None:
    content = convert(model, "int8", pictures)
    interpreter = find_interpreter()[0].Interpreter(model_content=content)
    interpreter.allocate_tensors()
    floats = [its["name"] for its in interpreter.get_tensor_details() if its["dtype"] == np.float32]
    outputs = [its["name"] for its in interpreter.get_output_details()]
    assert floats == outputs


@pytest.mark.parametrize("variant", ["dynamic", "int8"])
def test_dense_layers_are_quantised_per_tensor(
    model: keras.Model, pictures: np.ndarray, variant: Variant
) -> None:
    """Read from the file itself: the interpreter shows one scale for every channel anyway."""
    graph = schema.Model.GetRootAs(convert(model, variant, pictures), 0).Subgraphs(0)
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    scales = {
        tuple(its.ShapeAsNumpy()): its.Quantization().ScaleLength()
        for its in tensors
        if its.Type() == schema.TensorType.INT8
    }
    assert scales[(24, 512)] == 1
    assert scales.get((2, 24), 1) == 1  # dynamic leaves so small a layer in float
    assert scales.get((8, 3, 3, 4), 8) == 8  # convolutions per channel, which every runtime knows


def test_a_pixel_is_its_own_quantised_value_even_of_dark_pictures(model: keras.Model) -> None:
    dark = np.random.default_rng(0).integers(0, 40, (16, 32, 32, 1), dtype=np.uint8)
    content = convert(model, "int8", dark)  # checks it itself, and would refuse
    interpreter = find_interpreter()[0].Interpreter(model_content=content)
    assert interpreter.get_input_details()[0]["quantization"] == (1.0, 0)


def test_a_sum_does_not_widen_the_range_of_what_it_adds() -> None:
    """Where the interpreter writes a sum in the place of a summand, the converter's own calibration
    takes the one for the other."""
    picture = keras.Input((8, 8, 1), dtype="uint8", name="picture")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(picture)
    wide = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="wide")(x)
    narrow = keras.layers.Conv2D(4, 1, name="narrow")(wide)
    x = keras.layers.GlobalAveragePooling2D(name="average")(wide + narrow)
    model = keras.Model(picture, {"probability": keras.layers.Softmax(name="probability")(x)})
    weights = model.get_layer("narrow").get_weights()
    model.get_layer("narrow").set_weights([its / 50 for its in weights])
    seen = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
    span = [its for (its,) in calibration(seen)]
    reached = keras.Model(picture, model.get_layer("narrow").output).predict(
        np.concatenate(span), verbose=0
    )
    interpreter = find_interpreter()[0].Interpreter(model_content=convert(model, "int8", seen))
    interpreter.allocate_tensors()
    scales = {its["index"]: its["quantization"][0] for its in interpreter.get_tensor_details()}
    made = [(its["op_name"], its["outputs"][0]) for its in interpreter._get_ops_details()]
    pixels, *_ = [scales[index] for kind, index in made if kind == "MUL"]
    _, narrow = [scales[index] for kind, index in made if kind == "CONV_2D"]
    assert pixels == pytest.approx(1 / 128, rel=1e-3)
    assert narrow == pytest.approx(np.ptp(reached) / 255, rel=0.02)


def test_the_representative_set_is_balanced_and_seeded() -> None:
    samples = [
        Sample(Path(f"{n}.png"), "benign" if n % 5 == 0 else "malignant", None, str(n))
        for n in range(1000)
    ]
    chosen = choose_representative(samples, ("benign", "malignant"), seed=1)
    labels = [its.label for its in chosen]
    assert labels.count("benign") == labels.count("malignant") == REPRESENTATIVE_PER_CLASS
    assert chosen == choose_representative(samples, ("benign", "malignant"), seed=1)
    assert chosen != choose_representative(samples, ("benign", "malignant"), seed=2)


def test_the_representative_set_comes_from_training_alone(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[Sample]] = []

    def spy(samples: Sequence[Sample], labels: Sequence[str], seed: int) -> list[Sample]:
        asked.append(samples)
        return choose_representative(samples, labels, seed)

    monkeypatch.setattr("convert.variants.choose_representative", spy)
    out = tmp_path / "a.sonolite"
    assert sonolite("convert", run_folder, "--out", out, "--variants", "int8").code == 0
    assert asked == [read_run(run_folder).split.of("train")]


def test_golden_answers_are_the_float_models(model: keras.Model) -> None:
    golden = make_golden(
        lambda tensors: model.predict(tensors, verbose=0)["probability"],
        parse("gray|crop(1.2)|resize(32)"),
    )
    assert len(golden.frames) == len(golden.probability) == 8
    assert golden.frames[0].shape == (240, 320, 3)


def test_the_bundle_says_what_it_holds(bundle_path: Path, run_folder: Path) -> None:
    bundle, record = open_bundle(bundle_path), read_run(run_folder).record
    stage = bundle.manifest.classifier
    assert tuple(stage.variants) == VARIANTS
    assert stage.preprocessing == record.recipe.preprocessing
    assert stage.operating_point.thresholds == record.thresholds
    assert bundle.manifest.origin.split_sha256 == record.data.split_sha256
    assert len(read_golden(bundle).frames) == 8
    gate = json.loads(bundle.read("gate.json"))
    assert [row["variant"] for row in gate["variants"]] == list(VARIANTS)
    card = bundle.read("card.md").decode()
    assert f"{record.metrics['test'].auroc:.3f}" in card
    assert "not for diagnosis" in card


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(
    bundle_path: Path, run_folder: Path, tmp_path: Path
) -> None:
    again = tmp_path / "tiny.sonolite"
    assert sonolite("convert", run_folder, "--out", again).code == 0
    assert again.read_bytes() == bundle_path.read_bytes()


@pytest.fixture
def changed_run(run_folder: Path, tmp_path: Path) -> Callable[[float], Path]:
    """A run whose model's logits were multiplied, its hash put right."""

    def change(factor: float) -> Path:
        folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
        model = keras.saving.load_model(folder / "model.keras", compile=False)
        logits = model.get_layer("logits")
        logits.set_weights([weight * factor for weight in logits.get_weights()])
        model.save(folder / "model.keras")
        record = json.loads((folder / "run.json").read_text())
        content = (folder / "model.keras").read_bytes()
        record["model_sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    return change


@pytest.mark.parametrize(("factor", "said"), [(np.nan, "not"), (-1.0, "the run says")])
def test_a_model_that_is_not_what_the_run_measured_is_refused(
    changed_run: Callable[[float], Path], tmp_path: Path, factor: float, said: str
) -> None:
    refused(sonolite("convert", changed_run(factor), "--out", tmp_path / "a.sonolite"), said)
    assert not list(tmp_path.glob("*.sonolite"))


def test_a_bundle_is_never_overwritten(run_folder: Path, bundle_path: Path) -> None:
    refused(sonolite("convert", run_folder, "--out", bundle_path), "exists already")


def test_moved_images_are_found_again(run_folder: Path, labelled: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    labelled.rename(moved)
    try:
        arguments = ("convert", run_folder, "--variants", "float32")
        refused(sonolite(*arguments, "--out", tmp_path / "a.sonolite"), "No such file")
        assert sonolite(*arguments, "--data", moved, "--out", tmp_path / "b.sonolite").code == 0
    finally:
        moved.rename(labelled)


def test_a_compiler_that_fails_costs_the_edge_tpu_alone(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "edgetpu_compiler"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Internal compiler error.'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    out = tmp_path / "a.sonolite"
    done = sonolite("convert", run_folder, "--out", out, "--variants", "int8")
    assert done.code == 0, done
    why = "int8.tflite: edgetpu_compiler fails: Internal compiler error."
    assert f"nothing for the Edge TPU: {why}" in done.stderr
    bundle = open_bundle(out)
    assert EDGETPU_MEMBER not in bundle.manifest.members
    assert json.loads(bundle.read(GATE))["edgetpu"]["complaint"] == why


def test_wrong_words_are_one_line(run_folder: Path, tmp_path: Path) -> None:
    refused(sonolite("convert", run_folder, "--out", tmp_path / "a.zip"), "ends in .sonolite")
    refused(
        sonolite("convert", run_folder, "--out", tmp_path / "a.sonolite", "--variants", "int4"),
        "no int4",
    )
    words = ("convert", run_folder, "--out", tmp_path / "a.sonolite", "--variants", "float32")
    refused(sonolite(*words, "--keep-float", "conv0"), "int8 is not among the --variants")
    refused(sonolite("convert", run_folder, "--out", tmp_path / "_a(1).sonolite"), "bundle's name")
    refused(sonolite("convert", tmp_path, "--out", tmp_path / "a.sonolite"), "not a run")
    with pytest.raises(BadInput):
        open_bundle(tmp_path / "a.sonolite")
