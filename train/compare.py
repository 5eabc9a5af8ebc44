"""The network of a run beside the classical methods: same split, same figures, and what each costs.

Every method learns from the train split alone, is calibrated and takes its operating point on
validation, at the recipe's sensitivity, and is measured on test, as the network was.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice, product
from statistics import median
from time import perf_counter
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.table import Table
from threadpoolctl import threadpool_limits

from devices import BadInput
from devices.compute import CpuBackend
from edge_runtime.bundle import preprocess
from edge_runtime.results.result import NOTICE
from train.classical import METHODS, Method, Trained, extract, fit_method
from train.decision_rule import DecisionRule, Probability, choose_thresholds
from train.metrics import (
    Interval,
    Labels,
    Metrics,
    as_labels,
    metrics_of,
    paired_difference,
)
from train.network import predict
from train.run import Run
from train.samples import PARTS, Part, load_pictures
from train.terminal import figures_table

WARM_UP = 5
CALLS = 100
TIMED = (
    "Train: the network's epochs and its teachers'; of the others, the features of the train split "
    "and the whole search. Image: from the prepared picture to the probability, the median of "
    f"{CALLS} single images on one thread; the network as float32 TFLite."
)
DIFFERENCE = "Difference: the AUROC less the network's, over the same resampled groups."

Pictures = NDArray[np.uint8]
"""uint8 ``[N, side, side, 1]``."""
Progress = Callable[[str, Iterable[Any]], Iterable[Any]]
"""Passes an iteration on, and shows it under a name."""


@dataclass(frozen=True)
class Rival:
    """One method, measured on the test split."""

    name: str
    parameters: dict[str, float]
    """The hyper-parameters that were chosen; empty for the network, which has its recipe."""
    training_seconds: float
    image_milliseconds: float
    thresholds: dict[str, float]
    """The operating point, chosen on validation."""
    metrics: Metrics
    auroc_difference: float
    """The method's AUROC less the network's."""
    auroc_difference_interval: Interval | None
    """Its 95 % interval over the same resampled groups; None where the test split has one group."""


@dataclass(frozen=True)
class Comparison:
    """What was found; the network comes first."""

    data: str
    seed: int
    sensitivity: float
    """What every operating point had to reach on validation."""
    timed: str
    rivals: tuple[Rival, ...]


@dataclass(frozen=True)
class _Part:
    """One part of the split."""

    pictures: Pictures
    labels: Labels
    groups: list[str]


@dataclass(frozen=True)
class _Candidate:
    """A trained method, before it is measured."""

    name: str
    parameters: dict[str, float]
    training_seconds: float
    thresholds: dict[str, float]
    probability: Probability
    """Its answers on the test split."""
    answer: Callable[[Pictures], object]
    """Answers one picture, ``[1, side, side, 1]``, as a device would."""


def show_nothing(_: str, items: Iterable[Any]) -> Iterable[Any]:
    """Shows nothing."""
    return items


def compare(
    run: Run, progress: Progress = show_nothing, methods: Sequence[Method] = METHODS
) -> Comparison:
    """Trains the classical methods on the run's split and measures each beside the network.

    Raises BadInput where an image cannot be read, the train split has too few groups to choose
    hyper-parameters on, or the network's answers are not numbers.
    """
    recipe = run.record.recipe
    prepared = preprocess.parse(recipe.preprocessing)
    given: dict[Part, _Part] = {}
    for part in PARTS:
        samples = run.split.of(part)
        given[part] = _Part(
            load_pictures(samples, prepared, partial(progress, f"{part} images")),
            as_labels([sample.label for sample in samples], recipe.task.labels),
            [sample.group for sample in samples],
        )
    network = _network(run, given["test"].pictures)
    candidates = [network, *_classical(run, given, progress, methods)]
    return Comparison(
        data=run.record.data.name,
        seed=run.record.seed,
        sensitivity=recipe.operating_point.sensitivity,
        timed=TIMED,
        rivals=tuple(
            _judge(candidate, network, given["test"], recipe.task.labels)
            for candidate in candidates
        ),
    )


def _judge(
    candidate: _Candidate, network: _Candidate, test: _Part, classes: tuple[str, ...]
) -> Rival:
    """Measures a candidate on the test split."""
    rule = DecisionRule(classes, candidate.thresholds)
    # Of two classes the positive one's probability says all.
    judged = slice(None) if len(classes) > 2 else -1
    difference, interval = paired_difference(
        test.labels, network.probability[:, judged], candidate.probability[:, judged], test.groups
    )
    return Rival(
        name=candidate.name,
        parameters=candidate.parameters,
        training_seconds=candidate.training_seconds,
        image_milliseconds=image_milliseconds(candidate.answer, test.pictures),
        thresholds=candidate.thresholds,
        metrics=rule.measure(test.labels, candidate.probability, test.groups),
        auroc_difference=difference,
        auroc_difference_interval=interval,
    )


def _network(run: Run, pictures: Pictures) -> _Candidate:
    """The run's own network, answering the test `pictures`."""
    probability = predict(run.model, pictures)
    if not np.isfinite(probability).all():
        raise BadInput(f"{run.folder}: a probability is not a number")
    backend = as_on_a_device(run.model)
    return _Candidate(
        name=run.record.recipe_name,
        parameters={},
        training_seconds=run.record.seconds,
        thresholds=run.record.thresholds,
        probability=probability,
        answer=backend.run,
    )


def _classical(
    run: Run, given: Mapping[Part, _Part], progress: Progress, methods: Sequence[Method]
) -> Iterator[_Candidate]:
    """Trains the classical methods one by one; the features are made once for all of them."""
    seconds: dict[str, float] = {}
    features: dict[Part, dict[str, NDArray[np.float32]]] = {part: {} for part in PARTS}
    names = sorted({name for method in methods for name in method.features})
    for part, name in progress("features", list(product(PARTS, names))):
        began = perf_counter()
        features[part][name] = extract(name, given[part].pictures)
        if part == "train":
            seconds[name] = perf_counter() - began
    train = (features["train"], given["train"].labels)
    validation = (features["validation"], given["validation"].labels)
    for method in progress("methods", methods):
        began = perf_counter()
        trained = fit_method(method, run.record.seed, train, given["train"].groups, validation)
        learning = perf_counter() - began
        yield _Candidate(
            name=method.name,
            parameters=trained.parameters,
            training_seconds=learning + sum(seconds[name] for name in method.features),
            thresholds=choose_thresholds(
                run.record.recipe.task.labels,
                validation[1],
                trained(features["validation"]),
                run.record.recipe.operating_point.sensitivity,
            ),
            probability=trained(features["test"]),
            answer=partial(_answer, trained),
        )


def _answer(trained: Trained, picture: Pictures) -> Probability:
    return trained({name: extract(name, picture) for name in trained.method.features})


def as_on_a_device(model: keras.Model) -> CpuBackend:
    """The model as float32 TFLite on one thread, for one picture at a time."""
    picture = keras.Input(batch_shape=(1, *model.input_shape[1:]), dtype="uint8", name="picture")
    single = keras.Model(picture, model(picture))
    converter = tf.lite.TFLiteConverter.from_keras_model(single)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        content = bytes(converter.convert())
    return CpuBackend(content, "float32", threads=1)


def image_milliseconds(answer: Callable[[Pictures], object], pictures: Pictures) -> float:
    """The median time of `CALLS` calls with one picture each, on one thread, after a warm-up."""
    times = []
    with threadpool_limits(limits=1):
        for index in islice(cycle(range(len(pictures))), WARM_UP + CALLS):
            began = perf_counter()
            answer(pictures[index : index + 1])
            times.append(perf_counter() - began)
    return 1000 * median(times[WARM_UP:])


def narrow(comparison: Comparison) -> tuple[str, ...]:
    """The columns that 80 characters have room for."""
    metrics = metrics_of(_classes(comparison.rivals[0]))
    wanted = ("sensitivity", "specificity", "balanced_accuracy", "abstained")
    shown = [metrics[name].column for name in wanted if name in metrics]
    return (metrics["auroc"].column, "95 %", *shown, "train", "image")


def _classes(rival: Rival) -> int:
    return max(2, len(rival.metrics.by_class))


def comparison_table(comparison: Comparison) -> Table:
    """The table for the terminal, a row for each method."""
    rows = {rival.name: _cells(rival) for rival in comparison.rivals}
    columns = narrow(comparison)
    return figures_table(
        columns, {name: [cells[column] for column in columns] for name, cells in rows.items()}
    )


def markdown_table(comparison: Comparison) -> str:
    """The table for a page of the docs, with more columns, and what they mean below it."""
    rows = [{"method": rival.name} | _cells(rival) for rival in comparison.rivals]
    lines = [
        list(rows[0]),
        ["---", *["---:"] * (len(rows[0]) - 1)],
        *(row.values() for row in rows),
    ]
    table = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*table, "", f"{DIFFERENCE} {comparison.timed} {NOTICE.capitalize()}.", ""])


def _cells(rival: Rival) -> dict[str, str]:
    """What the tables say of one method, by column."""
    metrics, registry = rival.metrics, metrics_of(_classes(rival))
    return {
        registry["auroc"].column: _share(metrics.auroc),
        "95 %": _interval(metrics.intervals.get("auroc")),
        "difference": _share(rival.auroc_difference, "+"),
        "its 95 %": _interval(rival.auroc_difference_interval, "+"),
        **{
            metric.column: _share(getattr(metrics, name))
            for name, metric in registry.items()
            if name != "auroc" and metric.interval != "none"
        },
        "train": f"{rival.training_seconds:,.0f} s",
        "image": f"{rival.image_milliseconds:.1f} ms",
    }


def _share(value: float | None, sign: str = "") -> str:
    """Three places and no leading zero, `.913`, `+.020`; nothing where there is no figure."""
    if value is None:
        return ""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def _interval(ends: Interval | None, sign: str = "") -> str:
    """The two ends, or nothing where there is no interval."""
    return "" if ends is None else " ".join(_share(end, sign) for end in ends)
