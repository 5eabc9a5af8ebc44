"""Quantisation-aware fine-tuning: the weights of int8 learn to live with its steps.

The trained network goes on learning for a short while with the rounding of int8 in it: Jacob et
al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018. What it learns is to answer as it did in float: Hinton et al., "Distilling the Knowledge
in a Neural Network", 2015. Labels are not looked at, as the gate asks for the decisions of float32.

The rounding lies in Keras 3's own graph. The toolkit for it, tensorflow-model-optimization, knows
Keras 2 alone: it would need tf-keras, a second TensorFlow beside the first, a process of its own
and the network built twice. What comes out here is a plain float model without a trace of the
rounding, converted by the very function that converts any other: its ranges come from the same
representative set, and so the rounding rehearsed is the rounding that the device does.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from convert.bias_correction import SHARING, TINY, fold, in_parts, is_fused, round_kernel, source_of
from convert.tflite import calibration
from train.batches import Batches, PatchSet
from train.network import predict
from train.recipe import Fit

ROUNDS, STEPS = 4, 60
"""After each round of so many steps the ranges are taken anew, and validation is asked."""
SLOWER = 100
"""How many times slower than in the training: from ten times on the answers drift further than int8
rounds them (EfficientNet-Lite0 on TN5000)."""
WARMUP = 0.1
"""The share of the steps in which the rate rises; then it falls to zero by a cosine."""
SAME_SCALE = (layers.InputLayer, layers.Flatten, layers.MaxPooling2D, layers.Dropout)
"""Layers whose output has the scale of their input, or is pixels."""


@dataclass(frozen=True)
class FineTuning:
    """How the weights of int8 were made from those of float32."""

    images: int
    """Of the training split, varied as the recipe says."""
    steps: int
    batch: int
    learning_rate: float
    """The highest, which the warm-up ends with."""
    divergences: tuple[float, ...]
    """On the validation split, before the first round and after each: the mean Kullback-Leibler
    divergence of the rounded answers from those of float32, in nats."""
    kept: int
    """The round with the least of them; of 0, the weights are those that it began with."""

    def __str__(self) -> str:
        """In words."""
        return (
            f"quantisation-aware, {self.steps} steps of {self.batch} pictures of {self.images} "
            f"training images, at a rate of {self.learning_rate:.0e}, with float32's probabilities "
            f"as the targets; divergence from them on the validation images "
            f"{self.divergences[0]:.5f} before, {self.divergences[self.kept]:.5f} after round "
            f"{self.kept} of {len(self.divergences) - 1}, which was kept"
        )


def fine_tune(
    model: keras.Model,
    start: keras.Model,
    representative: NDArray[np.uint8],
    patch_set: PatchSet,
    validation: NDArray[np.uint8],
    fit: Fit,
    seed: int,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> tuple[keras.Model, FineTuning]:
    """Returns a copy of `start` that answers in int8 as `model` does in float, and how it learnt.

    `start` is `model`, or what `convert.bias_correction.correct_biases` makes of it. It learns from
    `patch_set` of the training split, in the batches of `fit`; `validation`, like `representative`
    uint8 ``[N, side, side, 1]``, says which round is kept. The copy's batch normalisation is
    folded. The same seed gives the same weights on the same machine.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    rate = fit.learning_rate / SLOWER
    rounded_network = _FakeQuantisedNetwork(model, start, rate)
    expected = predict(model, validation)
    rounded_network.take_ranges(representative)
    divergences = [rounded_network.divergence(validation, expected)]
    kept = rounded_network.folded.get_weights()
    batches = Batches(patch_set, fit, seed, 0)
    for step in progress(range(ROUNDS * STEPS)):
        epoch, place = divmod(step, len(batches))
        if place == 0:
            batches = Batches(patch_set, fit, seed, epoch)
        rounded_network.learn(batches[place][0])
        if (step + 1) % STEPS == 0:
            rounded_network.take_ranges(representative)
            divergences.append(rounded_network.divergence(validation, expected))
            if divergences[-1] < min(divergences[:-1]):
                kept = rounded_network.folded.get_weights()
    rounded_network.folded.set_weights(kept)
    return rounded_network.folded, FineTuning(
        images=len(patch_set.patches),
        steps=ROUNDS * STEPS,
        batch=fit.batch,
        learning_rate=rate,
        divergences=tuple(divergences),
        kept=int(np.argmin(divergences)),
    )


class _FakeQuantisedNetwork:
    """A network that computes in float and rounds as int8 does, and its optimiser."""

    def __init__(self, model: keras.Model, start: keras.Model, rate: float) -> None:
        self.folded = fold(start)
        """The weights that learn, without any rounding."""
        self._rounded, self._roundings = _with_fake_quantisation(self.folded)
        self._teacher = keras.Model(model.input, model.output["probability"])
        axes = {
            layer.kernel.path: SHARING[type(layer)]
            for layer in self.folded.layers
            if type(layer) in SHARING
        }
        self._axes = [axes.get(variable.path) for variable in self._rounded.trainable_variables]
        warmup = round(WARMUP * ROUNDS * STEPS)
        self._optimizer = keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                0.0, ROUNDS * STEPS - warmup, warmup_target=rate, warmup_steps=warmup
            )
        )
        self._optimizer.build(self._rounded.trainable_variables)
        reads = {name: self.folded.get_layer(name).output for name in self._roundings}
        self._read = keras.Model(self.folded.input, reads)
        # Traced once for batches of any size; ranges are read from the converter's float pictures.
        pictures = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8)
        self._step = tf.function(self._traced_step, input_signature=[pictures])
        self._answer = tf.function(self._traced_answer, input_signature=[pictures])
        self._extremes = tf.function(self._traced_extremes, reduce_retracing=True)

    def learn(self, pictures: NDArray[np.uint8]) -> None:
        """One step towards the answers of float32."""
        self._step(pictures)

    def take_ranges(self, representative: NDArray[np.uint8]) -> None:
        """Takes each range as the converter will: of what the float network computes."""
        pictures = np.concatenate([picture for (picture,) in calibration(representative)])
        seen = [
            {name: np.asarray(extremes) for name, extremes in self._extremes(part).items()}
            for part in in_parts(pictures)
        ]
        for name, rounding in self._roundings.items():
            low, high = np.transpose([extremes[name] for extremes in seen])
            # Zero always has a step of its own, and a range has a width.
            rounding.low.assign(min(low.min(), 0.0))
            rounding.high.assign(max(high.max(), TINY))

    def divergence(self, pictures: NDArray[np.uint8], expected: NDArray[np.float32]) -> float:
        """How far the rounded answers are from those expected; see `FineTuning`."""
        answers = np.concatenate([self._answer(part) for part in in_parts(pictures)])
        return float(np.mean(keras.losses.kl_divergence(expected, answers)))

    def _traced_step(self, pictures: tf.Tensor) -> None:
        expected = self._teacher(pictures, training=False)
        variables = self._rounded.trainable_variables
        values = [tf.convert_to_tensor(variable) for variable in variables]
        with tf.GradientTape() as tape:
            tape.watch(values)
            answers = self._answers(values, pictures)
            loss = tf.reduce_mean(keras.losses.kl_divergence(expected, answers))
        self._optimizer.apply(tape.gradient(loss, values), variables)

    def _traced_answer(self, pictures: tf.Tensor) -> tf.Tensor:
        values = [tf.convert_to_tensor(variable) for variable in self._rounded.trainable_variables]
        return self._answers(values, pictures)

    def _answers(self, values: list[tf.Tensor], pictures: tf.Tensor) -> tf.Tensor:
        """The probability with `values` for weights, each kernel rounded."""
        weights = [
            value if axes is None else round_kernel(value, axes)
            for value, axes in zip(values, self._axes, strict=True)
        ]
        others = [
            tf.convert_to_tensor(variable) for variable in self._rounded.non_trainable_variables
        ]
        return self._rounded.stateless_call(weights, others, pictures, training=False)[0]

    def _traced_extremes(self, pictures: tf.Tensor) -> dict[str, tf.Tensor]:
        """The lowest and the highest value of everything that is rounded."""
        return {
            name: tf.stack([tf.reduce_min(tensor), tf.reduce_max(tensor)])
            for name, tensor in self._read(pictures, training=False).items()
        }


class FakeQuantisation(layers.Layer):  # type: ignore[misc]
    """What an int8 tensor can hold: the nearest of 256 levels from `low` to `high`."""

    def __init__(self) -> None:
        super().__init__()
        self.low = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.high = self.add_weight(shape=(), initializer="ones", trainable=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Rounds; the gradient passes unchanged where nothing was cut off."""
        low, high = tf.convert_to_tensor(self.low), tf.convert_to_tensor(self.high)

        # TensorFlow's own gradient, which asks for that of the range too, is not deterministic on a
        # GPU and therefore refused there.
        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def rounded(tensor: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            within = tf.logical_and(tensor >= low, tensor <= high)
            outputs = tf.quantization.fake_quant_with_min_max_vars(tensor, low, high)
            return outputs, lambda upstream: tf.where(within, upstream, tf.zeros_like(upstream))

        return rounded(inputs)


def _with_fake_quantisation(folded: keras.Model) -> tuple[keras.Model, dict[str, FakeQuantisation]]:
    """The layers of `folded` themselves, up to `probability`, where each reads what is rounded;
    and each rounding by the layer whose output it rounds.
    """
    roundings: dict[str, FakeQuantisation] = {}
    outputs: dict[str, keras.KerasTensor] = {}

    def rounded(tensor: Any) -> Any:
        source = source_of(tensor)
        if isinstance(source, SAME_SCALE):
            return tensor
        if source.name not in outputs:
            roundings[source.name] = FakeQuantisation()
            outputs[source.name] = roundings[source.name](tensor)
        return outputs[source.name]

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if not is_fused(layer):
            args = keras.tree.map_structure(rounded, args)
        return layer(*args, **kwargs)

    whole = keras.Model(folded.input, folded.output["probability"])
    shared = keras.models.clone_model(whole, clone_function=lambda layer: layer, call_function=call)
    return shared, roundings
