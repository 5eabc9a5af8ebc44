"""Which sample trains, which validates, which tests: by group, stratified, from a seed."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from devices import BadInput
from train.samples import BOX_COLUMNS, PARTS, Part, Sample, Task, require_all_classes

FOLDS = 7
"""The data is cut into seven folds: five train, one validates, one tests (71, 14, 14 %)."""
REST_FOLDS = 8
"""Where the test part is given, the rest is cut into eight folds, one of which validates."""


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
                    f"group {sample.group!r} stands on two sides: {seen[sample.group]}, {part}; "
                    "give all of its images one split"
                )

    def of(self, part: Part) -> list[Sample]:
        """The samples of one part, in their order."""
        return [sample for sample, own in zip(self.samples, self.parts, strict=True) if own == part]


def split_by_group(samples: Sequence[Sample], task: Task, seed: int) -> Split:
    """Cuts whole groups into train, validation and test, each with about the same class shares.

    Raises BadInput where there are too few groups for all classes to be in every part.
    """
    purpose = "one each to train, validate and test"
    fewest = _fewest_groups(samples, task, "the data", len(PARTS), purpose)
    test, validation, *_ = _folds(samples, task, min(FOLDS, fewest), seed)
    parts: list[Part] = ["train"] * len(samples)
    for member in test:
        parts[member] = "test"
    for member in validation:
        parts[member] = "validation"
    return _with_all_classes(Split(tuple(samples), tuple(parts)), task)


def given_split(samples: Sequence[Sample], task: Task, seed: int) -> Split:
    """The split that the data's own table gives; where it names no validation, an eighth of what
    is not tested validates, whole groups.

    Raises BadInput where a group stands on two sides, where only some of the samples have a part,
    or where a class is missing in one.
    """
    parts = [sample.part for sample in samples if sample.part is not None]
    if len(parts) < len(samples):
        raise BadInput(
            f"{len(samples) - len(parts)} of {len(samples)} images have no split; give all of them "
            "one, or none"
        )
    split = Split(tuple(samples), tuple(parts))
    if "validation" not in parts:
        return _split_around(samples, task, [part == "test" for part in parts], seed)
    return _with_all_classes(split, task)


def cross_validation_splits(
    samples: Sequence[Sample], task: Task, folds: int, seed: int
) -> list[Split]:
    """As many splits as `folds`, at least two; each sample is in the test part of exactly one.

    Whole groups, about the same class shares everywhere; an eighth of what is not tested
    validates. Raises BadInput where there are too few groups for all classes to be in every part.
    """
    _fewest_groups(samples, task, "the data", folds, "one for each fold")
    splits = []
    for members in _folds(samples, task, folds, seed):
        test = np.zeros(len(samples), dtype=bool)
        test[members] = True
        splits.append(_split_around(samples, task, test.tolist(), seed))
    return splits


def hold_out(
    samples: Sequence[Sample], task: Task, test: Sequence[bool], folds: int, seed: int
) -> list[Split]:
    """As many splits as `folds`; each sample that `test` marks, such as all of one scanner, is in
    the test part of exactly one.

    No sample that is marked trains or validates. A group that is tested gives nothing to train
    on, so that its other samples are left out of that split; an eighth of those that are not left
    out validates. More folds leave more to train on where many groups have both kinds of sample;
    one is enough where none has. Raises BadInput where there are too few groups for both classes
    to be in every part.
    """
    marked = [index for index, is_tested in enumerate(test) if is_tested]
    tested = [samples[index] for index in marked]
    _fewest_groups(tested, task, "the test", folds, "one for each fold")
    sets = _folds(tested, task, folds, seed) if folds > 1 else [[*range(len(tested))]]
    splits = []
    for members in sets:
        groups = {tested[member].group for member in members}
        kept = [
            index
            for index, (sample, is_tested) in enumerate(zip(samples, test, strict=True))
            if (sample.group in groups) == is_tested
        ]
        splits.append(
            _split_around([samples[i] for i in kept], task, [test[i] for i in kept], seed)
        )
    return splits


def _split_around(samples: Sequence[Sample], task: Task, test: Sequence[bool], seed: int) -> Split:
    """The test part is given; of the rest one fold in `REST_FOLDS` validates, the others train."""
    rest = [index for index, tested in enumerate(test) if not tested]
    others = [samples[index] for index in rest]
    purpose = "one each to train and validate"
    fewest = _fewest_groups(others, task, "what is not tested", 2, purpose)
    validation = _folds(others, task, min(REST_FOLDS, fewest), seed)[0]
    parts: list[Part] = ["test" if tested else "train" for tested in test]
    for member in validation:
        parts[rest[member]] = "validation"
    return _with_all_classes(Split(tuple(samples), tuple(parts)), task)


def _fewest_groups(
    samples: Sequence[Sample], task: Task, where: str, needed: int, purpose: str
) -> int:
    """In how many groups the class is that is in the fewest.

    Raises BadInput where they are fewer than `needed` for that `purpose`.
    """
    require_all_classes(samples, task, where)
    groups = {
        label: len({sample.group for sample in samples if sample.label == label})
        for label in task.labels
    }
    label = min(task.labels, key=lambda label: groups[label])
    if groups[label] < needed:
        raise BadInput(
            f"the class {label!r} has {groups[label]} group(s) (patients, cases); at least "
            f"{needed} are needed, {purpose}"
        )
    return groups[label]


def _folds(samples: Sequence[Sample], task: Task, count: int, seed: int) -> list[list[int]]:
    """The indices of the samples in `count` sets of whole groups with about the same shares."""
    groups = np.array([sample.group for sample in samples])
    labels = np.array([task.labels.index(sample.label) for sample in samples])
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    return [members.tolist() for _, members in folds.split(groups, labels, groups)]


def _with_all_classes(split: Split, task: Task) -> Split:
    for part in PARTS:
        require_all_classes(split.of(part), task, f"the {part} split")
    return split


COLUMNS = ("path", "frame", "label", *BOX_COLUMNS, "group", "split")


def split_csv(split: Split, root: Path) -> str:
    """The text of `split.csv`: a table of samples with their part, paths relative to `root`."""
    rows: list[tuple[object, ...]] = [COLUMNS]
    for sample, part in zip(split.samples, split.parts, strict=True):
        box = sample.box
        corners = ("",) * 4 if box is None else (box.x, box.y, box.x + box.w, box.y + box.h)
        name = os.path.relpath(sample.path, root)
        rows.append((name, sample.frame, sample.label, *corners, sample.group, part))
    return csv_text(rows)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """The text of a table; each cell is read back as it is written, whatever it holds."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        # Before Python 3.13 a carriage return alone is not quoted, and ends the line when read.
        writer = quoted if any("\r" in str(cell) for cell in row) else plain
        writer.writerow(row)
    return text.getvalue()
