"""`compare` puts the classical methods beside the network, on the run's own split."""

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from devices import BadInput
from edge_runtime.bundle import preprocess
from edge_runtime.results.result import NOTICE
from tests.conftest import refused, sonolite
from train.classical import METHODS, extract, fit_method
from train.compare import (
    CALLS,
    Comparison,
    as_on_a_device,
    compare,
    comparison_table,
    image_milliseconds,
    markdown_table,
    narrow,
)
from train.decision_rule import choose_thresholds
from train.metrics import as_labels
from train.network import predict
from train.run import Run, read_run
from train.samples import load_pictures
from train.split import Split

LABELS = ("benign", "malignant")
FEW = tuple(its for its in METHODS if its.name in ("SVM, LBP", "SVM, intensity"))
"""Of the methods, two that learn in a moment."""


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Run:
    return read_run(run_folder)


@pytest.fixture(scope="module")
def comparison(run: Run) -> Comparison:
    return compare(run, methods=FEW)


def test_the_network_comes_first_with_the_figures_of_its_run(
    run: Run, comparison: Comparison
) -> None:
    network = comparison.rivals[0]
    assert network.name == run.record.recipe_name
    assert network.metrics == run.record.metrics["test"]
    assert network.thresholds == run.record.thresholds
    assert network.training_seconds == run.record.seconds
    assert network.auroc_difference == 0


def test_every_method_is_measured_on_the_same_images(run: Run, comparison: Comparison) -> None:
    assert [its.name for its in comparison.rivals[1:]] == [method.name for method in FEW]
    assert {its.metrics.samples for its in comparison.rivals} == {len(run.split.of("test"))}
    for its in comparison.rivals:
        network = comparison.rivals[0].metrics.auroc
        assert its.auroc_difference == pytest.approx(its.metrics.auroc - network)


def test_every_method_costs_time(comparison: Comparison) -> None:
    assert all(its.training_seconds > 0 for its in comparison.rivals)
    assert all(its.image_milliseconds > 0 for its in comparison.rivals)


def test_the_operating_point_is_chosen_on_validation(run: Run, comparison: Comparison) -> None:
    """The last method again, by hand, from the train and validation splits alone."""
    recipe, method = run.record.recipe, FEW[-1]
    given = []
    for samples in (run.split.of("train"), run.split.of("validation")):
        pictures = load_pictures(samples, preprocess.parse(recipe.preprocessing))
        features = {name: extract(name, pictures) for name in method.features}
        given.append((features, as_labels([sample.label for sample in samples], LABELS)))
    groups = [sample.group for sample in run.split.of("train")]
    trained = fit_method(method, run.record.seed, given[0], groups, given[1])
    expected = choose_thresholds(LABELS, given[1][1], trained(given[1][0]), 0.90)
    assert comparison.rivals[-1].thresholds == pytest.approx(expected)


def test_the_test_split_decides_nothing(run: Run, comparison: Comparison) -> None:
    """With another test split every method is the same, only its figures are not."""
    half = [index for index, part in enumerate(run.split.parts) if part == "test"][::2]
    keep = [index for index in range(len(run.split.parts)) if index not in half]
    smaller = Split(
        tuple(run.split.samples[index] for index in keep),
        tuple(run.split.parts[index] for index in keep),
    )
    again = compare(replace(run, split=smaller), methods=FEW)
    assert [(its.parameters, its.thresholds) for its in again.rivals] == [
        (its.parameters, its.thresholds) for its in comparison.rivals
    ]


def test_the_network_is_timed_as_the_model_it_is(run: Run) -> None:
    preprocessing = preprocess.parse(run.record.recipe.preprocessing)
    pictures = load_pictures(run.split.of("test"), preprocessing)
    backend = as_on_a_device(run.model)
    answers = [backend.run(picture[np.newaxis])["probability"][0] for picture in pictures]
    assert np.array(answers) == pytest.approx(predict(run.model, pictures), abs=1e-5)
    assert backend.compute.threads == 1


def test_the_median_is_of_single_images_after_a_warm_up() -> None:
    shapes = []
    image_milliseconds(lambda its: shapes.append(its.shape), np.zeros((3, 16, 16, 1), np.uint8))
    assert len(shapes) > CALLS >= 50
    assert set(shapes) == {(1, 16, 16, 1)}


def test_the_answer_is_plain_json(comparison: Comparison) -> None:
    answer = json.loads(json.dumps(asdict(comparison)))
    assert len(answer["rivals"]) == 1 + len(FEW)
    assert answer["rivals"][1]["metrics"]["auroc"] == comparison.rivals[1].metrics.auroc


def test_the_terminal_shows_a_row_for_each_method_within_80_columns(
    comparison: Comparison,
) -> None:
    longest = max((method.name for method in METHODS), key=len)
    renamed = replace(comparison.rivals[0], name=longest)
    console = Console(width=80)
    with console.capture() as shown:
        console.print(comparison_table(replace(comparison, rivals=(*comparison.rivals, renamed))))
    rows = [line.split("  ")[1] for line in shown.get().splitlines() if line.endswith(" ms  ")]
    assert rows == [*(its.name for its in comparison.rivals), longest]
    assert all(name in shown.get() for name in narrow(comparison))
    assert NOTICE in shown.get()


def test_the_page_has_the_same_table_and_says_what_was_timed(comparison: Comparison) -> None:
    page = markdown_table(comparison)
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(comparison.rivals)  # the header, its rule
    assert all(one.count("|") == other.count("|") for one, other in pairwise(table))
    for name, column in (("specificity", "spec."), ("ppv", "PPV"), ("npv", "NPV")):
        place = table[0].split(" | ").index(column)
        for row, its in zip(table[2:], comparison.rivals, strict=True):
            assert row.split(" | ")[place] == f"{getattr(its.metrics, name):.3f}".replace("0.", ".")
    assert comparison.timed in page
    assert NOTICE in page.lower()


def test_an_image_that_is_gone_is_named(run: Run) -> None:
    samples = list(run.split.samples)
    gone = samples[0].path.with_name("gone.png")
    samples[0] = replace(samples[0], path=gone)
    split = Split(tuple(samples), run.split.parts)
    with pytest.raises(BadInput, match=r"gone\.png"):
        compare(replace(run, split=split), methods=FEW)


def test_the_run_of_a_locator_is_refused_as_one(locator_run: Path) -> None:
    refused(sonolite("compare", locator_run), "the run of a locator")
