"""The gate holds variants of any kind of model against float, by what their task measures."""

import numpy as np
import pytest

from convert.gate import Answers, compare
from edge_runtime.bundle.gate import Figure, rows

BOXES = np.array([[10, 10, 30, 30], [5, 0, 25, 40], [0, 0, 9, 9]], np.float32)
"""float32 ``[N, 4]``, left, top, right, bottom: what a locator of nodules would answer."""


def overlap(reference: Answers, answered: Answers) -> tuple[dict[str, Figure], tuple[str, ...]]:
    """A locator's figure: the mean intersection over union of its boxes with float32's."""
    inside = np.minimum(reference[:, 2:], answered[:, 2:]) - np.maximum(
        reference[:, :2], answered[:, :2]
    )
    shared = np.prod(np.maximum(inside, 0), axis=1)
    areas = [np.prod(its[:, 2:] - its[:, :2], axis=1) for its in (reference, answered)]
    mean = float(np.mean(shared / (areas[0] + areas[1] - shared)))
    return {"mean_overlap": Figure(mean)}, (f"overlap {mean:.2f} < 0.9",) if mean < 0.9 else ()


def test_a_model_of_another_kind_brings_its_own_figures_and_limits() -> None:
    near, far = BOXES.copy(), BOXES.copy()
    near[0, 0] += 0.5
    far[0] += 15
    answers = {"int8": far, "float16": near, "float32": BOXES}
    float32, int8, float16 = compare(overlap, answers)  # type: ignore[arg-type]
    assert [its.variant for its in (float32, int8, float16)] == ["float32", "int8", "float16"]
    assert (float32.failures, float16.failures, int8.failures) == ((), (), ("overlap 0.68 < 0.9",))
    assert rows([float32, int8]) == {
        "mean overlap": ["1.0000", "0.6774"],
        "limits": ["held", "overlap 0.68 < 0.9"],
    }


@pytest.mark.parametrize("nonsense", [np.nan, np.inf])
def test_answers_that_are_not_numbers_fail(nonsense: float) -> None:
    broken = BOXES.copy()
    broken[2, 1] = nonsense
    _, int8 = compare(overlap, {"float32": BOXES, "int8": broken})
    assert int8.failures is not None
    assert int8.failures[0] == "answers that are not numbers"
