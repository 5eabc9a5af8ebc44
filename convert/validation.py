"""A bundle's variants on other data than the gate's, and on what they must not judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.classification import classification, figures_alone
from convert.gate import Answers, answer, answer_all, compare, measure_alone
from convert.located import locate_marked, located_figures
from convert.variants import Progress
from devices import BadInput
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.gate import Comparison, Figure
from edge_runtime.bundle.manifest import REFERENCE, Variant
from edge_runtime.bundle.scope import Scope, read_scope
from edge_runtime.models.classifier import Classifier
from edge_runtime.models.locator import Locator
from train.decision_rule import DecisionRule
from train.evaluation import tell_apart
from train.importers import read_samples
from train.loading import load, prepare
from train.metrics import as_labels
from train.outliers import read_pictures_under
from train.samples import Dropped, Task, require_all_classes


@dataclass(frozen=True)
class Validation:
    """What `sonolite validate` measures."""

    comparisons: list[Comparison]
    dropped: tuple[Dropped, ...]
    """Images that could not be used."""


def validate_bundle(
    bundle: Bundle,
    data: Path,
    others: Path | None,
    tirads: dict[str, str],
    progress: Progress,
) -> Validation:
    """Measures each variant on `data`, against float32 where the bundle has it.

    Where the bundle has a locator, the classifier is also measured on the boxes that the locator
    draws. Where the model has a scope, the share of the images beyond it is told, and how well it
    tells `others` from them, which the model must not judge. `tirads` maps grades to labels, for
    images that are only graded. Raises BadInput where a class is missing, float32 answers nonsense,
    or `others` are given to a model without a scope.
    """
    stage = bundle.manifest.classifier
    if others is not None and not stage.scopes:
        raise BadInput(f"{bundle.path}: its model has no scope to tell other pictures by")
    task = Task(stage.task, stage.labels, stage.aliases).graded(tirads)
    collection = read_samples(data, task)
    classifiers = {name: Classifier(bundle, stage, name) for name in stage.variants}
    preprocessing = next(iter(classifiers.values())).preprocessing
    loaded = load(collection, preprocessing, progress("images"))
    require_all_classes(loaded.samples, task, str(data))
    pictures = prepare(loaded.patches, preprocessing)
    outside = None
    if others is not None:
        outside = read_pictures_under(others, preprocessing, progress("other pictures"))
    located = None
    boxes = any(sample.box is not None for sample in loaded.samples)
    if bundle.manifest.locator is not None and preprocessing.crops and boxes:
        locator = Locator(bundle, bundle.manifest.locator)
        located = locate_marked(locator, loaded.samples, preprocessing, progress("locating"))
    labels = as_labels([sample.label for sample in loaded.samples], stage.labels)
    groups = [sample.group for sample in loaded.samples]
    rule, limits = DecisionRule(stage.labels, stage.operating_point.thresholds), stage.limits
    probabilities: dict[Variant, Answers] = {}
    more: dict[Variant, dict[str, Figure]] = {}
    for name, classifier in classifiers.items():
        near = answer_all(classifier.backend, pictures, progress(name))
        probabilities[name], more[name] = near["probability"], {}
        try:
            if stage.scopes:
                far = None
                if outside is not None:
                    far = answer_all(
                        classifier.backend, outside.pictures, progress(f"{name}, other pictures")
                    )
                scope = read_scope(bundle.read(stage.scopes[name]))
                kinds = () if outside is None else outside.kinds
                more[name] |= _scope_figures(scope, near, far, kinds)
            if located is not None:
                on_marked = near["probability"]
                on_located = on_marked[:0]
                if len(located.pictures):
                    on_located = answer(
                        classifier.backend, located.pictures, progress(f"{name}, located")
                    )
                more[name] |= located_figures(labels, groups, rule, located, on_marked, on_located)
        except ValueError as error:
            raise BadInput(f"{bundle.path}: {name}: {error}") from error
    try:
        if REFERENCE in probabilities:
            judged = compare(classification(labels, groups, rule, limits), probabilities)
        else:
            judged = measure_alone(partial(figures_alone, labels, groups, rule), probabilities)
    except ValueError as error:
        raise BadInput(f"{bundle.path}: {error}") from error
    return Validation(
        [
            replace(comparison, figures=comparison.figures | more[comparison.variant])
            for comparison in judged
        ],
        loaded.dropped,
    )


def _scope_figures(
    scope: Scope,
    near: Mapping[str, NDArray[np.float32]],
    far: Mapping[str, NDArray[np.float32]] | None,
    kinds: Sequence[str],
) -> dict[str, Figure]:
    """What the scope withholds of the images, and how it tells other pictures from them."""
    scores = scope.score(near["embedding"])
    if not np.isfinite(scores).all():
        raise ValueError("an embedding is not a number")
    figures = {"withheld": Figure(float(np.mean(scores > 1)))}
    if far is None:
        return figures
    judged = tell_apart(scores, scope.score(far["embedding"]), kinds)
    return (
        figures
        | {
            "out_of_scope_pictures": Figure(judged.pictures),
            "out_of_scope_auroc": Figure(judged.auroc),
            "out_of_scope_noticed": Figure(judged.noticed),
        }
        | {
            f"out_of_scope_noticed_of_{kind}": Figure(share)
            for kind, share in judged.by_kind.items()
            if len(judged.by_kind) > 1
        }
    )
