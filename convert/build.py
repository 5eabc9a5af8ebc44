"""A run becomes a bundle: variants, golden frames, the measured comparison, the card."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from convert.card import read_other, write_card
from convert.edgetpu import Placement, compile_model, place
from convert.gate import Comparison, NotMeasured, answer, compare
from convert.golden import make_golden
from convert.gpu import GpuComparison, compare_gpu
from convert.layers import LayerError, convert_keeping, keep_worst, layer_errors, worst
from convert.metadata import with_metadata
from convert.report import write_gate_report
from convert.tflite import choose_representative, convert, versions
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
DIAGNOSED = 32
"""Pictures on which layers are compared, and on which a GPU is held against the CPU."""
SCOPE_SAMPLES = 1500
"""Training images that a variant's scope is fitted on. Each variant has its own: rounding moves an
int8 embedding by less than pictures differ, but by more than the training pictures spread."""
AUTO = "auto"
"""In place of layers: as many in float as the validation images ask for."""
EDGETPU = "int8_edgetpu.tflite"

Progress = Callable[[str], Callable[[Iterable[Any]], Iterable[Any]]]


@dataclass(frozen=True)
class Order:
    """What a bundle shall be."""

    name: str
    version: int
    variants: tuple[Variant, ...]
    needed: bool
    """Whether the device needs all of them; else those that fail are left out."""
    keep_float: tuple[str, ...]
    """Layers that int8 computes in float, or `auto`."""
    quoted: tuple[Path, ...]
    """Runs and cross-validations of the same recipe, for the card."""
    key: Ed25519PrivateKey


@dataclass(frozen=True)
class Built:
    """A bundle that was written, and what was measured on the way."""

    bundle: Bundle
    comparisons: tuple[Comparison, ...]
    not_measured: tuple[NotMeasured, ...]
    placement: Placement | None
    """What an Edge TPU would run of int8."""
    gpu: tuple[GpuComparison, ...]


def build(run: Run, out: Path, order: Order, progress: Progress) -> Built:
    """Converts `run` to `out`, and writes the gate's report beside it.

    Every variant is compared with float32 on the test split; the bundle holds those that keep their
    limits. A variant that cannot be converted or run has failed. The representative set comes from
    the training split alone. Raises BadInput where an image is gone, where the exported float32 is
    not the trained model, or where `out` cannot be written, and CheckFailed, naming the layers in
    which the error arises, where the gate lets nothing pass.
    """
    record = run.record
    quoted = [read_other(folder, record) for folder in order.quoted]
    recipe, task = record.recipe, record.recipe.task
    preprocessing = preprocess.parse(recipe.preprocessing)
    read = partial(load_pictures, preprocessing=preprocessing)
    chosen = choose_representative(run.split.of("train"), task.labels, record.seed)
    representative = read(chosen, progress=progress("representative set"))
    test = run.split.of("test")
    pictures = read(test, progress=progress("test images"))
    golden = make_golden(lambda tensors: predict(run.model, tensors), preprocessing)

    def compared(
        samples: Sequence[Sample], answers: Mapping[Variant, "NDArray[np.float32]"]
    ) -> list[Comparison]:
        labels = as_labels([sample.label for sample in samples], task.labels[-1])
        groups = [sample.group for sample in samples]
        try:
            return compare(record.threshold, recipe.limits, labels, groups, answers)
        except ValueError as error:
            raise BadInput(f"{run.folder}: {error}") from error

    def integers() -> tuple[bytes, tuple[str, ...]]:
        """int8, and the layers that it computes in float."""
        if not order.keep_float:
            return convert(run.model, "int8", representative), ()
        if order.keep_float != (AUTO,):
            kept = convert_keeping(run.model, representative, order.keep_float)
            return kept, order.keep_float
        samples = run.split.of("validation")
        seen = read(samples, progress=progress("validation images"))
        expected = answer(backends[REFERENCE], seen)

        def holds(candidate: bytes) -> bool:
            answered = answer(CpuBackend(candidate, "int8.tflite"), seen)
            return not compared(samples, {REFERENCE: expected, "int8": answered})[1].failures

        if holds(plain := convert(run.model, "int8", representative)):
            return plain, ()
        mixed = keep_worst(
            run.model, representative, models[REFERENCE], representative[:DIAGNOSED], holds
        )
        if mixed is None:
            raise BadInput("no few layers in float make it hold on the validation images")
        return mixed

    models: dict[Variant, bytes] = {}
    backends: dict[Variant, CpuBackend] = {}
    answers: dict[Variant, NDArray[np.float32]] = {}
    not_measured: list[NotMeasured] = []
    in_float: tuple[str, ...] = ()
    for variant in progress("converting")(dict.fromkeys((REFERENCE, *order.variants))):
        try:
            if variant == "int8":
                made, in_float = integers()
            else:
                made = convert(run.model, variant, representative)
            models[variant] = with_metadata(
                made, order.name, order.version, recipe.about, task.labels
            )
            backends[variant] = CpuBackend(models[variant], f"{variant}.tflite")
            answers[variant] = answer(backends[variant], pictures, progress(f"testing {variant}"))
        except Exception as error:  # whatever the converter or the interpreter comes to
            if variant == REFERENCE:
                raise BadInput(f"{run.folder}: {variant}: {_line(error)}") from error
            not_measured.append(NotMeasured(variant, (_line(error),)))
    off = {variant: _off_golden(backends[variant], golden, preprocessing) for variant in answers}
    if not off[REFERENCE] <= EXPORT_TOLERANCE:  # so that NaN fails too
        raise BadInput(f"{run.folder}: the exported {REFERENCE} is not the trained model")

    comparisons = compared(test, answers)
    if abs(comparisons[0].metrics.auroc - record.metrics["test"].auroc) > SAME_AUROC:
        raise BadInput(
            f"{run.folder}: {REFERENCE} has AUROC {comparisons[0].metrics.auroc:.4f} on the test "
            f"images, the run says {record.metrics['test'].auroc:.4f}; are these its images?"
        )
    judged: list[Comparison | NotMeasured] = [*comparisons, *not_measured]
    failed = [its for its in judged if its.variant in order.variants and its.failures]
    sound = [its.variant for its in comparisons if its.variant in order.variants]
    sound = [variant for variant in sound if variant not in {its.variant for its in failed}]
    layers: dict[Variant, list[LayerError]] = {
        variant: layer_errors(models[REFERENCE], models[variant], pictures[:DIAGNOSED])
        for variant in answers
        if variant in ("int8", "dynamic") and np.isfinite(answers[variant]).all()
    }
    if not sound or (order.needed and failed):
        raise CheckFailed(
            f"{run.folder}: the gate lets no bundle pass: "
            + "; ".join(f"{its.variant}: {', '.join(its.failures)}" for its in failed)
            + "".join(_where(layers[its.variant]) for its in failed if its.variant in layers)
        )

    extra = {}
    placement = place(models["int8"], "int8.tflite") if "int8" in sound else None
    compiled = compile_model(models["int8"], "int8.tflite") if placement else None
    if compiled is not None:
        extra[EDGETPU] = compiled.model
    gpu = tuple(
        compare_gpu(models[variant], f"{variant}.tflite", pictures[:DIAGNOSED], record.threshold)
        for variant in sound
        if variant in ("float32", "float16")
    )
    scopes: dict[Variant, bytes] = {}
    if run.scope is not None:
        drawn = _some(run.split.of("train"), record.seed)
        known = read(drawn, progress=progress("training images"))
        held_back = read(run.split.of("validation"), progress=progress("validation images"))
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
            threshold=record.threshold,
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
    gate: dict[str, Any] = {
        "interpreter": interpreter,
        "split": "test",
        "split_sha256": record.data.split_sha256,
        "images": len(test),
        "limits": asdict(recipe.limits),
        "variants": [asdict(comparison) for comparison in comparisons],
        "not_measured": [asdict(its) for its in not_measured],
        "float_layers_of_int8": in_float,
        "operators": {variant: versions(models[variant]) for variant in sound},
        "layers": {variant: [_finite(its) for its in worst(layers[variant])] for variant in layers},
        "edgetpu": None
        if placement is None
        else {
            "share": placement.share,
            "parameter_bytes": placement.parameter_bytes,
            "streamed_bytes": placement.streamed_bytes,
            "unplaced": [asdict(its) for its in placement.unplaced],
            "compiled": None if compiled is None else [asdict(its) for its in compiled.table],
        },
        "gpu": [asdict(its) for its in gpu],
    }
    card = write_card(
        order.name,
        order.version,
        stage,
        record,
        comparisons,
        sizes,
        interpreter,
        placement,
        gpu,
        quoted,
    )
    contents = {
        **{stage.variants[variant]: models[variant] for variant in sound},
        **{stage.scopes[variant]: its for variant, its in scopes.items()},
        **extra,
        CARD: card.encode(),
        GATE: (json.dumps(gate, indent=2, allow_nan=False) + "\n").encode(),
        GOLDEN: write_golden(golden),
    }
    manifest = Manifest(
        schema=SCHEMA,
        name=order.name,
        version=order.version,
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
    bundle = write_bundle(out, manifest, contents, order.key)
    write_gate_report(
        out.with_suffix(".html"), bundle, record, comparisons, answers, layers, placement, gpu
    )
    return Built(bundle, tuple(comparisons), tuple(not_measured), placement, gpu)


def _some(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """`SCOPE_SAMPLES` of the samples, or all where there are fewer; their own order."""
    dice = np.random.default_rng(seed)
    drawn = dice.choice(len(samples), size=min(SCOPE_SAMPLES, len(samples)), replace=False)
    return [samples[index] for index in sorted(drawn)]


def _off_golden(backend: CpuBackend, golden: Golden, preprocessing: Preprocessing) -> float:
    """The largest difference between a backend's answers and the golden ones."""
    tensors = golden_tensors(golden.frames, golden.box, preprocessing)
    return float(np.abs(answer(backend, tensors) - golden.probability).max())


def _where(errors: Sequence[LayerError]) -> str:
    """The layers in which the error arises, in words."""
    named = ", ".join(f"{its.layer} ({its.snr_db:.0f} dB)" for its in worst(errors))
    return f"; most error arises in {named}; --keep-float {AUTO} keeps layers in float"


def _finite(error: LayerError) -> dict[str, Any]:
    """An error for JSON, which knows no infinity: None stands where nothing differs."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in asdict(error).items()
    }


def _line(error: Exception) -> str:
    """The first line of a message, and what kind of error says it."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no word').splitlines()[0]}"
