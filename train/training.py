"""From labelled images to runs: read, clean, split, fit, measure, write."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices import BadInput
from devices.records import plain, write_json
from edge_runtime import preprocess
from edge_runtime.atomic import refuse_existing, whole_file
from train.augmentation import contact_sheet
from train.batches import PatchSet, patch_set_of
from train.cluster import ALONE, Cluster, join
from train.duplicates import Pair, find_duplicates, join_groups
from train.fit import Callbacks, Fitted, fit, fit_as_worker
from train.importers import read_samples
from train.leaks import leaks_table, settle_leaks
from train.loading import Loaded, load, prepare
from train.metrics import Metrics, PartialMetrics, by_subgroup, measure
from train.network import answer
from train.pretrained import require_weights
from train.recipe import Recipe, read_recipe
from train.report import Answers, Findings, Mistake, worst_mistakes
from train.run import (
    SCHEMA,
    Record,
    data_sha256,
    describe_data,
    refuse_strangers,
    software,
    write_run,
)
from train.samples import PARTS, Part, Sample, read_pixels
from train.scope import fit_scope
from train.split import Split, given_split, hold_out, split_by_group, split_csv
from train.subgroups import traits

NO_GROUPS = (
    "no groups are known, so each image is a group of its own; images of one patient may stand "
    "on two sides of the split, and the figures will flatter"
)
SCANNERS = 8
"""Subgroups of the test images by scanner, the most frequent ones; the others are one."""
CALIPERS = {True: "calipers", False: "none", None: "not known"}
BOXES = {"a fifth smaller": 0.8, "a quarter larger": 1.25}
"""How else people may draw the box around a nodule: its size, over that of the data."""


@dataclass(frozen=True)
class Dataset:
    """A data set, read and cleaned once for one run or several."""

    name: str
    root: Path
    recipe_name: str
    recipe: Recipe
    loaded: Loaded
    pairs: tuple[Pair, ...]
    """Duplicates; both pictures of a pair are of one group now."""
    grouped: bool
    """Whether the data told which images are of one patient, case or sweep."""

    @property
    def has_split(self) -> bool:
        """Whether the data's own table says which image is for what."""
        return any(sample.part for sample in self.loaded.samples)


def read_dataset(
    data: Path,
    recipe: str,
    callbacks: Callbacks,
    tirads: dict[str, str] | None = None,
    leaks: Path | None = None,
    drop_leaks: bool = False,
) -> Dataset:
    """Reads and cleans `data`, and pulls duplicates into one group.

    `tirads` maps grades to labels in place of the recipe's own mapping; of `leaks` and `drop_leaks`
    see `settle_leaks`. Raises BadInput where the data or the recipe cannot be used, or where a
    split of the data's own has the same picture on two sides.
    """
    plan = read_recipe(recipe)
    if tirads is not None:
        plan = replace(plan, task=plan.task.graded(tirads))
    require_weights(plan.network)
    collection = read_samples(data, plan.task)
    for line in (f"data: {collection.summary}", *collection.notes):
        callbacks.note(line)
    loaded = load(collection, preprocess.parse(plan.preprocessing), callbacks.images)
    root = (data if data.is_dir() else data.parent).absolute()
    pairs: Sequence[Pair] = find_duplicates(loaded.fingerprints)
    loaded, pairs = settle_leaks(loaded, pairs, root, leaks, drop_leaks)
    for reason, count in loaded.reasons.items():
        callbacks.note(f"{count} dropped: {reason}")
    grouped = len({sample.group for sample in loaded.samples}) < len(loaded.samples)
    if not grouped:
        callbacks.note(NO_GROUPS)
    if pairs:
        callbacks.note(
            f"{len(pairs)} pairs of images are equal or nearly so; each pair is one group"
        )
    joined = join_groups(loaded.samples, pairs)
    return Dataset(
        name=data.resolve().stem,
        root=root,
        recipe_name=Path(recipe).stem,
        recipe=plan,
        loaded=replace(loaded, samples=joined),
        pairs=pairs,
        grouped=grouped,
    )


def unfinished(out: Path) -> Path:
    """Where the training of the run `out` keeps what it needs to be gone on with."""
    return out.parent / f"{out.name}.unfinished"


def refuse_taken(out: Path, resume: bool) -> None:
    """Raises BadInput where there is a run already, or an unfinished one that is not resumed.

    What Ctrl-C left of one that is resumed is replaced, if it is nothing but that.
    """
    left = unfinished(out)
    if not resume or not left.exists():
        refuse_existing(out)
    if left.exists() and not resume:
        raise BadInput(f"{left}: an unfinished training; go on with --resume, or remove it")
    if resume and not left.exists():
        raise BadInput(f"{left}: there is no unfinished training to go on with")
    if resume and out.exists():
        refuse_strangers(out)


def _begin(folder: Path, recipe: Recipe, seed: int, data: str) -> None:
    """Makes the folder of an unfinished training, or takes it up.

    Raises BadInput where it is that of another recipe, seed or split: what one training tests, the
    other may have learnt.
    """
    folder.mkdir(exist_ok=True)
    begun = folder / "begun"
    content = b"%b%d\n%b" % (write_json(recipe), seed, data.encode())
    identity = hashlib.sha256(content).hexdigest()
    if not begun.exists():
        with whole_file(begun) as path:
            path.write_text(identity)
    if begun.read_text() != identity:
        raise BadInput(f"{folder}: was begun with another recipe, seed or data, or version")


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
    recipe = dataset.recipe
    patch_sets = _patch_sets(dataset, split)
    labels = {part: patch_set.labels for part, patch_set in patch_sets.items()}
    pictures = {
        part: prepare(patch_set.patches, patch_set.preprocessing)
        for part, patch_set in patch_sets.items()
    }
    folder = unfinished(out)
    seen = data_sha256(split, dataset.root, pictures)
    _begin(folder, recipe, seed, split_csv(split, dataset.root) + seen)
    fitted = fit(
        recipe,
        seed,
        patch_sets["train"],
        (pictures["validation"], labels["validation"]),
        folder,
        callbacks,
        cluster,
    )
    outputs = {part: answer(fitted.model, pictures[part]) for part in PARTS}
    answers = {
        part: Answers(
            labels=labels[part],
            scores=outputs[part]["probability"][:, -1],
            uncalibrated=_uncalibrated(outputs[part]["probability"][:, -1], fitted.temperature),
            groups=[sample.group for sample in split.of(part)],
        )
        for part in PARTS
    }
    scope = None
    if "embedding" in outputs["train"]:
        learnt_from: tuple[Part, ...] = ("train", "validation")
        varied = (
            patch_sets[part].varied(seed, place, progress=callbacks.varying)
            for place, part in enumerate(learnt_from)
        )
        twice = [
            (outputs[part]["embedding"], answer(fitted.model, pictures)["embedding"])
            for part, pictures in zip(learnt_from, varied, strict=True)
        ]
        scope = fit_scope(*twice)
    withheld = None
    if scope is not None:
        far = scope.distance(outputs["test"]["embedding"]) > scope.limit
        withheld = float(np.mean(far))
    redrawn = _redrawn(patch_sets["test"], answers["test"], fitted)
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
        threshold=fitted.threshold,
        metrics={part: _measured(answers[part], fitted.threshold) for part in PARTS},
        subgroups=_subgroups(callbacks.images(split.of("test")), answers["test"], fitted.threshold)
        | ({"box": redrawn} if redrawn else {}),
        withheld=withheld,
        model_sha256="",  # known once the model is written
    )
    findings = Findings(
        record=plain(record),
        answers=answers,
        mistakes=_mistakes(split.of("test"), pictures["test"], outputs["test"], answers, fitted),
        augmented=None
        if recipe.augmentation is None
        else contact_sheet(partial(patch_sets["train"].picture, 0), recipe.augmentation, seed),
    )
    with _aside(out, folder / "before"):
        record = write_run(out, record, split, fitted.model, scope, findings, folder / "logs")
    if not fitted.interrupted:
        shutil.rmtree(folder)
    return record


@contextmanager
def _aside(run: Path, place: Path) -> Iterator[None]:
    """Moves a run of fewer epochs to `place` while that of more is written, which it makes room
    for; back, where that fails.
    """
    if run.exists():
        shutil.rmtree(place, ignore_errors=True)
        run.rename(place)
    try:
        yield
    finally:
        if place.exists() and not run.exists():
            place.rename(run)
        shutil.rmtree(place, ignore_errors=True)


def train_run(
    data: Path,
    recipe: str,
    out: Path,
    seed: int,
    held_out: str | None,
    resume: bool,
    callbacks: Callbacks,
    part_groups: bool = False,
    tirads: dict[str, str] | None = None,
    drop_leaks: bool = False,
) -> Record | None:
    """Trains `recipe` on `data` and writes the run `out`; see `train.run` for what is in it.

    The split is the one that the data's own table gives, else by group; `held_out` is the scanner
    to test on, or all but one, as in `!718x500`, and `part_groups` as for `_held_out`. Where
    TF_CONFIG names a cluster, each of its workers is started with the same data and options, and
    the chief writes the run; for the others there is no record.
    Raises BadInput where the data, the recipe or the place of the run cannot be used, before any
    long work begins.
    """
    cluster = join(note=callbacks.note)
    if cluster.chief:
        refuse_taken(out, resume)
    leaks = leaks_table(out) if cluster.chief else None
    dataset = read_dataset(data, recipe, callbacks, tirads, leaks, drop_leaks)
    samples, task = dataset.loaded.samples, dataset.recipe.task
    parted = 0
    if held_out is not None:
        split, parted = _held_out(dataset, held_out, seed, part_groups, callbacks)
    elif dataset.has_split:
        split = given_split(samples, task, seed)
    else:
        split = split_by_group(samples, task, seed)
    if not cluster.chief:
        fit_as_worker(
            dataset.recipe, seed, _patch_sets(dataset, split)["train"], callbacks, cluster
        )
        return None
    return train_split(dataset, split, out, seed, callbacks, held_out, parted, cluster)


def _patch_sets(dataset: Dataset, split: Split) -> dict[Part, PatchSet]:
    """What was read of the samples of each part, in their order."""
    recipe, loaded = dataset.recipe, dataset.loaded
    places = {_entry(sample): place for place, sample in enumerate(loaded.samples)}
    return {
        part: patch_set_of(
            split.of(part),
            [loaded.patches[places[_entry(sample)]] for sample in split.of(part)],
            recipe,
        )
        for part in PARTS
    }


def _entry(sample: Sample) -> tuple[object, ...]:
    """What tells a sample from all others, whatever its group is called."""
    return sample.path, sample.frame, sample.box


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


def _measured(answers: Answers, threshold: float) -> Metrics:
    return measure(answers.labels, answers.scores, threshold, answers.groups)


def _uncalibrated(scores: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """The probabilities before the temperature was folded in: of two classes, by their log-odds."""
    scores = np.clip(scores.astype(np.float64), 1e-12, 1 - 1e-12)
    return np.asarray(1 / (1 + np.exp(-temperature * np.log(scores / (1 - scores)))))


def _subgroups(
    samples: Iterable[Sample], test: Answers, threshold: float
) -> dict[str, dict[str, PartialMetrics]]:
    """The test figures by what an image tells besides its label."""
    seen = [traits(read_pixels(sample), sample.box) for sample in samples]
    common = {name for name, _ in Counter(traits.scanner for traits in seen).most_common(SCANNERS)}
    titles: dict[str, list[str]] = {
        "nodule size": [traits.nodule or "not known" for traits in seen],
        "scanner": [traits.scanner if traits.scanner in common else "others" for traits in seen],
        "colour": ["coloured" if traits.coloured else "grey" for traits in seen],
        "calipers": [CALIPERS[traits.calipers] for traits in seen],
    }
    return {
        title: by_subgroup(test.labels, test.scores, threshold, test.groups, names)
        for title, names in titles.items()
        if len(set(names)) > 1
    }


def _redrawn(test: PatchSet, answers: Answers, fitted: Fitted) -> dict[str, PartialMetrics]:
    """The figures of the test pictures that have a box, with boxes as `BOXES` has them."""
    boxed = [index for index, patch in enumerate(test.patches) if patch.box is not None]
    if not boxed or test.preprocessing.crop is None:
        return {}
    labels, groups = answers.labels[boxed], [answers.groups[index] for index in boxed]
    figures: dict[str, PartialMetrics] = {}
    for name, factor in BOXES.items():
        pictures = np.concatenate([test.redrawn(index, factor) for index in boxed])
        scores = answer(fitted.model, pictures)["probability"][:, -1]
        figures |= by_subgroup(labels, scores, fitted.threshold, groups, [name] * len(boxed))
    return figures


def _mistakes(
    samples: Sequence[Sample],
    pictures: NDArray[np.uint8],
    outputs: Mapping[str, NDArray[np.float32]],
    answers: Mapping[Part, Answers],
    fitted: Fitted,
) -> list[Mistake]:
    """The worst wrong decisions on the test split, each with its evidence where there is any."""
    test = answers["test"]
    evidence = outputs.get("evidence")
    return [
        Mistake(
            name=samples[index].path.name,
            label=samples[index].label,
            score=float(test.scores[index]),
            picture=pictures[index],
            evidence=None if evidence is None else evidence[index],
        )
        for index in worst_mistakes(test.labels, test.scores, fitted.threshold)
    ]
