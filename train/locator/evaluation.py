"""A locator on marked pictures that it never saw."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devices import BadInput
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.policies import TrackingPolicy
from train.duplicates import find_common, fingerprint, first_of
from train.importers.boxes import read_marked
from train.importers.paths import is_there
from train.locator.dataset import LocatorPicture, Progress, read_squares
from train.locator.measurement import detect, measure
from train.locator.metrics import ClipFigures, Figure, Scored
from train.locator.run import LocatorRun
from train.network import answer
from train.samples import frame_name, tell_dropped


@dataclass(frozen=True)
class LocatorEvaluation:
    """What `sonolite evaluate` measures of a locator."""

    pictures: int
    boxes: int
    empty: int
    """Pictures that are known to show no nodule."""
    dropped: dict[str, int]
    """Pictures that could not be used, by reason."""
    metrics: dict[str, Figure]
    """Of the pictures alone."""
    clips: ClipFigures | None
    """Of the moving pictures, after tracking; None where there are none."""


@dataclass(frozen=True)
class Judged:
    """The pictures of an evaluation, and the detections in each."""

    pictures: list[LocatorPicture]
    found: list[Scored]


def evaluate_locator(
    run: LocatorRun,
    folder: Path,
    allow_seen: bool,
    note: Callable[[str], None],
    progress: Progress = iter,
) -> tuple[LocatorEvaluation, Judged]:
    """Measures the float model of `run`, with the scores of its tracks, on marked pictures.

    Raises BadInput where no picture can be used, and where the locator learnt from a picture or
    from a near duplicate, unless that is allowed.
    """
    preprocessing = preprocess.parse(run.record.recipe.preprocessing)
    pictures, dropped = read_judged(folder, preprocessing.side, note, progress)
    if not allow_seen:
        _refuse_seen(run, pictures, preprocessing.side, progress)
    found = detect(lambda tensors: answer(run.model, tensors), pictures, preprocessing)
    return summarise(pictures, dropped, found, run.record.tracking), Judged(pictures, found)


def read_judged(
    folder: Path, side: int, note: Callable[[str], None], progress: Progress = iter
) -> tuple[list[LocatorPicture], dict[str, int]]:
    """The marked pictures of a data set, and how many were dropped for which reason.

    Raises BadInput where no picture can be used.
    """
    collection = read_marked(folder)
    for line in (f"data: {collection.summary}", *collection.notes):
        note(line)
    dropped = list(collection.dropped)
    pictures = list(read_squares(collection.pictures, side, progress, dropped.append))
    if not pictures:
        raise BadInput("; ".join([f"{folder}: no picture can be used", *tell_dropped(dropped)]))
    for line in tell_dropped(dropped):
        note(line)
    return pictures, dict(Counter(str(each.reason) for each in dropped))


def summarise(
    pictures: list[LocatorPicture],
    dropped: dict[str, int],
    found: list[Scored],
    tracking: TrackingPolicy,
) -> LocatorEvaluation:
    """The figures of what a locator found in these pictures."""
    metrics, clips = measure(pictures, found, tracking)
    return LocatorEvaluation(
        pictures=len(pictures),
        boxes=sum(len(its.marked.boxes) for its in pictures),
        empty=sum(not its.marked.boxes for its in pictures),
        dropped=dropped,
        metrics=metrics,
        clips=clips,
    )


def _refuse_seen(
    run: LocatorRun, pictures: list[LocatorPicture], side: int, progress: Progress
) -> None:
    seen = [*run.of("train"), *run.of("validation")]
    if missing := next((its.path for its in seen if not is_there(its.path)), None):
        raise BadInput(
            f"{missing}: not there, and the locator learnt from it; say with --images where the "
            "pictures of the run lie now"
        )
    known = [
        (its.marked, fingerprint(its.square.pixels))
        for its in read_squares(seen, side, progress, lambda _: None)
    ]
    pairs = find_common(
        (its for _, its in known), (fingerprint(its.square.pixels) for its in pictures)
    )
    if pairs:
        likest = sorted(pairs, key=lambda pair: pair.likeness)  # the last one of a picture counts
        learnt = {pair.second: known[pair.first][0] for pair in likest}
        named = [
            f"{frame_name(own.path, own.frame)} is {frame_name(its.path, its.frame)}"
            for own, its in ((pictures[place].marked, its) for place, its in sorted(learnt.items()))
        ]
        raise BadInput(f"the locator learnt from pictures of this data: {first_of(named)}")
