"""A locator while it learns: its batches, its steps, and the mean over its weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_runtime.bundle import preprocess
from train.augmentation import Augmentation
from train.locator.augmentation import Square, match_histogram, vary_square
from train.locator.losses import score_loss, sides_loss
from train.locator.network import STRIDE, build_locator
from train.locator.recipe import LocatorRecipe
from train.locator.run import Step
from train.locator.targets import draw_targets
from train.network import FusedNormalization, blocks
from train.pretrained import load_imagenet
from train.recipe import InvertedResiduals
from train.resume import read_state, write_state

SIDES_WEIGHT = 2.0
"""Weight of the loss of the sides; the loss of the scores has 1."""
AVERAGED = 0.998
"""Momentum of the mean over the weights."""


@dataclass(frozen=True)
class Source:
    """Pictures of one kind, of which batches are drawn."""

    pictures: Sequence[Square]
    share: float
    """How often they are drawn, beside the shares of the other sources."""


class LocatorLearner:
    """A locator with its optimiser, and the mean over its weights.

    It begins with the weights of `start`, or else with those of ImageNet, if the network has them.
    The layers of the first stages, as many as are frozen, keep these weights.
    """

    def __init__(
        self,
        recipe: LocatorRecipe,
        sources: Sequence[Source],
        seed: int,
        start: keras.Model | None = None,
    ) -> None:
        self._recipe, self._sources, self._seed = recipe, sources, seed
        self._side = preprocess.parse(recipe.preprocessing).side
        keras.utils.set_random_seed(seed)
        network, fit = recipe.network, recipe.fit
        self._model = build_locator(network, self._side, recipe.channels, FusedNormalization)
        if start is not None:
            copy_weights(start, self._model)
        elif network.weights == "imagenet":
            load_imagenet(self._model, network)
        freeze(self._model, network, fit.frozen)
        self._optimizer = keras.optimizers.AdamW(
            fit.learning_rate, weight_decay=0.02, use_ema=True, ema_momentum=AVERAGED
        )
        self._optimizer.build(self._model.trainable_variables)
        warmup = fit.steps // 20
        self._rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, fit.steps - warmup),
            warmup_target=fit.learning_rate,
            warmup_steps=warmup,
        )
        self._step = self._traced()

    def _traced(self) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
        """One step, which returns the loss of the scores and that of the sides."""
        model, optimizer = self._model, self._optimizer
        variables = model.trainable_variables

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def step(
            pictures: tf.Tensor,
            score: tf.Tensor,
            score_weight: tf.Tensor,
            sides: tf.Tensor,
            sides_weight: tf.Tensor,
        ) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                answers = model(pictures, training=True)
                scores = tf.reduce_mean(score_loss(score, score_weight, answers["score"]))
                boxes = tf.reduce_mean(sides_loss(sides, sides_weight, answers["sides"]))
                loss = scores + SIDES_WEIGHT * boxes
            gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 10.0)
            optimizer.apply(gradients, variables)
            return scores, boxes

        return step  # type: ignore[no-any-return]

    def learn(
        self, first: int, last: int, progress: Callable[[int], None] = lambda _: None
    ) -> tuple[float, float]:
        """Goes through the steps from `first` up to `last`, counted from 0.

        Returns the mean losses of the scores and of the sides. `progress` is told after each step
        how many are done.
        """
        batch, side, places = self._recipe.fit.batch, self._side, self._side // STRIDE

        def generate():  # type: ignore[no-untyped-def]
            for number in range(first, last):
                yield draw_batch(
                    self._sources,
                    side,
                    self._recipe.augmentation,
                    self._recipe.sampling.borrowed_tones,
                    batch,
                    (self._seed, number),
                )

        signature = (
            tf.TensorSpec((batch, side, side, 1), tf.uint8),
            *(tf.TensorSpec((batch, places, places), tf.float32) for _ in range(2)),
            tf.TensorSpec((batch, places, places, 4), tf.float32),
            tf.TensorSpec((batch, places, places), tf.float32),
        )
        dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
        losses = []
        for number, each in enumerate(dataset.prefetch(4), start=first):
            self._optimizer.learning_rate = self._rate(number)
            losses.append([float(value) for value in self._step(*each)])
            progress(number + 1)
        scores, sides = np.mean(losses, axis=0).tolist()
        return scores, sides

    def averaged(self) -> keras.Model:
        """A plain model with the mean over the weights so far."""
        last = self._model.get_weights()
        self._optimizer.finalize_variable_values(self._model.trainable_variables)
        plain = build_locator(self._recipe.network, self._side, self._recipe.channels)
        copy_weights(self._model, plain)
        self._model.set_weights(last)
        return plain

    def save(self, folder: Path, history: Sequence[Step]) -> None:
        """Writes what the next step depends on."""
        write_state(folder, history, [variable.numpy() for variable in self._variables()])

    def restore(self, folder: Path) -> tuple[Step, ...]:
        """Takes up the state that lies in `folder` and returns its history; none, where none lies.

        Raises BadInput where it is damaged or of another network.
        """
        variables = self._variables()
        history, arrays = read_state(folder, Step, [tuple(each.shape) for each in variables])
        if history:
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        return history

    def _variables(self) -> list[keras.Variable]:
        """All that a step changes: weights, statistics, random states, optimiser moments."""
        return [*self._model.variables, *self._optimizer.variables]


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives each layer the weights of its namesake.

    A frozen layer stands elsewhere in the list of all weights, so no list is handed over. Raises
    ValueError where the two are not of one kind.
    """
    for layer in target.layers:
        layer.set_weights(source.get_layer(layer.name).get_weights())


def freeze(model: keras.Model, network: InvertedResiduals, stages: int) -> None:
    """Keeps the layers of the first stages, and of the stem, as they are."""
    names = ["stem_", "stem"] if stages else []
    for stage, name, *_ in blocks(network):
        if stage < stages:
            names.append(f"{name}_")
    for layer in model.layers:
        if any(layer.name == name or layer.name.startswith(name) for name in names):
            layer.trainable = False


def draw_batch(
    sources: Sequence[Source],
    side: int,
    augmentation: Augmentation,
    borrowed: float,
    batch: int,
    key: tuple[int, ...],
) -> tuple[NDArray[np.generic], ...]:
    """Pictures and their maps, drawn from the sources by their shares.

    The share `borrowed` of them takes the grey levels of another picture that is drawn alike. The
    same key gives the same batch.
    """
    rng = np.random.default_rng(key)
    shares = np.array([source.share for source in sources])

    def draw() -> Square:
        source = sources[int(rng.choice(len(sources), p=shares / shares.sum()))]
        return source.pictures[int(rng.integers(len(source.pictures)))]

    drawn = []
    for _ in range(batch):
        square = draw()
        if rng.random() < borrowed:
            square = match_histogram(square, draw())
        varied = vary_square(square, side, augmentation, rng)
        drawn.append(
            (varied.pixels[..., np.newaxis], draw_targets(varied.boxes, varied.ignored, side))
        )
    pictures = np.stack([pixels for pixels, _ in drawn])
    maps = [np.stack(column) for column in zip(*(targets for _, targets in drawn), strict=True)]
    return (pictures, *maps)
