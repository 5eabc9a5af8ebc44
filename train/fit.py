"""Trains a recipe's network on prepared pictures and calibrates it on the validation split."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.metrics import Labels, Scores, choose_threshold, fit_temperature
from train.network import build, fold_temperature
from train.recipe import Recipe


@dataclass(frozen=True)
class Epoch:
    """One line of the run's history."""

    epoch: int
    loss: float
    auroc: float
    validation_loss: float
    validation_auroc: float


@dataclass(frozen=True)
class Fitted:
    """A calibrated model with its operating point."""

    model: keras.Model
    history: tuple[Epoch, ...]
    best_epoch: int
    temperature: float
    threshold: float


def fit(
    recipe: Recipe,
    seed: int,
    train: tuple[NDArray[np.uint8], Labels],
    validation: tuple[NDArray[np.uint8], Labels],
    on_batch: Callable[[], None],
    on_epoch: Callable[[Epoch], None],
) -> Fitted:
    """Trains, keeps the epoch with the best validation AUROC, folds in the temperature.

    Pictures are uint8 ``[N, side, side, 1]``. The same seed gives the same weights on the same
    machine. `on_batch` and `on_epoch` are told of the progress.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    side = train[0].shape[1]
    model = build(recipe.network, side, len(recipe.task.labels))
    # One area for each label, averaged; with two labels both are the binary AUROC.
    auroc = keras.metrics.AUC(name="auroc", num_thresholds=1000, multi_label=True, num_labels=2)
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.fit.learning_rate),
        loss={"probability": "categorical_crossentropy"},
        metrics={"probability": [auroc]},
    )
    history: list[Epoch] = []

    class Tell(keras.callbacks.Callback):  # type: ignore[misc]
        """Passes Keras's progress on."""

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:  # noqa: ARG002
            on_batch()

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            names = ("loss", "auroc", "val_loss", "val_auroc")
            history.append(Epoch(epoch + 1, *(float(logs[name]) for name in names)))
            on_epoch(history[-1])

    keep_best = keras.callbacks.EarlyStopping(
        monitor="val_auroc", mode="max", patience=recipe.fit.patience, restore_best_weights=True
    )
    model.fit(
        train[0],
        {"probability": keras.utils.to_categorical(train[1], 2)},
        validation_data=(
            validation[0],
            {"probability": keras.utils.to_categorical(validation[1], 2)},
        ),
        batch_size=recipe.fit.batch,
        epochs=recipe.fit.epochs,
        callbacks=[Tell(), keep_best],
        verbose=0,
    )
    temperature = fit_temperature(validation[1], predict(model, validation[0]))
    fold_temperature(model, temperature)
    scores: Scores = predict(model, validation[0])[:, 1]
    threshold = choose_threshold(validation[1], scores, recipe.operating_point.sensitivity)
    best = max(history, key=lambda epoch: epoch.validation_auroc).epoch
    return Fitted(model, tuple(history), best, temperature, threshold)


def predict(model: keras.Model, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns `probability`, float32 ``[N, classes]``, for uint8 ``[N, side, side, 1]``."""
    answer = model.predict(pictures, batch_size=64, verbose=0)
    return np.asarray(answer["probability"], dtype=np.float32)
