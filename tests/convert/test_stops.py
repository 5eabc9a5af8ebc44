"""What is broken on purpose does not become a bundle, and the refusal says where."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

import convert.variants
from convert.tflite import convert as to_tflite
from edge_runtime.bundle.archive import CARD, GATE, open_bundle
from edge_runtime.bundle.manifest import Variant
from tests.conftest import Outcome, refused, sonolite

Change = Callable[[keras.Model], None]


def rewritten(run: Path, folder: Path, change: Change) -> Path:
    """A copy of a run with its model changed, and the hash put right."""
    copy = Path(shutil.copytree(run, folder / "run"))
    model = keras.saving.load_model(copy / "model.keras", compile=False)
    change(model)
    model.save(copy / "model.keras")
    record = json.loads((copy / "run.json").read_text())
    content = (copy / "model.keras").read_bytes()
    record["model_sha256"] = hashlib.sha256(content).hexdigest()
    (copy / "run.json").write_text(json.dumps(record))
    return copy


def loud_channel(model: keras.Model) -> None:
    """The channel of conv1 that conv2 heeds least is a thousandfold, which conv2 undoes: float32
    decides as before, and int8 has no steps left for the other channels."""
    first, second = model.get_layer("conv1"), model.get_layer("conv2")
    (kernel, bias), (next_kernel, next_bias) = first.get_weights(), second.get_weights()
    loud = np.abs(next_kernel).sum(axis=(0, 1, 3)).argmin()
    kernel[..., loud] *= 1000
    bias[loud] = 1000 * bias[loud] + 1000
    next_bias -= next_kernel[:, :, loud].sum(axis=(0, 1))
    next_kernel[:, :, loud] /= 1000
    first.set_weights([kernel, bias])
    second.set_weights([next_kernel, next_bias])


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Path:
    return rewritten(run_folder, tmp_path_factory.mktemp("loud"), loud_channel)


def stopped(done: Outcome, folder: Path) -> str:
    """Asserts exit code 1 and that nothing was written; returns the one line."""
    assert done.code == 1, done
    assert not list(folder.glob("*.sonolite"))
    assert not list(folder.glob("*.html"))
    *_, line = done.stderr.strip().splitlines()
    assert line.startswith("sonolite: ")
    return line


def test_a_layer_scaled_a_thousandfold_is_stopped_and_named(loud: Path, tmp_path: Path) -> None:
    words = ("convert", loud, "--out", tmp_path / "a.sonolite", "--variants", "int8")
    line = stopped(sonolite(*words), tmp_path)
    assert "the gate lets no bundle pass: int8: " in line
    assert "most error arises in conv" in line
    assert "--keep-float auto" in line
    assert "--quantisation-aware" in line


def test_what_was_tried_is_not_suggested(loud: Path, tmp_path: Path) -> None:
    words = ("convert", loud, "--out", tmp_path / "a.sonolite", "--variants", "int8")
    line = stopped(sonolite(*words, "--keep-float", "logits"), tmp_path)
    assert "--keep-float" not in line
    assert "--quantisation-aware" in line


@pytest.mark.slow
def test_what_fails_is_left_out_where_it_is_not_asked_for(loud: Path, tmp_path: Path) -> None:
    done = sonolite("convert", loud, "--out", tmp_path / "a.sonolite")
    assert done.code == 0, done
    assert "int8 is left out: " in done.stderr
    bundle = open_bundle(tmp_path / "a.sonolite")
    assert "int8" not in bundle.manifest.classifier.variants
    (int8,) = [its for its in json.loads(bundle.read(GATE))["variants"] if its["variant"] == "int8"]
    assert int8["failures"]
    assert "int8" in (tmp_path / "a.html").read_text()


def test_layers_kept_in_float_save_it(loud: Path, tmp_path: Path) -> None:
    words = ("convert", loud, "--out", tmp_path / "a.sonolite", "--variants", "int8")
    done = sonolite(*words, "--keep-float", "auto")
    assert done.code == 0, done
    gate = json.loads(open_bundle(tmp_path / "a.sonolite").read(GATE))
    assert "conv1" in gate["float_layers_of_int8"]
    assert gate["edgetpu"]["unplaced"]


def test_a_sound_model_needs_no_layer_in_float(run_folder: Path, tmp_path: Path) -> None:
    words = ("convert", run_folder, "--out", tmp_path / "a.sonolite", "--variants", "int8")
    assert sonolite(*words, "--keep-float", "auto").code == 0
    gate = json.loads(open_bundle(tmp_path / "a.sonolite").read(GATE))
    assert gate["float_layers_of_int8"] == []
    assert gate["edgetpu"]["unplaced"] == []


def test_a_layer_that_is_not_there_is_named(run_folder: Path, tmp_path: Path) -> None:
    words = ("convert", run_folder, "--out", tmp_path / "a.sonolite", "--variants", "int8")
    refused(sonolite(*words, "--keep-float", "conv7"), "no such layer", "conv1")
    assert not list(tmp_path.iterdir())


def test_one_dark_calibration_picture_is_stopped(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dark(model: keras.Model, variant: Variant, representative: np.ndarray) -> bytes:
        return to_tflite(model, variant, representative[:1] // 32)

    # The picture of full range that fixes the input's scale would calibrate the layers, too.
    monkeypatch.setattr(convert.variants, "convert", dark)
    monkeypatch.setattr("convert.tflite.calibration", lambda its: iter([[its[:1] * np.float32(1)]]))
    words = ("convert", run_folder, "--out", tmp_path / "a.sonolite", "--variants", "int8")
    line = stopped(sonolite(*words), tmp_path)
    assert "int8: " in line


def test_a_graph_that_lost_its_grey_scale_step_is_stopped(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unscaled(model: keras.Model, variant: Variant, representative: np.ndarray) -> bytes:
        picture = keras.Input(model.input_shape[1:], dtype="uint8", name="picture")
        outputs = keras.ops.cast(picture, "float32")
        for layer in model.layers[2:]:
            outputs = layer(outputs)
        return to_tflite(keras.Model(picture, {"probability": outputs}), variant, representative)

    monkeypatch.setattr(convert.variants, "convert", unscaled)
    done = sonolite("convert", run_folder, "--out", tmp_path / "a.sonolite")
    assert done.code == 2, done
    assert "the exported float32 is not the trained model" in done.stderr
    assert not list(tmp_path.glob("a.*"))


def test_a_variant_that_cannot_be_converted_has_failed(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: keras.Model, variant: Variant, representative: np.ndarray) -> bytes:
        if variant == "dynamic":
            raise RuntimeError("an operation is not supported [/cpu:0]\nand many more words")
        return to_tflite(model, variant, representative)

    monkeypatch.setattr(convert.variants, "convert", broken)
    done = sonolite("convert", run_folder, "--out", tmp_path / "a.sonolite")
    assert done.code == 0, done
    said = "dynamic is left out: RuntimeError: an operation is not supported [/cpu:0]"
    assert said in done.stderr
    bundle = open_bundle(tmp_path / "a.sonolite")
    assert "dynamic" not in bundle.manifest.classifier.variants
    lost = json.loads(bundle.read(GATE))["variants"][-1]
    assert (lost["variant"], lost["figures"]) == ("dynamic", {})
    for page in (bundle.read(CARD).decode(), (tmp_path / "a.html").read_text()):
        assert "an operation is not supported [/cpu:0]" in page


@pytest.mark.slow
def test_a_kill_leaves_no_half_bundle(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_runtime.bundle.archive.open_bundle", stop)
    done = sonolite("convert", run_folder, "--out", tmp_path / "a.sonolite")
    assert done.code == 130, done
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_numbers_are_refused(run_folder: Path, tmp_path: Path) -> None:
    def change(model: keras.Model) -> None:
        kernel, bias = model.get_layer("conv1").get_weights()
        kernel[..., 0] = np.nan
        model.get_layer("conv1").set_weights([kernel, bias])

    run = rewritten(run_folder, tmp_path, change)
    refused(sonolite("convert", run, "--out", tmp_path / "a.sonolite"), "is not the trained model")
    assert not list(tmp_path.glob("a.*"))
