"""Trains a recipe's network, epoch by epoch, and calibrates it on the validation split."""

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from pydantic import TypeAdapter
from sklearn.metrics import log_loss, roc_auc_score

from devices import BadInput
from edge_runtime.atomic import whole_file
from train.batches import Batches, Material
from train.metrics import Labels, choose_threshold, fit_temperature
from train.network import FusedNormalization, build, fold_temperature
from train.pretrained import load_imagenet
from train.recipe import Fit, InvertedResiduals, Recipe
from train.samples import Sample

Arrays = list[NDArray[np.generic]]


@dataclass(frozen=True)
class Epoch:
    """One line of the run's history."""

    epoch: int
    loss: float
    auroc: float
    validation_loss: float
    validation_auroc: float
    seconds: float


@dataclass(frozen=True)
class Fitted:
    """A calibrated model with its operating point."""

    model: keras.Model
    history: tuple[Epoch, ...]
    interrupted: bool
    """Whether the user stopped it; it can be gone on with."""
    best_epoch: int
    temperature: float
    threshold: float


def nobody(*_: object) -> None:
    """Is told, and does nothing."""


@dataclass(frozen=True)
class Watch:
    """Who is told of the progress of a training; by default nobody."""

    images: Callable[[Iterable[Sample]], Iterable[Sample]] = iter
    begin: Callable[[int], None] = nobody
    batch: Callable[[], None] = nobody
    epoch: Callable[[Epoch], None] = nobody
    note: Callable[[str], None] = nobody


def fit(
    recipe: Recipe,
    seed: int,
    train: Material,
    validation: tuple[NDArray[np.uint8], Labels],
    folder: Path,
    watch: Watch,
) -> Fitted:
    """Trains for the epochs of the recipe and folds the temperature into the weights.

    The validation pictures are uint8 ``[N, side, side, 1]``. After each epoch everything that the
    next one depends on is written to `folder`, beside the curves for TensorBoard; where such a
    state lies there already, the training goes on from it, to the same result.
    KeyboardInterrupt ends it with the last whole epoch; before the first, it is raised.
    The same seed gives the same weights on the same machine.
    """
    learner = Learner(recipe, seed, train)
    curves = tf.summary.create_file_writer(str(folder / "logs"))
    history, patience = learner.restore(folder), recipe.fit.patience or recipe.fit.epochs
    watch.begin(learner.batches * (recipe.fit.epochs - len(history)))
    try:
        for number in range(len(history), recipe.fit.epochs):
            if number - _best(history) > patience:
                break
            history = (*history, learner.learn(number, validation, watch.batch))
            if recipe.fit.patience is None or _best(history) == number + 1:
                learner.keep()
            learner.save(folder, history)
            _draw(curves, history[-1])
            watch.epoch(history[-1])
        interrupted = False
    except KeyboardInterrupt:
        if not (history := learner.restore(folder)):
            raise
        interrupted = True
    model = learner.kept()
    temperature = fit_temperature(validation[1], predict(model, validation[0]))
    fold_temperature(model, temperature)
    scores = predict(model, validation[0])[:, -1]
    threshold = choose_threshold(validation[1], scores, recipe.operating_point.sensitivity)
    best = _best(history) if recipe.fit.patience else len(history)
    return Fitted(model, history, interrupted, best, temperature, threshold)


class Learner:
    """A network with its optimiser, and the weights that are kept of it."""

    def __init__(self, recipe: Recipe, seed: int, train: Material) -> None:
        self._recipe, self._seed, self._train = recipe, seed, train
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        with _mixed_precision():
            self._model = self._build(FusedNormalization)
        network = recipe.network
        if isinstance(network, InvertedResiduals) and network.weights == "imagenet":
            load_imagenet(self._model, network)
        # The other outputs follow from what the probability teaches.
        self._trainer = keras.Model(self._model.input, self._model.output["probability"])
        self.batches = len(Batches(train, recipe.fit, seed, 0))
        """Of one epoch."""
        self._trainer.compile(
            optimizer=keras.optimizers.AdamW(
                _learning_rate(recipe.fit, self.batches * recipe.fit.epochs),
                weight_decay=recipe.fit.weight_decay,
                use_ema=recipe.fit.average > 0,
                ema_momentum=recipe.fit.average or 0.99,  # Keras wants one below 1 even unused
            ),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.fit.label_smoothing),
            # One area for each label, averaged; with two labels both are the binary AUROC.
            weighted_metrics=[
                keras.metrics.AUC(name="auroc", num_thresholds=1000, multi_label=True, num_labels=2)
            ],
        )
        self._trainer.optimizer.build(self._trainer.trainable_variables)
        self._kept: Arrays = self._model.get_weights()

    def _build(self, normalisation: type[keras.layers.BatchNormalization]) -> keras.Model:
        side, classes = self._train.preprocessing.side, len(self._recipe.task.labels)
        return build(self._recipe.network, side, classes, normalisation)

    def learn(
        self,
        number: int,
        validation: tuple[NDArray[np.uint8], Labels],
        on_batch: Callable[[], None],
    ) -> Epoch:
        """Goes through the epoch `number`, counted from 0, and measures what it came to."""
        began = time.perf_counter()
        batches = Batches(self._train, self._recipe.fit, self._seed, number)
        told = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: on_batch())
        # Keras would shuffle the batches by dice that no state remembers; the order is ours.
        kept = self._trainer.fit(batches, verbose=0, callbacks=[told], shuffle=False)
        logs = kept.history
        with self._averaged():
            probability = predict(self._model, validation[0])
        labels = validation[1]
        return Epoch(
            epoch=number + 1,
            loss=float(logs["loss"][0]),
            auroc=float(logs["auroc"][0]),
            validation_loss=float(log_loss(labels, probability[:, -1])),
            validation_auroc=float(roc_auc_score(labels, probability[:, -1])),
            seconds=round(time.perf_counter() - began, 1),
        )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in place of the last ones, where the recipe averages."""
        if not self._recipe.fit.average:
            yield
            return
        last = self._model.get_weights()
        self._trainer.optimizer.finalize_variable_values(self._trainer.trainable_variables)
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
        """Writes what the next epoch depends on: numbers alone, whole or not at all."""
        arrays = [*(its.numpy() for its in self._variables()), *self._kept]
        written = io.BytesIO()
        np.savez(
            written,
            history=np.frombuffer(_HISTORY.dump_json(history), np.uint8),
            **{f"{index:05}": array for index, array in enumerate(arrays)},
        )
        with whole_file(folder / STATE) as path:
            path.write_bytes(written.getvalue())

    def restore(self, folder: Path) -> tuple[Epoch, ...]:
        """Takes up the state that lies in `folder` and returns its history; none, where none lies.

        Raises BadInput where it is damaged or of another network.
        """
        if not (folder / STATE).exists():
            return ()
        variables = self._variables()
        try:
            with open(folder / STATE, "rb") as file, np.load(file, allow_pickle=False) as state:
                history = _HISTORY.validate_json(state["history"].tobytes())
                arrays = [state[name] for name in sorted(state.files) if name != "history"]
            expected = [its.shape for its in (*variables, *self._kept)]
            if not history or [array.shape for array in arrays] != expected:
                raise ValueError("of another network")
            for variable, array in zip(variables, arrays, strict=False):
                variable.assign(array)
            self._kept = arrays[len(variables) :]
        except Exception as error:  # NumPy raises whatever a damaged file leads it to
            raise BadInput(f"{folder / STATE}: not a state that can be gone on from") from error
        return history

    def _variables(self) -> list[keras.Variable]:
        """All that an epoch changes: weights, statistics, dice and the optimiser's moments."""
        return [*self._trainer.variables, *self._trainer.optimizer.variables]


STATE = "state.npz"
NONE = Epoch(0, 0.0, 0.0, 0.0, 0.0, 0.0)
_HISTORY = TypeAdapter(tuple[Epoch, ...])


def _best(history: Sequence[Epoch]) -> int:
    """The epoch with the highest validation AUROC, of equals the one with the least loss.

    Counted from 1; 0 before the first.
    """
    return max(
        history, key=lambda its: (its.validation_auroc, -its.validation_loss), default=NONE
    ).epoch


def _learning_rate(fit: Fit, steps: int) -> float | keras.optimizers.schedules.CosineDecay:
    if fit.schedule == "constant":
        return fit.learning_rate
    warmup = round(steps * fit.warmup)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else fit.learning_rate,
        decay_steps=steps - warmup,
        warmup_target=fit.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


@contextmanager
def _mixed_precision() -> Iterator[None]:
    """Half precision where a GPU multiplies it faster; on a CPU it is slower."""
    usual = keras.config.dtype_policy()
    if tf.config.list_physical_devices("GPU"):
        keras.config.set_dtype_policy("mixed_float16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(usual)


def _draw(curves: tf.summary.SummaryWriter, epoch: Epoch) -> None:
    """Puts one epoch's figures where TensorBoard looks for them."""
    with curves.as_default(step=epoch.epoch):
        for name, value in asdict(epoch).items():
            tf.summary.scalar(name, value)
    curves.flush()


def predict(model: keras.Model, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns `probability`, float32 ``[N, classes]``, for uint8 ``[N, side, side, 1]``."""
    return answer(model, pictures)["probability"]


def answer(model: keras.Model, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Returns every output by its name, float32, for uint8 ``[N, side, side, 1]``."""
    outputs = model.predict(pictures, batch_size=64, verbose=0)
    return {name: np.asarray(its, dtype=np.float32) for name, its in outputs.items()}
