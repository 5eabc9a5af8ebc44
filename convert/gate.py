"""The release gate: each variant against float, the same pictures, the device's interpreter.

What is measured comes from the task: `convert.classification` brings a classifier's figures and
limits, and a model of another kind would bring its own.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from devices.compute import Backend
from edge_runtime.gate import Comparison, Figure
from edge_runtime.manifest import REFERENCE, Variant

NO_NUMBERS = "answers that are not numbers"
Answers = NDArray[np.float32]
"""float32 ``[N, ...]``: what a model answers to N pictures."""
Measure = Callable[[Answers, Answers], tuple[dict[str, Figure], tuple[str, ...]]]
"""Holds a variant's answers, the second, against float32's, the first: figures by name, and what
lies below its limit. The second are numbers. It raises ValueError where the first are no measure.
"""


def answer_all(
    backend: Backend,
    pictures: NDArray[np.uint8],
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, Answers]:
    """Returns every output by its name, float32 ``[N, ...]``, for uint8 ``[N, side, side, 1]``."""
    outputs = [backend.run(pictures[at : at + 1]) for at in progress(range(len(pictures)))]
    return {name: np.stack([picture[name][0] for picture in outputs]) for name in outputs[0]}


def answer(
    backend: Backend,
    pictures: NDArray[np.uint8],
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    output: str = "probability",
) -> Answers:
    """Returns one output, such as float32 ``[N, classes]``, for uint8 ``[N, side, side, 1]``."""
    return answer_all(backend, pictures, progress)[output]


def compare(measure: Measure, answers: Mapping[Variant, Answers]) -> list[Comparison]:
    """Compares every variant's answers with those of float32, which comes first.

    A variant whose answers are not numbers has failed. Raises ValueError where float32 itself
    answers nonsense, or `measure` cannot judge by it.
    """
    reference = answers[REFERENCE]
    judged = []
    for variant in sorted(answers, key=lambda name: name != REFERENCE):
        numbers = np.isfinite(answers[variant])
        figures, failures = measure(reference, np.where(numbers, answers[variant], 0))
        if not numbers.all():
            failures = (NO_NUMBERS, *failures)
        judged.append(Comparison(variant, figures, failures))
    return judged


def measure_alone(
    measure: Callable[[Answers], dict[str, Figure]], answers: Mapping[Variant, Answers]
) -> list[Comparison]:
    """Measures every variant by itself, where there is no float32 to hold it against.

    A variant whose answers are not numbers has failed; of the others no limit is judged.
    """
    numbers = {variant: np.isfinite(answered) for variant, answered in answers.items()}
    return [
        Comparison(
            variant,
            measure(np.where(numbers[variant], answered, 0)),
            None if numbers[variant].all() else (NO_NUMBERS,),
        )
        for variant, answered in answers.items()
    ]
