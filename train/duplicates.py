"""The same picture twice: a still saved again, with and without calipers, the next frame.

A model that has trained on one of the two is not tested by the other. A picture is known by its
fingerprint, a small grey thumbnail; two pictures are duplicates where

1. their perceptual hashes differ in at most `MAX_DISTANCE` of 64 bits: which of the lowest 8 x 8
   DCT coefficients lie above their median (Zauner, Implementation and Benchmarking of Perceptual
   Image Hash Functions, 2010). This finds the few candidates among all pairs quickly;
2. the details of their thumbnails correlate with at least `MIN_LIKENESS`, at the best of the nine
   shifts by at most one thumbnail pixel. Detail is what is left of a thumbnail with its local mean
   off, its local contrast even, and the mean over the collection off.

The hash alone does not do: pictures of one scanner share their layout, the black in the depth and
the bright lines of the muscles. In TN5000 (3,993 images in groups of neighbouring numbers; pairs
across groups are almost all of different patients):

    distance          0    2    4    6    8    10     12
    pairs           112    7   14   22   89   287  1,260
    across groups     3    0    0    2   56   227  1,169
    duplicates      112    7   11   13   13    18     12
    across groups     3    0    0    0    0     0      0

Looked at were all pairs at 2 to 6, the likest at 8 to 14, and all near the limit. At 0 are files
saved twice; up to 4 the same still with and without calipers, or the next frame; from 6 on such
frames are ever fewer among strangers that only share a layout. Every pair above .55 that was looked
at shows one nodule in one view, and the likest pair of strangers has .52. Below .55 lie slower
sweeps past a nodule, too, which only their groups keep together.

Of 100 of these images all were found again after JPEG at quality 20, a gain of 1.2, a gamma of .7
or 1.4, four calipers with their result in a corner, 5 pixels cut off each side, or half the size;
97 after 10 pixels off each side, 96 after a shift by 8 or 20 off the left; 3 after 20 off each
side, and none mirrored. One picture of another group was found as well: the next number.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from devices import BadInput, Pixels
from train.groups import joined_names
from train.samples import Sample, frame_name

SIDE = 48
"""Of a thumbnail, in pixels. 50,000 pictures take 0.9 GB and some minutes on one core."""
MAX_DISTANCE = 12
"""In bits of 64."""
MIN_LIKENESS = 0.55
FLAT = 4.0
"""Grey levels: a thumbnail with a smaller standard deviation shows nothing."""
BLUR = 2.0
"""Standard deviation of the Gaussian that tells the local mean, in pixels of a thumbnail."""
FEW = 4
"""Blank pictures that count in the mean over a collection."""
LOWEST = 8
"""Rows and columns of DCT coefficients in the hash."""
NAMED = 10
"""Pairs that a refusal names."""

Fingerprint: TypeAlias = NDArray[np.uint8]
"""uint8 ``[SIDE, SIDE]``; several are kept as one array ``[N, SIDE, SIDE]``."""


@dataclass(frozen=True)
class Pair:
    """Two pictures that are one, by their indices; `second` may count in another collection."""

    first: int
    second: int
    distance: int
    """Bits of 64 in which the hashes differ."""
    likeness: float
    """Correlation of the thumbnails' detail, at most 1."""


def fingerprint(pixels: Pixels) -> Fingerprint:
    """The thumbnail, uint8 ``[SIDE, SIDE]``, of a whole stored picture, grey or BGR."""
    gray = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def find_duplicates(fingerprints: Iterable[Fingerprint]) -> list[Pair]:
    """The pairs of duplicates in one collection, each once, with `first` below `second`.

    An almost flat picture, such as a black one, is nobody's duplicate: it ties no patients.
    """
    known = _stacked(fingerprints)
    return [pair for pair in _matches(known, known, _details(known)) if pair.first < pair.second]


def find_common(first: Iterable[Fingerprint], second: Iterable[Fingerprint]) -> list[Pair]:
    """The pairs of duplicates with one picture in each of two collections."""
    one, other = _stacked(first), _stacked(second)
    return list(_matches(one, other, _details(np.concatenate([one, other]))))


def _stacked(fingerprints: Iterable[Fingerprint]) -> NDArray[np.uint8]:
    return np.array([*fingerprints], dtype=np.uint8).reshape(-1, SIDE, SIDE)


def _matches(
    first: NDArray[np.uint8], second: NDArray[np.uint8], details: NDArray[np.float32]
) -> Iterator[Pair]:
    """`details` are those of `first`, and at the end those of `second`."""
    hashes, others = _hashes(first), _hashes(second)
    inner = details[len(details) - len(second) :, 1:-1, 1:-1]
    for row, own in enumerate(hashes):
        distances = (own.size - others @ own) / 2
        near = np.flatnonzero(distances <= MAX_DISTANCE)
        if near.size == 0:
            continue
        windows = sliding_window_view(details[row], inner.shape[1:])
        shifted = windows.reshape(-1, *inner.shape[1:])
        likeness = (_unit(inner[near]) @ _unit(shifted).T).max(axis=1)
        for column, value in zip(near, likeness, strict=True):
            if value >= MIN_LIKENESS:
                yield Pair(row, int(column), int(distances[column]), float(value))


def _hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Float32 ``[N, 64]`` of +1 and -1; all 0, half of the bits from any other, where flat.

    The product of two such rows is 64 less twice their Hamming distance.
    """
    hashes = np.zeros((len(thumbnails), LOWEST * LOWEST), np.float32)
    for bits, thumbnail in zip(hashes, thumbnails, strict=True):
        if thumbnail.std() >= FLAT:
            low = cv2.dct(thumbnail.astype(np.float32))[:LOWEST, :LOWEST].ravel()
            bits[:] = np.where(low > np.median(low), 1, -1)
    return hashes


def _details(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Float32 ``[N, SIDE, SIDE]``: what each thumbnail shows beyond what all of them show.

    The local mean is off and the local contrast even, so that gain and gamma hardly matter; then
    the mean over the collection is off, which is the layout of the screen. `FEW` blank
    pictures count in it, else two duplicates alone would have nothing left.
    """
    details = np.empty(thumbnails.shape, np.float32)
    for detail, thumbnail in zip(details, thumbnails, strict=True):
        pixels = thumbnail.astype(np.float32)
        above = pixels - cv2.GaussianBlur(pixels, (0, 0), BLUR)
        variance = cv2.GaussianBlur(above * above, (0, 0), BLUR)
        detail[:] = above / np.sqrt(variance + FLAT * FLAT)
    details -= details.sum(axis=0) / (len(details) + FEW)
    return details


def _unit(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """The patches as rows of mean 0 and length 1: the product of two is their correlation."""
    rows = patches.reshape(len(patches), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6))


def join_groups(samples: Sequence[Sample], pairs: Iterable[Pair]) -> tuple[Sample, ...]:
    """The samples in their order, those of groups that a duplicate links now in one group.

    It has the smallest of the groups' names. All samples of one file are of one group, too.
    """
    first: dict[object, str] = {}
    links = [(each.group, first.setdefault(each.path, each.group)) for each in samples]
    links += [(samples[pair.first].group, samples[pair.second].group) for pair in pairs]
    names = joined_names(links)
    return tuple(replace(sample, group=names[sample.group]) for sample in samples)


def refuse_common(known: Sequence[Sample], given: Sequence[Sample], pairs: Iterable[Pair]) -> None:
    """Raises BadInput, naming the pairs, where pictures that a model knows are in other data.

    `pairs` are those of `find_common`, whose `first` counts in `known`, `second` in `given`.
    """
    both = ((given[pair.second], known[pair.first]) for pair in pairs)
    named = [
        f"{frame_name(one.path, one.frame)} is {frame_name(other.path, other.frame)}"
        for one, other in both
    ]
    if named:
        raise BadInput(f"the model was made with pictures of this data: {first_of(named)}")


def first_of(names: Sequence[str]) -> str:
    """The first `NAMED` of the names, and how many more there are."""
    more = f"; and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{'; '.join(names[:NAMED])}{more}"
