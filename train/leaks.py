"""Near duplicates on two sides of a split that the data's own table gives.

Published splits have them: the next frame of a clip, a still saved twice. A model that has trained
on one of the two is not tested by the other.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from devices import BadInput
from edge_runtime.files import whole_file
from train.duplicates import Pair, first_of
from train.loading import Loaded
from train.samples import LEAK, PARTS, Dropped, Sample, frame_name
from train.split import csv_text

COLUMNS = (
    *("drop_path", "drop_frame", "drop_split"),
    *("keep_path", "keep_frame", "keep_split"),
    "likeness",
)


def leaks_table(out: Path) -> Path:
    """Where the pairs are listed: beside the run `out`, as one that is refused is not made."""
    return out.parent / f"{out.name}.leaks.csv"


def settle_leaks(
    loaded: Loaded, pairs: Sequence[Pair], root: Path, table: Path | None, drop: bool
) -> tuple[Loaded, tuple[Pair, ...]]:
    """The samples without leaks, and the pairs of those that are left.

    A leak is a pair of duplicates of which the data's own split has one here and one there. All of
    them are listed in `table`, paths relative to `root`, where there is one to write. With `drop`
    the training side's sample of each is dropped, or the validation side's where the other tests.
    Raises BadInput, naming the first pairs and the table, where there are leaks and none is to be
    dropped.
    """
    leaks = [
        (_ordered(pair, loaded.samples), pair)
        for pair in pairs
        if loaded.samples[pair.first].part != loaded.samples[pair.second].part
    ]
    if not leaks:
        return loaded, tuple(pairs)
    if table is not None:
        rows: list[tuple[object, ...]] = [COLUMNS]
        for places, pair in leaks:
            cells = [cell for place in places for cell in _cells(loaded.samples[place], root)]
            rows.append((*cells, f"{pair.likeness:.3f}"))
        with whole_file(table) as path:
            path.write_text(csv_text(rows), "utf-8", newline="")
    if not drop:
        raise BadInput(_refusal([places for places, _ in leaks], loaded.samples, table))
    return _without({first for (first, _), _ in leaks}, loaded, pairs)


def _ordered(pair: Pair, samples: Sequence[Sample]) -> tuple[int, int]:
    """The two of a pair, the one first that can be done without: it trains, or else validates."""

    def rank(place: int) -> int:
        part = samples[place].part
        return PARTS.index(part) if part is not None else -1

    low, high = sorted((pair.first, pair.second), key=rank)
    return low, high


def _without(
    gone: set[int], loaded: Loaded, pairs: Sequence[Pair]
) -> tuple[Loaded, tuple[Pair, ...]]:
    """Everything but the samples `gone`, and the pairs of what is left."""
    kept = [place for place in range(len(loaded.samples)) if place not in gone]
    moved = {place: new for new, place in enumerate(kept)}
    rest = replace(
        loaded,
        samples=tuple(loaded.samples[place] for place in kept),
        patches=tuple(loaded.patches[place] for place in kept),
        fingerprints=tuple(loaded.fingerprints[place] for place in kept),
        scanners=tuple(loaded.scanners[place] for place in kept),
        dropped=(
            *loaded.dropped,
            *(Dropped(str(loaded.samples[place].path), LEAK) for place in sorted(gone)),
        ),
    )
    left = (pair for pair in pairs if not {pair.first, pair.second} & gone)
    return rest, tuple(
        replace(pair, first=moved[pair.first], second=moved[pair.second]) for pair in left
    )


def _refusal(
    leaks: Sequence[tuple[int, int]], samples: Sequence[Sample], table: Path | None
) -> str:
    names = [
        " and ".join(
            f"{frame_name(each.path, each.frame)} ({each.part})"
            for each in (samples[first], samples[second])
        )
        for first, second in leaks
    ]
    listed = "" if table is None else f"; all {len(leaks)} pairs are in {table}"
    return (
        f"the same picture stands on two sides of the split: {first_of(names)}{listed}; "
        "--drop-leaks drops the training side's, or the validation side's where the other tests"
    )


def _cells(sample: Sample, root: Path) -> tuple[object, ...]:
    return os.path.relpath(sample.path, root), sample.frame, sample.part
