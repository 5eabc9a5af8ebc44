"""A run's float model on data that it never saw, and on what it must not judge."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from devices import BadInput, EndOfRecording, Pixels
from devices.capture import open_device
from devices.capture.listing import list_files, masks_among
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.preprocess import Preprocessing
from train.duplicates import NAMED, find_common, fingerprint, refuse_common
from train.importers import read_samples
from train.loading import load, prepare
from train.metrics import Metrics, as_labels
from train.network import answer
from train.run import Run
from train.samples import Sample, read_pixels, require_all_classes

EVERY_SECONDS = 1.0
"""Of a video, one frame a second is looked at: neighbours show the same."""


@dataclass(frozen=True)
class OutOfScope:
    """How well pictures of something else are told from those that the figures are of."""

    pictures: int
    auroc: float
    noticed: float
    """The share of them beyond the scope's limit."""


@dataclass(frozen=True)
class Evaluation:
    """What `sonolite evaluate` measures."""

    metrics: Metrics
    dropped: dict[str, int]
    withheld: float | None
    """The share of the images beyond the limit of the float model's scope; None without one."""
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
    require_all_classes(loaded.samples, task, str(data))
    seen = [*run.split.of("train"), *run.split.of("validation")]
    shared = {sample.group for sample in seen} & {sample.group for sample in loaded.samples}
    if not allow_seen:
        for sample in seen:
            if not sample.path.exists():
                raise BadInput(
                    f"{sample.path}: not there, and the model learnt from it; say with --images "
                    "where the images of the run lie now"
                )
        known = [fingerprint(read_pixels(sample)) for sample in progress(seen)]
        refuse_common(seen, loaded.samples, find_common(known, loaded.fingerprints))
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
    scope, withheld, judged = run.scope, None, None
    if scope is not None:
        near = scope.distance(outputs["embedding"])
        withheld = float(np.mean(near > scope.limit))
    if others is not None:
        if scope is None:
            raise BadInput(f"{run.folder}: the recipe asks for no embedding, so there is no scope")
        far = scope.distance(
            answer(run.model, read_pictures_under(others, preprocessing))["embedding"]
        )
        judged = tell_apart(near, far, scope.limit)
    return Evaluation(metrics, loaded.reasons, withheld, judged, len(shared))


def tell_apart(near: NDArray[np.float32], far: NDArray[np.float32], limit: float) -> OutOfScope:
    """Judges a scope by its distances ``[N]`` of what is in scope, `near`, and of what is not."""
    truth = np.repeat([0, 1], [len(near), len(far)])
    return OutOfScope(
        pictures=len(far),
        auroc=float(roc_auc_score(truth, np.concatenate([near, far]))),
        noticed=float(np.mean(far > limit)),
    )


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
        raise BadInput(f"the model learnt from {len(shared)} groups of this data: {names}")
    note(
        f"{len(shared)} groups are named as groups that the model learnt from ({names}): if they "
        "are the same patients, the figures flatter"
    )


def read_pictures_under(
    path: Path,
    preprocessing: Preprocessing,
    progress: Callable[[Iterable[Pixels]], Iterable[Pixels]] = iter,
) -> NDArray[np.uint8]:
    """The pictures under `path`, uint8 ``[N, side, side, 1]``, each prepared as if it had a nodule.

    Raises BadInput where there is none.
    """
    return np.concatenate([preprocessing(pixels) for pixels in progress(pictures_under(path))])


def pictures_under(path: Path) -> Iterator[Pixels]:
    """The pictures of a file, or of all files in a folder: images, and a frame a second of videos.

    Folders are read as `devices.capture.listing` says. Masks beside pictures are left out, and
    files that are neither are passed over. Raises BadInput where there is no picture at all.
    """
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder")
    files = list_files(path, recursive=True) if path.is_dir() else [path]
    masks = masks_among(files)
    empty = True
    for file in files:
        if file in masks:
            continue
        try:
            device = open_device(str(file.absolute()))  # or a name may be taken for a URI
        except BadInput:
            continue
        with device, suppress(EndOfRecording, BadInput):
            last = -np.inf
            while True:
                frame = device.read(timeout=1.0)
                at = np.inf if frame.timestamp is None else frame.timestamp
                if at - last >= EVERY_SECONDS:
                    empty, last = False, at
                    yield frame.pixels
    if empty:
        raise BadInput(f"{path}: no image and no video")
