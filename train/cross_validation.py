"""Several runs of one recipe, so that each image is tested once by a model that never saw it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from devices import BadInput
from devices.regular_file import read_regular
from devices.schema_io import read_json, write_json
from edge_runtime.files import refuse_existing, whole_file
from train.dataset import Dataset, read_dataset
from train.decision_rule import DecisionRule
from train.fit import Callbacks
from train.metrics import Metrics
from train.plan import Changes
from train.resume import unfinished
from train.run import read_record, read_test_answers, refuse_strangers
from train.split import Split, cross_validation_splits, split_csv
from train.training import train_split

SUMMARY = "cross-validation.json"


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What the folds came to."""

    recipe_name: str
    seed: int
    promised_sensitivity: float
    auroc: float
    """The mean of the folds."""
    auroc_deviation: float
    """Standard deviation over the folds."""
    together: Metrics
    """Of all test answers, each decided at the operating point of its own fold. Its areas are of
    several models' answers ranked as one; its calibration error is less by chance than a fold's."""
    folds: tuple[Metrics, ...]
    """The test figures of each fold."""


def cross_validate(
    data: Path,
    recipe: str,
    out: Path,
    seed: int,
    folds: int,
    resume: bool,
    callbacks: Callbacks,
    changes: Changes | None = None,
    other: Path | None = None,
) -> CrossValidation:
    """Trains and tests `folds` times; `out` then holds a run for each and a summary.

    With `resume`, folds that are whole stay as they are. Raises BadInput where the data, the recipe
    or the place cannot be used, or where a fold is of another cross-validation, and
    KeyboardInterrupt where the user stops it.
    """
    if resume and not out.is_dir():
        raise BadInput(f"{out}: there is no cross-validation to go on with")
    if not resume:
        refuse_existing(out)
    dataset = read_dataset(data, recipe, seed, callbacks, changes, other=other)
    if dataset.has_split:
        raise BadInput("the data's own table gives a split; leave it out to cross-validate")
    splits = cross_validation_splits(dataset.loaded.samples, dataset.recipe.task, folds, seed)
    out.mkdir(exist_ok=True)
    for number, split in enumerate(splits, start=1):
        callbacks.note(f"fold {number} of {folds}")
        folder = out / f"fold{number}"
        if folder.exists() and not unfinished(folder).exists():
            _require_same(folder, dataset, split, seed)
            continue
        if folder.exists():
            refuse_strangers(folder)
        if train_split(dataset, split, folder, seed, callbacks).interrupted:
            callbacks.note("stopped early; --resume goes on")
            raise KeyboardInterrupt
    summary = summarise([out / f"fold{number}" for number in range(1, folds + 1)])
    with whole_file(out / SUMMARY) as path:
        path.write_bytes(write_json(summary))
    return summary


def read_cross_validation(folder: Path) -> CrossValidation:
    """Reads the summary back. Raises BadInput where it is damaged."""
    return read_json(read_regular(folder / SUMMARY), CrossValidation, str(folder / SUMMARY))


def _require_same(run: Path, dataset: Dataset, split: Split, seed: int) -> None:
    """Raises BadInput where a fold that is whole is of another cross-validation."""
    record = read_record(run)
    if record.interrupted:
        raise BadInput(f"{run}: was broken off; remove it, and it is trained anew")
    table = hashlib.sha256(split_csv(split, dataset.root).encode()).hexdigest()
    theirs = record.recipe, record.seed, record.data.split_sha256
    if theirs != (dataset.recipe, seed, table):
        raise BadInput(
            f"{run}: a run of another recipe, seed, data or number of folds; go on with those, or "
            "name another --out"
        )


def summarise(runs: list[Path]) -> CrossValidation:
    """The figures of several runs' test splits together."""
    records = [read_record(run) for run in runs]
    first = records[0]
    classes = first.recipe.task.labels
    answers = [read_test_answers(run, classes) for run in runs]
    counts = [len(answer.labels) for answer in answers]
    rule = DecisionRule(
        classes,
        {
            label: np.repeat([record.thresholds[label] for record in records], counts)
            for label in first.thresholds
        },
    )
    tests = tuple(record.metrics["test"] for record in records)
    aurocs = [test.auroc for test in tests]
    return CrossValidation(
        recipe_name=first.recipe_name,
        seed=first.seed,
        promised_sensitivity=first.recipe.operating_point.sensitivity,
        auroc=float(np.mean(aurocs)),
        auroc_deviation=float(np.std(aurocs, ddof=1)),
        together=rule.measure(
            np.concatenate([answer.labels for answer in answers]),
            np.concatenate([answer.probability for answer in answers]),
            [group for answer in answers for group in answer.groups],
        ),
        folds=tests,
    )
