"""The GPU backend on SwiftShader, a Vulkan GPU in software, each time in a process of its own."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from convert.tflite import convert
from devices import BadInput
from devices.compute.gpu import GpuBackend
from edge_runtime.bundle.manifest import Variant
from train.network import build
from train.recipe import Convolutions, MobileNetV2

SIDE = 32
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
needs_swiftshader = pytest.mark.skipif(
    not SWIFTSHADER.exists(), reason=f"no {SWIFTSHADER}: apt install chromium"
)

PRELUDE = """
import gc, json, sys
from pathlib import Path
import numpy as np
from devices.compute import CpuBackend
from devices.compute.gpu import GpuBackend
path = Path(sys.argv[1])
pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), dtype=np.uint8)
"""


def told(program: str, path: Path, icd: Path = SWIFTSHADER) -> Any:
    """What `program` prints as JSON for the model at `path`, having said nothing else.

    `icd` is the Vulkan driver, with the loader beside it. Vulkan reads its driver and the linker
    its folders when a process starts, and no other test is to have them.
    """
    environment = os.environ | {"VK_ICD_FILENAMES": str(icd), "LD_LIBRARY_PATH": str(icd.parent)}
    command = [sys.executable, "-c", PRELUDE + program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def write(folder: Path, network: Convolutions | MobileNetV2, variant: Variant) -> Path:
    keras.utils.set_random_seed(0)
    path = folder / f"{variant}.tflite"
    nothing = np.zeros((0, SIDE, SIDE, 1), np.uint8)
    path.write_bytes(convert(build(network, SIDE, 2), variant, nothing))
    return path


def write_graph(path: Path, answer: Any) -> Path:
    """A model of the contract whose `probability` is `answer`, a function of the picture."""
    picture = tf.TensorSpec((1, SIDE, SIDE, 1), tf.uint8, "picture")
    module = tf.Module()
    module.answer = tf.function(lambda picture: {"probability": answer(picture)}, [picture])
    concrete = module.answer.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions, every operator of which the GPU knows."""
    network = Convolutions(filters=(8, 16), head="average", dropout=0.0)
    return write(tmp_path_factory.mktemp("plain"), network, "float32")


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inverted residuals with every output; the evidence is made of slices, which stay behind."""
    network = MobileNetV2(
        width=0.25,
        depth=0.25,
        dropout=0.0,
        outputs=("evidence", "embedding"),
    )
    return write(tmp_path_factory.mktemp("rich"), network, "float16")


ANSWERS = """
gpu, cpu = GpuBackend(path.read_bytes(), path.name), CpuBackend(path.read_bytes(), path.name)
off = {}
for picture in pictures:
    answers = gpu.run(picture[np.newaxis])
    for name, expected in cpu.run(picture[np.newaxis]).items():
        assert answers[name].shape == expected.shape and answers[name].dtype == np.float32
        off[name] = max(off.get(name, 0), float(np.abs(answers[name] - expected).max()))
print(json.dumps([off, gpu.adapter, vars(gpu.compute)]))
"""


@needs_swiftshader
def test_every_output_is_that_of_the_cpu(rich: Path) -> None:
    off, adapter, compute = told(ANSWERS, rich)
    assert set(off) == {"probability", "evidence", "embedding"}
    assert max(off.values()) < 1e-4
    assert adapter.startswith("SwiftShader")
    assert (compute["kind"], compute["model"], compute["threads"]) == ("gpu", "float16.tflite", 1)
    # Two slices and their difference stay behind; widening some 40 weights is not counted.
    assert 0.8 < compute["share"] < 1


@needs_swiftshader
def test_a_graph_that_the_gpu_knows_whole_runs_on_it_whole(plain: Path) -> None:
    off, _, compute = told(ANSWERS, plain)
    assert off["probability"] < 1e-4
    assert compute["share"] == 1


@needs_swiftshader
def test_answers_are_the_callers_to_keep(plain: Path) -> None:
    program = """
gpu = GpuBackend(path.read_bytes(), path.name)
first = gpu.run(pictures[:1])["probability"]
kept = first.copy()
second = gpu.run(pictures[:1] // 9)["probability"]
print(json.dumps([np.array_equal(first, kept), np.array_equal(first, second)]))
"""
    assert told(program, plain) == [True, False]


@needs_swiftshader
def test_a_wrong_shape_is_refused(plain: Path) -> None:
    program = """
try:
    GpuBackend(path.read_bytes(), path.name).run(pictures[:1, :9])
except ValueError as error:
    print(json.dumps(str(error)))
"""
    assert "expected" in told(program, plain)


@pytest.mark.slow
@needs_swiftshader
def test_opening_and_closing_leaves_nothing_behind(plain: Path) -> None:
    program = """
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def use(times):
    for _ in range(times):
        GpuBackend(path.read_bytes(), path.name).run(pictures[:1])
    gc.collect()
    return resident()

print(json.dumps([[use(4) for _ in range(5)], len(list(Path("/proc/self/fd").iterdir()))]))
"""
    megabytes, files = told(program, plain)
    # Of four openings each. The library takes some 20 MB once, and .3 MB at each opening.
    assert median(b - a for a, b in pairwise(megabytes)) < 4
    assert files < 20


REFUSED = """
from devices import SonoliteError
try:
    GpuBackend(path.read_bytes(), path.name)
except SonoliteError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


@needs_swiftshader
def test_a_graph_of_which_the_gpu_knows_nothing_is_refused(tmp_path: Path) -> None:
    def count(picture: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.reduce_sum(tf.cast(picture, tf.int64), (1, 2)), tf.float32)

    kind, line = told(REFUSED, write_graph(tmp_path / "count.tflite", count))
    assert kind == "BadInput"
    assert line.startswith("count.tflite: the GPU (SwiftShader")


def test_a_missing_gpu_is_told_in_a_line(plain: Path, tmp_path: Path) -> None:
    kind, line = told(REFUSED, plain, icd=tmp_path / "no.json")
    assert kind == "HardwareMissing"
    assert "no GPU" in line
    assert "apt install" in line


@pytest.mark.parametrize("content", [b"", b"no model", bytes(1000)])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(BadInput, match=r"x.tflite"):
        GpuBackend(content, "x.tflite")
