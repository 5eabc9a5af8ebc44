"""One epoch of training batches, prepared and varied while the network learns."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import BadInput
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.preprocess import Preprocessing
from train.augmentation import Augmentation, Picture, jitter, redraw, vary
from train.loading import Patch, cut, prepare
from train.metrics import Labels, as_labels
from train.recipe import Fit, Recipe
from train.samples import Sample, check, read_pixels


@dataclass(frozen=True)
class PatchSet:
    """What there is to learn from: patches with their labels, and how they become pictures."""

    patches: Sequence[Patch]
    labels: Labels
    preprocessing: Preprocessing
    augmentation: Augmentation | None
    classes: int = 2

    def prepared(self) -> NDArray[np.uint8]:
        """Each patch as the device prepares it, uint8 ``[N, side, side, 1]``."""
        return prepare(self.patches, self.preprocessing)

    def picture(self, index: int, augmentation: Augmentation, rng: np.random.Generator) -> Picture:
        """The patch `index` prepared, uint8 ``[side, side]``, changed as `augmentation` says."""
        patch = self.patches[index]
        height, width = patch.pixels.shape
        box = patch.box and jitter(patch.box, augmentation, rng, width, height)
        return vary(self.preprocessing(patch.pixels, box)[0, ..., 0], augmentation, rng)

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
        """Each patch once, uint8 ``[N, side, side, 1]``, as another scanner may have shown it.

        Without augmentation it is as it is. The same `seed` gives the same.
        """
        if self.augmentation is None:
            return self.prepared()
        drawn = [
            self.picture(index, self.augmentation, np.random.default_rng((*seed, index)))
            for index in progress(range(len(self.patches)))
        ]
        return np.stack(drawn)[..., np.newaxis]


def patch_set_of(samples: Sequence[Sample], patches: Sequence[Patch], recipe: Recipe) -> PatchSet:
    """What a recipe makes of samples, of which the patches were read."""
    return PatchSet(
        patches,
        as_labels([sample.label for sample in samples], recipe.task.labels),
        preprocess.parse(recipe.preprocessing),
        recipe.augmentation,
        len(recipe.task.labels),
    )


def read_patch_set(
    samples: Sequence[Sample],
    recipe: Recipe,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> PatchSet:
    """Reads the images of `samples`. Raises BadInput, naming the first that cannot be used."""
    preprocessing = preprocess.parse(recipe.preprocessing)
    patches = []
    for sample in progress(samples):
        pixels = read_pixels(sample)
        if reason := check(pixels, sample):
            raise BadInput(f"{sample.path}: {reason}")
        patches.append(cut(pixels, sample.box, preprocessing))
    return patch_set_of(samples, patches, recipe)


class Batches:
    """The batches of one epoch: pictures uint8 ``[n, side, side, 1]``, their soft labels float32
    ``[n, classes]``, which are the share of each class, and their weights float32 ``[n]``.

    What a picture looks like follows from the seed, the epoch and its place in the epoch alone, so
    that a training that is taken up again sees what it would have seen. Of several workers, each
    prepares its own share of every batch.
    """

    def __init__(
        self,
        patch_set: PatchSet,
        fit: Fit,
        seed: int,
        epoch: int,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self._patch_set, self._size, self._key = patch_set, fit.batch, (seed, epoch)
        self._own, self._mixup = slice(worker, None, workers), fit.mixup
        self._workers = workers
        classes = patch_set.classes
        self._order = order(patch_set.labels, fit, seed, epoch, classes)
        weights = np.ones(classes)
        if fit.balance == "weights":
            counts = np.bincount(patch_set.labels, minlength=classes)
            weights = len(patch_set.labels) / (classes * counts)
        self._weights = weights.astype(np.float32)

    def __len__(self) -> int:
        """A last batch too small to give each worker a picture is left out."""
        whole, left = divmod(len(self._order), self._size)
        return whole + (left >= self._workers)

    def __getitem__(
        self, number: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """The pictures of one batch, their soft labels and their weights."""
        places = range(len(self._order))[number * self._size : (number + 1) * self._size]
        places = places[self._own]
        labels = self._patch_set.labels[self._order[places]]
        pictures = np.concatenate([self._picture(place) for place in places])
        soft_labels = np.eye(self._patch_set.classes, dtype=np.float32)[labels]
        if self._mixup:
            pictures, soft_labels = self._mixed(pictures, soft_labels, number)
        return pictures, soft_labels, soft_labels @ self._weights

    def _mixed(
        self, pictures: NDArray[np.uint8], soft_labels: NDArray[np.float32], number: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Each picture with some of the one before it (Zhang et al., "mixup", ICLR 2018)."""
        rng = np.random.default_rng((*self._key, number, self._own.start))
        own = rng.beta(self._mixup, self._mixup, len(pictures)).astype(np.float32)[:, np.newaxis]
        part = own[..., np.newaxis, np.newaxis]
        mixed = np.rint(part * pictures + (1 - part) * np.roll(pictures, 1, axis=0))
        neighbours = np.roll(soft_labels, 1, axis=0)
        return mixed.astype(np.uint8), own * soft_labels + (1 - own) * neighbours

    def _picture(self, place: int) -> NDArray[np.uint8]:
        patch_set, index = self._patch_set, int(self._order[place])
        if patch_set.augmentation is None:
            patch = patch_set.patches[index]
            return patch_set.preprocessing(patch.pixels, patch.box)
        rng = np.random.default_rng((*self._key, place))
        return patch_set.picture(index, patch_set.augmentation, rng)[np.newaxis, ..., np.newaxis]


def order(labels: Labels, fit: Fit, seed: int, epoch: int, classes: int = 2) -> NDArray[np.int64]:
    """The samples' numbers in the order of an epoch, which is random.

    Each comes once; where `fit` balances by sampling, those of a rarer class come again until it
    has as many as the largest.
    """
    rng = np.random.default_rng((seed, epoch))
    if fit.balance != "sampling":
        return rng.permutation(len(labels))
    members = [np.flatnonzero(labels == label) for label in range(classes)]
    longest = max(map(len, members))
    drawn = [
        np.concatenate([rng.permutation(member) for _ in range(-(-longest // len(member)))])[
            :longest
        ]
        for member in members
    ]
    return rng.permutation(np.concatenate(drawn))
