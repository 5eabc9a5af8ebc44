"""Where a variant loses what float32 knows, layer by layer; the worst layers kept in float."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from convert.gate import answer
from convert.tflite import calibrate, quantise
from devices import BadInput
from devices.compute import CpuBackend
from devices.compute.interpreter import find_interpreter, first_line
from devices.quiet import quiet
from train.html_page import GREY, POSITIVE, new_figure

KERNEL = re.compile(r"(convolution|depthwise|MatMul)\d*$")
"""Ends the name of the operation with the weights, of those that the converter made one."""
LEAST, MOST = 0.0, 60.0
"""dB, the ends of the plot; 8 bits give a full-scale sine 50 dB (Bennett, Bell Syst. Tech. J.,
1948)."""


@dataclass(frozen=True)
class LayerError:
    """One operator's output in a variant against the same tensor of float32."""

    layer: str
    """The Keras layer; of operators that the converter made one, that with the weights."""
    op: str
    """The operator of TFLite, such as `CONV_2D`."""
    snr_db: float
    """Signal-to-noise ratio, ``10 log10(mean(f**2) / mean((f - q)**2))``: Lin et al., "Fixed Point
    Quantization of Deep Convolutional Networks", ICML 2016. inf where nothing differs, -inf where
    the variant has what is not a number."""
    lost: float
    """The mean over the channels of noise over signal, each at most 1. One loud channel hides from
    the ratio above that the others were rounded away: Nagel et al., "Data-Free Quantization through
    Weight Equalization and Bias Correction", ICCV 2019."""
    arisen: float
    """The part of `lost` that arises in this operator: what its worst input had not lost yet."""
    largest: float
    """The largest absolute error."""
    low: float
    high: float
    """The range of the float tensor."""


@dataclass(frozen=True)
class _Graph:
    """A model in the interpreter that shows every tensor."""

    interpreter: Any
    tensors: dict[int, Any]
    """The details of each tensor by its index."""
    operators: tuple[Any, ...]
    names: dict[int, str]
    """What the model's outputs are called, and what is only dequantised to be one."""


def layer_errors(float32: bytes, variant: bytes, pictures: NDArray[np.uint8]) -> list[LayerError]:
    """Returns the error of each operator that both models have, in the order of the graph.

    `pictures` are uint8 ``[N, side, side, 1]``. Two operators are a pair where they are of one kind
    and from one Keras layer; what one model has alone, such as QUANTIZE, is left out.
    Raises BadInput where a file is no model or takes other pictures, where float32 itself is not
    made of numbers, or where the two have nothing in common.
    """
    if not len(pictures):
        raise BadInput("no picture to measure the layers with")
    reference, other = _open(float32, "float32"), _open(variant, "variant")
    _refuse_nan_weights(reference)
    places = dict(_outputs(other))
    pairs = {index: places[key] for key, index in _outputs(reference) if key in places}
    if not pairs:
        raise BadInput("the variant has no tensor of the float32 model: are they one model's?")
    sums = {index: _Sum() for index in pairs}
    for picture in pictures:
        for graph in (reference, other):
            (entry,) = graph.interpreter.get_input_details()
            if tuple(entry["shape"]) != (1, *picture.shape) or entry["dtype"] is not np.uint8:
                raise BadInput(f"a picture of {picture.shape} is not what the models take")
            graph.interpreter.set_tensor(entry["index"], picture[np.newaxis])
            graph.interpreter.invoke()
        for index, place in pairs.items():
            sums[index].add(_read(reference, index), _read(other, place))
    errors: list[LayerError] = []
    lost: dict[int, float] = {}
    for operator in reference.operators:
        before = max((lost.get(index, 0.0) for index in operator["inputs"].tolist()), default=0.0)
        for index in operator["outputs"].tolist():
            lost[index] = before
            if index in sums:
                layer = _layers(reference, index)[0]
                if not np.isfinite(sums[index].signal).all():
                    raise BadInput(f"float32: {layer} answers what is not a number")
                error = sums[index].error(layer, operator["op_name"], before)
                lost[index] = error.lost
                errors.append(error)
    return errors


def worst(errors: Sequence[LayerError], count: int = 10) -> list[LayerError]:
    """Those in which most error arises, the worst first; of equal ones the earlier first."""
    return sorted(errors, key=lambda error: -error.arisen)[:count]


def plot_layers(errors: Sequence[LayerError]) -> Figure:
    """Returns a figure of the signal-to-noise ratio over the depth, the worst ten named."""
    figure, axes = new_figure(9, 3.8)
    heights = np.clip([error.snr_db for error in errors], LEAST, MOST)
    axes.plot(heights, color=GREY, marker=".", lw=1)
    depths = {id(error): depth for depth, error in enumerate(errors)}
    for number, error in enumerate(worst(errors), start=1):
        place = (depths[id(error)], heights[depths[id(error)]])
        label = f"{number}  {error.layer}, {error.snr_db:.1f} dB"
        axes.plot(*place, "o", color=POSITIVE, label=label)
        axes.annotate(f"{number}", place, xytext=(0, 6), textcoords="offset points", ha="center")
    axes.set(
        title="Signal-to-noise ratio by layer",
        xlabel="operator, in the order of the graph",
        ylabel="dB",
        ylim=(LEAST - 2, MOST + 5),
    )
    figure.legend(loc="outside right upper", title="Most error arises in")
    return figure


def convert_keeping(
    model: keras.Model, representative: NDArray[np.uint8], keep: Sequence[str]
) -> bytes:
    """Returns `model` as `convert.tflite.convert` does for int8, but for the layers `keep`.

    Those are computed in float, between a DEQUANTIZE and a QUANTIZE; the contract of input and
    output holds. `representative`, uint8 ``[N, side, side, 1]``, sets the ranges.
    Raises BadInput where a layer is not in the graph, or a weight is not a number.
    """
    return _quantise(calibrate(model, representative), keep, model.input_shape[1])


def effects(
    model: keras.Model,
    representative: NDArray[np.uint8],
    float32: bytes,
    pictures: NDArray[np.uint8],
) -> dict[str, float]:
    """Returns how far each layer moves the answer where it alone is in int8, the furthest first.

    That is the mean absolute difference of the probability from that of `float32` on `pictures`:
    Wu et al., "Integer Quantization for Deep Learning Inference", 2020, section 5.1. The answer may
    be deaf to the layer of the most error. Raises BadInput as `convert_keeping` does.
    """
    calibrated = calibrate(model, representative)
    return _effects(calibrated, model.input_shape[1], float32, pictures)


def keep_worst(
    make: Callable[[Sequence[str]], bytes],
    ranked: Sequence[str],
    holds: Callable[[bytes], bool],
    at_most: int = 8,
) -> tuple[bytes, tuple[str, ...]] | None:
    """Returns int8 with the fewest layers in float that make `holds` true, and those layers.

    They are kept one after the other, in the order `ranked`, such as that of `effects`; `make`
    converts with those that it is given in float. None where `at_most` of them are not enough.
    """
    for count in range(1, min(at_most, len(ranked)) + 1):
        kept = tuple(ranked[:count])
        if holds(candidate := make(kept)):
            return candidate, kept
    return None


def _effects(
    calibrated: bytes, side: int, float32: bytes, pictures: NDArray[np.uint8]
) -> dict[str, float]:
    """See `effects`."""
    layers = list(dict.fromkeys(names[0] for names, _ in _nodes(calibrated)))
    expected = answer(CpuBackend(float32, "float32"), pictures)
    moved: dict[str, float] = {}
    for layer in layers:
        alone = _quantise(calibrated, [other for other in layers if other != layer], side)
        answers = answer(CpuBackend(alone, f"{layer} alone in int8"), pictures)
        moved[layer] = float(np.abs(answers - expected).mean())
    return dict(sorted(moved.items(), key=lambda error: -error[1]))


class _Sum:
    """What is added up of one tensor over the pictures."""

    def __init__(self) -> None:
        self.signal: Any = 0.0
        self.noise: Any = 0.0
        self.largest, self.low, self.high = 0.0, np.inf, -np.inf

    def add(self, expected: NDArray[np.float64], measured: NDArray[np.float64]) -> None:
        """Adds one picture's tensor, ``[..., channels]``."""
        channels = expected.shape[-1] if expected.ndim else 1
        expected, measured = expected.reshape(-1, channels), measured.reshape(-1, channels)
        with np.errstate(invalid="ignore"):
            off = np.nan_to_num(np.abs(expected - measured), nan=np.inf, posinf=np.inf)
        self.signal = self.signal + np.square(expected).sum(axis=0)
        self.noise = self.noise + np.square(off).sum(axis=0)
        self.largest = max(self.largest, float(off.max()))
        self.low = min(self.low, float(expected.min()))
        self.high = max(self.high, float(expected.max()))

    def error(self, layer: str, op: str, before: float) -> LayerError:
        """The sums as an error; `before` is what the inputs had lost."""
        signal, noise = self.signal.sum(), self.noise.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = 10 * np.log10(signal / noise) if noise else np.inf
            each = np.where(self.noise == 0, 0.0, np.minimum(self.noise / self.signal, 1.0))
        lost = float(each.mean())
        return LayerError(
            layer=layer,
            op=op,
            snr_db=float(snr),
            lost=lost,
            arisen=max(0.0, lost - before),
            largest=self.largest,
            low=self.low,
            high=self.high,
        )


def _open(content: bytes, name: str) -> _Graph:
    """Delegates are left out, as they hide what is inside; the arithmetic is the device's."""
    module, _ = find_interpreter()
    try:
        with quiet():
            interpreter = module.Interpreter(
                model_content=content,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=(
                    module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
            )
            interpreter.allocate_tensors()
            outputs = interpreter.get_signature_runner().get_output_details()
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{name}: the interpreter refuses the model: {first_line(error)}") from error
    operators = tuple(interpreter._get_ops_details())
    names = {output["index"]: name for name, output in outputs.items()}
    for operator in operators:
        if operator["op_name"] == "DEQUANTIZE" and operator["outputs"][0] in names:
            names[operator["inputs"][0]] = names[operator["outputs"][0]]
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    return _Graph(interpreter, tensors, operators, names)


def _outputs(graph: _Graph) -> Iterator[tuple[Hashable, int]]:
    """What tells each operator from the others in every variant, with the tensor that it makes.

    Names of tensors would not do: the converter numbers those that are alike, weights among them.
    """
    seen: Counter[Hashable] = Counter()
    for operator in graph.operators:
        for index in operator["outputs"].tolist():
            shape = tuple(graph.tensors[index]["shape"].tolist())
            kind = operator["op_name"], _layers(graph, index)[0], shape
            yield (*kind, seen[kind]), index
            seen[kind] += 1


def _refuse_nan_weights(graph: _Graph) -> None:
    """A ReLU makes a number of NaN, so that the answers alone do not tell."""
    made = {index for operator in graph.operators for index in operator["outputs"].tolist()}
    made |= {tensor["index"] for tensor in graph.interpreter.get_input_details()}
    for operator in graph.operators:
        weights = [
            index for index in operator["inputs"].tolist() if index >= 0 and index not in made
        ]
        if not all(np.isfinite(_read(graph, index)).all() for index in weights):
            layer = _layers(graph, operator["outputs"].tolist()[0])[0]
            raise BadInput(f"float32: {layer} has weights that are not numbers")


def _read(graph: _Graph, index: int) -> NDArray[np.float64]:
    """A tensor as numbers, by its own scale and zero where it is quantised."""
    values = graph.interpreter.get_tensor(index).astype(np.float64)
    scale, zero = graph.tensors[index]["quantization"]
    return np.asarray((values - zero) * scale if scale else values)


def _layers(graph: _Graph, index: int) -> list[str]:
    """The Keras layers that a tensor was made of, that with the weights first.

    The converter joins the names of the operations that it made one, such as
    `classifier_1/stem_active_1/Relu6;classifier_1/stem_1/convolution`; the number of the whole
    model's scope stands behind each layer's. An output has its own name alone.
    """
    if index in graph.names:
        return [graph.names[index]]
    parts = graph.tensors[index]["name"].split(";")
    return [_keras_layer(part) for part in sorted(parts, key=lambda part: not KERNEL.search(part))]


def _keras_layer(name: str) -> str:
    """`conv` of `classifier_1/conv_1/Relu`; of an operation outside of all layers its own name."""
    model, _, inner = name.partition("/")
    number = re.search(r"_\d+$", model)
    return (inner or model).partition("/")[0].removesuffix(number.group() if number else "")


def _nodes(calibrated: bytes) -> list[tuple[list[str], str]]:
    """The Keras layers of each operator and the name of its tensor, in the order of the graph."""
    graph = _open(calibrated, "calibrated")
    made = [index for operator in graph.operators for index in operator["outputs"].tolist()]
    return [(_layers(graph, index), graph.tensors[index]["name"]) for index in made]


def _quantise(calibrated: bytes, keep: Sequence[str], side: int) -> bytes:
    """The calibrated graph as int8, but for the layers `keep`."""
    nodes = _nodes(calibrated)
    known = list(dict.fromkeys(layer for layers, _ in nodes for layer in layers))
    for layer in keep:
        if layer not in known:
            near = difflib.get_close_matches(layer, known) or known
            raise BadInput(f"no layer {layer} to keep in float; there are {', '.join(near)}")
    denied = [node for layers, node in nodes if {*layers} & {*keep}]
    return quantise(calibrated, side, denied, keeps_floats=bool(keep))
