"""From marked pictures to the run of a locator: read, split, learn, choose the scores, measure."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
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
from train.locator.learner import Source, learn_locator
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
    split_rows,
    write_locator_run,
)
from train.network import answer
from train.outliers import pictures_under
from train.pretrained import require_weights
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


def train_locator(
    folders: Sequence[Path],
    recipe_name: str,
    out: Path,
    seed: int,
    other: Path | None,
    start_from: Path | None,
    callbacks: LocatorCallbacks,
) -> LocatorRecord:
    """Trains a locator on data sets of marked pictures and writes the run `out`.

    `other` holds pictures of other organs, which show no nodule. `start_from` is a run whose
    weights it begins with. Raises BadInput where recipe or data cannot be used, before any long
    work begins.
    """
    recipe = read_locator_recipe(recipe_name)
    require_weights(recipe.network)
    if out.exists():
        raise BadInput(f"{out}: is there already")
    if not out.absolute().parent.is_dir():
        raise BadInput(f"{out}: there is no folder {out.absolute().parent}")
    start = None if start_from is None else _start(start_from, recipe)
    side = preprocess.parse(recipe.preprocessing).side
    data = read_locator_data(folders, side, seed, callbacks.pictures)
    for note in data.notes:
        callbacks.note(note)
    held = data.of("train")[0].square.pixels.shape[0]
    others = []
    if other is not None:
        screens = (pixels for _, pixels in pictures_under(other))
        others = [square_of(ultrasound_picture(its, Region())[1], [], held) for its in screens]
    simulated = simulated_pictures(held) if recipe.sampling.simulated else []
    sources = list(draw_sources(recipe, data.of("train"), others, simulated))
    callbacks.begin(recipe.fit.steps)
    history: list[Step] = []
    began = time.perf_counter()

    def report(number: int, score_loss: float, sides_loss: float) -> None:
        line = Step(number, score_loss, sides_loss, round(time.perf_counter() - began, 1))
        history.append(line)
        callbacks.line(line)

    model = learn_locator(
        recipe.network,
        recipe.channels,
        side,
        sources,
        recipe.augmentation,
        recipe.sampling.borrowed_tones,
        recipe.fit.learning_rate,
        recipe.fit.batch,
        recipe.fit.steps,
        seed,
        recipe.fit.frozen,
        report,
        EVERY,
        callbacks.steps,
        start=None if start is None else start.model,
    )
    started = None if start is None else start.record.model_sha256
    return write_measured(recipe_name, recipe, out, seed, folders, data, model, history, started)


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
) -> LocatorRecord:
    """Chooses the scores on the validation part, measures both other parts, and writes the run."""
    preprocessing = preprocess.parse(recipe.preprocessing)
    pictures: dict[Part, list[LocatorPicture]] = {part: data.of(part) for part in MEASURED}
    found = {
        part: detect(lambda tensors: answer(model, tensors), pictures[part], preprocessing)
        for part in MEASURED
    }
    clips = clips_of(pictures["validation"], found["validation"])
    tracking = choose_scores(clips, recipe.tracking, recipe.false_frames)
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
        tracking=tracking,
        metrics={part: alone for part, (alone, _) in measured.items()},
        clips={part: moving for part, (_, moving) in measured.items() if moving is not None},
        model_sha256="0" * 64,
    )
    return write_locator_run(
        out, record, model, split, locator_page(record, pictures["test"], found["test"])
    )
