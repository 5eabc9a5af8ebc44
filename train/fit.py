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
from train.batches import Material
from train.cluster import ALONE, Cluster
from train.learner import STATE, Epoch, Learner
from train.metrics import Labels, choose_threshold, fit_temperature
from train.network import fold_temperature, predict
from train.recipe import Fit, Recipe
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
    threshold: float


def nobody(*_: object) -> None:
    """Is told, and does nothing."""


@dataclass(frozen=True)
class Watch:
    """Who is told of the progress of a training; by default nobody."""

    images: Callable[[Iterable[Sample]], Iterable[Sample]] = iter
    varying: Callable[[Iterable[int]], Iterable[int]] = iter
    others: Callable[[Iterable[tuple[str, Pixels]]], Iterable[tuple[str, Pixels]]] = iter
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
    cluster: Cluster = ALONE,
) -> Fitted:
    """Trains for the epochs of the recipe and folds the temperature into the weights.

    The validation pictures are uint8 ``[N, side, side, 1]``. After each epoch everything that the
    next one depends on is written to `folder`, beside the curves for TensorBoard; where such a
    state lies there already, the training goes on from it, to the same result.
    KeyboardInterrupt ends it with the last whole epoch, or with the last whole teacher. Before the
    first epoch it is raised, and where a training that is gone on with was further than the network
    that is taken up: more was made of it then. The same seed gives the same weights on the same
    machine. This is the chief's part where a cluster learns; the other workers `assist`.
    """
    taught: list[Taught] = []
    interrupted = False
    courses = _courses(recipe, seed)
    for number, course in enumerate(courses, start=1):
        teachers = taught[:] if course.student else []
        learner, state = None, folder / course.name
        try:
            if course.about:
                watch.note(course.about)
            state.mkdir(exist_ok=True)
            models = [its.model for its in teachers]
            learner = Learner(course.recipe, course.seed, train, cluster, models)
            later = sum(its.recipe.fit.epochs for its in courses[number:])
            history = _learn(
                learner, course, later, validation, state, folder / "logs", watch, cluster
            )
        except KeyboardInterrupt:
            begun = courses[number if learner else number - 1 :]
            if any((folder / its.name / STATE).exists() for its in begun):
                raise
            interrupted, history = True, learner.restore(state) if learner else ()
            if not (history or taught):
                raise
        # Half a teacher is worth less than the whole one before it; half a student is worth more.
        if learner and history and (course.student or not (interrupted and taught)):
            lasts = tuple(its.history[-1] for its in teachers)
            taught.append(Taught(learner.kept(), history, lasts))
        if interrupted:
            break
    model, history, lasts = taught[-1]
    temperature = fit_temperature(validation[1], predict(model, validation[0]))
    fold_temperature(model, temperature)
    scores = predict(model, validation[0])[:, -1]
    threshold = choose_threshold(validation[1], scores, recipe.operating_point.sensitivity)
    best = _best(history) if recipe.fit.patience else len(history)
    return Fitted(model, history, lasts, interrupted, best, temperature, threshold)


class Taught(NamedTuple):
    """A network that has learnt, its epochs, and the last epoch of each of its teachers."""

    model: keras.Model
    history: tuple[Epoch, ...]
    teachers: tuple[Epoch, ...]


class Course(NamedTuple):
    """What one network goes through: a recipe's only one, one of the teachers, or their student."""

    name: str
    """Of the folders of its state and of its curves; empty for the only one."""
    about: str
    recipe: Recipe
    seed: int
    student: bool = False


def _courses(recipe: Recipe, seed: int) -> list[Course]:
    """All networks of a recipe, in the order in which they learn."""
    if (distillation := recipe.distillation) is None:
        return [Course("", "", recipe, seed)]
    count = distillation.teachers
    others = map(int, np.random.SeedSequence(seed).generate_state(count))
    teachers = [
        Course(f"teacher{number}", f"teacher {number} of {count}", recipe, its)
        for number, its in enumerate((seed, *others), start=1)
    ]
    last = teachers.pop()
    learning = replace(recipe, fit=distillation.student(recipe.fit))
    about = f"the student of {count} teachers"
    return [*teachers, Course("student", about, learning, last.seed, student=True)]


def _learn(
    learner: Learner,
    course: Course,
    later: int,
    validation: tuple[NDArray[np.uint8], Labels],
    folder: Path,
    logs: Path,
    watch: Watch,
    cluster: Cluster,
) -> tuple[Epoch, ...]:
    """One network goes through its epochs, those that `folder` does not hold already.

    `later` epochs of other networks are still to come.
    """
    fit = course.recipe.fit
    curves = tf.summary.create_file_writer(str(logs / course.name))
    history = learner.restore(folder)
    watch.begin(learner.batches * (fit.epochs - len(history) + later))
    with cluster.together():
        learner.join()
        while (number := cluster.tell(_next(history, fit))) < fit.epochs:
            began = time.perf_counter()
            figures = *learner.learn(number, watch.batch), *learner.measure(validation)
            seconds = round(time.perf_counter() - began, 1)
            history = (*history, Epoch(number + 1, *figures, seconds))
            if fit.patience is None or _best(history) == number + 1:
                learner.keep()
            learner.save(folder, history)
            _draw(curves, history[-1])
            watch.epoch(history[-1])
    return history


def assist(recipe: Recipe, seed: int, train: Material, watch: Watch, cluster: Cluster) -> None:
    """Learns this worker's share of the training that the chief of the cluster fits."""
    taught: list[keras.Model] = []
    courses = _courses(recipe, seed)
    for number, course in enumerate(courses):
        if course.about:
            watch.note(course.about)
        epochs = course.recipe.fit.epochs
        teachers = taught if course.student else []
        learner = Learner(course.recipe, course.seed, train, cluster, teachers)
        watch.begin(learner.batches * sum(its.recipe.fit.epochs for its in courses[number:]))
        with cluster.together():
            learner.join()
            while (number := cluster.tell(0)) < epochs:
                learner.learn(number, watch.batch)
        learner.keep()
        taught.append(learner.kept())


NONE = Epoch(0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _best(history: Sequence[Epoch]) -> int:
    """The epoch with the highest validation AUROC, of equals the one with the least loss.

    Counted from 1; 0 before the first.
    """
    return max(
        history, key=lambda its: (its.validation_auroc, -its.validation_loss), default=NONE
    ).epoch


def _next(history: Sequence[Epoch], fit: Fit) -> int:
    """The epoch that comes next, counted from 0; after the last one, how many there are."""
    tired = fit.patience is not None and len(history) - _best(history) > fit.patience
    return fit.epochs if tired else len(history)


def _draw(curves: tf.summary.SummaryWriter, epoch: Epoch) -> None:
    """Puts one epoch's figures where TensorBoard looks for them."""
    with curves.as_default(step=epoch.epoch):
        for name, value in asdict(epoch).items():
            tf.summary.scalar(name, value)
    curves.flush()
