"""A run becomes a bundle: variants, golden frames, the measured comparison, the card."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from convert.card import read_other, write_card
from convert.gate import Comparison, NotMeasured, answer, compare
from convert.golden import make_golden
from convert.metadata import with_metadata
from convert.tflite import choose_representative, convert
from devices import BadInput, CheckFailed
from devices.compute import CpuBackend
from edge_runtime import preprocess
from edge_runtime.bundle import (
    CARD,
    GATE,
    GOLDEN,
    Bundle,
    Golden,
    golden_tensors,
    list_members,
    write_bundle,
    write_golden,
)
from edge_runtime.manifest import (
    REFERENCE,
    SCHEMA,
    Manifest,
    OperatingPoint,
    Origin,
    Stage,
    Variant,
)
from edge_runtime.preprocess import Preprocessing
from edge_runtime.scope import write_scope
from train.fit import predict
from train.metrics import as_labels
from train.run import Run, software
from train.samples import Sample, load_pictures
from train.scope import fit_scope

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXPORT_TOLERANCE = 1e-4
"""How far float32 may be from Keras on the golden frames; more, and another model was exported."""
SAME_AUROC = 0.002
"""How far float32 may be from what the run measured on the same test images."""
ROUNDING = 0.01
"""Allowed on top of a variant's own difference: other processors round otherwise."""

SCOPE_SAMPLES = 1500
"""Training images that a variant's scope is fitted on. Each variant has its own: rounding moves an
int8 embedding by less than pictures differ, but by more than the training pictures spread."""

Progress = Callable[[str], Callable[[Iterable[Any]], Iterable[Any]]]


@dataclass(frozen=True)
class Built:
    """A bundle that was written, and what was measured on the way."""

    bundle: Bundle
    comparisons: tuple[Comparison, ...]
    not_measured: tuple[NotMeasured, ...]


def build(
    run: Run,
    out: Path,
    name: str,
    version: int,
    variants: tuple[Variant, ...],
    needed: bool,
    others: Sequence[Path],
    key: Ed25519PrivateKey,
    progress: Progress,
) -> Built:
    """Converts `run` to `out`; every variant is compared with float32 on the test split.

    The bundle holds those of `variants` that keep their limits; where all are `needed` and one does
    not, there is no bundle. A variant that cannot be converted or run has failed. The
    representative set comes from the training split alone; the card quotes `others`, runs and
    cross-validations of the recipe. Raises BadInput where an image is gone, where the exported
    float32 is not the trained model, or where `out` cannot be written, and CheckFailed where the
    gate lets nothing pass.
    """
    record = run.record
    quoted = [read_other(folder, record) for folder in others]
    recipe, task = record.recipe, record.recipe.task
    preprocessing = preprocess.parse(recipe.preprocessing)
    chosen = choose_representative(run.split.of("train"), task.labels, record.seed)
    representative = load_pictures(chosen, preprocessing, progress("representative set"))
    test = run.split.of("test")
    pictures = load_pictures(test, preprocessing, progress("test images"))
    labels = as_labels([sample.label for sample in test], task.labels[-1])
    golden = make_golden(lambda tensors: predict(run.model, tensors), preprocessing)

    models: dict[Variant, bytes] = {}
    backends: dict[Variant, CpuBackend] = {}
    answers: dict[Variant, NDArray[np.float32]] = {}
    not_measured: list[NotMeasured] = []
    for variant in progress("converting")(dict.fromkeys((REFERENCE, *variants))):
        try:
            converted = convert(run.model, variant, representative)
            models[variant] = with_metadata(converted, name, version, recipe.about, task.labels)
            backends[variant] = CpuBackend(models[variant], f"{variant}.tflite")
            answers[variant] = answer(backends[variant], pictures, progress(f"testing {variant}"))
        except Exception as error:  # whatever the converter or the interpreter comes to
            if variant == REFERENCE:
                raise BadInput(f"{run.folder}: {variant}: {_line(error)}") from error
            not_measured.append(NotMeasured(variant, (_line(error),)))
    off = {variant: _off_golden(backends[variant], golden, preprocessing) for variant in answers}
    if not off[REFERENCE] <= EXPORT_TOLERANCE:  # so that NaN fails too
        raise BadInput(f"{run.folder}: the exported {REFERENCE} is not the trained model")

    threshold = record.threshold
    try:
        groups = [sample.group for sample in test]
        comparisons = compare(threshold, recipe.limits, labels, groups, answers)
    except ValueError as error:
        raise BadInput(f"{run.folder}: {error}") from error
    if abs(comparisons[0].metrics.auroc - record.metrics["test"].auroc) > SAME_AUROC:
        raise BadInput(
            f"{run.folder}: {REFERENCE} has AUROC {comparisons[0].metrics.auroc:.4f} on the test "
            f"images, the run says {record.metrics['test'].auroc:.4f}; are these its images?"
        )
    judged: list[Comparison | NotMeasured] = [*comparisons, *not_measured]
    failed = [its for its in judged if its.variant in variants and its.failures]
    sound = [its.variant for its in comparisons if its.variant in variants and not its.failures]
    if not sound or (needed and failed):
        failures = "; ".join(f"{its.variant}: {', '.join(its.failures)}" for its in failed)
        raise CheckFailed(f"{run.folder}: the gate lets no bundle pass: {failures}")
    scopes: dict[Variant, bytes] = {}
    if run.scope is not None:
        drawn = _some(run.split.of("train"), record.seed)
        known = load_pictures(drawn, preprocessing, progress("training images"))
        held_back = load_pictures(
            run.split.of("validation"), preprocessing, progress("validation images")
        )
        for variant in sound:
            near, limiting = (
                answer(backends[variant], its, progress(f"scope of {variant}"), "embedding")
                for its in (known, held_back)
            )
            scopes[variant] = write_scope(fit_scope(near, limiting))
    stage = Stage(
        name="classifier",
        task=task.name,
        labels=task.labels,
        aliases=task.aliases,
        preprocessing=recipe.preprocessing,
        variants={variant: f"{variant}.tflite" for variant in sound},
        operating_point=OperatingPoint(
            threshold=threshold,
            sensitivity=recipe.operating_point.sensitivity,
            chosen_on="validation",
        ),
        decision=recipe.decision,
        limits=recipe.limits,
        golden_tolerance={variant: off[variant] + ROUNDING for variant in sound},
        scopes={variant: f"scope_{variant}.npz" for variant in scopes},
    )
    sizes = {str(variant): len(model) for variant, model in models.items()}
    interpreter = backends[REFERENCE].compute.interpreter
    gate = {
        "interpreter": interpreter,
        "split": "test",
        "images": len(test),
        "limits": asdict(recipe.limits),
        "variants": [asdict(comparison) for comparison in comparisons],
        "not_measured": [asdict(its) for its in not_measured],
    }
    card = write_card(name, version, stage, record, comparisons, sizes, interpreter, quoted)
    contents = {
        **{stage.variants[variant]: models[variant] for variant in sound},
        **{stage.scopes[variant]: its for variant, its in scopes.items()},
        CARD: card.encode(),
        GATE: (json.dumps(gate, indent=2) + "\n").encode(),
        GOLDEN: write_golden(golden),
    }
    manifest = Manifest(
        schema=SCHEMA,
        name=name,
        version=version,
        stages=(stage,),
        origin=Origin(
            recipe=record.recipe_name,
            seed=record.seed,
            data=record.data.name,
            data_sha256=record.data.sha256,
            split_sha256=record.data.split_sha256,
            software=software(),
        ),
        members=list_members(contents),
    )
    return Built(
        write_bundle(out, manifest, contents, key), tuple(comparisons), tuple(not_measured)
    )


def _some(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """`SCOPE_SAMPLES` of the samples, or all where there are fewer; their own order."""
    dice = np.random.default_rng(seed)
    drawn = dice.choice(len(samples), size=min(SCOPE_SAMPLES, len(samples)), replace=False)
    return [samples[index] for index in sorted(drawn)]


def _off_golden(backend: CpuBackend, golden: Golden, preprocessing: Preprocessing) -> float:
    """The largest difference between a backend's answers and the golden ones."""
    tensors = golden_tensors(golden.frames, golden.box, preprocessing)
    return float(np.abs(answer(backend, tensors) - golden.probability).max())


def _line(error: Exception) -> str:
    """The first line of a message, and what kind of error says it."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no word').splitlines()[0]}"
