"""What of a TFLite model an Edge TPU would run: by the documentation, and by its compiler.

The rules are those of Coral's "TensorFlow models on the Edge TPU" (coral.ai/docs/edgetpu/
models-intro, "Model requirements" and "Supported operations", runtime 14) and "Edge TPU Compiler"
(coral.ai/docs/edgetpu/compiler). The compiler is closed, and leaves operations out for reasons of
its own too, such as the mean of a large tensor (google-coral/edgetpu, issue 461): only its log
proves.
"""

import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from devices import BadInput

COMPILER = "edgetpu_compiler"
IDLE = (
    "Edge TPU Compiler version",
    "Started a compilation timeout timer",
    "Compilation child process",
    "Compilation failed!",
    "ERROR: Registration failed",
    "Invalid model: ",
    "Model could not be parsed",
)
"""How the lines begin that say no more than that it failed."""
TIMEOUT_SECONDS = 200.0
"""A little more than the 180 seconds after which the compiler gives up by itself."""
ON_CHIP_BYTES = 8_000_000
"""Coral: "roughly 8 MB" for a model's code and parameters; the code's share is not known before."""

SUPPORTED = {
    "ADD": 3,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 3,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 9,
    "L2_NORMALIZATION": 2,
    "LOGISTIC": 3,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MINIMUM": 4,
    "MUL": 4,
    "PACK": 3,
    "PAD": 3,
    "PRELU": 1,
    "QUANTIZE": 2,
    "REDUCE_MAX": 3,
    "REDUCE_MIN": 3,
    "RELU": 3,
    "RELU6": 3,
    "RELU_N1_TO_1": 1,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "RSQRT": 2,
    "SLICE": 5,
    "SOFTMAX": 3,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 4,
    "SQUARED_DIFFERENCE": 2,
    "SQUEEZE": 2,
    "STRIDED_SLICE": 5,
    "SUB": 5,
    "SUM": 2,
    "TANH": 3,
    "TRANSPOSE": 5,
    "TRANSPOSE_CONV": 3,
}
"""The supported operations, and the newest version of each that TensorFlow 2.5 knows.

The compiler's last release, 16.0, is of that age; it refuses a file with a newer version of any
(google-coral/edgetpu, issue 631). The versions are from `tensorflow/lite/tools/versioning/
runtime_version.cc`. LSTM is left out: its state is int16, of which the documentation says nothing.
"""
KNOWN = SUPPORTED | {"DEQUANTIZE": 4}
LARGEST_SOFTMAX = 16_000

BROKEN = (
    *(struct.error, LookupError, ValueError, ArithmeticError, MemoryError),
    *(TypeError, AttributeError),  # a table that is missing is None
)
"""What reading a damaged file raises: the schema's reader checks nothing."""

BUILTINS = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
DTYPES = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a graph."""

    key: tuple[int, int]
    """Its subgraph, and its number there."""
    name: str
    dtype: str
    """As the schema spells it, such as `INT8`."""
    shape: tuple[int, ...]
    """-1 where the size is known only when the model runs."""
    scales: int
    """0: not quantised, 1: per tensor, more: per channel."""
    zero: int
    """The quantised value that stands for 0, of the first channel."""
    content: bytes | None
    """None where the tensor is computed or given, not constant."""

    @property
    def integers(self) -> NDArray[np.int32]:
        """The values of a constant INT32 tensor."""
        return np.frombuffer(self.content or b"", np.int32)


@dataclass(frozen=True)
class Operator:
    """One operation of a graph."""

    index: int
    name: str
    """As the schema spells it, such as `CONV_2D`; `CUSTOM:NAME` where it is not builtin."""
    version: int
    subgraph: int
    inputs: tuple[Tensor, ...]
    """Without those that are optional and not given."""
    outputs: tuple[Tensor, ...]
    options: Any
    """The schema's own options of this operation."""


@dataclass(frozen=True)
class PlacedOperator:
    """Where one operation would run."""

    index: int
    name: str
    version: int
    output: str
    shape: tuple[int, ...]
    reason: str | None
    """Why it stays on the CPU, in words; None where the Edge TPU would run it."""
    io: bool
    """Whether it only turns the model's float input to integers, or integers to its output."""


@dataclass(frozen=True)
class Placement:
    """Where each operation of a model would run, in the order of the file."""

    operators: tuple[PlacedOperator, ...]
    parameter_bytes: int
    """Of the operations placed; the compiler pads them."""

    @property
    def unplaced(self) -> tuple[PlacedOperator, ...]:
        """Those that the CPU would run, but for input and output."""
        return tuple(operator for operator in self.operators if operator.reason and not operator.io)

    @property
    def share(self) -> float:
        """The part of the operations that the Edge TPU would run, 0..1."""
        return sum(not operator.reason for operator in self.operators) / max(1, len(self.operators))

    @property
    def streamed_bytes(self) -> int:
        """At least so many bytes of parameters do not fit, and are sent again for every picture."""
        return max(0, self.parameter_bytes - ON_CHIP_BYTES)


@dataclass(frozen=True)
class CompilerRow:
    """A line of the compiler's table: the operations of one name that have one status."""

    name: str
    count: int
    status: str
    """`Mapped to Edge TPU`, or why not."""


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a model."""

    model: bytes
    """Runs only with the Edge TPU's delegate; the plain file stays beside it."""
    table: tuple[CompilerRow, ...]


def operators(model: bytes, name: str = "model.tflite") -> tuple[Operator, ...]:
    """Returns every operation of every subgraph of `model`, in the order of the file.

    Raises BadInput, naming `name`, where the bytes are no TFLite model.
    """
    with _readable(name):
        return tuple(_operators(model))


def place(model: bytes, name: str = "model.tflite") -> Placement:
    """Returns where each operation of `model` would run, by the documentation.

    The compiler makes one part of the graph of all that is supported and depends on nothing that is
    not; the rest stays on the CPU. Floats at the input and output are made on the CPU (`io`), which
    breaks nothing. Raises BadInput, naming `name`, where the bytes are no TFLite model.
    """
    with _readable(name):
        ops = tuple(_operators(model))
        computed = {tensor.key for op in ops for tensor in op.outputs}
        consumed = {tensor.key for op in ops for tensor in op.inputs}
        newer = [op for op in ops if op.version > KNOWN.get(op.name, op.version)]
        refused = f"the compiler refuses the file for {_called(newer[0])}" if newer else ""
        stuck: dict[tuple[int, int], Operator] = {}
        parameters: dict[tuple[int, int], int] = {}
        placed = []
        for op in ops:
            cause = next((stuck[tensor.key] for tensor in op.inputs if tensor.key in stuck), None)
            after = f"after {_called(cause)}" if cause else ""
            io = _io(op, computed, consumed)
            reason = io or _reason(op) or refused or after or None
            if reason is None:
                parameters |= {
                    tensor.key: len(tensor.content) for tensor in op.inputs if tensor.content
                }
            elif io is None:
                stuck |= dict.fromkeys((tensor.key for tensor in op.outputs), cause or op)
            output = op.outputs[0] if op.outputs else None
            placed.append(
                PlacedOperator(
                    op.index,
                    op.name,
                    op.version,
                    output.name if output else "",
                    output.shape if output else (),
                    reason,
                    io is not None,
                )
            )
        return Placement(tuple(placed), sum(parameters.values()))


def compile_model(
    model: bytes, name: str = "model.tflite", timeout: float = TIMEOUT_SECONDS
) -> Compiled | None:
    """Returns what `edgetpu_compiler` makes of `model`; None where it is not on PATH.

    Raises BadInput, naming `name`, where it fails or takes more than `timeout` seconds.
    """
    program = shutil.which(COMPILER)
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.tflite").write_bytes(model)
        log, code = _run([program, "-s", "model.tflite"], folder, name, timeout)
        compiled = Path(folder) / "model_edgetpu.tflite"
        if code or not compiled.is_file():
            raise BadInput(f"{name}: {COMPILER} fails: {_complaint(log)}")
        return Compiled(compiled.read_bytes(), parse_log(log, name))


def parse_log(log: str, name: str = "model.tflite") -> tuple[CompilerRow, ...]:
    """Returns the table of operations in what `edgetpu_compiler -s` says.

    Raises BadInput, naming `name`, where there is none.
    """
    table = re.split(r"^Operator[ \t]+Count[ \t]+Status[ \t]*$", log, flags=re.MULTILINE)[1:]
    rows = re.findall(r"^(\S+)[ \t]+([0-9]{1,9})[ \t]+(\S.*)$", "".join(table), re.MULTILINE)
    if not rows:
        raise BadInput(f"{name}: {COMPILER} lists no operations")
    return tuple(CompilerRow(op, int(count), status.strip()) for op, count, status in rows)


def _run(command: list[str], folder: str, name: str, timeout: float) -> tuple[str, int]:
    """What `command` said, and its exit code; all that it started is ended with it."""
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise BadInput(f"{name}: {command[0]} does not start: {error.strerror}") from error
    with process:
        try:
            return process.communicate(timeout=timeout)[0], process.returncode
        except BaseException as error:
            # It compiles in a child of its own, which would outlive it and hold the pipe open.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise BadInput(f"{name}: {COMPILER} takes more than {timeout:g} s") from error


def _complaint(log: str) -> str:
    """The last line that tells why; those of `IDLE` come with every failure."""
    lines = [line.strip() for line in log.splitlines()]
    return [line for line in ("it says nothing", *lines) if line and not line.startswith(IDLE)][-1]


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Says of whatever a damaged file does to its reader that it is no TFLite model."""
    try:
        yield
    except BROKEN as error:
        raise BadInput(f"{name}: not a TFLite model, or a broken one") from error


def _operators(model: bytes) -> Iterator[Operator]:
    if not schema.Model.ModelBufferHasIdentifier(model, 0):
        raise ValueError("no identifier")
    read = schema.ModelT.InitFromPackedBuf(model, 0)
    for number, graph in enumerate(read.subgraphs):
        tensors = [
            _tensor((number, index), tensor, read.buffers[tensor.buffer].data)
            for index, tensor in enumerate(graph.tensors)
        ]
        for index, operator in enumerate(graph.operators or []):
            code = read.operatorCodes[operator.opcodeIndex]
            name = BUILTINS[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if name == "CUSTOM":
                name = f"CUSTOM:{(code.customCode or b'').decode()}"
            inputs, outputs = (
                tuple(tensors[place] for place in places if place != -1)
                for places in (_places(operator.inputs), _places(operator.outputs))
            )
            yield Operator(
                index, name, code.version, number, inputs, outputs, operator.builtinOptions
            )


def _places(numbers: NDArray[np.int32] | None) -> list[int]:
    """The numbers of tensors; -1 is one that is optional and not given."""
    places = [] if numbers is None else [int(number) for number in numbers]
    if min(places, default=0) < -1:
        raise IndexError("no such tensor")
    return places


def _tensor(key: tuple[int, int], tensor: Any, data: NDArray[np.uint8] | None) -> Tensor:
    shape = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    quantised = tensor.quantization
    scaled = quantised is not None and quantised.scale is not None
    return Tensor(
        key,
        (tensor.name or b"").decode(),
        DTYPES[tensor.type],
        () if shape is None else tuple(int(size) for size in shape),
        len(quantised.scale) if scaled else 0,
        int(quantised.zeroPoint[0]) if scaled and quantised.zeroPoint is not None else 0,
        None if data is None or not len(data) else data.tobytes(),
    )


def _io(
    op: Operator, computed: Collection[tuple[int, int]], consumed: Collection[tuple[int, int]]
) -> str | None:
    """In words that `op` only makes integers of a float input, or a float output of integers."""
    if op.subgraph:
        return None
    if op.name == "QUANTIZE" and all(
        tensor.dtype == "FLOAT32" and tensor.key not in computed for tensor in op.inputs
    ):
        return "I/O: input in float"
    if op.name == "DEQUANTIZE" and all(tensor.key not in consumed for tensor in op.outputs):
        return "I/O: output in float"
    return None


def _called(op: Operator) -> str:
    return f"op {op.index} {op.name}"


def _reason(op: Operator) -> str | None:
    """Why the Edge TPU would not run `op`, whatever comes before it; None where it would."""
    if op.name not in SUPPORTED:
        return "no operation of the Edge TPU"
    if op.version > SUPPORTED[op.name]:
        return f"version {op.version}; the compiler knows {SUPPORTED[op.name]}"
    if op.subgraph:
        return "in a graph within the graph"
    for tensor in (*op.inputs, *op.outputs):
        if tensor.content is not None and tensor.dtype == "INT32":  # biases, axes, sizes
            continue
        if tensor.dtype not in ("INT8", "UINT8"):
            return f"{tensor.dtype.lower()} tensor {tensor.name}"
        if not tensor.scales:
            return f"tensor {tensor.name} is not quantised"
        if min(tensor.shape, default=1) < 0:
            return f"tensor {tensor.name} has a dynamic shape"
        if tensor.content is None and max(tensor.shape[:-3], default=1) > 1:
            return f"tensor {tensor.name} has more than three dimensions"
    return LIMITATIONS[op.name](op) if op.name in LIMITATIONS else None


def _fused(op: Operator) -> str | None:
    activation = op.options.fusedActivationFunction
    return "fused activation" if activation != schema.ActivationFunctionType.NONE else None


def _concatenation(op: Operator) -> str | None:
    for tensor in op.inputs:
        if tensor.content is not None and (
            len(op.inputs) != 2 or set(tensor.content) != {tensor.zero % 256}
        ):
            return "a constant part, and not just zeros beside one other"
    return _fused(op)


def _parameters(op: Operator) -> str | None:
    return (
        "weights not constant" if any(tensor.content is None for tensor in op.inputs[1:]) else None
    )


def _convolution(op: Operator) -> str | None:
    if op.options.dilationWFactor != op.options.dilationHFactor:
        return "another dilation in x than in y"
    return _parameters(op)


def _transposed_convolution(op: Operator) -> str | None:
    shape, weights, _, *bias = op.inputs  # the third is what is convolved
    constant = all(tensor.content is not None for tensor in (shape, weights, *bias))
    return None if constant else "weights not constant"


def _dense(op: Operator) -> str | None:
    """A Dense quantised per channel is compiled, and answers nonsense: it is read per tensor."""
    if op.options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        return "weights in another format than the default"
    if op.inputs[1].scales > 1:
        return "weights quantised per channel"
    if _dimensions(op.outputs[0]) > 1:
        return "output of more than one dimension"
    return _parameters(op)


def _softmax(op: Operator) -> str | None:
    if _dimensions(op.inputs[0]) > 1:
        return "input of more than one dimension"
    if max(op.inputs[0].shape, default=1) > LARGEST_SOFTMAX:
        return f"more than {LARGEST_SOFTMAX} elements"
    return None


def _reduction(op: Operator) -> str | None:
    shape = op.inputs[0].shape
    axes = {int(axis) % len(shape) for axis in op.inputs[1].integers}
    if 0 in axes:
        return "reduces the batch"
    if op.name == "MEAN" and len(shape) - 1 in axes and shape[-1] % 4:
        return "mean of channels whose number is no multiple of four"
    return None


def _packed(op: Operator) -> str | None:
    return "packs the batch" if op.options.axis % len(op.outputs[0].shape) == 0 else None


def _padded(op: Operator) -> str | None:
    return "pads the batch" if op.inputs[1].integers[:2].any() else None


def _split(op: Operator) -> str | None:
    axis, whole = op.inputs
    return "splits the batch" if axis.integers[0] % len(whole.shape) == 0 else None


def _transposition(op: Operator) -> str | None:
    return "moves the batch" if op.inputs[1].integers[0] != 0 else None


def _prelu(op: Operator) -> str | None:
    return "alpha of more than one dimension" if _dimensions(op.inputs[1]) > 1 else None


def _strided_slice(op: Operator) -> str | None:
    if set(op.inputs[3].integers) != {1}:
        return "strides other than 1"
    if op.options.ellipsisMask or op.options.newAxisMask:
        return "ellipsis or new axis"
    return None


def _resize(op: Operator) -> str | None:
    """Version 3 is half-pixel centres, of which the compiler says "version not supported"."""
    return "half-pixel centres" if op.version > 2 else None


def _dimensions(tensor: Tensor) -> int:
    """How many dimensions are longer than one."""
    return sum(size > 1 for size in tensor.shape)


LIMITATIONS: dict[str, Callable[[Operator], str | None]] = {
    "AVERAGE_POOL_2D": _fused,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _fused,
    "MEAN": _reduction,
    "PACK": _packed,
    "PAD": _padded,
    "PRELU": _prelu,
    "REDUCE_MAX": _reduction,
    "REDUCE_MIN": _reduction,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SOFTMAX": _softmax,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
    "SUM": _reduction,
    "TRANSPOSE": _transposition,
    "TRANSPOSE_CONV": _transposed_convolution,
}
"""The table's "Known limitations", those of runtime 14 where they changed."""
