"""The weights of int8: batch normalisation folded in, rounded, and the biases corrected for it."""

from collections.abc import Collection, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

SHARING = {layers.Conv2D: (0, 1, 2), layers.DepthwiseConv2D: (0, 1), layers.Dense: (0, 1)}
"""The axes of a kernel along which weights share a scale; see `convert.tflite` on dense layers."""
FUSED = ("relu", "relu6")
"""Activations that the converter makes one with the layer before: nothing is rounded between."""
AT_ONCE = 32
"""Pictures that are computed on together."""
TINY = 1e-6
"""The least width of a range of activations; its square, of weights. No step is 0 then."""


def round_kernel(kernel: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """Each weight as the nearest of 255 levels, 127 below zero and 127 above it.

    The gradient passes unchanged: the straight-through estimator of Bengio et al., "Estimating or
    Propagating Gradients Through Stochastic Neurons for Conditional Computation", 2013.
    """
    highest = tf.reduce_max(tf.abs(kernel), axis=axes, keepdims=True)
    step = tf.maximum(highest, TINY**2) / 127
    return kernel + tf.stop_gradient(tf.round(kernel / step) * step - kernel)


def correct_biases(
    model: keras.Model, representative: NDArray[np.uint8], keep: Collection[str] = ()
) -> keras.Model:
    """Returns a copy of `model` whose biases take back what rounding its kernels adds.

    A kernel's rounding error times what the layer reads is not zero on average; it adds up over the
    layers, and moves all answers to one side. The mean over `representative`, uint8 ``[N, side,
    side, 1]``, is taken off the bias, or the offset of the normalisation that has its place: Nagel
    et al., "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019,
    section 4.2. What is fused with a layer of `keep` stays as it is, as it is not rounded.
    """
    heads = _heads(model)
    kept = {heads.get(name, name) for name in keep}
    folded = fold(model)
    rounded = [
        layer for layer in folded.layers if type(layer) in SHARING and layer.name not in kept
    ]
    read = keras.Model(folded.input, {layer.name: layer.input for layer in rounded})
    sums: dict[str, Any] = dict.fromkeys((layer.name for layer in rounded), 0)
    for part in in_parts(representative):
        for name, inputs in read(part, training=False).items():
            sums[name] += np.sum(inputs, axis=0, keepdims=True)
    bias_errors = {
        layer.name: _bias_error(layer, sums[layer.name] / len(representative)) for layer in rounded
    }
    corrected = keras.models.clone_model(model)
    corrected.set_weights(model.get_weights())
    norms = _norms(corrected)
    for name, bias_error in bias_errors.items():
        offset = norms[name].beta if name in norms else corrected.get_layer(name).bias
        offset.assign(offset - bias_error)
    return corrected


def _bias_error(layer: keras.Layer, mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """What rounding the kernel of a layer adds to each channel on average, ``[channels]``.

    `mean` is what the layer reads, averaged over the pictures, ``[1, ...]``. A layer is linear but
    for its activation: what it makes of the mean is the mean of what it makes.
    """
    linear = type(layer).from_config(layer.get_config() | {"activation": None})
    linear.build(mean.shape)
    kernel, bias = layer.get_weights()
    error = round_kernel(kernel, SHARING[type(layer)]) - kernel
    linear.set_weights([error, np.zeros_like(bias)])
    outputs = np.asarray(linear(mean), np.float32)
    return np.asarray(outputs.reshape(-1, bias.size).mean(axis=0))


def _norms(model: keras.Model) -> dict[str, layers.BatchNormalization]:
    """Each batch normalisation, by the layer before it."""
    return {
        source_of(layer.input).name: layer
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
    }


def _heads(model: keras.Model) -> dict[str, str]:
    """The layer with the weights that each normalisation and fused activation becomes a part of."""
    heads: dict[str, str] = {}
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization) or is_fused(layer):
            before = source_of(layer.input).name
            heads[layer.name] = heads.get(before, before)
    return heads


def is_fused(layer: keras.Layer) -> bool:
    """Whether the converter makes an activation one with the layer before."""
    return isinstance(layer, layers.Activation) and layer.activation.__name__ in FUSED


def fold(model: keras.Model) -> keras.Model:
    """Returns a copy in which each batch normalisation is part of the convolution before it.

    The converter would do the same; the kernels that int8 rounds are there only then.
    """
    norms = _norms(model)

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, layers.BatchNormalization):
            return args[0]
        return layer(*args, **kwargs)

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in folded.layers:
        weights = [np.asarray(array) for array in model.get_layer(layer.name).get_weights()]
        if layer.name in norms:
            norm = norms[layer.name]
            gamma, beta, mean, variance = map(np.asarray, norm.get_weights())
            factor = gamma / np.sqrt(variance + norm.epsilon)
            kernel, *bias = weights
            deep = isinstance(layer, layers.DepthwiseConv2D)  # [height, width, channels, 1]
            own = kernel * (factor[:, np.newaxis] if deep else factor)
            weights = [own, beta + (sum(bias) - mean) * factor]
        layer.set_weights(weights)
    return folded


def source_of(tensor: keras.KerasTensor) -> keras.Layer:
    """The layer that a tensor comes from."""
    return tensor._keras_history.operation


def in_parts(pictures: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The pictures, `AT_ONCE` at a time."""
    for start in range(0, len(pictures), AT_ONCE):
        yield pictures[start : start + AT_ONCE]
