"""One epoch of training batches, prepared and varied while the network learns."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import BadInput
from edge_runtime import preprocess
from edge_runtime.preprocess import Preprocessing
from train.augmentation import Picture, Scanner, jitter, redraw, vary
from train.loading import Patch, cut, prepare
from train.metrics import Labels, as_labels
from train.recipe import Fit, Recipe
from train.samples import Sample, check, read_pixels


@dataclass(frozen=True)
class Material:
    """What there is to learn from: patches with their labels, and how they become pictures."""

    patches: Sequence[Patch]
    labels: Labels
    preprocessing: Preprocessing
    scanner: Scanner | None

    def picture(self, index: int, scanner: Scanner, dice: np.random.Generator) -> Picture:
        """The patch `index` prepared, uint8 ``[side, side]``, as `scanner` may have shown it."""
        patch = self.patches[index]
        height, width = patch.pixels.shape
        box = patch.box and jitter(patch.box, scanner, dice, width, height)
        return vary(self.preprocessing(patch.pixels, box)[0, ..., 0], scanner, dice)

    def redrawn(self, index: int, factor: float) -> NDArray[np.uint8]:
        """The patch `index` as the device prepares it with a box up to 1.25 times as large.

        uint8 ``[1, side, side, 1]``; larger boxes would see beyond what a patch keeps.
        """
        patch = self.patches[index]
        height, width = patch.pixels.shape
        box = patch.box and redraw(patch.box, factor, width, height)
        return self.preprocessing(patch.pixels, box)

    def varied(
        self, *seed: int, progress: Callable[[Iterable[int]], Iterable[int]] = iter
    ) -> NDArray[np.uint8]:
        """Each once, uint8 ``[N, side, side, 1]``, as another scanner may have shown it.

        As it is where nothing is varied. The same `seed` gives the same.
        """
        if self.scanner is None:
            return prepare(self.patches, self.preprocessing)
        drawn = [
            self.picture(index, self.scanner, np.random.default_rng((*seed, index)))
            for index in progress(range(len(self.patches)))
        ]
        return np.stack(drawn)[..., np.newaxis]


def material_of(samples: Sequence[Sample], patches: Sequence[Patch], recipe: Recipe) -> Material:
    """What a recipe makes of samples, of which the patches were read."""
    return Material(
        patches,
        as_labels([sample.label for sample in samples], recipe.task.labels[-1]),
        preprocess.parse(recipe.preprocessing),
        recipe.augmentation,
    )


def read_material(
    samples: Sequence[Sample],
    recipe: Recipe,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> Material:
    """Reads the images of `samples`. Raises BadInput, naming the first that cannot be used."""
    preprocessing = preprocess.parse(recipe.preprocessing)
    patches = []
    for sample in progress(samples):
        pixels = read_pixels(sample)
        if reason := check(pixels, sample):
            raise BadInput(f"{sample.path}: {reason}")
        patches.append(cut(pixels, sample.box, preprocessing))
    return material_of(samples, patches, recipe)


class Batches:
    """The batches of one epoch: uint8 ``[n, side, side, 1]`` with the share of each class, float32
    ``[n, 2]``, and the weight of each picture.

    What a picture looks like follows from the seed, the epoch and its place in the epoch alone, so
    that a training that is taken up again sees what it would have seen. Of several workers, each
    prepares its own share of every batch.
    """

    def __init__(
        self, material: Material, fit: Fit, seed: int, epoch: int, worker: int = 0, workers: int = 1
    ) -> None:
        self._material, self._size, self._key = material, fit.batch, (seed, epoch)
        self._order = order(material.labels, fit, seed, epoch)
        self._share, self._mixup = slice(worker, None, workers), fit.mixup
        self._workers = workers
        weights = np.ones(2)
        if fit.balance == "weights":
            weights = len(material.labels) / (2 * np.bincount(material.labels, minlength=2))
        self._weights = weights.astype(np.float32)

    def __len__(self) -> int:
        """A last batch too small to give each worker a picture is left out."""
        whole, left = divmod(len(self._order), self._size)
        return whole + (left >= self._workers)

    def __getitem__(
        self, number: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """Pictures, labels as the share of each class, and the weight of each picture."""
        places = range(len(self._order))[number * self._size : (number + 1) * self._size]
        places = places[self._share]
        labels = self._material.labels[self._order[places]]
        pictures = np.concatenate([self._picture(place) for place in places])
        shares = np.eye(2, dtype=np.float32)[labels]
        if self._mixup:
            pictures, shares = self._mixed(pictures, shares, number)
        return pictures, shares, shares @ self._weights

    def _mixed(
        self, pictures: NDArray[np.uint8], shares: NDArray[np.float32], number: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Each picture with some of the one before it (Zhang et al., "mixup", ICLR 2018)."""
        dice = np.random.default_rng((*self._key, number, self._share.start))
        own = dice.beta(self._mixup, self._mixup, len(pictures)).astype(np.float32)[:, np.newaxis]
        part = own[..., np.newaxis, np.newaxis]
        mixed = np.rint(part * pictures + (1 - part) * np.roll(pictures, 1, axis=0))
        return mixed.astype(np.uint8), own * shares + (1 - own) * np.roll(shares, 1, axis=0)

    def _picture(self, place: int) -> NDArray[np.uint8]:
        material, index = self._material, int(self._order[place])
        if material.scanner is None:
            patch = material.patches[index]
            return material.preprocessing(patch.pixels, patch.box)
        dice = np.random.default_rng((*self._key, place))
        return material.picture(index, material.scanner, dice)[np.newaxis, ..., np.newaxis]


def order(labels: Labels, fit: Fit, seed: int, epoch: int) -> NDArray[np.int64]:
    """Which sample stands at which place of an epoch.

    Each once, in random order; balanced, the rarer class is gone through as often as it takes.
    """
    dice = np.random.default_rng((seed, epoch))
    if fit.balance != "sampling":
        return dice.permutation(len(labels))
    members = [np.flatnonzero(labels == label) for label in (0, 1)]
    longest = max(map(len, members))
    drawn = [
        np.concatenate([dice.permutation(its) for _ in range(-(-longest // len(its)))])[:longest]
        for its in members
    ]
    return dice.permutation(np.concatenate(drawn))
