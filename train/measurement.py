"""A fitted model measured on the images of its run: answers, scope, subgroups and mistakes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.scope import Scope
from train.batches import PatchSet
from train.decision_rule import NO_LABEL, DecisionRule, Probability, without_temperature
from train.fit import Callbacks, Fitted
from train.metrics import Labels, Metrics, PartialMetrics
from train.network import answer
from train.outliers import Outliers, places_beside
from train.samples import PARTS, Part, Sample, read_pixels
from train.scope import fit_scope
from train.split import Split
from train.subgroups import traits

Outputs = Mapping[str, NDArray[np.float32]]
"""All outputs of a network by name; see `train.network.build`."""


SCANNERS = 8
"""Subgroups of the test images by scanner, the most frequent ones; the others are one."""
CALIPERS = {True: "calipers", False: "none", None: "not known"}
BOXES = {"a fifth smaller": 0.8, "a quarter larger": 1.25}
"""How else people may draw the box around a nodule: its size, over that of the data."""


@dataclass(frozen=True)
class Answers:
    """What the model answered on one part of the split, sample by sample."""

    labels: Labels
    probability: Probability
    uncalibrated: Probability
    """The probabilities before temperature scaling."""
    groups: Sequence[str]


@dataclass(frozen=True)
class Mistake:
    """One picture on which the model was wrong."""

    name: str
    label: str
    """The truth."""
    called: str
    """The label that the model gave."""
    score: float
    """Of two classes the probability of the positive one, of more that of the label it gave."""
    picture: NDArray[np.uint8]
    """uint8 ``[side, side, 1]``, as the network saw it."""
    evidence: NDArray[np.floating] | None
    """float ``[h, w]`` over the whole picture: what each place adds to the log-odds of the positive
    class. None of a model that has no such output."""


@dataclass(frozen=True)
class Measurement:
    """What was measured of a fitted model."""

    answers: Mapping[Part, Answers]
    metrics: dict[Part, Metrics]
    subgroups: dict[str, dict[str, PartialMetrics]]
    """Of the test split: by title, then by the subgroup's name."""
    scope: Scope | None
    """None of a model without an embedding."""
    withheld: float | None
    """The share of the test images that are out of scope; None without a scope."""
    mistakes: list[Mistake]
    """On the test split, the worst first."""


def measure_fitted(
    fitted: Fitted,
    classes: tuple[str, ...],
    split: Split,
    patch_sets: Mapping[Part, PatchSet],
    pictures: Mapping[Part, NDArray[np.uint8]],
    outliers: Outliers | None,
    seed: int,
    callbacks: Callbacks,
) -> Measurement:
    """Measures a model on each part of the split, and fits the scope on train and validation.

    `pictures` are the prepared images of each part, uint8 ``[N, side, side, 1]``. `outliers` are
    auxiliary pictures that are out of scope.
    """
    outputs = {part: answer(fitted.model, pictures[part]) for part in PARTS}
    answers = {
        part: _answers(outputs[part]["probability"], patch_sets[part], split.of(part), fitted)
        for part in PARTS
    }
    scope, withheld = None, None
    if "embedding" in outputs["train"]:
        scope = _scope(fitted, outputs, split, patch_sets, outliers, seed, callbacks)
        withheld = float(np.mean(scope.score(outputs["test"]["embedding"]) > 1))
    rule = DecisionRule(classes, fitted.thresholds)
    test, redrawn = answers["test"], _redrawn(patch_sets["test"], answers["test"], fitted, rule)
    subgroups = _subgroups(callbacks.images(split.of("test")), test, rule)
    return Measurement(
        answers=answers,
        metrics={
            part: rule.measure(answer.labels, answer.probability, answer.groups)
            for part, answer in answers.items()
        },
        subgroups=subgroups | ({"box": redrawn} if redrawn else {}),
        scope=scope,
        withheld=withheld,
        mistakes=_mistakes(
            split.of("test"), pictures["test"], outputs["test"].get("evidence"), test, rule
        ),
    )


def _answers(
    probability: NDArray[np.float32],
    patch_set: PatchSet,
    samples: Sequence[Sample],
    fitted: Fitted,
) -> Answers:
    """The answers to one part of the split."""
    return Answers(
        labels=patch_set.labels,
        probability=probability,
        uncalibrated=without_temperature(probability, fitted.temperature),
        groups=[sample.group for sample in samples],
    )


def _scope(
    fitted: Fitted,
    outputs: Mapping[Part, Outputs],
    split: Split,
    patch_sets: Mapping[Part, PatchSet],
    outliers: Outliers | None,
    seed: int,
    callbacks: Callbacks,
) -> Scope:
    """The scope of the pictures as they are and as augmentation changes them.

    Places beside the nodules, and `outliers`, are the two sets of pictures that are out of scope.
    """
    parts: tuple[Part, ...] = ("train", "validation")
    augmented = (
        patch_sets[part].varied(seed, index, progress=callbacks.varying)
        for index, part in enumerate(parts)
    )
    train, validation = (
        (outputs[part]["embedding"], answer(fitted.model, pictures)["embedding"])
        for part, pictures in zip(parts, augmented, strict=True)
    )
    preprocessing = patch_sets["train"].preprocessing
    sets = [places_beside(split.of("train"), preprocessing, seed, callbacks.images)]
    if outliers is not None:
        sets.append(outliers.pictures)
    auxiliary = [answer(fitted.model, pictures)["embedding"] for pictures in sets if len(pictures)]
    return fit_scope(train, validation, auxiliary)


def worst_mistakes(
    labels: Labels, probability: Probability, rule: DecisionRule, count: int = 12
) -> NDArray[np.intp]:
    """Indices of the wrong labels with the least probability of the truth, the worst first."""
    called = rule.called(probability)
    wrong = np.flatnonzero((called != labels) & (called != NO_LABEL))
    of_the_truth = probability[np.arange(len(labels)), labels]
    return wrong[np.argsort(of_the_truth[wrong], kind="stable")][:count]


def _subgroups(
    samples: Iterable[Sample], test: Answers, rule: DecisionRule
) -> dict[str, dict[str, PartialMetrics]]:
    """The test figures by what an image tells besides its label."""
    images = [traits(read_pixels(sample), sample.box) for sample in samples]
    common = {name for name, _ in Counter(image.scanner for image in images).most_common(SCANNERS)}
    titles: dict[str, list[str]] = {
        "nodule size": [image.nodule or "not known" for image in images],
        "scanner": [image.scanner if image.scanner in common else "others" for image in images],
        "colour": ["coloured" if image.coloured else "grey" for image in images],
        "calipers": [CALIPERS[image.calipers] for image in images],
    }
    return {
        title: rule.by_subgroup(test.labels, test.probability, test.groups, names)
        for title, names in titles.items()
        if len(set(names)) > 1
    }


def _redrawn(
    test: PatchSet, answers: Answers, fitted: Fitted, rule: DecisionRule
) -> dict[str, PartialMetrics]:
    """The figures of the test pictures that have a box, with boxes as `BOXES` has them."""
    boxed = [index for index, patch in enumerate(test.patches) if patch.box is not None]
    if not boxed or test.preprocessing.crop is None:
        return {}
    labels, groups = answers.labels[boxed], [answers.groups[index] for index in boxed]
    figures: dict[str, PartialMetrics] = {}
    for name, factor in BOXES.items():
        pictures = np.concatenate([test.redrawn(index, factor) for index in boxed])
        probability = answer(fitted.model, pictures)["probability"]
        figures |= rule.by_subgroup(labels, probability, groups, [name] * len(boxed))
    return figures


def _mistakes(
    samples: Sequence[Sample],
    pictures: NDArray[np.uint8],
    evidence: NDArray[np.float32] | None,
    test: Answers,
    rule: DecisionRule,
) -> list[Mistake]:
    """The worst wrong decisions on the test split, each with its evidence where there is any."""
    called = rule.called(test.probability)
    return [
        Mistake(
            name=samples[index].path.name,
            label=samples[index].label,
            called=rule.classes[called[index]],
            score=float(test.probability[index, 1 if rule.is_binary else called[index]]),
            picture=pictures[index],
            evidence=None if evidence is None else evidence[index],
        )
        for index in worst_mistakes(test.labels, test.probability, rule)
    ]
