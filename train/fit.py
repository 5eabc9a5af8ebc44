"""Trains a recipe's networks, epoch by epoch, and calibrates the last on the validation split."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from devices import Pixels
from train.batches import PatchSet
from train.cluster import ALONE, Cluster
from train.decision_rule import choose_thresholds, fit_temperature
from train.learner import Epoch, Learner
from train.metrics import Labels
from train.network import fold_temperature, predict
from train.recipe import Fit, Recipe
from train.resume import STATE
from train.samples import Sample


@dataclass(frozen=True)
class Fitted:
    """A calibrated model with its operating point."""

    model: keras.Model
    history: tuple[Epoch, ...]
    teachers: tuple[Epoch, ...]
    """The last epoch of each network that it learnt from; none without distillation."""
    interrupted: bool
    """Whether the user stopped it; it can be gone on with."""
    best_epoch: int
    temperature: float
    thresholds: dict[str, float]
    """By label, as `train.decision_rule` chooses them."""


def ignore(*_: object) -> None:
    """Is told, and does nothing."""


@dataclass(frozen=True)
class Callbacks:
    """Who is told of the progress of a training; by default nobody."""

    images: Callable[[Iterable[Sample]], Iterable[Sample]] = iter
    """Passes on the samples whose images are read."""
    varying: Callable[[Iterable[int]], Iterable[int]] = iter
    """Passes on the numbers of the patches that are augmented to fit a scope."""
    others: Callable[[Iterable[tuple[str, Pixels]]], Iterable[tuple[str, Pixels]]] = iter
    """Passes on the auxiliary pictures, each with its kind."""
    begin: Callable[[int], None] = ignore
    """Told how many batches are still to come, before each network learns."""
    batch: Callable[[], None] = ignore
    """Told of the end of each batch."""
    epoch: Callable[[Epoch], None] = ignore
    """Told of the end of each epoch, with its figures."""
    note: Callable[[str], None] = ignore
    """Told what a user should know, in a line."""


def fit(
    recipe: Recipe,
    seed: int,
    train: PatchSet,
    validation: tuple[NDArray[np.uint8], Labels],
    folder: Path,
    callbacks: Callbacks,
    cluster: Cluster = ALONE,
) -> Fitted:
    """Trains for the epochs of the recipe and folds the temperature into the weights.

    The validation pictures are uint8 ``[N, side, side, 1]``. After each epoch everything that the
    next one depends on is written to `folder`, beside the curves for TensorBoard; where such a
    state lies there already, the training goes on from it, to the same result.
    KeyboardInterrupt ends it with the last whole epoch, or with the last whole teacher. Before the
    first epoch it is raised, and where a training that is gone on with was further than the network
    that is taken up: more was made of it then. The same seed gives the same weights on the same
    machine. This is the chief's part where a cluster learns; the other workers `fit_as_worker`.
    """
    networks: list[TrainedNetwork] = []
    interrupted = False
    trainings = _trainings(recipe, seed)
    for number, training in enumerate(trainings, start=1):
        teachers = networks[:] if training.student else []
        learner, state = None, folder / training.name
        try:
            if training.about:
                callbacks.note(training.about)
            state.mkdir(exist_ok=True)
            models = [teacher.model for teacher in teachers]
            learner = Learner(training.recipe, training.seed, train, cluster, models)
            later = sum(training.recipe.fit.epochs for training in trainings[number:])
            history = _learn(
                learner, training, later, validation, state, folder / "logs", callbacks, cluster
            )
        except KeyboardInterrupt:
            unlearnt = trainings[number if learner else number - 1 :]
            if any((folder / other.name / STATE).exists() for other in unlearnt):
                raise
            interrupted, history = True, learner.restore(state) if learner else ()
            if not (history or networks):
                raise
        # Half a teacher is worth less than the whole one before it; half a student is worth more.
        if learner and history and (training.student or not (interrupted and networks)):
            lasts = tuple(teacher.history[-1] for teacher in teachers)
            networks.append(TrainedNetwork(learner.kept(), history, lasts))
        if interrupted:
            break
    model, history, lasts = networks[-1]
    temperature = fit_temperature(validation[1], predict(model, validation[0]))
    fold_temperature(model, temperature)
    thresholds = choose_thresholds(
        recipe.task.labels,
        validation[1],
        predict(model, validation[0]),
        recipe.operating_point.sensitivity,
    )
    best = _best(history) if recipe.fit.patience else len(history)
    return Fitted(model, history, lasts, interrupted, best, temperature, thresholds)


class TrainedNetwork(NamedTuple):
    """A network that has learnt, its epochs, and the last epoch of each of its teachers."""

    model: keras.Model
    history: tuple[Epoch, ...]
    teachers: tuple[Epoch, ...]


class NetworkTraining(NamedTuple):
    """What one network goes through: a recipe's only one, one of the teachers, or their student."""

    name: str
    """Of the folders of its state and of its curves; empty for the only one."""
    about: str
    recipe: Recipe
    seed: int
    student: bool = False


def _trainings(recipe: Recipe, seed: int) -> list[NetworkTraining]:
    """All networks of a recipe, in the order in which they learn."""
    if (distillation := recipe.distillation) is None:
        return [NetworkTraining("", "", recipe, seed)]
    count = distillation.teachers
    others = map(int, np.random.SeedSequence(seed).generate_state(count))
    teachers = [
        NetworkTraining(f"teacher{number}", f"teacher {number} of {count}", recipe, teacher_seed)
        for number, teacher_seed in enumerate((seed, *others), start=1)
    ]
    last = teachers.pop()
    learning = replace(recipe, fit=distillation.student(recipe.fit))
    about = f"the student of {count} teachers"
    return [*teachers, NetworkTraining("student", about, learning, last.seed, student=True)]


def _learn(
    learner: Learner,
    training: NetworkTraining,
    later: int,
    validation: tuple[NDArray[np.uint8], Labels],
    folder: Path,
    logs: Path,
    callbacks: Callbacks,
    cluster: Cluster,
) -> tuple[Epoch, ...]:
    """One network goes through its epochs, those that `folder` does not hold already.

    `later` epochs of other networks are still to come.
    """
    fit = training.recipe.fit
    curves = tf.summary.create_file_writer(str(logs / training.name))
    history = learner.restore(folder)
    callbacks.begin(learner.batches * (fit.epochs - len(history) + later))
    with cluster.together():
        learner.join()
        while (number := cluster.chief_value(_next(history, fit))) < fit.epochs:
            began = time.perf_counter()
            figures = *learner.learn(number, callbacks.batch), *learner.measure(validation)
            seconds = round(time.perf_counter() - began, 1)
            history = (*history, Epoch(number + 1, *figures, seconds))
            if fit.patience is None or _best(history) == number + 1:
                learner.keep()
            learner.save(folder, history)
            _write_curves(curves, history[-1])
            callbacks.epoch(history[-1])
    return history


def fit_as_worker(
    recipe: Recipe, seed: int, train: PatchSet, callbacks: Callbacks, cluster: Cluster
) -> None:
    """Learns this worker's share of the training that the chief of the cluster fits."""
    networks: list[keras.Model] = []
    trainings = _trainings(recipe, seed)
    for number, training in enumerate(trainings):
        if training.about:
            callbacks.note(training.about)
        teachers = networks if training.student else []
        learner = Learner(training.recipe, training.seed, train, cluster, teachers)
        epochs = sum(each.recipe.fit.epochs for each in trainings[number:])
        callbacks.begin(learner.batches * epochs)
        with cluster.together():
            learner.join()
            while (epoch := cluster.chief_value(0)) < training.recipe.fit.epochs:
                learner.learn(epoch, callbacks.batch)
        learner.keep()
        networks.append(learner.kept())


def _best(history: Sequence[Epoch]) -> int:
    """The epoch with the highest validation AUROC, of equals the one with the least loss.

    Counted from 1; 0 before the first.
    """
    if not history:
        return 0
    return max(history, key=lambda line: (line.validation_auroc, -line.validation_loss)).epoch


def _next(history: Sequence[Epoch], fit: Fit) -> int:
    """The epoch that comes next, counted from 0; after the last one, how many there are."""
    stops_early = fit.patience is not None and len(history) - _best(history) > fit.patience
    return fit.epochs if stops_early else len(history)


def _write_curves(curves: tf.summary.SummaryWriter, epoch: Epoch) -> None:
    """Adds one epoch's figures to the curves that TensorBoard shows."""
    with curves.as_default(step=epoch.epoch):
        for name, value in asdict(epoch).items():
            tf.summary.scalar(name, value)
    curves.flush()
