"""From labelled images to runs: read, clean, split, fit, measure, write."""

import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices import BadInput
from devices.schema_io import plain
from train.augmentation import contact_sheet
from train.batches import PatchSet
from train.cluster import ALONE, Cluster, join
from train.dataset import Dataset, patch_sets, read_dataset
from train.duplicates import join_groups
from train.fit import Callbacks, fit, fit_as_worker
from train.leaks import leaks_table
from train.measurement import measure_fitted
from train.outliers import Outliers
from train.plan import Changes
from train.report import Findings, report_page
from train.resume import begin, refuse_taken, set_aside, unfinished
from train.run import SCHEMA, Record, data_sha256, describe_data, software, write_run
from train.samples import PARTS
from train.split import Split, given_split, hold_out, split_by_group, split_csv


def train_split(
    dataset: Dataset,
    split: Split,
    out: Path,
    seed: int,
    callbacks: Callbacks,
    held_out: str | None = None,
    parted: int = 0,
    cluster: Cluster = ALONE,
) -> Record:
    """Trains on one split and writes the run `out`; returns what it measured.

    The split's samples are some or all of the gathered ones. The test split is measured and used
    for nothing else. `parted` groups were parted by scanner for it. A training that was broken off
    is gone on with; stopped by the user, it leaves a run of the epochs that are whole, and stays
    open to be gone on with.
    """
    recipe, patches = dataset.recipe, patch_sets(dataset, split)
    pictures = {part: patches[part].prepared() for part in PARTS}
    folder = unfinished(out)
    seen = data_sha256(split, dataset.root, pictures)
    begin(folder, recipe, seed, split_csv(split, dataset.root) + seen)
    fitted = fit(
        recipe,
        seed,
        patches["train"],
        (pictures["validation"], patches["validation"].labels),
        folder,
        callbacks,
        cluster,
    )
    measurement = measure_fitted(
        fitted, recipe.task.labels, split, patches, pictures, dataset.outliers, seed, callbacks
    )
    record = Record(
        schema=SCHEMA,
        recipe_name=dataset.recipe_name,
        recipe=recipe,
        seed=seed,
        held_out=held_out,
        parted=parted,
        software=software(),
        data=describe_data(
            dataset.name,
            dataset.root,
            split,
            pictures,
            dataset.loaded,
            dataset.pairs,
            dataset.grouped,
        ),
        history=fitted.history,
        teachers=fitted.teachers,
        interrupted=fitted.interrupted,
        best_epoch=fitted.best_epoch,
        temperature=fitted.temperature,
        thresholds=fitted.thresholds,
        metrics=measurement.metrics,
        subgroups=measurement.subgroups,
        withheld=measurement.withheld,
        others=_counts(dataset.outliers),
        model_sha256="",  # known once the model is written
    )
    report = report_page(
        Findings(
            record=plain(record),
            answers=measurement.answers,
            mistakes=measurement.mistakes,
            augmented=_augmented(patches["train"], seed),
        )
    )
    with set_aside(out, folder / "before"):
        record = write_run(
            out,
            record,
            split,
            fitted.model,
            measurement.scope,
            None if dataset.outliers is None else dataset.outliers.pictures,
            {part: answers.probability for part, answers in measurement.answers.items()},
            report,
            folder / "logs",
        )
    if not fitted.interrupted:
        shutil.rmtree(folder)
    return record


def _counts(outliers: Outliers | None) -> dict[str, int]:
    """How many auxiliary pictures of each kind there are."""
    return {} if outliers is None else dict(sorted(Counter(outliers.kinds).items()))


def _augmented(train: PatchSet, seed: int) -> NDArray[np.uint8] | None:
    """One training picture as augmentation changes it; None of a recipe without augmentation."""
    if train.augmentation is None:
        return None
    return contact_sheet(partial(train.picture, 0), train.augmentation, seed)


def train_run(
    data: Path,
    recipe: str,
    out: Path,
    seed: int,
    held_out: str | None,
    resume: bool,
    callbacks: Callbacks,
    part_groups: bool = False,
    changes: Changes | None = None,
    drop_leaks: bool = False,
    other: Path | None = None,
) -> Record | None:
    """Trains `recipe` on `data` and writes the run `out`; see `train.run` for what is in it.

    The split is the one that the data's own table gives, else by group; `held_out` is the scanner
    to test on, or all but one, as in `!718x500`, and `part_groups` as for `_held_out`. `other`
    holds auxiliary pictures that are out of scope, which the scope is fitted with. Where TF_CONFIG
    names a cluster, each of its workers is started with the same data and options, and the chief
    writes the run; for the others there is no record.
    Raises BadInput where the data, the recipe or the place of the run cannot be used, before any
    long work begins.
    """
    cluster = join(note=callbacks.note)
    if cluster.chief:
        refuse_taken(out, resume)
    leaks = leaks_table(out) if cluster.chief else None
    dataset = read_dataset(data, recipe, seed, callbacks, changes, leaks, drop_leaks, other)
    samples, task = dataset.loaded.samples, dataset.recipe.task
    parted = 0
    if held_out is not None:
        split, parted = _held_out(dataset, held_out, seed, part_groups, callbacks)
    elif dataset.has_split:
        split = given_split(samples, task, seed)
    else:
        split = split_by_group(samples, task, seed)
    if not cluster.chief:
        fit_as_worker(dataset.recipe, seed, patch_sets(dataset, split)["train"], callbacks, cluster)
        return None
    return train_split(dataset, split, out, seed, callbacks, held_out, parted, cluster)


def _held_out(
    dataset: Dataset, held_out: str, seed: int, part_groups: bool, callbacks: Callbacks
) -> tuple[Split, int]:
    """Tests on one scanner's images alone, or on all but its; returns how many groups were parted.

    Of a group with both, the images that are not tested are left out, so that no patient stands on
    two sides. With `part_groups` such a group is parted, into one of each scanner: where a group is
    no patient, as in TN5000's runs of neighbouring numbers, too little is left else.
    """
    if dataset.has_split:
        raise BadInput("the data's own table gives a split; leave it out to hold out a scanner")
    name, scanners = held_out.removeprefix("!"), dataset.loaded.scanners
    if name not in scanners:
        raise BadInput(f"no image is of {name} pixels; there are {', '.join(sorted({*scanners}))}")
    tested = [(scanner == name) != held_out.startswith("!") for scanner in scanners]
    samples, task = dataset.loaded.samples, dataset.recipe.task
    sides = [
        {
            sample.group
            for sample, is_tested in zip(samples, tested, strict=True)
            if is_tested is side
        }
        for side in (True, False)
    ]
    both = sides[0] & sides[1]
    if both and part_groups:
        parted = [
            replace(sample, group=f"{sample.group} {scanner}")
            for sample, scanner in zip(samples, scanners, strict=True)
        ]
        callbacks.note(
            f"{len(both)} groups have images on both sides, and each is parted by scanner: if a "
            "group is a patient, the figures flatter"
        )
        joined = join_groups(parted, dataset.pairs)
        return hold_out(joined, task, tested, folds=1, seed=seed)[0], len(both)
    if both:
        left = sum(
            sample.group in both and not is_tested
            for sample, is_tested in zip(samples, tested, strict=True)
        )
        callbacks.note(
            f"{left} images are left out, as their groups are tested; --part-groups parts such "
            "groups by scanner, where they are no patients"
        )
    return hold_out(samples, task, tested, folds=1, seed=seed)[0], 0
