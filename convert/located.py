"""A bundle's classifier on the boxes that its locator draws, which are what it sees on a device."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.classification import figures_alone
from convert.gate import Answers
from devices import Box
from edge_runtime.bundle.gate import Figure
from edge_runtime.bundle.preprocess import Preprocessing
from edge_runtime.models.boxes import pairwise_iou
from edge_runtime.models.locator import Locator
from edge_runtime.screen.region import Region
from edge_runtime.session.finder import within
from train.decision_rule import DecisionRule
from train.locator.dataset import stored_region, ultrasound_picture
from train.locator.measurement import corners
from train.locator.metrics import MEETS
from train.metrics import Labels, paired_difference
from train.samples import Sample, read_pixels


@dataclass(frozen=True)
class LocatedNodules:
    """The marked nodules that a locator finds."""

    marked: int
    """How many there are to find."""
    members: NDArray[np.int64]
    """``[L]``: the numbers of the samples whose nodule is found."""
    pictures: NDArray[np.uint8]
    """``[L, side, side, 1]``: cut around the located boxes, for the classifier."""


def locate_marked(
    locator: Locator,
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> LocatedNodules:
    """Looks for the marked nodule of each sample as a device looks in a picture that stands alone.

    Of several detections that meet the marked box, with an IoU of at least `MEETS`, the best
    counts. `preprocessing` is that of the classifier. Raises BadInput where a picture cannot be
    read any more, and RuntimeError where inference fails.
    """
    side = preprocessing.side
    marked, members = 0, []
    pictures = [np.zeros((0, side, side, 1), np.uint8)]
    for number, sample in enumerate(progress(samples)):
        if sample.box is None:
            continue
        marked += 1
        pixels = read_pixels(sample)
        height, width = pixels.shape[:2]
        region = Region(device_region=stored_region(sample.path))
        inside = [within(box, width, height) for box in _detect(locator, pixels, region)]
        boxes = [box for box in inside if box is not None]
        overlaps = pairwise_iou(corners(boxes), corners([sample.box]))[:, 0] if boxes else None
        if overlaps is not None and overlaps.max() >= MEETS:
            members.append(number)
            pictures.append(preprocessing(pixels, boxes[int(overlaps.argmax())]))
    return LocatedNodules(marked, np.asarray(members, np.int64), np.concatenate(pictures))


def _detect(locator: Locator, pixels: NDArray[np.uint8], region: Region) -> list[Box]:
    """The boxes that a device would show on a still."""
    place, inside = ultrasound_picture(pixels, region)
    height, width = inside.shape[:2]
    left, top, *size = locator.preprocessing.window(width, height, None)
    window = Box(place.x + left, place.y + top, *size)
    policy = locator.stage.tracking
    found = locator.locate(locator.preprocessing(inside), window)
    sure = [each.box for each in found if each.score >= policy.still_score]
    return sure[: policy.max_nodules]


def located_figures(
    labels: Labels,
    groups: Sequence[str],
    rule: DecisionRule,
    nodules: LocatedNodules,
    on_marked: Answers,
    on_located: Answers,
) -> dict[str, Figure]:
    """What the classifier answers on located boxes, and on the marked boxes of the same pictures.

    `on_marked` are the answers to all samples, ``[N, classes]``, and `on_located` those to the
    located ones, ``[L, classes]``. Where a class is not among the located nodules, how many were
    located is all that is told. Raises ValueError where an answer is not a number.
    """
    found = len(nodules.members)
    figures = {"located": Figure(found / nodules.marked)}
    labels, on_marked = labels[nodules.members], on_marked[nodules.members]
    if len(np.unique(labels)) < len(rule.classes):
        return figures
    groups = [groups[member] for member in nodules.members]
    alone = figures_alone(labels, groups, rule, on_located)
    judged = -1 if rule.is_binary else slice(None)
    difference = paired_difference(labels, on_marked[:, judged], on_located[:, judged], groups)
    agree = rule.called(on_marked) == rule.called(on_located)
    return (
        figures
        | {f"located_{name}": figure for name, figure in alone.items()}
        | {
            "located_auroc_less_marked": Figure(*difference),
            "located_label_agreement": Figure(float(np.mean(agree))),
        }
    )
