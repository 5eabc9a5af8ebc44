"""A locator while it learns: its batches, its steps, and the mean over its weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.augmentation import Augmentation
from train.locator.augmentation import Square, borrow_tones, vary_square
from train.locator.losses import score_loss, sides_loss
from train.locator.network import build_locator
from train.locator.targets import draw_targets
from train.network import FusedNormalization, blocks
from train.pretrained import load_imagenet
from train.recipe import InvertedResiduals

SIDES_WEIGHT = 2.0
"""Of the loss of the sides beside that of the scores."""
AVERAGED = 0.998
"""Momentum of the mean over the weights."""


@dataclass(frozen=True)
class Source:
    """Pictures of one kind, and how many of them an epoch sees."""

    pictures: Sequence[Square]
    share: float


def learn_locator(
    network: InvertedResiduals,
    channels: int,
    side: int,
    sources: Sequence[Source],
    augmentation: Augmentation,
    borrowed: float,
    learning_rate: float,
    batch: int,
    steps: int,
    seed: int,
    frozen: int,
    report: Callable[[int, float, float], None],
    every: int,
    progress: Callable[[int], None] = lambda _: None,
    snapshot: Callable[[int, keras.Model], None] | None = None,
    start: keras.Model | None = None,
) -> keras.Model:
    """Learns for so many `steps` of a `batch` each; returns a model with the averaged weights.

    It begins with the weights of `start`, or else with those of ImageNet, if the network has them.
    The layers of the first `frozen` stages keep these weights. After `every` steps
    `report` is told the step and both losses, and after each step `progress` its number.
    """
    keras.utils.set_random_seed(seed)
    model = build_locator(network, side, channels, FusedNormalization)
    if start is not None:
        copy_weights(start, model)
    elif network.weights == "imagenet":
        load_imagenet(model, network)
    freeze(model, network, frozen)
    variables = model.trainable_variables
    optimizer = keras.optimizers.AdamW(
        learning_rate, weight_decay=0.02, use_ema=True, ema_momentum=AVERAGED
    )
    optimizer.build(variables)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - steps // 20), warmup_target=learning_rate, warmup_steps=steps // 20
    )

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(
        pictures: tf.Tensor, score: tf.Tensor, counts: tf.Tensor, sides: tf.Tensor, near: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            answers = model(pictures, training=True)
            scores = tf.reduce_mean(score_loss(score, counts, answers["score"]))
            boxes = tf.reduce_mean(sides_loss(sides, near, answers["sides"]))
            loss = scores + SIDES_WEIGHT * boxes
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 10.0)
        optimizer.apply(gradients, variables)
        return scores, boxes

    def generate():  # type: ignore[no-untyped-def]
        for number in range(steps):
            yield draw_batch(sources, side, augmentation, borrowed, batch, (seed, number))

    places = side // 8
    signature = (
        tf.TensorSpec((batch, side, side, 1), tf.uint8),
        *(tf.TensorSpec((batch, places, places), tf.float32) for _ in range(2)),
        tf.TensorSpec((batch, places, places, 4), tf.float32),
        tf.TensorSpec((batch, places, places), tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(4)
    losses = []
    for number, each in enumerate(dataset, start=1):
        optimizer.learning_rate = schedule(number - 1)
        losses.append([float(value) for value in step(*each)])
        if number % every == 0 or number == steps:
            report(number, *np.mean(losses, axis=0).tolist())
            losses = []
            if snapshot is not None:
                snapshot(number, averaged(model, optimizer, network, side, channels))
        progress(number)
    return averaged(model, optimizer, network, side, channels)


def averaged(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    network: InvertedResiduals,
    side: int,
    channels: int,
) -> keras.Model:
    """A plain model with the mean over the weights so far."""
    last = model.get_weights()
    optimizer.finalize_variable_values(model.trainable_variables)
    plain = build_locator(network, side, channels)
    copy_weights(model, plain)
    model.set_weights(last)
    return plain


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
            square = borrow_tones(square, draw())
        varied = vary_square(square, side, augmentation, rng)
        drawn.append(
            (varied.pixels[..., np.newaxis], draw_targets(varied.boxes, varied.ignored, side))
        )
    pictures = np.stack([pixels for pixels, _ in drawn])
    maps = [np.stack(column) for column in zip(*(targets for _, targets in drawn), strict=True)]
    return (pictures, *maps)
