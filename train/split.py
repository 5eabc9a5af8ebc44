"""Which sample trains, which validates, which tests: by group, stratified, from a seed."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from devices import BadInput
from train.samples import BOX_COLUMNS, Sample, Task, require_both_classes

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
FOLDS = 7
"""The data is cut into seven folds: five train, one validates, one tests (71, 14, 14 %)."""


@dataclass(frozen=True)
class Split:
    """Every sample, in order, with the part of the work that it has."""

    samples: tuple[Sample, ...]
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        seen: dict[str, Part] = {}
        for sample, part in zip(self.samples, self.parts, strict=True):
            if seen.setdefault(sample.group, part) != part:
                raise BadInput(
                    f"group {sample.group!r} stands on two sides: {seen[sample.group]}, {part}"
                )

    def of(self, part: Part) -> list[Sample]:
        """The samples of one part, in their order."""
        return [sample for sample, its in zip(self.samples, self.parts, strict=True) if its == part]


def split_by_group(samples: Sequence[Sample], task: Task, seed: int) -> Split:
    """Cuts whole groups into train, validation and test, each with about the same class shares.

    Raises BadInput where there are too few groups for both classes to be in every part.
    """
    require_both_classes(samples, task, "the data")
    groups = np.array([sample.group for sample in samples])
    labels = np.array([task.labels.index(sample.label) for sample in samples])
    fewest = min(len(set(groups[labels == label])) for label in range(len(task.labels)))
    if fewest < len(PARTS):
        raise BadInput(
            f"a class has {fewest} group(s) (patients, cases); at least {len(PARTS)} are needed, "
            "one each to train, validate and test"
        )
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    parts: list[Part] = ["train"] * len(samples)
    held_out: tuple[Part, Part] = ("test", "validation")
    for part, (_, members) in zip(held_out, folds.split(groups, labels, groups), strict=False):
        for member in members:
            parts[member] = part
    split = Split(tuple(samples), tuple(parts))
    for part in PARTS:
        require_both_classes(split.of(part), task, f"the {part} split")
    return split


COLUMNS = ("path", "label", *BOX_COLUMNS, "group", "split")


def split_csv(split: Split, root: Path) -> str:
    """The text of `split.csv`: a table of samples with their part, paths relative to `root`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for sample, part in zip(split.samples, split.parts, strict=True):
        box = sample.box
        corners = ("",) * 4 if box is None else (box.x, box.y, box.x + box.w, box.y + box.h)
        name = os.path.relpath(sample.path, root)
        table.writerow((name, sample.label, *corners, sample.group, part))
    return text.getvalue()
