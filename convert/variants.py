"""The TFLite variants of a run that are asked for, with their answers to the test pictures."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from nacl.signing import SigningKey
from numpy.typing import NDArray

from convert.bias_correction import correct_biases
from convert.classification import classification
from convert.gate import answer, compare
from convert.layer_errors import convert_keeping, effects, keep_worst
from convert.metadata import with_metadata
from convert.quantisation_aware import FineTuning, fine_tune
from convert.tflite import choose_representative, convert
from devices import BadInput
from devices.compute import CpuBackend
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.gate import Comparison
from edge_runtime.bundle.manifest import REFERENCE, Variant
from train.batches import read_patch_set
from train.metrics import as_labels
from train.run import Run
from train.samples import Sample, load_pictures

ON_GPU: tuple[Variant, ...] = ("float32", "float16")
"""Variants that a GPU computes."""
DIAGNOSED = 32
"""Pictures on which layers are compared, and on which a GPU is held against the CPU."""
AUTO = "auto"
"""In place of layers: as many in float as the validation images ask for."""

Progress = Callable[[str], Callable[[Iterable[Any]], Iterable[Any]]]


@dataclass(frozen=True)
class ConversionOptions:
    """What is asked for of a conversion."""

    name: str
    version: int
    variants: tuple[Variant, ...]
    needed: bool
    """Whether the device needs all of them; else those that fail are left out."""
    keep_float: tuple[str, ...]
    """Layers that int8 computes in float, or `auto`."""
    aware: bool
    """Whether int8 is fine-tuned quantisation-aware; see `convert.quantisation_aware`."""
    quoted: tuple[Path, ...]
    """Runs and cross-validations of the same recipe, for the card."""
    key: SigningKey | None
    """None where no bundle is made."""


@dataclass(frozen=True)
class Converted:
    """The variants that could be made and run; float32 is always among them."""

    models: dict[Variant, bytes]
    backends: dict[Variant, CpuBackend]
    answers: dict[Variant, NDArray[np.float32]]
    """On the test split, float32 ``[N, classes]``."""
    fine_tuning: FineTuning | None
    """How int8 was fine-tuned; None where its weights are those of float32, but for the biases."""
    in_float: tuple[str, ...]
    """The layers that int8 computes in float."""
    lost: tuple[Comparison, ...]
    """Those that could not; a variant that cannot be measured has failed."""


def convert_variants(
    run: Run, options: ConversionOptions, pictures: NDArray[np.uint8], progress: Progress
) -> Converted:
    """Makes float32 and the variants that are asked for, with their answers to the test pictures.

    Raises BadInput where float32 cannot be made or run.
    """
    recipe = run.record.recipe
    chosen = choose_representative(run.split.of("train"), recipe.task.labels, run.record.seed)
    preprocessing = preprocess.parse(recipe.preprocessing)
    representative = load_pictures(chosen, preprocessing, progress("representative set"))
    models: dict[Variant, bytes] = {}
    backends: dict[Variant, CpuBackend] = {}
    answers: dict[Variant, NDArray[np.float32]] = {}
    tuned: FineTuning | None = None
    in_float: tuple[str, ...] = ()

    def make(variant: Variant) -> None:
        nonlocal tuned, in_float
        if variant == "int8":
            floats = backends[REFERENCE], models[REFERENCE]
            model, in_float, tuned = _int8(run, options, representative, *floats, progress)
        else:
            model = convert(run.model, variant, representative)
        model = with_metadata(
            model, options.name, options.version, recipe.about, recipe.task.labels
        )
        backend = CpuBackend(model, f"{variant}.tflite")
        answers[variant] = answer(backend, pictures, progress(f"testing {variant}"))
        models[variant], backends[variant] = model, backend

    variants = progress("converting")(dict.fromkeys((REFERENCE, *options.variants)))
    lost = try_each(run.folder, variants, make)
    return Converted(models, backends, answers, tuned, in_float, lost)


def try_each(
    folder: Path, variants: Iterable[Variant], make: Callable[[Variant], None]
) -> tuple[Comparison, ...]:
    """Calls `make` for each variant. Returns those for which it failed, with the reason.

    A variant that cannot be measured has failed. Raises BadInput where float32 cannot be made of
    the run in `folder`.
    """
    lost = []
    for variant in variants:
        try:
            make(variant)
        except Exception as error:  # whatever the converter or the interpreter comes to
            line = f"{type(error).__name__}: {(str(error).strip() or 'no word').splitlines()[0]}"
            if variant == REFERENCE:
                raise BadInput(f"{folder}: {variant}: {line}") from error
            lost.append(Comparison(variant, {}, (line,)))
    return tuple(lost)


def _fine_tuned(
    run: Run, start: keras.Model, representative: NDArray[np.uint8], progress: Progress
) -> tuple[keras.Model, FineTuning]:
    """The weights of int8, from the training images and with a look at those of validation."""
    record = run.record
    preprocessing = preprocess.parse(record.recipe.preprocessing)
    return fine_tune(
        run.model,
        start,
        representative,
        read_patch_set(run.split.of("train"), record.recipe, progress("training images")),
        load_pictures(run.split.of("validation"), preprocessing, progress("validation images")),
        record.recipe.fit,
        record.seed,
        progress("fine-tuning int8"),
    )


def require_layers(run: Run, keep: Sequence[str]) -> None:
    """Raises BadInput, naming near ones, for a layer that the model does not have."""
    names = [layer.name for layer in run.model.layers]
    for name in keep:
        if keep != (AUTO,) and name not in names:
            near = ", ".join(difflib.get_close_matches(name, names) or names)
            raise BadInput(f"--keep-float {name}: no such layer; there are {near}")


def _int8(
    run: Run,
    options: ConversionOptions,
    representative: NDArray[np.uint8],
    reference: CpuBackend,
    float32: bytes,
    progress: Progress,
) -> tuple[bytes, tuple[str, ...], FineTuning | None]:
    """int8, the layers that it computes in float, and how its weights were fine-tuned, if so.

    The layers are those that were named, or as few as hold on validation.
    """
    named = () if options.keep_float == (AUTO,) else options.keep_float
    start, tuned = correct_biases(run.model, representative, named), None
    if options.aware:
        start, tuned = _fine_tuned(run, start, representative, progress)

    def make(keep: Sequence[str]) -> bytes:
        own = keep == named or options.aware
        weights = start if own else correct_biases(run.model, representative, keep)
        return convert_keeping(weights, representative, keep)

    if options.keep_float != (AUTO,):
        return make(named), named, tuned
    samples = run.split.of("validation")
    preprocessing = preprocess.parse(run.record.recipe.preprocessing)
    seen = load_pictures(samples, preprocessing, progress("validation images"))
    expected = answer(reference, seen)

    def holds(candidate: bytes) -> bool:
        answered = answer(CpuBackend(candidate, "int8.tflite"), seen)
        return not compare_on(run, samples, {REFERENCE: expected, "int8": answered})[1].failures

    if holds(plain := make(())):
        return plain, (), tuned
    diagnosed = representative[:DIAGNOSED]
    ranked = tuple(effects(start, representative, float32, diagnosed))
    kept = keep_worst(make, ranked, holds)
    if kept is None:
        raise BadInput("no few layers in float make it hold on the validation images")
    return *kept, tuned


def compare_on(
    run: Run, samples: Sequence[Sample], answers: Mapping[Variant, NDArray[np.float32]]
) -> list[Comparison]:
    """Each variant's answers to `samples` against those of float32, by the locked thresholds."""
    recipe = run.record.recipe
    labels = as_labels([sample.label for sample in samples], recipe.task.labels)
    groups = [sample.group for sample in samples]
    measure = classification(labels, groups, run.record.rule, recipe.limits)
    try:
        return compare(measure, answers)
    except ValueError as error:
        raise BadInput(f"{run.folder}: {error}") from error
