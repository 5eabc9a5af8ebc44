"""What a command refuses before TensorFlow is loaded, which takes ten seconds and more.

Nothing here imports it: a wrong argument is told at once. What is refused here is read again when
the work begins.
"""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from devices import BadInput
from devices.regular_file import MAX_MODEL, read_regular, require_regular
from devices.schema_io import read_json
from edge_runtime.files import refuse_existing
from train.importers import read_samples
from train.outliers import refuse_unusable
from train.plan import Changes, make_plan
from train.recipe import read_recipe
from train.resume import refuse_taken
from train.samples import Task

RUN_FILES = ("run.json", "split.csv", "model.keras")
"""Without these a folder is no run."""


def check_training(
    data: Path,
    recipe: str,
    out: Path,
    resume: bool,
    folds: bool,
    changes: Changes,
    other: Path | None = None,
) -> None:
    """Raises BadInput where the recipe, the place of the run or the layout of the data is wrong.

    Also where `other`, pictures that are out of scope, cannot be used; see `refuse_unusable`.
    """
    plan = read_recipe(recipe)
    if other is not None:
        refuse_unusable(other, plan)
    if folds:
        if not resume:
            refuse_existing(out)
    elif "TF_CONFIG" not in os.environ:  # of several machines only the chief writes
        refuse_taken(out, resume)
    make_plan(data, recipe, changes)


@dataclass(frozen=True, slots=True)
class RecipeTask:
    """The entry of a recipe that says which labels there are."""

    task: Task


@dataclass(frozen=True, slots=True)
class RecordTask:
    """The entry of a `run.json` that says which labels there are."""

    recipe: RecipeTask


def check_evaluation(
    run: Path, data: Path, others: Path | None, tirads: dict[str, str] | None
) -> None:
    """Raises BadInput where `run` is no run, or the layout of the data is wrong."""
    require_run(run)
    path = run / "run.json"
    task = read_json(read_regular(path), RecordTask, str(path), whole=False).recipe.task
    if others is not None and not others.exists():
        raise BadInput(f"{others}: no such file or folder")
    read_samples(data, task if tirads is None else task.graded(tirads))


def require_bounded(model: Path) -> None:
    """Raises BadInput for a Keras model that is no regular file, or unpacks to too many bytes."""
    try:
        require_regular(model)
        with zipfile.ZipFile(model) as packed:
            size = sum(info.file_size for info in packed.filelist)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{model}: not a Keras model that can be read") from error
    if size > MAX_MODEL:
        raise BadInput(f"{model}: more than {MAX_MODEL:,} bytes once it is unpacked")


def require_run(folder: Path) -> None:
    """Raises BadInput where `folder` lacks a file that each run has."""
    for name in RUN_FILES:
        if not (folder / name).is_file():
            raise BadInput(f"{folder}: not a run, it has no {name}")
