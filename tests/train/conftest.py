"""Trainings of few pictures and small networks, which tell all that a long one does."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.bundle import preprocess
from tests.conftest import SLIM, TINY
from train.batches import PatchSet
from train.fit import Callbacks, Fitted, fit
from train.importers import read_samples
from train.learner import Epoch
from train.loading import load, prepare
from train.metrics import Labels, as_labels
from train.network import BLOCKS
from train.recipe import MobileNetV2, Recipe, read_recipe
from train.samples import Collection, Task

EPOCHS = 4
TASK = Task("nodule", ("benign", "malignant"), {"0": "benign", "1": "malignant"})


def recipe_of(folder: Path, text: str, **fitted: object) -> Recipe:
    path = folder / "a.toml"
    path.write_text(text)
    recipe = read_recipe(str(path))
    return replace(recipe, fit=replace(recipe.fit, **{"epochs": EPOCHS, "batch": 8, **fitted}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Convolutions with patience; the best epoch is kept."""
    return recipe_of(tmp_path_factory.mktemp("plain"), TINY)


@pytest.fixture(scope="module")
def everything(two_blocks: None, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """All that has a state: dropout, random numbers, statistics, averaged weights, a schedule."""
    recipe = recipe_of(
        tmp_path_factory.mktemp("all"), SLIM, average=0.7, weight_decay=1e-3, label_smoothing=0.1
    )
    network = MobileNetV2(dropout=0.2, width=0.25)
    return replace(recipe, network=network)


@pytest.fixture(scope="module")
def two_blocks() -> Iterator[None]:
    """Two blocks show what seventeen do, and are traced in a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BLOCKS, "mobilenet-v2", ((1, 3, 1, 1, 8), (1, 3, 2, 6, 8)))
        yield


@pytest.fixture(scope="module")
def given_data(labelled: Path, plain: Recipe) -> tuple[PatchSet, tuple[NDArray[np.uint8], Labels]]:
    """20 images to learn from, 12 to validate on."""
    samples = read_samples(labelled, plain.task).samples
    preprocessing = preprocess.parse(plain.preprocessing)
    loaded = load(Collection((*samples[:16], *samples[-16:]), ()), preprocessing)
    labels = as_labels([sample.label for sample in loaded.samples], plain.task.labels)
    seen, held = [*range(10), *range(16, 26)], [*range(10, 16), *range(26, 32)]
    train = PatchSet([loaded.patches[i] for i in seen], labels[seen], preprocessing, None)
    return train, (prepare([loaded.patches[i] for i in held], preprocessing), labels[held])


Train = Callable[..., Fitted]


@pytest.fixture(scope="module")
def trained(given_data: tuple[PatchSet, tuple[NDArray[np.uint8], Labels]]) -> Train:
    """`trained(recipe, folder, watch)`: one training on that data."""
    patch_set, validation = given_data

    def train(
        recipe: Recipe, folder: Path, callbacks: Callbacks | None = None, seed: int = 3
    ) -> Fitted:
        folder.mkdir(exist_ok=True)
        varied = replace(patch_set, augmentation=recipe.augmentation)
        return fit(recipe, seed, varied, validation, folder, callbacks or Callbacks())

    return train


BATCHES = 3
"""Of an epoch: 20 images by 8."""


def stop_at(batch: int) -> Callbacks:
    """Presses Ctrl-C at the end of a batch, counted from 1 over all epochs."""
    told: list[int] = []

    def press() -> None:
        told.append(1)
        if len(told) == batch:
            raise KeyboardInterrupt

    return Callbacks(batch=press)


def without_seconds(history: tuple[Epoch, ...]) -> list[Epoch]:
    return [replace(its, seconds=0) for its in history]


def assert_same(one: Fitted, other: Fitted) -> None:
    assert without_seconds(one.history) == without_seconds(other.history)
    assert (one.temperature, one.thresholds) == (other.temperature, other.thresholds)
    assert one.best_epoch == other.best_epoch
    for a, b in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        assert np.array_equal(a, b)
