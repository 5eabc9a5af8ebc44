"""From labelled images to a run: read, split, prepare, fit, measure, write."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime import preprocess
from edge_runtime.atomic import refuse_existing
from train.fit import Epoch, fit, predict
from train.metrics import as_labels, measure
from train.recipe import read_recipe
from train.run import SCHEMA, Record, describe_data, software, write_run
from train.samples import Sample, load_pictures, read_samples
from train.split import PARTS, split_by_group

NO_GROUPS = (
    "no groups are known, so each image is a group of its own; images of one patient may stand "
    "on two sides of the split, and the figures will flatter"
)


def nobody(*_: object) -> None:
    """Is told, and does nothing."""


@dataclass(frozen=True)
class Watch:
    """Who is told of the progress of a training; by default nobody."""

    images: Callable[[Iterable[Sample]], Iterable[Sample]] = iter
    begin: Callable[[int], None] = nobody
    batch: Callable[[], None] = nobody
    epoch: Callable[[Epoch], None] = nobody
    note: Callable[[str], None] = nobody


def train_run(data: Path, recipe: str, out: Path, seed: int, watch: Watch) -> Record:
    """Trains `recipe` on `data` and writes the run `out`; see `train.run` for what is in it.

    The test split is measured and used for nothing else. Raises BadInput where the data, the
    recipe or the place of the run cannot be used, before any long work begins.
    """
    refuse_existing(out)
    plan = read_recipe(recipe)
    samples = read_samples(data, plan.task)
    if len({sample.group for sample in samples}) == len(samples):
        watch.note(NO_GROUPS)
    split = split_by_group(samples, plan.task, seed)
    pictures = load_pictures(split.samples, preprocess.parse(plan.preprocessing), watch.images)
    labels = as_labels([sample.label for sample in split.samples], plan.task.labels[-1])
    members = {part: [its == part for its in split.parts] for part in PARTS}
    given = {part: (pictures[members[part]], labels[members[part]]) for part in PARTS}
    watch.begin(-(-len(given["train"][0]) // plan.fit.batch) * plan.fit.epochs)
    fitted = fit(plan, seed, given["train"], given["validation"], watch.batch, watch.epoch)
    answers = {
        part: (given[part][1], predict(fitted.model, given[part][0])[:, 1]) for part in PARTS
    }
    root = (data if data.is_dir() else data.parent).absolute()
    record = Record(
        schema=SCHEMA,
        recipe_name=Path(recipe).stem,
        recipe=plan,
        seed=seed,
        software=software(),
        data=describe_data(data.resolve().stem, root, split, pictures),
        history=fitted.history,
        best_epoch=fitted.best_epoch,
        temperature=fitted.temperature,
        threshold=fitted.threshold,
        metrics={part: measure(*answers[part], fitted.threshold) for part in PARTS},
        model_sha256="",  # known once the model is written
    )
    return write_run(out, record, split, fitted.model, answers)
