"""A data set: the images and labels that a recipe can use, with duplicates in one group."""

from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime.bundle import preprocess
from train.batches import PatchSet, patch_set_of
from train.duplicates import Pair, find_duplicates, join_groups
from train.fit import Callbacks
from train.leaks import settle_leaks
from train.loading import Loaded, load
from train.outliers import Outliers, read_auxiliary, refuse_unusable
from train.plan import Changes, make_plan
from train.pretrained import require_weights
from train.recipe import Recipe
from train.samples import PARTS, Part, Sample, tell_dropped
from train.split import Split

NO_GROUPS = (
    "no groups are known, so each image is a group of its own; images of one patient may stand "
    "on two sides of the split, and the figures will flatter"
)


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
    outliers: Outliers | None
    """Auxiliary pictures that are out of scope; None where none were given."""

    @property
    def has_split(self) -> bool:
        """Whether the data's own table says which image is for what."""
        return any(sample.part for sample in self.loaded.samples)


def read_dataset(
    data: Path,
    recipe: str,
    seed: int,
    callbacks: Callbacks,
    changes: Changes | None = None,
    leaks: Path | None = None,
    drop_leaks: bool = False,
    other: Path | None = None,
) -> Dataset:
    """Reads and cleans `data`, and pulls duplicates into one group.

    Of `changes` to the recipe see `train.plan`, of `leaks` and `drop_leaks` `settle_leaks`. `other`
    holds pictures that are out of scope, of which `seed` draws some where there are many. Raises
    BadInput where the data or the recipe cannot be used, where `other` is given to a recipe without
    an embedding, or where a split of the data's own has the same picture on two sides.
    """
    planned = make_plan(data, recipe, changes or Changes())
    plan, collection = planned.recipe, planned.collection
    require_weights(plan.network)
    preprocessing, outliers = preprocess.parse(plan.preprocessing), None
    if other is not None:
        refuse_unusable(other, plan)
        outliers = read_auxiliary(other, preprocessing, seed, callbacks.others)
    for line in (f"data: {collection.summary}", planned.assumed, *collection.notes):
        callbacks.note(line)
    loaded = load(collection, preprocessing, callbacks.images)
    root = (data if data.is_dir() else data.parent).absolute()
    pairs = tuple(find_duplicates(loaded.fingerprints))
    loaded, pairs = settle_leaks(loaded, pairs, root, leaks, drop_leaks)
    for line in tell_dropped(loaded.dropped):
        callbacks.note(line)
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
        outliers=outliers,
    )


def patch_sets(dataset: Dataset, split: Split) -> dict[Part, PatchSet]:
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
