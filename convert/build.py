"""A run becomes a bundle: variants, golden frames, the measured comparison, the card."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from convert.card import read_other, write_card
from convert.edgetpu import Compiled, Placement, compile_model, place
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
    EDGETPU_MEMBER,
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
from train.run import Record, Run, software
from train.samples import Sample, load_pictures
from train.scope import fit_scope

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXPORT_TOLERANCE = 1e-4
"""How far float32 may be from Keras on the golden frames; more, and another model was exported."""
SAME_AUROC = 0.002
"""How far float32 may be from what the run measured on the same test images."""
ROUNDING = 0.03
"""Allowed on top of a variant's own difference: other kernels round otherwise. With those of
tflite-runtime 2.14 the packaged int8 was .02 further off on the golden frames than LiteRT's."""
DIAGNOSED = 32
"""Pictures on which layers are compared, and on which a GPU is held against the CPU."""
SCOPE_SAMPLES = 1500
"""Training images that a variant's scope is fitted on. Each variant has its own: rounding moves an
int8 embedding by less than pictures differ, but by more than the training pictures spread."""
AUTO = "auto"
"""In place of layers: as many in float as the validation images ask for."""

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


@dataclass(frozen=True)
class _Converted:
    """The variants that could be made and run; float32 is always among them."""

    models: dict[Variant, bytes]
    backends: dict[Variant, CpuBackend]
    answers: dict[Variant, "NDArray[np.float32]"]
    """On the test split, float32 ``[N, classes]``."""
    in_float: tuple[str, ...]
    """The layers that int8 computes in float."""
    not_measured: tuple[NotMeasured, ...]


def build(run: Run, out: Path, order: Order, progress: Progress) -> Built:
    """Converts `run` to `out`, and writes the gate's report beside it.

    Every variant is compared with float32 on the test split; the bundle holds those that keep their
    limits. A variant that cannot be converted or run has failed. The representative set comes from
    the training split alone. Raises BadInput where an image is gone, where the exported float32 is
    not the trained model, or where `out` cannot be written, and CheckFailed, naming the layers in
    which the error arises, where the gate lets nothing pass.
    """
    record = run.record
    _require_layers(run, order.keep_float)
    quoted = [read_other(folder, record) for folder in order.quoted]
    preprocessing = preprocess.parse(record.recipe.preprocessing)
    test = run.split.of("test")
    pictures = load_pictures(test, preprocessing, progress("test images"))
    golden = make_golden(lambda tensors: predict(run.model, tensors), preprocessing)
    made = _convert(run, order, pictures, progress)
    off = {
        variant: _off_golden(its, golden, preprocessing) for variant, its in made.backends.items()
    }
    if not off[REFERENCE] <= EXPORT_TOLERANCE:  # so that NaN fails too
        raise BadInput(f"{run.folder}: the exported {REFERENCE} is not the trained model")
    comparisons = _compare(run, test, made.answers)
    if abs(comparisons[0].metrics.auroc - record.metrics["test"].auroc) > SAME_AUROC:
        raise BadInput(
            f"{run.folder}: {REFERENCE} has AUROC {comparisons[0].metrics.auroc:.4f} on the test "
            f"images, the run says {record.metrics['test'].auroc:.4f}; are these its images?"
        )
    layers: dict[Variant, list[LayerError]] = {
        variant: layer_errors(made.models[REFERENCE], made.models[variant], pictures[:DIAGNOSED])
        for variant, answered in made.answers.items()
        if variant in ("int8", "dynamic") and np.isfinite(answered).all()
    }
    sound = _require_sound(run, order, [*comparisons, *made.not_measured], layers)
    models = {variant: made.models[variant] for variant in sound}
    placement = place(models["int8"], "int8.tflite") if "int8" in models else None
    compiled = compile_model(models["int8"], "int8.tflite") if "int8" in models else None
    gpu = tuple(
        compare_gpu(model, f"{variant}.tflite", pictures[:DIAGNOSED], record.threshold)
        for variant, model in models.items()
        if variant in ("float32", "float16")
    )
    scopes = _scopes(run, {variant: made.backends[variant] for variant in sound}, progress)
    stage = _stage(record, {variant: off[variant] + ROUNDING for variant in sound}, scopes)
    interpreter = made.backends[REFERENCE].compute.interpreter
    gate: dict[str, Any] = {
        "interpreter": interpreter,
        "split": "test",
        "split_sha256": record.data.split_sha256,
        "images": len(test),
        "limits": asdict(record.recipe.limits),
        "variants": [asdict(its) for its in comparisons],
        "not_measured": [asdict(its) for its in made.not_measured],
        "float_layers_of_int8": made.in_float,
        "operators": {variant: versions(model) for variant, model in models.items()},
        "layers": {variant: [_finite(its) for its in worst(layers[variant])] for variant in layers},
        "edgetpu": None if placement is None else _placed(placement, compiled),
        "gpu": [asdict(its) | {"holds": its.holds} for its in gpu],
    }
    card = write_card(
        order.name,
        order.version,
        stage,
        record,
        comparisons,
        made.not_measured,
        {str(variant): len(model) for variant, model in made.models.items()},
        interpreter,
        placement,
        gpu,
        quoted,
    )
    contents = {
        **{stage.variants[variant]: model for variant, model in models.items()},
        **{stage.scopes[variant]: its for variant, its in scopes.items()},
        **({} if compiled is None else {EDGETPU_MEMBER: compiled.model}),
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
    page = out.with_suffix(".html")
    try:
        write_gate_report(
            page,
            bundle,
            record,
            comparisons,
            made.not_measured,
            made.answers,
            layers,
            placement,
            gpu,
        )
    except BaseException:  # the two belong together, and a bundle alone would bar the next attempt
        out.unlink()
        raise
    return Built(bundle, tuple(comparisons), made.not_measured, placement, gpu)


def _convert(
    run: Run, order: Order, pictures: "NDArray[np.uint8]", progress: Progress
) -> _Converted:
    """Makes float32 and what was ordered, each with its answers to the test pictures."""
    recipe = run.record.recipe
    chosen = choose_representative(run.split.of("train"), recipe.task.labels, run.record.seed)
    preprocessing = preprocess.parse(recipe.preprocessing)
    representative = load_pictures(chosen, preprocessing, progress("representative set"))
    models: dict[Variant, bytes] = {}
    backends: dict[Variant, CpuBackend] = {}
    answers: dict[Variant, NDArray[np.float32]] = {}
    not_measured: list[NotMeasured] = []
    in_float: tuple[str, ...] = ()
    for variant in progress("converting")(dict.fromkeys((REFERENCE, *order.variants))):
        try:
            if variant == "int8" and order.keep_float:
                floats = backends[REFERENCE], models[REFERENCE]
                model, in_float = _mixed(run, order, representative, *floats, progress)
            else:
                model = convert(run.model, variant, representative)
            model = with_metadata(
                model, order.name, order.version, recipe.about, recipe.task.labels
            )
            backend = CpuBackend(model, f"{variant}.tflite")
            answers[variant] = answer(backend, pictures, progress(f"testing {variant}"))
            models[variant], backends[variant] = model, backend
        except Exception as error:  # whatever the converter or the interpreter comes to
            if variant == REFERENCE:
                raise BadInput(f"{run.folder}: {variant}: {_line(error)}") from error
            not_measured.append(NotMeasured(variant, (_line(error),)))
    return _Converted(models, backends, answers, in_float, tuple(not_measured))


def _require_layers(run: Run, keep: Sequence[str]) -> None:
    """Raises BadInput, naming near ones, for a layer that the model does not have."""
    names = [layer.name for layer in run.model.layers]
    for name in keep:
        if keep != (AUTO,) and name not in names:
            near = ", ".join(difflib.get_close_matches(name, names) or names)
            raise BadInput(f"--keep-float {name}: no such layer; there are {near}")


def _mixed(
    run: Run,
    order: Order,
    representative: "NDArray[np.uint8]",
    reference: CpuBackend,
    float32: bytes,
    progress: Progress,
) -> tuple[bytes, tuple[str, ...]]:
    """int8 with some layers in float: those that are named, or as few as hold on validation."""
    if order.keep_float != (AUTO,):
        return convert_keeping(run.model, representative, order.keep_float), order.keep_float
    samples = run.split.of("validation")
    preprocessing = preprocess.parse(run.record.recipe.preprocessing)
    seen = load_pictures(samples, preprocessing, progress("validation images"))
    expected = answer(reference, seen)

    def holds(candidate: bytes) -> bool:
        answered = answer(CpuBackend(candidate, "int8.tflite"), seen)
        return not _compare(run, samples, {REFERENCE: expected, "int8": answered})[1].failures

    if holds(plain := convert(run.model, "int8", representative)):
        return plain, ()
    found = keep_worst(run.model, representative, float32, representative[:DIAGNOSED], holds)
    if found is None:
        raise BadInput("no few layers in float make it hold on the validation images")
    return found


def _compare(
    run: Run, samples: Sequence[Sample], answers: Mapping[Variant, "NDArray[np.float32]"]
) -> list[Comparison]:
    """Each variant's answers to `samples` against those of float32, at the locked threshold."""
    recipe = run.record.recipe
    labels = as_labels([sample.label for sample in samples], recipe.task.labels[-1])
    groups = [sample.group for sample in samples]
    try:
        return compare(run.record.threshold, recipe.limits, labels, groups, answers)
    except ValueError as error:
        raise BadInput(f"{run.folder}: {error}") from error


def _require_sound(
    run: Run,
    order: Order,
    judged: Sequence[Comparison | NotMeasured],
    layers: Mapping[Variant, Sequence[LayerError]],
) -> list[Variant]:
    """The ordered variants that hold. Raises CheckFailed where that is not enough."""
    ordered = [its for its in judged if its.variant in order.variants]
    failed = [its for its in ordered if its.failures]
    sound = [its.variant for its in ordered if not its.failures]
    if not sound or (order.needed and failed):
        raise CheckFailed(
            f"{run.folder}: the gate lets no bundle pass: "
            + "; ".join(f"{its.variant}: {', '.join(its.failures)}" for its in failed)
            + "".join(_where(layers[its.variant]) for its in failed if its.variant in layers)
        )
    return sound


def _scopes(
    run: Run, backends: Mapping[Variant, CpuBackend], progress: Progress
) -> dict[Variant, bytes]:
    """The scope of each variant, fitted on its own answers; none without an embedding."""
    if run.scope is None:
        return {}
    preprocessing = preprocess.parse(run.record.recipe.preprocessing)
    drawn = _some(run.split.of("train"), run.record.seed)
    known = load_pictures(drawn, preprocessing, progress("training images"))
    held_back = run.split.of("validation")
    limiting = load_pictures(held_back, preprocessing, progress("validation images"))
    return {
        variant: write_scope(
            fit_scope(
                *(
                    answer(backend, its, progress(f"scope of {variant}"), "embedding")
                    for its in (known, limiting)
                )
            )
        )
        for variant, backend in backends.items()
    }


def _stage(
    record: Record, tolerance: Mapping[Variant, float], scopes: Mapping[Variant, bytes]
) -> Stage:
    """What the manifest says of the model; the variants are those that have a tolerance."""
    recipe = record.recipe
    return Stage(
        name="classifier",
        task=recipe.task.name,
        labels=recipe.task.labels,
        aliases=recipe.task.aliases,
        preprocessing=recipe.preprocessing,
        variants={variant: f"{variant}.tflite" for variant in tolerance},
        operating_point=OperatingPoint(
            threshold=record.threshold,
            sensitivity=recipe.operating_point.sensitivity,
            chosen_on="validation",
        ),
        decision=recipe.decision,
        limits=recipe.limits,
        golden_tolerance=dict(tolerance),
        scopes={variant: f"scope_{variant}.npz" for variant in scopes},
    )


def _placed(placement: Placement, compiled: Compiled | None) -> dict[str, Any]:
    """What an Edge TPU would run, for `gate.json`."""
    return {
        "share": placement.share,
        "parameter_bytes": placement.parameter_bytes,
        "streamed_bytes": placement.streamed_bytes,
        "unplaced": [asdict(its) for its in placement.unplaced],
        "compiled": None if compiled is None else [asdict(its) for its in compiled.table],
    }


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
