"""What the GPU answers is held against the CPU, and a refusal is recorded with its reason."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from convert.gpu import compare_gpu
from convert.tflite import convert
from tests.conftest import compiled
from tests.devices.compute.test_gpu import SIDE, SWIFTSHADER, needs_swiftshader, told, write_graph
from train.decision_rule import DecisionRule
from train.network import build
from train.recipe import Convolutions

COMPARE = """
from dataclasses import asdict
from convert.gpu import compare_gpu
from train.decision_rule import DecisionRule
rule = DecisionRule(("a", "b"), {"b": 0.5})
compared = compare_gpu(path.read_bytes(), path.name, pictures, rule)
print(json.dumps(asdict(compared) | {"holds": compared.holds}, allow_nan=False))
"""


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    kind = Convolutions(filters=(8, 16), head="average", dropout=0.0)
    return build(kind, SIDE, 2)


def write(path: Path, model: keras.Model, variant: Any = "float32") -> Path:
    path.write_bytes(convert(model, variant, np.zeros((0, SIDE, SIDE, 1), np.uint8)))
    return path


@needs_swiftshader
@pytest.mark.parametrize("variant", ["float32", "float16"])
def test_a_sound_variant_holds(network: keras.Model, tmp_path: Path, variant: str) -> None:
    compared = told(COMPARE, write(tmp_path / f"{variant}.tflite", network, variant))
    assert compared["holds"]
    assert compared["refused"] is None
    assert compared["adapter"].startswith("SwiftShader")
    assert (compared["model"], compared["images"]) == (f"{variant}.tflite", 4)
    assert (compared["share"], compared["label_agreement"]) == (1, 1)
    assert compared["largest_difference"] < 1e-5


@needs_swiftshader
def test_a_graph_that_the_gpu_computes_otherwise_does_not_hold(tmp_path: Path) -> None:
    def wave(picture: tf.Tensor) -> tf.Tensor:
        """The sine of a large angle; Vulkan promises it between -pi and pi alone."""
        sine = tf.sin(tf.reduce_sum(tf.cast(picture, tf.float32), (1, 2)))
        return tf.concat([1 - sine, sine], -1)

    compared = told(COMPARE, write_graph(tmp_path / "wave.tflite", wave))
    assert compared["refused"] is None
    assert compared["largest_difference"] > 1e-4
    assert not compared["holds"]


@needs_swiftshader
def test_answers_that_are_not_numbers_are_a_refusal(network: keras.Model, tmp_path: Path) -> None:
    broken = keras.models.clone_model(network)
    broken.set_weights([weight * np.nan for weight in network.get_weights()])
    compared = told(COMPARE, write(tmp_path / "nan.tflite", broken))
    assert compared["refused"] == "nan.tflite: answers that are not numbers"
    assert not compared["holds"]


@needs_swiftshader
def test_an_operator_that_fails_is_a_refusal(tmp_path: Path) -> None:
    def beyond(picture: tf.Tensor) -> tf.Tensor:
        grey = tf.cast(tf.reshape(picture, (1, -1)), tf.int32)
        return tf.gather(tf.constant([[0.5, 0.5], [0.25, 0.75]]), tf.reduce_max(grey, -1))

    compared = told(COMPARE, write_graph(tmp_path / "beyond.tflite", beyond))
    assert compared["refused"].startswith("beyond.tflite: ")
    assert not compared["holds"]


def test_a_missing_gpu_is_a_refusal(network: keras.Model, tmp_path: Path) -> None:
    path = write(tmp_path / "float32.tflite", network)
    compared = told(COMPARE, path, icd=tmp_path / "no.json")
    assert compared["refused"].startswith("no GPU")
    assert not compared["holds"]


@needs_swiftshader
def test_a_driver_that_crashes_is_a_refusal(network: keras.Model, tmp_path: Path) -> None:
    source, icd = tmp_path / "crash.c", tmp_path / "icd.json"
    source.write_text("void vk_icdGetInstanceProcAddr(void) { __builtin_trap(); }")
    library = str(compiled(source, tmp_path / "crash.so"))
    driver = {"library_path": library, "api_version": "1.0.5"}
    icd.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": driver}))
    loader = "libvulkan.so.1"
    (tmp_path / loader).symlink_to(SWIFTSHADER.with_name(loader))
    compared = told(COMPARE, write(tmp_path / "float32.tflite", network), icd)
    assert compared["refused"] == "float32.tflite: the GPU's driver crashed"


def test_what_is_no_model_is_a_refusal() -> None:
    rule = DecisionRule(("a", "b"), {"b": 0.5})
    compared = compare_gpu(b"no model", "x.tflite", np.zeros((1, 8, 8, 1), np.uint8), rule)
    assert compared.refused is not None
    assert compared.refused.startswith("x.tflite")
    assert not compared.holds
