"""One network while it learns: optimiser, random numbers, and the best or averaged weights."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from devices import BadInput
from train.batches import Batches, PatchSet
from train.cluster import ALONE, Cluster
from train.metrics import Labels
from train.network import FusedNormalization, build, predict
from train.pretrained import load_imagenet
from train.recipe import Fit, InvertedResiduals, Recipe
from train.resume import Arrays, read_state, write_state

Rate = Callable[[keras.Variable], tf.Tensor | float]
"""The learning rate after so many steps."""
EMA_SHARE = 0.3
"""The share of all steps that the exponential moving average of the weights reaches back at the
most, where it reaches back 1 / (1 - momentum) steps."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the run's history."""

    epoch: int
    """Counted from 1."""
    loss: float
    """The mean cross-entropy over the steps, while the weights moved, against what was to be
    learnt: labels, mixed or smoothed, or the mean answer of teachers."""
    auroc: float
    """Of the training pictures as they were varied, while the weights moved."""
    validation_loss: float
    """The mean cross-entropy against the labels."""
    validation_auroc: float
    seconds: float


class Learner:
    """A network with its optimiser, and the weights that are kept of it."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        train: PatchSet,
        cluster: Cluster = ALONE,
        teachers: Sequence[keras.Model] = (),
    ) -> None:
        """One with teachers begins as the first of them, and learns to answer as their mean."""
        self._recipe, self._seed, self._train, self._cluster = recipe, seed, train, cluster
        if recipe.fit.batch < cluster.size:
            raise BadInput(f"{cluster.size} workers cannot share a batch of {recipe.fit.batch}")
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        with _mixed_precision():
            self._model = self._build(FusedNormalization)
        network = recipe.network
        if isinstance(network, InvertedResiduals) and network.weights == "imagenet":
            load_imagenet(self._model, network)
        if teachers:
            self._model.set_weights(teachers[0].get_weights())
        self._teach = _mean_answer(teachers) if teachers else None
        # The other outputs follow from what the probability teaches.
        self._trainer = keras.Model(self._model.input, self._model.output["probability"])
        self.batches = len(self._batches(0))
        """Of one epoch."""
        steps = self.batches * recipe.fit.epochs
        self._rate = _learning_rate(recipe.fit, steps)
        # Its rate is set before each step: of a schedule, the graph would hold a copy for each
        # weight that decays, and EfficientNet-Lite0 take 15 seconds instead of 9 to be traced.
        self._optimizer = keras.optimizers.AdamW(
            recipe.fit.learning_rate,
            weight_decay=recipe.fit.weight_decay,
            use_ema=recipe.fit.average > 0,
            ema_momentum=_ema_momentum(recipe.fit, steps),
        )
        if self._trainer.compute_dtype == "float16":
            self._optimizer = keras.optimizers.LossScaleOptimizer(self._optimizer)
        self._optimizer.build(self._trainer.trainable_variables)
        # One area for each label, averaged; with two labels both are the binary AUROC.
        self._auroc = keras.metrics.AUC(
            num_thresholds=1000, multi_label=True, num_labels=train.classes
        )
        self._step = self._traced()
        self._kept: Arrays = self._model.get_weights()

    def _batches(self, number: int) -> Batches:
        """Those of the epoch `number`: of each, the share of this worker."""
        fit, cluster = self._recipe.fit, self._cluster
        return Batches(self._train, fit, self._seed, number, cluster.rank, cluster.size)

    def _traced(self) -> Callable[..., tf.Tensor]:
        """One step on pictures, soft labels and weights; it returns the mean loss of the batch.

        It is traced once for batches of any size: of two traces, the sums would not find each
        other over the workers.
        """
        model, optimizer, metric = self._trainer, self._optimizer, self._auroc
        smoothing, variables = self._recipe.fit.label_smoothing, model.trainable_variables
        teach = self._teach

        def sums(
            pictures: tf.Tensor, soft_labels: tf.Tensor, weights: tf.Tensor
        ) -> Sequence[tf.Tensor]:
            """The summed loss, the number of pictures, and the gradients of the summed loss."""
            targets = soft_labels if teach is None else teach(pictures)
            with tf.GradientTape() as tape:
                answers = tf.cast(model(pictures, training=True), tf.float32)
                losses = keras.losses.categorical_crossentropy(
                    targets, answers, label_smoothing=smoothing
                )
                loss = tf.reduce_sum(losses * weights)
                scaled = optimizer.scale_loss(loss)
            metric.update_state(tf.round(soft_labels), answers, weights)
            return [loss, tf.reduce_sum(tf.ones_like(weights)), *tape.gradient(scaled, variables)]

        sums_of_all = self._cluster.summed(sums)

        @tf.function(input_signature=self._signature())  # type: ignore[untyped-decorator]
        def step(pictures: tf.Tensor, soft_labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            loss, count, *gradients = sums_of_all(pictures, soft_labels, weights)
            optimizer.apply([gradient / count for gradient in gradients], variables)
            return loss / count

        return step  # type: ignore[no-any-return]

    def _signature(self) -> tuple[tf.TensorSpec, ...]:
        """Pictures, soft labels and weights, as `Batches` has them."""
        side, classes = self._train.preprocessing.side, len(self._recipe.task.labels)
        return (
            tf.TensorSpec((None, side, side, 1), tf.uint8),
            tf.TensorSpec((None, classes), tf.float32),
            tf.TensorSpec((None,), tf.float32),
        )

    def _build(self, normalisation: type[keras.layers.BatchNormalization]) -> keras.Model:
        side, classes = self._train.preprocessing.side, len(self._recipe.task.labels)
        return build(self._recipe.network, side, classes, normalisation)

    def join(self) -> None:
        """Starts from where the chief is. Raises BadInput where this worker's task is another."""
        identity = f"{self._recipe}{self._seed}{self._train.labels.tobytes().hex()}"
        ours = zlib.crc32(identity.encode())
        if self._cluster.chief_value(ours) != ours:
            raise BadInput("the recipe, the seed or the data of this worker are not the chief's")
        self._cluster.broadcast(self._variables())

    def learn(self, number: int, on_batch: Callable[[], None]) -> tuple[float, float]:
        """Goes through the epoch `number`, counted from 0; returns the loss and the AUROC."""
        batches = self._batches(number)
        self._auroc.reset_state()
        losses = []
        # The next batches are prepared while one is learnt.
        for batch in tf.data.Dataset.from_generator(
            lambda: (batches[place] for place in range(len(batches))),
            output_signature=self._signature(),
        ).prefetch(8):
            self._optimizer.learning_rate = self._rate(self._optimizer.iterations)
            losses.append(float(self._step(*batch)))
            on_batch()
        self._cluster.average(self._trainer.non_trainable_variables)
        self._cluster.add(self._auroc.variables)
        return float(np.mean(losses)), float(self._auroc.result())

    def measure(self, validation: tuple[NDArray[np.uint8], Labels]) -> tuple[float, float]:
        """The loss and the AUROC on the validation pictures, with averaged weights if any.

        Of more than two classes it is the mean AUROC of each against all others.

        Raises BadInput where what was learnt has diverged.
        """
        with self._averaged():
            probability = predict(self._model, validation[0])
        if not np.isfinite(probability).all():
            raise BadInput("the network answers no number any more; lower the learning_rate")
        labels, classes = validation[1], range(self._train.classes)
        if len(classes) == 2:
            scores = probability[:, -1]
            return float(log_loss(labels, scores)), float(roc_auc_score(labels, scores))
        shares = probability / probability.sum(axis=1, keepdims=True, dtype=np.float64)
        areas = [roc_auc_score(labels == place, shares[:, place]) for place in classes]
        return float(log_loss(labels, shares, labels=classes)), float(np.mean(areas))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in place of the last ones, where the recipe averages."""
        if not self._recipe.fit.average:
            yield
            return
        last = self._model.get_weights()
        self._optimizer.finalize_variable_values(self._trainer.trainable_variables)
        yield
        self._model.set_weights(last)

    def keep(self) -> None:
        """Keeps the weights as they are now."""
        with self._averaged():
            self._kept = self._model.get_weights()

    def kept(self) -> keras.Model:
        """A model of plain float32 with the weights that were kept."""
        model = self._build(keras.layers.BatchNormalization)
        model.set_weights(self._kept)
        return model

    def save(self, folder: Path, history: tuple[Epoch, ...]) -> None:
        """Writes what the next epoch depends on."""
        arrays = [*(variable.numpy() for variable in self._variables()), *self._kept]
        write_state(folder, history, arrays)

    def restore(self, folder: Path) -> tuple[Epoch, ...]:
        """Takes up the state that lies in `folder` and returns its history; none, where none lies.

        Raises BadInput where it is damaged or of another network.
        """
        variables = self._variables()
        shapes = [tuple(array.shape) for array in (*variables, *self._kept)]
        history, arrays = read_state(folder, Epoch, shapes)
        if history:
            for variable, array in zip(variables, arrays, strict=False):
                variable.assign(array)
            self._kept = arrays[len(variables) :]
        return history

    def _variables(self) -> list[keras.Variable]:
        """All that an epoch changes: weights, statistics, random states, optimiser moments."""
        return [*self._trainer.variables, *self._optimizer.variables]


def _mean_answer(models: Sequence[keras.Model]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Answers pictures with the mean of the models' probabilities, ``[n, classes]``."""
    answering = [keras.Model(model.input, model.output["probability"]) for model in models]
    return lambda pictures: (
        tf.add_n([teacher(pictures, training=False) for teacher in answering]) / len(answering)
    )


def _ema_momentum(fit: Fit, steps: int) -> float:
    """The momentum of the averaged weights: that of the recipe, or what `EMA_SHARE` of the steps
    allow. Else a short training would be averaged with the weights that it began with.
    """
    return float(np.clip(fit.average, 0.0, max(0.0, 1 - 1 / (EMA_SHARE * steps))))


def _learning_rate(fit: Fit, steps: int) -> Rate:
    """The learning rate over a training of so many steps in all: constant, or linear warm-up and
    cosine decay to zero.
    """
    if fit.schedule == "constant":
        return lambda _: fit.learning_rate
    warmup = round(steps * fit.warmup)
    schedule: Rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else fit.learning_rate,
        decay_steps=max(1, steps - warmup),
        warmup_target=fit.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    return schedule


def has_gpu() -> bool:
    """Whether TensorFlow sees one."""
    return bool(tf.config.list_physical_devices("GPU"))


@contextmanager
def _mixed_precision() -> Iterator[None]:
    """Half precision where a GPU multiplies it faster; on a CPU it is slower."""
    usual = keras.config.dtype_policy()
    if has_gpu():
        keras.config.set_dtype_policy("mixed_float16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(usual)
