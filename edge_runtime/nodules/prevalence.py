"""Probabilities at another prevalence than that of the data that a model was calibrated on.

A probability holds for the share of each class in those data: in a biopsy cohort of which 70 % are
malignant, 0.8 means something else than in a clinic where 10 % are. Equation 2.4 of Saerens,
Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities",
Neural Computation 14(1), 2002, turns one into the other. Labels follow the probabilities as they
were calibrated, so that the sensitivity of the operating point stays.
"""

from collections.abc import Mapping

from devices import BadInput
from edge_runtime.bundle.manifest import ClassifierStage

TOLERANCE = 0.01
"""By which the shares of all labels may differ from 1 together."""


def at_prevalence(
    probabilities: Mapping[str, float],
    calibrated: Mapping[str, float],
    prevalence: Mapping[str, float],
) -> dict[str, float]:
    """The probabilities, by label, at `prevalence` instead of the `calibrated` one.

    Both give the share of each label, above 0.
    """
    weighted = {
        label: p * prevalence[label] / calibrated[label] for label, p in probabilities.items()
    }
    total = sum(weighted.values())
    return {label: weight / total for label, weight in weighted.items()}


def parse_prevalence(text: str, stage: ClassifierStage, option: str) -> dict[str, float]:
    """Reads the share of each label: `0.1`, of the positive one of two, or `a=0.2,b=0.3,c=0.5`.

    Raises BadInput, naming the `option`, for shares that are not between 0 and 1, or that do not
    add up to 1, and for a label that the model does not know.
    """
    if stage.is_binary and "=" not in text:
        text = f"{stage.labels[0]}={1 - _number(text, option)},{stage.positive}={text}"
    shares = {}
    for entry in text.split(","):
        label, _, number = entry.partition("=")
        if label.strip() not in stage.labels:
            labels = ", ".join(stage.labels)
            raise BadInput(f"{option} {text}: no label {label.strip()!r}; there are {labels}")
        shares[label.strip()] = _number(number, option)
    if set(shares) != set(stage.labels) or abs(sum(shares.values()) - 1) > TOLERANCE:
        example = ",".join(f"{label}={1 / len(stage.labels):.2g}" for label in stage.labels)
        raise BadInput(f"{option} {text}: the shares of all labels add up to 1, as in {example}")
    return {label: shares[label] for label in stage.labels}


def _number(word: str, option: str) -> float:
    try:
        number = float(word)
    except ValueError as error:
        raise BadInput(f"{option} {word}: a number between 0 and 1 is needed") from error
    if not 0 < number < 1:
        raise BadInput(f"{option} {word}: a number between 0 and 1 is needed")
    return number
