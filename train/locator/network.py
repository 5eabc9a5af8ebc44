"""The network of a locator as a Keras model: a backbone, a feature pyramid, and one head.

The pyramid joins three strides by addition (Lin et al., "Feature pyramid networks for object
detection", CVPR 2017), so that a place of the finest map knows its surroundings. The head answers
for each place how much it looks like the centre of a nodule (Zhou et al., "Objects as points",
2019) and how far the four sides of the box are (Tian et al., "FCOS", ICCV 2019).
"""

import keras
import tensorflow as tf
from keras import layers

from train.network import backbone
from train.recipe import InvertedResiduals

STRIDE = 8
"""Pixels of the picture from one place of the maps to the next."""
STAGES = 6
"""Stages of the backbone; the last one would know the classes of ImageNet alone."""
FINE, MIDDLE, COARSE = 2, 4, 5
"""The last stages at strides 8, 16 and 32."""
FIRST_LOG_ODDS = -4.6
"""Log-odds of every place before anything is learnt, a score of .01: Lin et al., "Focal loss", ICCV
2017."""


@keras.saving.register_keras_serializable("sonolite")
class NearestUpSampling(layers.Layer):  # type: ignore[misc]
    """Each place becomes two by two equal ones, as one operation that an Edge TPU computes.

    Keras's `UpSampling2D` becomes four operations, and its `Resizing` has half-pixel centres.
    """

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """``[N, h, w, channels]`` to ``[N, 2 h, 2 w, channels]``."""
        height, width = inputs.shape[1:3]
        return tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=(2 * height, 2 * width))


def build_locator(
    network: InvertedResiduals,
    side: int,
    channels: int,
    normalisation: type[layers.BatchNormalization] = layers.BatchNormalization,
) -> keras.Model:
    """Returns a model from `picture`, uint8 ``[N, side, side, 1]``, to its maps.

    `score`, float32 ``[N, side / 8, side / 8]``, from 0 to 1; and `sides`, float32
    ``[N, side / 8, side / 8, 4]``: the distances from the middle of the place to the left, the
    upper, the right and the lower side of the box, as shares of the side of the picture.
    Every operation is one that int8 and the Edge TPU compute.
    """
    picture = keras.Input((side, side, 1), dtype="uint8", name="picture")
    ends = backbone(network, picture, normalisation, STAGES)

    def convolve(x: keras.KerasTensor, name: str, kernel: int = 1) -> keras.KerasTensor:
        if kernel > 1:
            x = layers.DepthwiseConv2D(
                kernel, padding="same", use_bias=False, name=f"{name}_depthwise"
            )(x)
            x = normalisation(epsilon=1e-3, name=f"{name}_depthwise_norm")(x)
        x = layers.Conv2D(channels, 1, use_bias=False, name=name)(x)
        x = normalisation(epsilon=1e-3, name=f"{name}_norm")(x)
        return layers.Activation(network.activation, name=f"{name}_active")(x)

    x = convolve(convolve(ends[COARSE], "coarse"), "context", 5)
    for name, stage in (("middle", MIDDLE), ("fine", FINE)):
        larger = NearestUpSampling(name=f"{name}_larger")(x)
        x = layers.Add(name=f"{name}_add")([larger, convolve(ends[stage], name)])
        x = convolve(x, f"{name}_joined", 3)
    x = layers.SpatialDropout2D(network.dropout, name="dropout")(convolve(x, "answer", 5))
    rare = keras.initializers.Constant(FIRST_LOG_ODDS)
    score = layers.Conv2D(1, 1, bias_initializer=rare, name="score_logits", dtype="float32")(x)
    small = keras.initializers.Constant(-2.2)  # a tenth of the picture to each side
    sides = layers.Conv2D(4, 1, bias_initializer=small, name="sides_logits", dtype="float32")(x)
    places = (side // STRIDE, side // STRIDE)
    score = layers.Reshape(places, name="score_places", dtype="float32")(score)
    outputs = {
        "score": layers.Activation("sigmoid", name="score", dtype="float32")(score),
        "sides": layers.Activation("sigmoid", name="sides", dtype="float32")(sides),
    }
    return keras.Model(picture, outputs, name="locator")
