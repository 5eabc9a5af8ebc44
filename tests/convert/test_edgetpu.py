"""What an Edge TPU would run, of graphs that TFLiteConverter makes, and what its compiler says."""

import io
import os
import select
import warnings
import zipfile
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from hypothesis import example, given
from hypothesis import strategies as st

from convert.edgetpu import (
    ON_CHIP_BYTES,
    CompilerRow,
    Placement,
    compile_model,
    operators,
    parse_log,
    place,
)
from devices import BadInput

SHAPE = (1, 8, 8, 4)
Graph = Callable[[tf.Tensor], Any]


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def convolve(x: tf.Tensor, seed: int = 0) -> tf.Tensor:
    return tf.nn.relu6(tf.nn.conv2d(x, weights(3, 3, x.shape[-1], 4, seed=seed), 1, "SAME"))


def prelu(x: tf.Tensor, alpha: np.ndarray) -> tf.Tensor:
    x = x - 3  # so that there is something below zero
    return tf.nn.relu(x) + -alpha * tf.nn.relu(-x)


def side_by_side(branches: Iterable[Graph]) -> Graph:
    """All in one graph, each behind a convolution of its own."""
    return lambda x: [branch(convolve(x, seed)) for seed, branch in enumerate(branches)]


def net(x: tf.Tensor) -> tf.Tensor:
    """All that a small classifier is made of."""
    x = convolve(x)
    x = x + tf.nn.depthwise_conv2d(x, weights(3, 3, 4, 1), [1, 1, 1, 1], "SAME")
    x = tf.nn.max_pool2d(x, 2, 2, "SAME")
    return tf.nn.softmax(tf.reduce_mean(x, (1, 2)))


def dense(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, (1, 256)) @ weights(256, 8)


@cache
def convert(
    graph: Graph,
    kind: str = "int8",
    shape: tuple[int | None, ...] = SHAPE,
    per_channel: bool = False,
    entry: tf.DType = tf.uint8,
) -> bytes:
    """A TFLite file of `graph` with a float output; `kind` is as in the converter's guide."""
    called = tf.function(graph).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([called])
    sample = weights(*(size or 1 for size in shape))
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind in ("int8", "int16"):
        converter.representative_dataset = lambda: iter([[sample], [-sample]])
    if kind == "int8":
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ]
        converter.inference_input_type = entry
    if kind == "int16":
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not per_channel
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return bytes(converter.convert())


def changed(model: bytes, change: Callable[[Any], None]) -> bytes:
    read = schema.ModelT.InitFromPackedBuf(model, 0)
    change(read)
    builder = flatbuffers.Builder()
    builder.Finish(read.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def filters(read: Any) -> Any:
    """The weights of the graph `dense`."""
    (tensor,) = (its for its in read.subgraphs[0].tensors if list(its.shape) == [8, 256])
    return tensor


def reasons(placement: Placement) -> dict[str, str]:
    """Of the operations that stay on the CPU and are not I/O; one of a name is enough."""
    return {its.name: its.reason or "" for its in placement.unplaced}


@pytest.fixture(scope="module")
def good() -> bytes:
    return convert(net)


def test_all_of_a_quantised_net_is_placed_but_for_its_float_output(good: bytes) -> None:
    placement = place(good)
    names = [its.name for its in placement.operators]
    for name in ("QUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MAX_POOL_2D", "MEAN"):
        assert name in names
    assert placement.unplaced == ()
    (output,) = (its for its in placement.operators if its.reason)
    assert (output.name, output.reason, output.io) == ("DEQUANTIZE", "I/O: output in float", True)
    assert (output.index, output.shape) == (len(names) - 1, (1, 4))
    assert placement.share == 1 - 1 / len(names)


def test_parameters_are_what_the_placed_operations_hold(good: bytes) -> None:
    convolution, depthwise, bias, axes = 4 * 3 * 3 * 4, 3 * 3 * 4, 4 * 4, 2 * 4
    placement = place(good)
    assert placement.parameter_bytes == convolution + depthwise + 2 * bias + axes
    assert placement.streamed_bytes == 0


def test_parameters_beyond_the_chip_are_streamed() -> None:
    def fat(read: Any) -> None:
        read.buffers[filters(read).buffer].data = np.zeros(ON_CHIP_BYTES, np.uint8)

    placement = place(changed(convert(dense), fat))
    assert placement.unplaced == ()
    assert 0 < placement.streamed_bytes == placement.parameter_bytes - ON_CHIP_BYTES < 100


def test_a_float_input_is_made_integer_on_the_cpu_and_the_rest_is_placed() -> None:
    placement = place(convert(net, entry=tf.float32))
    first, *others, last = placement.operators
    assert (first.name, first.reason, first.io) == ("QUANTIZE", "I/O: input in float", True)
    assert last.io
    assert not any(its.reason for its in others)
    assert placement.unplaced == ()


@pytest.mark.parametrize(
    ("kind", "dtype"), [("float32", "float32"), ("dynamic", "float32"), ("int16", "int16")]
)
def test_nothing_is_placed_of_a_model_that_is_not_int8(kind: str, dtype: str) -> None:
    placement = place(convert(net, kind))
    assert placement.share == placement.parameter_bytes == 0
    assert reasons(placement)["CONV_2D"].startswith(f"{dtype} tensor ")
    assert len(placement.unplaced) == 6


def test_a_dynamic_batch_is_not_placed() -> None:
    placement = place(convert(convolve, shape=(None, *SHAPE[1:])))
    assert "dynamic shape" in reasons(placement)["CONV_2D"]
    assert placement.share == 0


def test_a_dense_layer_is_placed_per_tensor_and_not_per_channel() -> None:
    assert place(convert(dense)).unplaced == ()
    placement = place(convert(dense, per_channel=True))
    assert reasons(placement) == {"FULLY_CONNECTED": "weights quantised per channel"}


def test_what_depends_on_an_unsupported_operation_stays_with_it() -> None:
    placement = place(convert(lambda x: convolve(convolve(tf.gather(convolve(x), [2, 0], axis=2)))))
    assert [(its.name, its.reason) for its in placement.operators] == [
        ("QUANTIZE", None),
        ("CONV_2D", None),
        ("GATHER", "no operation of the Edge TPU"),
        ("CONV_2D", "after op 2 GATHER"),
        ("CONV_2D", "after op 2 GATHER"),
        ("DEQUANTIZE", "I/O: output in float"),
    ]


def test_what_does_not_depend_on_it_is_placed_though_it_comes_later() -> None:
    placement = place(convert(lambda x: (convolve(tf.exp(x)), convolve(x))))
    after = {its.reason for its in placement.operators if its.name == "CONV_2D"}
    assert after == {None, f"after op {placement.unplaced[0].index} EXP"}
    assert reasons(placement)["EXP"] == "no operation of the Edge TPU"


def test_a_float_island_is_no_input_or_output() -> None:
    placement = place(convert(lambda x: convolve(tf.sin(convolve(x)))))
    assert set(reasons(placement)) == {"DEQUANTIZE", "SIN", "QUANTIZE", "CONV_2D"}


BROKEN: list[tuple[str, str, Graph]] = [
    ("HARD_SWISH", "no operation of the Edge TPU", lambda x: x * tf.nn.relu6(x + 3) / 6),
    ("MUL", "more than three dimensions", lambda x: tf.reshape(x, (1, 2, 4, 8, 4)) * 2),
    (
        "AVERAGE_POOL_2D",
        "fused activation",
        lambda x: tf.nn.relu(tf.nn.avg_pool2d(x, 2, 2, "SAME")),
    ),
    ("CONCATENATION", "a constant part", lambda x: tf.concat([x, weights(*SHAPE)], 3)),
    (
        "CONV_2D",
        "another dilation",
        lambda x: tf.nn.conv2d(x, weights(3, 3, 4, 4), 1, "SAME", dilations=(2, 1)),
    ),
    (
        "FULLY_CONNECTED",
        "output of more than one dimension",
        lambda x: tf.reshape(x, (64, 4)) @ weights(4, 8),
    ),
    ("MEAN", "no multiple of four", lambda x: tf.reduce_mean(x[..., :3], 3)),
    ("PACK", "packs the batch", lambda x: tf.stack([x[0, 0], x[0, 1]])),
    ("PAD", "pads the batch", lambda x: tf.pad(tf.reduce_max(x, (1, 2)), [[1, 0], [0, 0]])),
    ("PRELU", "alpha of more than one dimension", lambda x: prelu(x, weights(8, 8, 4))),
    ("REDUCE_MAX", "reduces the batch", lambda x: tf.reduce_max(x, 0)),
    ("RESIZE_BILINEAR", "half-pixel", lambda x: tf.image.resize(x, (16, 16))),
    ("RESIZE_NEAREST_NEIGHBOR", "half-pixel", lambda x: tf.image.resize(x, (16, 16), "nearest")),
    ("SOFTMAX", "more than one dimension", tf.nn.softmax),
    (
        "SOFTMAX",
        "more than 16000 elements",
        lambda x: tf.nn.softmax(tf.reshape(tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, 247]]), (1, -1))),
    ),
    ("SPLIT", "splits the batch", lambda x: tf.split(x[0], 2, 0)),
    ("STRIDED_SLICE", "strides other than 1", lambda x: x[:, ::2]),
    ("SUM", "reduces the batch", lambda x: tf.reduce_sum(x, 0)),
    ("TRANSPOSE", "moves the batch", lambda x: tf.transpose(x[0], (1, 2, 0))),
]
"""An operation, what keeps it from the Edge TPU, and a graph that has it."""

KEPT: dict[str, Graph] = {
    "AVERAGE_POOL_2D": lambda x: tf.nn.avg_pool2d(x, 2, 2, "SAME"),
    "CONCATENATION": lambda x: tf.concat([x, np.zeros(SHAPE, np.float32)], 3),
    "MEAN": lambda x: tf.reduce_mean(x, 3),
    "PACK": lambda x: tf.stack([x[:, 0, 0], x[:, 1, 1]], 1),
    "PAD": lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 1], [0, 0]]),
    "PRELU": lambda x: prelu(x, weights(1, 1, 4)),
    "RESIZE_BILINEAR": lambda x: tf.compat.v1.image.resize_bilinear(x, (16, 16)),
    "SOFTMAX": lambda x: tf.nn.softmax(tf.reduce_max(x, (1, 2))),
    "SPLIT": lambda x: tf.split(x, 2, 3),
    "STRIDED_SLICE": lambda x: x[..., -1] - x[..., 0],
    "SUM": lambda x: tf.reduce_sum(x, (1, 2)),
    "TRANSPOSE": lambda x: tf.transpose(x, (0, 2, 1, 3)),
    "TRANSPOSE_CONV": lambda x: tf.nn.conv2d_transpose(x, weights(3, 3, 4, 4), (1, 16, 16, 4), 2),
}
"""Within the documented limits."""


@pytest.fixture(scope="module")
def broken() -> Placement:
    return place(convert(side_by_side([graph for _, _, graph in BROKEN])))


@pytest.mark.parametrize(("name", "reason"), [its[:2] for its in BROKEN])
def test_each_documented_limitation_is_told(broken: Placement, name: str, reason: str) -> None:
    said = [its.reason or "" for its in broken.unplaced if its.name == name]
    assert any(reason in its for its in said), said


def test_what_keeps_the_limitations_is_placed() -> None:
    placement = place(convert(side_by_side(KEPT.values())))
    assert placement.unplaced == ()
    assert {its.name for its in placement.operators} >= set(KEPT)


def computed_weights(read: Any) -> None:
    filters(read).buffer = 0


def other_format(read: Any) -> None:
    read.subgraphs[0].operators[2].builtinOptions.weightsFormat = 1


def without_scale(read: Any) -> None:
    filters(read).quantization.scale = None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (computed_weights, "weights not constant"),
        (other_format, "weights in another format than the default"),
        (without_scale, "is not quantised"),
    ],
)
def test_a_dense_layer_of_another_make_is_told(change: Callable[[Any], None], reason: str) -> None:
    told = reasons(place(changed(convert(dense), change)))
    assert list(told) == ["FULLY_CONNECTED"]
    assert reason in told["FULLY_CONNECTED"]


def test_one_operation_newer_than_the_compiler_keeps_all_on_the_cpu(good: bytes) -> None:
    def newer(read: Any) -> None:
        for code in read.operatorCodes:
            if code.builtinCode == schema.BuiltinOperator.CONV_2D:
                code.version = 6

    placement = place(changed(good, newer))
    assert placement.share == 0
    assert reasons(placement)["CONV_2D"] == "version 6; the compiler knows 5"
    assert reasons(placement)["SOFTMAX"] == "the compiler refuses the file for op 1 CONV_2D"


def test_operations_of_graphs_within_the_graph_are_listed_and_not_placed() -> None:
    model = convert(
        lambda x: tf.while_loop(
            lambda y: tf.reduce_sum(y) < 100, lambda y: [convolve(y)], [x], maximum_iterations=3
        )
    )
    listed = {(its.name, its.subgraph > 0) for its in operators(model)}
    assert {("WHILE", False), ("CONV_2D", True)} <= listed
    placement = place(model)
    assert reasons(placement)["CONV_2D"] == "in a graph within the graph"
    assert not any(its.io for its in placement.operators)
    assert placement.share == 0


def test_a_custom_operation_goes_by_its_name(good: bytes) -> None:
    def custom(read: Any) -> None:
        for code in read.operatorCodes:
            if code.builtinCode == schema.BuiltinOperator.SOFTMAX:
                code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
                code.customCode = "FlexSoftmax"

    model = changed(good, custom)
    assert "CUSTOM:FlexSoftmax" in [its.name for its in operators(model)]
    assert reasons(place(model)) == {"CUSTOM:FlexSoftmax": "no operation of the Edge TPU"}


def test_the_shipped_model_is_placed_but_for_its_outputs(demo_path: Path) -> None:
    placement = place(zipfile.ZipFile(demo_path).read("int8.tflite"))
    assert placement.unplaced == ()
    stays = [its for its in placement.operators if its.reason]
    assert {(its.name, its.reason) for its in stays} == {("DEQUANTIZE", "I/O: output in float")}
    assert len(stays) == 3  # probability, evidence, embedding
    assert placement.streamed_bytes == 0


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"no model at all, but some text"])
def test_what_is_no_model_is_refused_by_name(content: bytes) -> None:
    for read in (place, operators):
        with pytest.raises(BadInput, match=r"^int8.tflite: not a TFLite model"):
            read(content, "int8.tflite")


@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255))))
def test_a_damaged_model_is_placed_or_refused(
    good: bytes, cut: float, flips: list[tuple[float, int]]
) -> None:
    damaged = bytearray(good[: round(cut * len(good))])
    for where, mask in flips[: len(damaged)]:
        damaged[int(where * (len(damaged) - 1))] ^= mask
    try:
        placement = place(bytes(damaged))
    except BadInput:
        return
    assert 0 <= placement.share <= 1


LOG = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 12 ms.

Input model: model.tflite
Input size: 3.00KiB
Output model: model_edgetpu.tflite
Number of Edge TPU subgraphs: 1
Total number of operations: 6
Operation log: model_edgetpu.log
Number of operations that will run on Edge TPU: 4
Number of operations that will run on CPU: 2

Operator                       Count      Status

CONV_2D                        3          Mapped to Edge TPU
SOFTMAX                        1          More than one subgraph is not supported
QUANTIZE                       1          Mapped to Edge TPU
DEQUANTIZE                     1          Operation is working on an unsupported data type
Compilation child process completed within timeout period.
Compilation succeeded!
"""
TABLE = (
    CompilerRow("CONV_2D", 3, "Mapped to Edge TPU"),
    CompilerRow("SOFTMAX", 1, "More than one subgraph is not supported"),
    CompilerRow("QUANTIZE", 1, "Mapped to Edge TPU"),
    CompilerRow("DEQUANTIZE", 1, "Operation is working on an unsupported data type"),
)


def test_the_table_is_read_out_of_the_log() -> None:
    assert parse_log(LOG) == TABLE


@given(
    st.lists(
        st.builds(
            CompilerRow,
            st.from_regex(r"[A-Z0-9_]{1,30}", fullmatch=True),
            st.integers(0, 999_999),
            st.from_regex(r"[A-Z][A-Za-z ,0-9]{0,60}[a-z]", fullmatch=True),
        ),
        min_size=1,
    )
)
def test_any_table_is_read_as_it_was_written(table: list[CompilerRow]) -> None:
    rows = [f"{its.name:<31}{its.count:<11}{its.status}" for its in table]
    log = "\n".join(["Operator                       Count      Status", "", *rows, ""])
    assert parse_log(log) == tuple(table)


@given(st.text())
@example("Operator Count Status\n")
@example("CONV_2D 3 Mapped to Edge TPU\n")
def test_text_without_a_table_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"^int8.tflite: edgetpu_compiler lists no operations$"):
        parse_log(text, "int8.tflite")


@given(st.text())
def test_text_after_a_table_is_no_more_than_ignored(text: str) -> None:
    assert parse_log(f"{LOG}\n{text}")[: len(TABLE)] == TABLE


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a stand-in on PATH that does what a shell script says."""

    def install(script: str) -> None:
        path = tmp_path / "bin" / "edgetpu_compiler"
        path.parent.mkdir()
        path.write_text(script)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)

    return install


def test_the_compiler_gives_a_model_and_what_it_mapped(compiler: Callable[[str], None]) -> None:
    compiler(
        f"""#!/bin/sh
test "$1" = -s && printf compiled | cat "$2" - > "${{2%.tflite}}_edgetpu.tflite"
cat << 'END'
{LOG}
END
"""
    )
    compiled = compile_model(b"plain and ")
    assert compiled is not None
    assert compiled.model == b"plain and compiled"
    assert compiled.table == TABLE


def test_without_the_compiler_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compile_model(b"model") is None


TELLING = "Compilation failed due to large activation tensors in model."


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            f"echo 'Edge TPU Compiler version 16.0'; echo '{TELLING}' >&2; "
            "echo 'Compilation failed! '; exit 1",
            TELLING,
        ),
        ("echo 'Internal compiler error. Aborting!'", "Internal compiler error. Aborting!"),
        (
            "echo 'ERROR: no CONV_2D version 6'; echo 'ERROR: Registration failed.'; "
            "echo 'Invalid model: model.tflite'; echo 'Model could not be parsed'; exit 1",
            "ERROR: no CONV_2D version 6",
        ),
        ("exit 3", "it says nothing"),
    ],
)
def test_a_failure_is_one_line_with_the_compilers_own_words(
    compiler: Callable[[str], None], script: str, said: str
) -> None:
    compiler(f"#!/bin/sh\n{script}\n")
    with pytest.raises(BadInput) as caught:
        compile_model(b"model", "int8.tflite")
    assert str(caught.value) == f"int8.tflite: edgetpu_compiler fails: {said}"


def test_a_compiler_that_does_not_start_is_one_line(compiler: Callable[[str], None]) -> None:
    compiler("#!/no/such/shell\n")
    with pytest.raises(BadInput, match=r"^int8.tflite: .*edgetpu_compiler does not start"):
        compile_model(b"model", "int8.tflite")


def test_a_compiler_that_hangs_is_ended_with_all_that_it_started(
    compiler: Callable[[str], None], tmp_path: Path
) -> None:
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        compiler(f"#!/bin/sh\nsleep 60 > '{fifo}' &\nwait\n")
        with pytest.raises(BadInput, match=r"^int8.tflite: edgetpu_compiler takes more than 1 s$"):
            compile_model(b"model", "int8.tflite", timeout=1)
        assert select.select([held], [], [], 10)[0]  # its end: nobody holds the other side
    finally:
        os.close(held)
