"""A run's float model on data that it never saw, and on what it must not judge."""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from devices import BadInput
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.preprocess import Preprocessing
from edge_runtime.bundle.scope import Scope
from train.duplicates import NAMED, find_common, fingerprint, refuse_common
from train.importers import read_samples
from train.importers.paths import is_there
from train.loading import Loaded, load, prepare
from train.metrics import Metrics, as_labels
from train.network import answer
from train.outliers import read_pictures_under
from train.run import Run
from train.samples import Sample, read_pixels, require_all_classes, tell_dropped


@dataclass(frozen=True)
class OutOfScope:
    """How well pictures of something else are told from those that the figures are of."""

    pictures: int
    auroc: float
    noticed: float
    """The share of them that is out of scope."""
    by_kind: dict[str, float]
    """The same share of each kind alone."""


@dataclass(frozen=True)
class Evaluation:
    """What `sonolite evaluate` measures."""

    metrics: Metrics
    dropped: dict[str, int]
    withheld: float | None
    """The share of the images out of the float model's scope; None without one."""
    out_of_scope: OutOfScope | None
    known_groups: int
    """Groups that are named as some which the model learnt from: the same patients, or not."""


def evaluate_run(
    run: Run,
    data: Path,
    others: Path | None,
    tirads: dict[str, str] | None,
    allow_seen: bool,
    note: Callable[[str], None],
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> Evaluation:
    """Measures the model of `run` on `data`, and on `others`, which it must not judge.

    `tirads` maps grades to labels in place of the recipe's own mapping. Raises BadInput where the
    model learnt from images of `data`, or from groups of the same folder, unless that is allowed;
    where a class is missing; or where `others` are given to a model without a scope.
    """
    recipe = run.record.recipe
    task = recipe.task if tirads is None else recipe.task.graded(tirads)
    collection = read_samples(data, task)
    for line in (f"data: {collection.summary}", *collection.notes):
        note(line)
    preprocessing = preprocess.parse(recipe.preprocessing)
    loaded = load(collection, preprocessing, progress)
    for line in tell_dropped(loaded.dropped):
        note(line)
    require_all_classes(loaded.samples, task, str(data))
    seen = [*run.split.of("train"), *run.split.of("validation")]
    shared = {sample.group for sample in seen} & {sample.group for sample in loaded.samples}
    if not allow_seen:
        _refuse_pictures(seen, loaded, progress)
        _refuse_groups(shared, seen, loaded.samples, note)
    outputs = answer(run.model, prepare(loaded.patches, preprocessing))
    try:
        metrics = run.record.rule.measure(
            as_labels([sample.label for sample in loaded.samples], task.labels),
            outputs["probability"],
            [sample.group for sample in loaded.samples],
        )
    except ValueError as error:
        raise BadInput(f"{run.folder}: {error}") from error
    withheld, out_of_scope = None, None
    if run.scope is not None:
        near = run.scope.score(outputs["embedding"])
        withheld = float(np.mean(near > 1))
        if others is not None:
            out_of_scope = _judge_others(run, run.scope, near, others, preprocessing, note)
    elif others is not None:
        raise BadInput(f"{run.folder}: the recipe asks for no embedding, so there is no scope")
    return Evaluation(metrics, loaded.reasons, withheld, out_of_scope, len(shared))


def _judge_others(
    run: Run,
    scope: Scope,
    near: NDArray[np.float32],
    others: Path,
    preprocessing: Preprocessing,
    note: Callable[[str], None],
) -> OutOfScope:
    """Judges the scope by the pictures under `others`; `near` are the scores of the data."""
    outside = read_pictures_under(others, preprocessing)
    if count := _count_fitted(outside.pictures, run.outliers):
        note(
            f"{count} of the pictures in {others} are some that the scope was fitted with: the "
            "figures flatter"
        )
    far = scope.score(answer(run.model, outside.pictures)["embedding"])
    return tell_apart(near, far, outside.kinds)


def tell_apart(
    near: NDArray[np.float32], far: NDArray[np.float32], kinds: Sequence[str]
) -> OutOfScope:
    """Judges a scope by its scores ``[N]`` of what is in scope, `near`, and of what is not.

    `kinds` name the kind of each picture that is not, ``[len(far)]``.
    """
    truth = np.repeat([0, 1], [len(near), len(far)])
    return OutOfScope(
        pictures=len(far),
        auroc=float(roc_auc_score(truth, np.concatenate([near, far]))),
        noticed=float(np.mean(far > 1)),
        by_kind={
            kind: float(np.mean(far[np.asarray(kinds) == kind] > 1)) for kind in sorted({*kinds})
        },
    )


def _count_fitted(pictures: NDArray[np.uint8], outliers: NDArray[np.uint8]) -> int:
    """How many of the pictures are among `outliers`, byte for byte."""
    fitted = {picture.tobytes() for picture in outliers}
    return sum(picture.tobytes() in fitted for picture in pictures)


def _refuse_pictures(
    seen: Sequence[Sample],
    loaded: Loaded,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]],
) -> None:
    """Raises BadInput where pictures that the model has seen, or near duplicates, are in the data.

    So it does where one that the model has seen is not there any more.
    """
    for sample in seen:
        if not is_there(sample.path):
            raise BadInput(
                f"{sample.path}: not there, and the model learnt from it; say with --images where "
                "the images of the run lie now"
            )
    known = [fingerprint(read_pixels(sample)) for sample in progress(seen)]
    refuse_common(seen, loaded.samples, find_common(known, loaded.fingerprints))


def _refuse_groups(
    shared: Set[str], seen: Sequence[Sample], given: Sequence[Sample], note: Callable[[str], None]
) -> None:
    """Raises BadInput where groups were learnt from that have images in the same folders.

    Elsewhere the same name may be another patient's: that is said, and measured.
    """
    if not shared:
        return
    names = ", ".join(sorted(shared)[:NAMED]) + (" ..." if len(shared) > NAMED else "")
    places = {sample.path.resolve().parent for sample in seen if sample.group in shared}
    if any(sample.group in shared and sample.path.resolve().parent in places for sample in given):
        raise BadInput(
            f"the model learnt from {len(shared)} groups of this data: {names}; leave them out, or "
            "measure them too with --allow-seen"
        )
    note(
        f"{len(shared)} groups are named as groups that the model learnt from ({names}): if they "
        "are the same patients, the figures flatter"
    )
