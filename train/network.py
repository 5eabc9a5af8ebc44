"""The network of a recipe as a Keras model, and the temperature folded into its last layer."""

import keras
import numpy as np
from keras import layers

from train.recipe import Network


def build(network: Network, side: int, classes: int) -> keras.Model:
    """Returns a model from `picture`, uint8 ``[N, side, side, 1]``, to `probability`.

    The grey pixels go in as they are: scaling to 0..1 is the first layer of the graph. The answer
    is a dictionary with one output, `probability`, float32 ``[N, classes]``.
    """
    picture = keras.Input((side, side, 1), dtype="uint8", name="picture")
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
    x = layers.Dense(classes, name="logits")(x)
    probability = layers.Softmax(name="probability")(x)
    return keras.Model(picture, {"probability": probability}, name="classifier")


def fold_temperature(model: keras.Model, temperature: float) -> None:
    """Divides the logits by `temperature` for good, in the weights of the last layer.

    Softmax of logits over a temperature is Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017, equation 9.
    """
    logits = model.get_layer("logits")
    logits.set_weights([np.asarray(weight) / temperature for weight in logits.get_weights()])
