"""Keras model to TFLite, one function for all variants, and what every variant must look like."""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from tensorflow.lite.python.convert import mlir_quantize

from convert.edgetpu import Operator, operators
from devices import BadInput
from devices.compute.interpreter import find_interpreter
from devices.quiet import quiet
from edge_runtime.bundle.manifest import Variant
from train.samples import Sample

REPRESENTATIVE_PER_CLASS = 64
FLOATS = ("FLOAT16", "FLOAT32", "FLOAT64")


def convert(model: keras.Model, variant: Variant, representative: NDArray[np.uint8]) -> bytes:
    """Returns `model` as a TFLite file with a static batch of one.

    Input is uint8 ``[1, side, side, 1]`` in every variant, output float32 by the model's names.
    `representative`, uint8 ``[N, side, side, 1]``, sets the ranges of int8 and is used by no
    other variant.
    """
    side = model.input_shape[1]
    if variant == "int8":
        return quantise(calibrate(model, representative), side, outputs=tuple(model.output))
    converter = tf.lite.TFLiteConverter.from_keras_model(at_batch_one(model, variant))
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "dynamic":
        # As in `quantise`.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    content = _converted(converter)
    check(content, variant, side, outputs=tuple(model.output))
    return content


def calibrate(model: keras.Model, representative: NDArray[np.uint8]) -> bytes:
    """Returns the float graph from float input, with the range of every tensor noted in it.

    The converter's own ranges do not do: it looks at what an operator read after the operator has
    run, and where an addition writes its sum in the place of a summand, that is the sum. In a
    network of residuals the steps of half its narrow layers come out twice as coarse.
    Raises BadInput where a weight is not a number, which would crash the interpreter.
    """
    for layer in model.layers:
        if not all(np.isfinite(weight).all() for weight in layer.get_weights()):
            raise BadInput(f"{layer.name} has weights that are not numbers")
    converter = tf.lite.TFLiteConverter.from_keras_model(at_batch_one(model, "int8"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: calibration(representative)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter._experimental_calibrate_only = True
    content = bytearray(_converted(converter))
    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    noted = [(index, graph.Tensors(index).Quantization()) for index in range(graph.TensorsLength())]
    ranges = {index: value for index, value in noted if value is not None and value.MinLength()}
    module, _ = find_interpreter()
    with quiet():
        interpreter = module.Interpreter(
            model_content=bytes(content),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    seen = dict.fromkeys(ranges, (np.inf, -np.inf))
    for (picture,) in calibration(representative):
        interpreter.set_tensor(entry["index"], picture)
        interpreter.invoke()
        for index, (low, high) in seen.items():
            values = interpreter.get_tensor(index)
            seen[index] = min(low, values.min()), max(high, values.max())
    for index, bounds in ranges.items():  # views of the file's own bytes
        bounds.MinAsNumpy()[0], bounds.MaxAsNumpy()[0] = seen[index]
    return bytes(content)


def quantise(
    calibrated: bytes,
    side: int,
    keep: Sequence[str] = (),
    keeps_floats: bool = False,
    outputs: Sequence[str] = ("probability",),
) -> bytes:
    """Returns a calibrated graph as int8, but for the operators that make the tensors `keep`.

    This is the converter's own last step; `tf.lite.experimental.QuantizationDebugger` takes it too,
    but without a way to ask for uint8 input and per-tensor Dense.
    """
    with quiet():
        content = bytes(
            mlir_quantize(
                calibrated,
                input_data_type=tf.uint8,
                denylisted_nodes=list(keep),
                # The Edge TPU's compiler and runtimes of its age read a per-channel Dense without a
                # word and answer nonsense; per-tensor is what they know.
                disable_per_channel_for_dense_layers=True,
            )
        )
    check(content, "int8", side, keeps_floats, outputs)
    return content


def _converted(converter: Any) -> bytes:
    with warnings.catch_warnings(), tempfile.TemporaryFile("w") as notes, redirect_stdout(notes):
        warnings.simplefilter("ignore")
        return bytes(converter.convert())


def at_batch_one(model: keras.Model, variant: Variant) -> keras.Model:
    """A copy with a static batch; for int8 from float input, which the converter turns to uint8.

    The Edge TPU needs the static shape. Were the int8 graph made from the uint8 input, a cast to
    float and back would stay in it.
    """
    dtype = "float32" if variant == "int8" else "uint8"
    picture = keras.Input(batch_shape=(1, *model.input_shape[1:]), dtype=dtype, name="picture")
    copy = keras.models.clone_model(model, input_tensors=picture)
    copy.set_weights(model.get_weights())
    return copy


def calibration(representative: NDArray[np.uint8]) -> Iterator[list[NDArray[np.float32]]]:
    """The pictures one by one, and first one that spans 0..255.

    The span fixes the input's scale to exactly 1 and its zero to 0, so that a pixel is its own
    quantised value.
    """
    span = np.zeros((1, *representative.shape[1:]), dtype=np.float32)
    span[0, 0, 0, 0] = 255
    yield [span]
    for picture in representative:
        yield [picture[np.newaxis].astype(np.float32)]


def check(
    content: bytes,
    variant: Variant,
    side: int,
    keeps_floats: bool = False,
    outputs: Sequence[str] = ("probability",),
) -> None:
    """Raises BadInput where the file is not what the model contract promises a device: `outputs` in
    float32, from one picture in uint8.

    An int8 graph computes with integers alone, but where it was told to keep some layers in float.
    """
    _check_operators(operators(content, variant), variant == "int8" and not keeps_floats, variant)
    interpreter = find_interpreter()[0].Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    if entry["dtype"] is not np.uint8 or list(entry["shape_signature"]) != [1, side, side, 1]:
        raise BadInput(f"{variant}: the input is not uint8 [1, {side}, {side}, 1]")
    if variant == "int8" and tuple(entry["quantization"]) != (1.0, 0):
        raise BadInput(f"int8: a pixel is not its own quantised value: {entry['quantization']}")
    answered = interpreter.get_signature_runner().get_output_details()
    for name in outputs:
        if name not in answered or answered[name]["dtype"] is not np.float32:
            raise BadInput(f"{variant}: no float32 output named {name}")


def _check_operators(ops: Sequence[Operator], integers: bool, variant: str) -> None:
    """Every operation is one that any TFLite runtime has, and none computes with floats, or with
    shapes that are known only when it runs.
    """
    for op in ops:
        where = f"{variant}: operation {op.index}, {op.name},"
        if not op.name.isidentifier():
            raise BadInput(f"{where} is not built into TFLite")
        if any(-1 in tensor.shape for tensor in op.outputs):
            raise BadInput(f"{where} has a shape that is not static")
        if integers and any(tensor.dtype in FLOATS for tensor in op.inputs):
            raise BadInput(f"{where} computes with floats")


def versions(content: bytes) -> dict[str, int]:
    """The operations of a file and the highest version of each: what a runtime must know."""
    highest: dict[str, int] = {}
    for op in operators(content):
        highest[op.name] = max(op.version, highest.get(op.name, 0))
    return dict(sorted(highest.items()))


def choose_representative(
    samples: Sequence[Sample], labels: Sequence[str], seed: int
) -> list[Sample]:
    """Draws the same number of samples of each class, from `samples` of the training split.

    The order is the samples' own; the same seed draws the same ones.
    """
    chosen: list[int] = []
    rng = np.random.default_rng(seed)
    for label in labels:
        members = [index for index, sample in enumerate(samples) if sample.label == label]
        size = min(REPRESENTATIVE_PER_CLASS, len(members))
        chosen += rng.choice(members, size=size, replace=False).tolist()
    return [samples[index] for index in sorted(chosen)]
