"""From marked pictures to the run of a locator: read, split, learn, choose the scores, measure."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from devices import BadInput
from edge_runtime.bundle import preprocess
from edge_runtime.screen.region import Region
from train.fit import ignore
from train.locator.augmentation import Square
from train.locator.dataset import (
    LocatorData,
    LocatorPicture,
    read_locator_data,
    simulated_pictures,
    square_of,
    ultrasound_picture,
)
from train.locator.learner import LocatorLearner, Source
from train.locator.measurement import choose_scores, clips_of, detect, measure
from train.locator.recipe import LocatorRecipe, read_locator_recipe
from train.locator.report import locator_page
from train.locator.run import (
    SCHEMA,
    LocatorRecord,
    LocatorRun,
    Step,
    count,
    read_locator_run,
    refuse_strangers,
    split_rows,
    write_locator_run,
)
from train.network import answer
from train.outliers import pictures_under
from train.pretrained import require_weights
from train.resume import begin, refuse_taken, set_aside, unfinished
from train.run import software
from train.samples import Part

MEASURED: tuple[Part, ...] = ("validation", "test")
EVERY = 50
"""Steps from one line of the history to the next."""


@dataclass(frozen=True)
class LocatorCallbacks:
    """Who is told of the progress of a training; by default nobody."""

    pictures: Callable[[Iterable[Any]], Iterable[Any]] = iter
    begin: Callable[[int], None] = ignore
    steps: Callable[[int], None] = ignore
    line: Callable[[Step], None] = ignore
    note: Callable[[str], None] = ignore
    scores: Callable[[Iterable[float]], Iterable[float]] = iter
    """Shows the choice of the scores of the tracks."""


def train_locator(
    folders: Sequence[Path],
    recipe_name: str,
    out: Path,
    seed: int,
    other: Path | None,
    start_from: Path | None,
    resume: bool,
    callbacks: LocatorCallbacks,
) -> LocatorRecord:
    """Trains a locator on data sets of marked pictures and writes the run `out`.

    `other` holds pictures of other organs, which show no nodule. `start_from` is a run whose
    weights it begins with. A training that was broken off is gone on with by `resume`, to the same
    result. KeyboardInterrupt ends it with the steps up to the last line of the history, and stays
    open to be gone on with; it is raised where there is no line yet. Raises BadInput where recipe
    or data cannot be used, before any long work begins.
    """
    recipe = read_locator_recipe(recipe_name)
    require_weights(recipe.network)
    refuse_taken(out, resume, refuse_strangers)
    if not out.absolute().parent.is_dir():
        raise BadInput(f"{out}: there is no folder {out.absolute().parent}")
    start = None if start_from is None else _start(start_from, recipe)
    side = preprocess.parse(recipe.preprocessing).side
    data = read_locator_data(folders, side, seed, callbacks.pictures)
    for note in (*data.notes, *lacks(data)):
        callbacks.note(note)
    held = data.of("train")[0].square.pixels.shape[0]
    others = []
    if other is not None:
        screens = (pixels for _, pixels in pictures_under(other))
        others = [square_of(ultrasound_picture(its, Region())[1], [], held) for its in screens]
    simulated = simulated_pictures(held) if recipe.sampling.simulated else []
    sources = list(draw_sources(recipe, data.of("train"), others, simulated))
    started = None if start is None else start.record.model_sha256
    folder = unfinished(out)
    begin(folder, recipe, seed, _digest_of(sources, split_rows(data.pictures, out), started))
    learner = LocatorLearner(recipe, sources, seed, None if start is None else start.model)
    history, interrupted = _learn(learner, recipe.fit.steps, folder, callbacks)
    with set_aside(out, folder / "before"):
        record = write_measured(
            recipe_name,
            recipe,
            out,
            seed,
            folders,
            data,
            learner.averaged(),
            history,
            started,
            interrupted,
            callbacks.scores,
        )
    if "validation" in record.clips:
        callbacks.note(f"the scores of the tracks are {record.scores_are}")
    if not interrupted:
        shutil.rmtree(folder)
    return record


def lacks(data: LocatorData) -> Iterator[str]:
    """What the data do not hold, and what comes of it."""
    if all(its.marked.boxes or its.edge for its in data.of("train")):
        yield "no empty picture to learn from: nothing teaches that there may be no nodule"
    clips = [its for its in data.of("validation") if its.moving]
    if not clips:
        yield "no validation clips: the scores of the tracks stay those of the recipe"
    elif all(its.marked.boxes for its in clips):
        yield "no empty frame in the validation clips: nothing bounds the false boxes of the tracks"


def _learn(
    learner: LocatorLearner, steps: int, folder: Path, callbacks: LocatorCallbacks
) -> tuple[tuple[Step, ...], bool]:
    """Goes through the steps that `folder` does not hold already.

    Returns the history, and whether somebody interrupted it.
    """
    history = learner.restore(folder)
    callbacks.begin(steps)
    try:
        while (done := history[-1].step if history else 0) < steps:
            callbacks.steps(done)
            began, upto = time.perf_counter(), min(done + EVERY, steps)
            losses = learner.learn(done, upto, callbacks.steps)
            line = Step(upto, *losses, round(time.perf_counter() - began, 1))
            history = (*history, line)
            learner.save(folder, history)
            callbacks.line(line)
    except KeyboardInterrupt:
        history = learner.restore(folder)
        if not history:
            raise
        return history, True
    return history, False


def _digest_of(sources: Sequence[Source], split: str, started: str | None) -> str:
    """What the result depends on beside the recipe and the seed."""
    digest = hashlib.sha256(f"{started}\n{split}".encode())
    for source in sources:
        digest.update(f"{source.share} {len(source.pictures)}".encode())
        for square in source.pictures:
            digest.update(square.pixels.tobytes())
    return digest.hexdigest()


def _start(folder: Path, recipe: LocatorRecipe) -> LocatorRun:
    run = read_locator_run(folder)
    own = run.record.recipe
    if (own.network, own.channels) != (recipe.network, recipe.channels):
        raise BadInput(f"{folder}: has another network than the recipe, so it is no start for it")
    return run


def draw_sources(
    recipe: LocatorRecipe,
    pictures: Sequence[LocatorPicture],
    others: Sequence[Square],
    simulated: Sequence[Square],
) -> Iterable[Source]:
    """What a batch is drawn of; a data set of four times as many marked pictures counts twice."""
    sampling = recipe.sampling
    numbers = sorted({picture.source for picture in pictures})
    marked = {
        number: [
            picture.square
            for picture in pictures
            if picture.source == number and picture.marked.boxes
        ]
        for number in numbers
    }
    roots = {number: len(squares) ** 0.5 for number, squares in marked.items() if squares}
    for number, root in roots.items():
        yield Source(marked[number], sampling.marked * root / sum(roots.values()))
    empty = [
        picture.square for picture in pictures if not picture.marked.boxes and not picture.edge
    ]
    for squares, share in (
        (empty, sampling.empty),
        (others, sampling.other),
        (simulated, sampling.simulated),
    ):
        if squares and share:
            yield Source(squares, share)


def write_measured(
    recipe_name: str,
    recipe: LocatorRecipe,
    out: Path,
    seed: int,
    folders: Sequence[Path],
    data: LocatorData,
    model: keras.Model,
    history: Sequence[Step],
    started_from: str | None = None,
    interrupted: bool = False,
    progress: Callable[[Iterable[float]], Iterable[float]] = iter,
) -> LocatorRecord:
    """Chooses the scores on the validation part, measures both other parts, and writes the run."""
    preprocessing = preprocess.parse(recipe.preprocessing)
    pictures: dict[Part, list[LocatorPicture]] = {part: data.of(part) for part in MEASURED}
    found = {
        part: detect(lambda tensors: answer(model, tensors), pictures[part], preprocessing)
        for part in MEASURED
    }
    clips = clips_of(pictures["validation"], found["validation"])
    tracking = choose_scores(clips, recipe.tracking, recipe.false_frames, progress)
    measured = {part: measure(pictures[part], found[part], tracking) for part in MEASURED}
    root = Path(os.path.commonpath([folder.absolute() for folder in folders]))
    root = root if root.is_dir() else root.parent
    split = split_rows(data.pictures, root)
    record = LocatorRecord(
        kind="locator",
        schema=SCHEMA,
        recipe_name=recipe_name,
        recipe=recipe,
        seed=seed,
        software=software(),
        data=tuple(folder.resolve().name for folder in folders),
        root=str(root),
        split_sha256=hashlib.sha256(split.encode()).hexdigest(),
        counts=count(data.pictures),
        dropped=data.dropped,
        history=tuple(history),
        started_from=started_from,
        interrupted=interrupted,
        tracking=tracking,
        metrics={part: alone for part, (alone, _) in measured.items()},
        clips={part: moving for part, (_, moving) in measured.items() if moving is not None},
        model_sha256="0" * 64,
    )
    return write_locator_run(
        out, record, model, split, locator_page(record, pictures["test"], found["test"])
    )
