"""The locator of a bundle, on marked pictures and clips."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.variants import Progress
from devices import BadInput
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.manifest import Variant
from edge_runtime.models.locator import Locator
from train.locator.evaluation import LocatorEvaluation, read_judged, summarise
from train.locator.measurement import detect


def validate_locator(
    bundle: Bundle, folder: Path, note: Callable[[str], None], progress: Progress
) -> dict[Variant, LocatorEvaluation]:
    """Measures each variant of the locator, with the scores of its tracks, on marked pictures.

    Whether the locator learnt from them is not known here. Raises BadInput where the bundle has no
    locator, where no picture can be used, and where a variant answers no numbers.
    """
    stage = bundle.manifest.locator
    if stage is None:
        raise BadInput(f"{bundle.path}: has no locator; --data measures the classifier")
    preprocessing = preprocess.parse(stage.preprocessing)
    pictures, dropped = read_judged(folder, preprocessing.side, note, progress("pictures"))
    evaluations = {}
    for variant in stage.variants:
        locator = Locator(bundle, stage, variant)
        try:
            found = detect(_answering(locator), pictures, preprocessing, progress(variant))
        except RuntimeError as error:
            raise BadInput(f"{bundle.path}: {variant}: {error}") from error
        evaluations[variant] = summarise(pictures, dropped, found, stage.tracking)
    return evaluations


def _answering(
    locator: Locator,
) -> Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]:
    """What answers several pictures at once, as `detect` asks."""

    def answer(tensors: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        maps = [locator.answer(tensor[np.newaxis]) for tensor in tensors]
        scores, sides = zip(*maps, strict=True)
        return {"score": np.stack(scores), "sides": np.stack(sides)}

    return answer
