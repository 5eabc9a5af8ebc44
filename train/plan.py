"""What is learnt from a data set: a recipe, with the classes of the data and the user's changes."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from devices import BadInput
from edge_runtime.bundle.manifest import NAME
from train.importers import class_names, read_samples
from train.recipe import Recipe, read_recipe, shipped
from train.samples import MAX_LABELS, AsWritten, Collection, Task

POSITIVE_NAMES = (
    *("malignant", "cancer", "carcinoma", "tumor", "tumour", "positive", "pos", "abnormal"),
    *("diseased", "disease", "pathological", "yes", "true"),
)
"""What the class is called, in small letters, that is looked for; the first of them counts."""


@dataclass(frozen=True)
class Changes:
    """What a user wants otherwise than the recipe has it."""

    labels: tuple[str, ...] = ()
    positive: str | None = None
    task: str | None = None
    epochs: int | None = None
    distillation: bool = True
    """Whether the recipe's distillation stays."""
    tirads: dict[str, str] | None = None
    """The label of each TI-RADS grade, in place of the recipe's own mapping."""


@dataclass(frozen=True)
class Plan:
    """A recipe for a data set, and what was found there."""

    recipe: Recipe
    collection: Collection
    assumed: str
    """The classes, and what was taken for granted, in one line."""


def make_plan(data: Path, recipe: str, changes: Changes) -> Plan:
    """The recipe for `data`, whose labelled images are found but not yet read.

    A shipped recipe that does not know the classes of the data takes them from the data, and its
    task the name of the data; a recipe of the user's own is left as it is written. Raises BadInput
    where the data or the recipe cannot be used, or where they do not fit.
    """
    unnamed = replace(changes, positive=None, task=None)  # of the classes, once they are known
    plan, taken = changed(read_recipe(recipe), unnamed, data.resolve().stem), False
    try:
        collection = read_samples(data, plan.task)
    except BadInput:
        if recipe not in shipped() or changes.labels or changes.tirads is not None:
            raise
        if read_samples(data, AsWritten()).layout == "DDTI":
            raise
        names = class_names(data)
        if all(plan.task.knows(name) for name in names):
            raise
        plan, taken = _with_labels(plan, _positive_last(names), data.resolve().stem), True
        collection = read_samples(data, plan.task)
    named = Changes(positive=changes.positive, task=changes.task)
    plan = changed(plan, named, data.resolve().stem)
    return Plan(plan, collection, _assumed(plan.task, taken))


def changed(recipe: Recipe, changes: Changes, name: str) -> Recipe:
    """The recipe as a user wants it; with other labels its task is called `name`.

    Raises BadInput for labels that no task can have.
    """
    if changes.epochs is not None:
        recipe = _with_epochs(recipe, changes.epochs)
    if not changes.distillation:
        recipe = replace(recipe, distillation=None)
    if changes.labels:
        recipe = _with_labels(recipe, changes.labels, name)
    task = recipe.task
    if changes.tirads is not None:
        task = task.graded(changes.tirads)
    if changes.positive is not None:
        task = replace(task, labels=_moved_last(changes.positive, task.labels))
    if changes.task is not None:
        task = replace(task, name=changes.task)
    return replace(recipe, task=task)


def _assumed(task: Task, taken: bool) -> str:
    words = f"labels: {', '.join(task.labels)}"
    if len(task.labels) == 2:
        words += f"; positive: {task.labels[-1]}"
    words += f"; task: {task.name}"
    if taken:
        change = "--positive and --task change it" if len(task.labels) == 2 else "--task names it"
        words += f" (taken from the data; {change})"
    return words


def _with_labels(plan: Recipe, labels: tuple[str, ...], name: str) -> Recipe:
    """The recipe for other labels, without the spellings and grades of its own."""
    for label in labels:
        if not re.fullmatch(NAME, label):
            raise BadInput(
                f"{name}: the class {label!r} needs another name: up to 64 letters a to z, digits, "
                "blanks, and _ . -"
            )
    if {*labels} == {*plan.task.labels}:
        return replace(plan, task=replace(plan.task, labels=labels))
    if not 2 <= len({*labels}) == len(labels) <= MAX_LABELS:
        raise BadInput(
            f"{name}: {len({*labels})} class(es), {', '.join(labels[:5])}; 2 to {MAX_LABELS} "
            "different ones are needed"
        )
    return replace(plan, task=Task(name, labels, {}))


def _positive_last(names: tuple[str, ...]) -> tuple[str, ...]:
    """Of two names the one that is looked for last; of more the order is that of the alphabet."""
    if len(names) == 2:
        for name in names:
            if name.casefold() in POSITIVE_NAMES:
                return _moved_last(name, names)
    return names


def _moved_last(label: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    if label not in labels:
        raise BadInput(f"--positive {label}: no such class; there are {', '.join(labels)}")
    return (*(other for other in labels if other != label), label)


def _with_epochs(plan: Recipe, epochs: int) -> Recipe:
    """So many epochs for each network that learns."""
    distillation = plan.distillation and replace(plan.distillation, epochs=epochs)
    return replace(plan, fit=replace(plan.fit, epochs=epochs), distillation=distillation)
