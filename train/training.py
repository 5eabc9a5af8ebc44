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
from edge_runtime.scope import Scope
from train.batches import Material, material_of
from train.cluster import ALONE, Cluster, join
from train.duplicates import Pair, find_duplicates, join_groups, refuse_leakage
from train.fit import Fitted, Watch, assist, fit
from train.importers import read_samples
from train.loading import Loaded, load, prepare
from train.metrics import Metrics, PartialMetrics, by_subgroup, measure
from train.network import answer
from train.outliers import Others, beside, read_auxiliary
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
from train.scanner import contact_sheet
from train.scope import Embeddings, fit_scope
from train.split import Split, given_split, hold_out, split_by_group, split_csv
from train.traits import traits

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
class Gathered:
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
    others: Others | None
    """Auxiliary pictures that are out of scope."""

    @property
    def has_split(self) -> bool:
        """Whether the data's own table says which image is for what."""
        return any(sample.part for sample in self.loaded.samples)


def gather(
    data: Path,
    recipe: str,
    seed: int,
    watch: Watch,
    tirads: dict[str, str] | None = None,
    other: Path | None = None,
) -> Gathered:
    """Reads and cleans `data`, and pulls duplicates into one group.

    `tirads` maps grades to labels in place of the recipe's own mapping, and `other` holds pictures
    that are out of scope, of which `seed` draws where there are many. Raises BadInput where the
    data or the recipe cannot be used, or where a split of the data's own has the same picture on
    two sides.
    """
    plan = read_recipe(recipe)
    if tirads is not None:
        plan = replace(plan, task=plan.task.graded(tirads))
    require_weights(plan.network)
    preprocessing, others = preprocess.parse(plan.preprocessing), None
    if other is not None:
        if "embedding" not in getattr(plan.network, "outputs", ()):
            raise BadInput(
                f"--other {other}: the recipe asks for no embedding, so there is no scope"
            )
        others = read_auxiliary(other, preprocessing, seed, watch.others)
    found = read_samples(data, plan.task)
    loaded = load(found, preprocessing, watch.images)
    for reason, count in loaded.reasons.items():
        watch.note(f"{count} dropped: {reason}")
    grouped = len({sample.group for sample in loaded.samples}) < len(loaded.samples)
    if not grouped:
        watch.note(NO_GROUPS)
    pairs = tuple(find_duplicates(loaded.fingerprints))
    refuse_leakage(loaded.samples, pairs)
    if pairs:
        watch.note(f"{len(pairs)} pairs of images are equal or nearly so; each pair is one group")
    joined = join_groups(loaded.samples, pairs)
    root = (data if data.is_dir() else data.parent).absolute()
    return Gathered(
        name=data.resolve().stem,
        root=root,
        recipe_name=Path(recipe).stem,
        recipe=plan,
        loaded=replace(loaded, samples=joined),
        pairs=pairs,
        grouped=grouped,
        others=others,
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
    its = b"%b%d\n%b" % (write_json(recipe), seed, data.encode())
    identity = hashlib.sha256(its).hexdigest()
    if not begun.exists():
        with whole_file(begun) as path:
            path.write_text(identity)
    if begun.read_text() != identity:
        raise BadInput(f"{folder}: was begun with another recipe, seed or data, or version")


def train_split(
    gathered: Gathered,
    split: Split,
    out: Path,
    seed: int,
    watch: Watch,
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
    recipe = gathered.recipe
    materials = _materials(gathered, split)
    labels = {part: its.labels for part, its in materials.items()}
    pictures = {part: prepare(its.patches, its.preprocessing) for part, its in materials.items()}
    folder = unfinished(out)
    seen = data_sha256(split, gathered.root, pictures)
    _begin(folder, recipe, seed, split_csv(split, gathered.root) + seen)
    fitted = fit(
        recipe,
        seed,
        materials["train"],
        (pictures["validation"], labels["validation"]),
        folder,
        watch,
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
    others, scope = gathered.others, None
    if "embedding" in outputs["train"]:
        embeddings = {part: its["embedding"] for part, its in outputs.items()}
        scope = _scope_of(fitted, embeddings, materials, split, others, seed, watch)
    withheld = None
    if scope is not None:
        withheld = float(np.mean(scope.score(outputs["test"]["embedding"]) > 1))
    redrawn = _redrawn(materials["test"], answers["test"], fitted)
    record = Record(
        schema=SCHEMA,
        recipe_name=gathered.recipe_name,
        recipe=recipe,
        seed=seed,
        held_out=held_out,
        parted=parted,
        software=software(),
        data=describe_data(
            gathered.name,
            gathered.root,
            split,
            pictures,
            gathered.loaded,
            gathered.pairs,
            gathered.grouped,
        ),
        history=fitted.history,
        teachers=fitted.teachers,
        interrupted=fitted.interrupted,
        best_epoch=fitted.best_epoch,
        temperature=fitted.temperature,
        threshold=fitted.threshold,
        metrics={part: _measured(answers[part], fitted.threshold) for part in PARTS},
        subgroups=_subgroups(watch.images(split.of("test")), answers["test"], fitted.threshold)
        | ({"box": redrawn} if redrawn else {}),
        withheld=withheld,
        others={} if others is None else dict(sorted(Counter(others.kinds).items())),
        model_sha256="",  # known once the model is written
    )
    findings = Findings(
        record=plain(record),
        answers=answers,
        mistakes=_mistakes(split.of("test"), pictures["test"], outputs["test"], answers, fitted),
        augmented=None
        if recipe.augmentation is None
        else contact_sheet(partial(materials["train"].picture, 0), recipe.augmentation, seed),
    )
    with _aside(out, folder / "before"):
        record = write_run(
            out,
            record,
            split,
            fitted.model,
            scope,
            None if others is None else others.pictures,
            findings,
            folder / "logs",
        )
    if not fitted.interrupted:
        shutil.rmtree(folder)
    return record


def _scope_of(
    fitted: Fitted,
    embeddings: Mapping[Part, Embeddings],
    materials: Mapping[Part, Material],
    split: Split,
    others: Others | None,
    seed: int,
    watch: Watch,
) -> Scope:
    """The scope of the model that was fitted, by its answers to all that it may learn from."""
    learnt_from: tuple[Part, ...] = ("train", "validation")
    varied = (
        materials[part].varied(seed, place, progress=watch.varying)
        for place, part in enumerate(learnt_from)
    )
    twice = [
        (embeddings[part], answer(fitted.model, pictures)["embedding"])
        for part, pictures in zip(learnt_from, varied, strict=True)
    ]
    outliers = [
        beside(split.of("train"), materials["train"].preprocessing, seed, watch.images),
        *([] if others is None else [others.pictures]),
    ]
    shown = [answer(fitted.model, pictures)["embedding"] for pictures in outliers if len(pictures)]
    return fit_scope(twice[0], twice[1], shown)


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
    watch: Watch,
    part_groups: bool = False,
    tirads: dict[str, str] | None = None,
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
    cluster = join(note=watch.note)
    if cluster.chief:
        refuse_taken(out, resume)
    gathered = gather(data, recipe, seed, watch, tirads, other)
    samples, task = gathered.loaded.samples, gathered.recipe.task
    parted = 0
    if held_out is not None:
        split, parted = _held_out(gathered, held_out, seed, part_groups, watch)
    elif gathered.has_split:
        split = given_split(samples, task, seed)
    else:
        split = split_by_group(samples, task, seed)
    if not cluster.chief:
        assist(gathered.recipe, seed, _materials(gathered, split)["train"], watch, cluster)
        return None
    return train_split(gathered, split, out, seed, watch, held_out, parted, cluster)


def _materials(gathered: Gathered, split: Split) -> dict[Part, Material]:
    """What was read of the samples of each part, in their order."""
    recipe, loaded = gathered.recipe, gathered.loaded
    places = {_entry(sample): place for place, sample in enumerate(loaded.samples)}
    return {
        part: material_of(
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
    gathered: Gathered, held_out: str, seed: int, part_groups: bool, watch: Watch
) -> tuple[Split, int]:
    """Tests on one scanner's images alone, or on all but its; returns how many groups were parted.

    Of a group with both, the images that are not tested are left out, so that no patient stands on
    two sides. With `part_groups` such a group is parted, into one of each scanner: where a group is
    no patient, as in TN5000's runs of neighbouring numbers, too little is left else.
    """
    if gathered.has_split:
        raise BadInput("the data's own table gives a split; leave it out to hold out a scanner")
    name, scanners = held_out.removeprefix("!"), gathered.loaded.scanners
    if name not in scanners:
        raise BadInput(f"no image is of {name} pixels; there are {', '.join(sorted({*scanners}))}")
    tested = [(its == name) != held_out.startswith("!") for its in scanners]
    samples, task = gathered.loaded.samples, gathered.recipe.task
    sides = [
        {sample.group for sample, its in zip(samples, tested, strict=True) if its is side}
        for side in (True, False)
    ]
    both = sides[0] & sides[1]
    if both and part_groups:
        parted = [
            replace(sample, group=f"{sample.group} {its}")
            for sample, its in zip(samples, scanners, strict=True)
        ]
        watch.note(
            f"{len(both)} groups have images on both sides, and each is parted by scanner: if a "
            "group is a patient, the figures flatter"
        )
        joined = join_groups(parted, gathered.pairs)
        return hold_out(joined, task, tested, folds=1, seed=seed)[0], len(both)
    if both:
        left = sum(
            sample.group in both and not its for sample, its in zip(samples, tested, strict=True)
        )
        watch.note(
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
    common = {name for name, _ in Counter(its.scanner for its in seen).most_common(SCANNERS)}
    titles: dict[str, list[str]] = {
        "nodule size": [its.nodule or "not known" for its in seen],
        "scanner": [its.scanner if its.scanner in common else "others" for its in seen],
        "colour": ["coloured" if its.coloured else "grey" for its in seen],
        "calipers": [CALIPERS[its.calipers] for its in seen],
    }
    return {
        title: by_subgroup(test.labels, test.scores, threshold, test.groups, names)
        for title, names in titles.items()
        if len(set(names)) > 1
    }


def _redrawn(test: Material, answers: Answers, fitted: Fitted) -> dict[str, PartialMetrics]:
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
