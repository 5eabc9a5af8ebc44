"""The network of a recipe as a Keras model, what it answers, and its temperature folded in."""

import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from train.recipe import Convolutions, InvertedResiduals, Network

BLOCKS = {
    # Tan and Le, "EfficientNet", ICML 2019, table 1; the Lite variant has neither
    # squeeze-and-excitation nor swish, and keeps the first and the last stage at every depth.
    "efficientnet-lite": (
        (1, 3, 1, 1, 16),  # repeats, kernel, stride, expansion, filters
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ),
    # Sandler et al., "MobileNetV2", CVPR 2018, table 2.
    "mobilenet-v2": (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (3, 3, 2, 6, 32),
        (4, 3, 2, 6, 64),
        (3, 3, 1, 6, 96),
        (3, 3, 2, 6, 160),
        (1, 3, 1, 6, 320),
    ),
}
STEM, HEAD = 32, 1280
"""Filters before the first and after the last block; neither changes with the width."""
EMBEDDED = 5
"""Stages whose mean activations are the embedding; later ones know the classes alone."""


class FusedNormalization(layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation as one operation while it learns: 1.4 times as fast a training on a CPU.

    Keras's own computes the same out of many. A model is learnt with this and saved with Keras's.
    """

    def call(
        self, inputs: keras.KerasTensor, training: bool | None = None, mask: object = None
    ) -> keras.KerasTensor:
        """Normalises by the batch while training, by the statistics otherwise, and while frozen."""
        if not (training and self.trainable):
            return super().call(inputs, training=False, mask=mask)
        scale, offset = (keras.ops.cast(weights, "float32") for weights in (self.gamma, self.beta))
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, scale, offset, epsilon=self.epsilon, is_training=True
        )
        places = keras.ops.cast(tf.size(inputs) // tf.shape(inputs)[-1], "float32")
        variance = variance * (places - 1) / places  # it is the unbiased one; Keras keeps the other
        for moving, statistic in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + statistic * (1 - self.momentum))
        return outputs


def build(
    network: Network,
    side: int,
    classes: int,
    normalisation: type[layers.BatchNormalization] = layers.BatchNormalization,
) -> keras.Model:
    """Returns a model from `picture`, uint8 ``[N, side, side, 1]``, to a dictionary of outputs.

    `probability`, float32 ``[N, classes]``, is always there. A network of inverted residuals also
    answers what its recipe asks for: of two classes `evidence`, float32 ``[N, h, w]``, whose mean
    over the picture is the log-odds of the last class against the first; and `embedding`, float32
    ``[N, d]``, the mean activations of the early and middle stages (see
    `edge_runtime.bundle.scope`).
    The grey pixels go in as they are: scaling is the first layer of the graph.
    """
    picture = keras.Input((side, side, 1), dtype="uint8", name="picture")
    if isinstance(network, Convolutions):
        outputs = {"logits": _convolutions(network, picture, classes)}
    else:
        outputs = _inverted_residuals(network, picture, classes, normalisation)
    probability = layers.Softmax(name="probability", dtype="float32")(outputs.pop("logits"))
    return keras.Model(picture, {"probability": probability} | outputs, name="classifier")


def _convolutions(
    network: Convolutions, picture: keras.KerasTensor, classes: int
) -> keras.KerasTensor:
    """The logits of convolutions of 3x3 with ReLU and max-pooling."""
    x = layers.Rescaling(1 / 255, name="scale")(picture)
    for number, filters in enumerate(network.filters, start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
    if network.head == "flatten":
        x = layers.Flatten(name="flatten")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="average")(x)
    if network.dense is not None:
        x = layers.Dense(network.dense, activation="relu", name="dense")(x)
    x = layers.Dropout(network.dropout, name="dropout")(x)
    return layers.Dense(classes, name="logits")(x)


def backbone(
    network: InvertedResiduals,
    picture: keras.KerasTensor,
    normalisation: type[layers.BatchNormalization],
    stages: int,
) -> dict[int, keras.KerasTensor]:
    """The activations at the end of each of the first `stages` stages, by the stage's number."""

    def convolve(x: keras.KerasTensor, filters: int, kernel: int, stride: int, name: str):  # type: ignore[no-untyped-def]
        return layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)

    def normalise(x: keras.KerasTensor, name: str, active: bool = True):  # type: ignore[no-untyped-def]
        x = normalisation(epsilon=1e-3, name=f"{name}_norm")(x)
        return layers.Activation(network.activation, name=f"{name}_active")(x) if active else x

    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(picture)
    x = normalise(convolve(x, STEM, 3, 2, "stem"), "stem")
    ends: dict[int, keras.KerasTensor] = {}
    for stage, name, kernel, stride, expansion, filters in blocks(network):
        if stage >= stages:
            break
        short, width = x, x.shape[-1]
        if expansion > 1:
            x = normalise(convolve(x, width * expansion, 1, 1, f"{name}_expand"), f"{name}_expand")
        x = layers.DepthwiseConv2D(
            kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise"
        )(x)
        x = normalise(x, f"{name}_depthwise")
        x = normalise(convolve(x, filters, 1, 1, f"{name}_project"), f"{name}_project", False)
        if stride == 1 and width == filters:
            x = layers.Add(name=f"{name}_add")([short, x])
        ends[stage] = x
    return ends


def _inverted_residuals(
    network: InvertedResiduals,
    picture: keras.KerasTensor,
    classes: int,
    normalisation: type[layers.BatchNormalization],
) -> dict[str, keras.KerasTensor]:
    """Logits, and what else the recipe asks for, of MobileNetV2's kind of network."""
    ends = backbone(network, picture, normalisation, len(BLOCKS[network.kind]))
    x = layers.Conv2D(HEAD, 1, padding="same", use_bias=False, name="head")(ends[len(ends) - 1])
    x = layers.Activation(network.activation, name="head_active")(
        normalisation(epsilon=1e-3, name="head_norm")(x)
    )
    outputs = {}
    if "embedding" in network.outputs:
        means = [
            layers.GlobalAveragePooling2D(name=f"mean{stage}", dtype="float32")(ends[stage])
            for stage in range(EMBEDDED)
        ]
        outputs["embedding"] = layers.Concatenate(name="embedding", dtype="float32")(means)
    x = layers.SpatialDropout2D(network.dropout, name="dropout")(x)
    # A dense layer on the mean of the places is the mean of that layer on every place: the second
    # form costs nothing and leaves each place's part in the answer to be seen.
    places = layers.Conv2D(classes, 1, name="logits", dtype="float32")(x)
    if "evidence" in network.outputs and classes == 2:
        outputs["evidence"] = places[..., -1] - places[..., 0]
    outputs["logits"] = layers.GlobalAveragePooling2D(name="average", dtype="float32")(places)
    return outputs


def blocks(network: InvertedResiduals) -> Iterator[tuple[int, str, int, int, int, int]]:
    """Each block's stage, name, kernel, stride, expansion and filters, in order."""
    table = BLOCKS[network.kind]
    number = 0
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(table):
        if 0 < stage < len(table) - 1:
            repeats = math.ceil(repeats * network.depth)
        for repeat in range(repeats):
            first = stride if repeat == 0 else 1
            width = _scaled(filters, network.width)
            yield stage, f"block{number}", kernel, first, expansion, width
            number += 1


def _scaled(filters: int, width: float) -> int:
    """`filters` times `width` as a multiple of eight, never a tenth below (MobileNetV2's rule)."""
    scaled = max(8, int(filters * width + 4) // 8 * 8)
    return scaled + 8 if scaled < 0.9 * filters * width else scaled


def fold_temperature(model: keras.Model, temperature: float) -> None:
    """Divides the logits by `temperature` for good, in the weights of the last layer.

    Softmax of logits over a temperature is Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017, equation 9. The evidence, made of the same weights, follows.
    """
    logits = model.get_layer("logits")
    logits.set_weights([np.asarray(weight) / temperature for weight in logits.get_weights()])


def predict(model: keras.Model, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns `probability`, float32 ``[N, classes]``, for uint8 ``[N, side, side, 1]``."""
    return answer(model, pictures)["probability"]


def answer(model: keras.Model, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Returns every output by its name, float32, for uint8 ``[N, side, side, 1]``."""
    outputs = model.predict(pictures, batch_size=64, verbose=0)
    return {name: np.asarray(output, dtype=np.float32) for name, output in outputs.items()}
