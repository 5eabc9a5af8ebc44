"""The classifier of a bundle: a model that breaks the contract is refused when it is opened."""

from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.preprocess import parse
from tests.conftest import refused, sonolite
from tests.edge_runtime.models.broken import answering, resigned

PHANTOM = ("--source", "phantom:?live=no&frames=2", "--any-picture", "--prevalence", "0.1")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("none", "the model's answers are no probabilities, which add up to 1"),
        ("below", "the model's answers are no probabilities, which add up to 1"),
        ("scalar", "the model's evidence is no map"),
        ("truth", "not a model of the contract: float32 outputs"),
    ],
)
def test_answers_that_break_the_contract_are_refused(
    demo_bundle: Bundle, tmp_path: Path, wrong: str, line: str
) -> None:
    tf = pytest.importorskip("tensorflow")

    def answer(picture: Any) -> dict[str, Any]:
        share = tf.reduce_mean(picture) / 255
        probability = tf.reshape(tf.stack([1 - share, share]), (1, 2))
        changed = {
            "none": {"probability": probability * 0},
            "below": {"probability": probability + tf.constant([[2.0, -2.0]])},
            "scalar": {"evidence": share},
            "truth": {"probability": probability > 0.5},
        }
        return {"probability": probability, **changed[wrong]}

    model = answering(answer, parse(demo_bundle.manifest.classifier.preprocessing).side)
    path = resigned(demo_bundle, "int8.tflite", model, tmp_path / "x.sonolite")
    refused(sonolite("run", path, *PHANTOM), line)
