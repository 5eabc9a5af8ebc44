"""A run becomes a bundle: variants, golden frames, the measured comparison, the card."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.card import read_other, write_card
from convert.edgetpu import Compiled, Placement, compile_model, place
from convert.gate import answer
from convert.golden import make_golden
from convert.gpu import GpuComparison, compare_gpu
from convert.layers import LayerError, layer_errors, worst
from convert.report import write_gate_report
from convert.tflite import versions
from convert.variants import (
    AUTO,
    DIAGNOSED,
    Converted,
    Order,
    Progress,
    compare_on,
    convert_variants,
    require_layers,
)
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
from edge_runtime.gate import Comparison
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
from train.batches import read_material
from train.loading import prepare
from train.network import predict
from train.outliers import beside
from train.run import Record, Run, software
from train.samples import Sample, load_pictures
from train.scope import fit_scope

EXPORT_TOLERANCE = 1e-4
"""How far float32 may be from Keras on the golden frames; more, and another model was exported."""
SAME_AUROC = 0.002
"""How far float32 may be from what the run measured on the same test images."""
ROUNDING = 0.06
"""Allowed on top of a variant's own difference: other kernels round otherwise. On the golden frames
the packaged int8 was .02 further off by tflite-runtime 2.14 than by LiteRT 2.3, and .03 by what
LiteRT computes with in qemu's user emulation of ARM64. A broken model is far beyond."""
SCOPE_SAMPLES = 1500
"""Training images that a variant's scope is fitted on. Each variant has its own: rounding moves an
int8 embedding by less than pictures differ, but by more than the training pictures spread."""


@dataclass(frozen=True)
class Built:
    """A bundle that was written, and what was measured on the way."""

    bundle: Bundle
    comparisons: tuple[Comparison, ...]
    placement: Placement | None
    """What an Edge TPU would run of int8."""
    gpu: tuple[GpuComparison, ...]
    complaint: str | None
    """Why the Edge TPU's compiler, where there is one, made nothing of int8."""


def build(run: Run, out: Path, order: Order, progress: Progress) -> Built:
    """Converts `run` to `out`, and writes the gate's report beside it.

    Every variant is compared with float32 on the test split; the bundle holds those that keep their
    limits. A variant that cannot be converted or run has failed. The representative set comes from
    the training split alone. Raises BadInput where an image is gone, where the exported float32 is
    not the trained model, or where `out` cannot be written, and CheckFailed, naming the layers in
    which the error arises, where the gate lets nothing pass.
    """
    record = run.record
    require_layers(run, order.keep_float)
    quoted = [read_other(folder, record) for folder in order.quoted]
    preprocessing = preprocess.parse(record.recipe.preprocessing)
    test = run.split.of("test")
    pictures = load_pictures(test, preprocessing, progress("test images"))
    golden = make_golden(lambda tensors: predict(run.model, tensors), preprocessing)
    made = convert_variants(run, order, pictures, progress)
    off = {
        variant: _off_golden(its, golden, preprocessing) for variant, its in made.backends.items()
    }
    if not off[REFERENCE] <= EXPORT_TOLERANCE:  # so that NaN fails too
        raise BadInput(f"{run.folder}: the exported {REFERENCE} is not the trained model")
    comparisons = [*compare_on(run, test, made.answers), *made.lost]
    auroc, trained = comparisons[0].figures["auroc"].value, record.metrics["test"].auroc
    if abs(auroc - trained) > SAME_AUROC:
        raise BadInput(
            f"{run.folder}: {REFERENCE} has AUROC {auroc:.4f} on the test images, the run says "
            f"{trained:.4f}; are these its images?"
        )
    layers: dict[Variant, list[LayerError]] = {
        variant: layer_errors(made.models[REFERENCE], made.models[variant], pictures[:DIAGNOSED])
        for variant, answered in made.answers.items()
        if variant in ("int8", "dynamic") and np.isfinite(answered).all()
    }
    sound = _require_sound(run, order, comparisons, layers)
    models = {variant: made.models[variant] for variant in sound}
    placement = place(models["int8"], "int8.tflite") if "int8" in models else None
    compiled, complaint = None, None
    try:
        compiled = compile_model(models["int8"], "int8.tflite") if "int8" in models else None
    except BadInput as error:  # all else holds, and serves other devices
        complaint = str(error)
    gpu = tuple(
        compare_gpu(model, f"{variant}.tflite", pictures[:DIAGNOSED], record.threshold)
        for variant, model in models.items()
        if variant in ("float32", "float16")
    )
    backends = {variant: made.backends[variant] for variant in sound}
    scopes = _scopes(run, backends, pictures, progress)
    stage = _stage(record, {variant: off[variant] + ROUNDING for variant in sound}, scopes)
    gate = _gate(record, made, sound, comparisons, layers, placement, compiled, complaint, gpu)
    card = write_card(
        order.name,
        order.version,
        stage,
        record,
        comparisons,
        {variant: len(model) for variant, model in made.models.items()},
        {variant: withheld for variant, (_, withheld) in scopes.items()},
        made.backends[REFERENCE].compute.interpreter,
        made.fine_tuning,
        placement,
        gpu,
        quoted,
    )
    contents = {
        **{stage.variants[variant]: model for variant, model in models.items()},
        **{stage.scopes[variant]: its for variant, (its, _) in scopes.items()},
        **({} if compiled is None else {EDGETPU_MEMBER: compiled.model}),
        CARD: card.encode(),
        GATE: (json.dumps(gate, indent=2, allow_nan=False) + "\n").encode(),
        GOLDEN: write_golden(golden),
    }
    manifest = _manifest(order, record, stage, contents)
    bundle = write_bundle(out, manifest, contents, order.key)
    page = out.with_suffix(".html")
    try:
        write_gate_report(
            page,
            bundle,
            record,
            comparisons,
            made.answers,
            made.fine_tuning,
            layers,
            placement,
            gpu,
        )
    except BaseException:  # the two belong together, and a bundle alone would bar the next attempt
        out.unlink()
        raise
    return Built(bundle, tuple(comparisons), placement, gpu, complaint)


def _require_sound(
    run: Run,
    order: Order,
    judged: Sequence[Comparison],
    layers: Mapping[Variant, Sequence[LayerError]],
) -> list[Variant]:
    """The ordered variants that hold. Raises CheckFailed where that is not enough."""
    ordered = [its for its in judged if its.variant in order.variants]
    failed = [its for its in ordered if its.failures]
    sound = [its.variant for its in ordered if not its.failures]
    if not sound or (order.needed and failed):
        raise CheckFailed(
            f"{run.folder}: the gate lets no bundle pass: "
            + "; ".join(f"{its.variant}: {', '.join(its.failures or ())}" for its in failed)
            + "".join(_where(its, layers, order) for its in failed)
        )
    return sound


def _scopes(
    run: Run,
    backends: Mapping[Variant, CpuBackend],
    test: NDArray[np.uint8],
    progress: Progress,
) -> dict[Variant, tuple[bytes, float]]:
    """The scope of each variant, fitted on its own answers; none without an embedding.

    Beside it is the share of the test pictures that lie beyond it.
    """
    if run.scope is None:
        return {}
    recipe, seed = run.record.recipe, run.record.seed
    drawn = _some(run.split.of("train"), seed)
    known = (
        read_material(drawn, recipe, progress("training images")),
        read_material(run.split.of("validation"), recipe, progress("validation images")),
    )
    varying = progress("as other scanners show them")
    twice = [
        (prepare(its.patches, its.preprocessing), its.varied(seed, place, progress=varying))
        for place, its in enumerate(known)
    ]
    outliers = [
        beside(drawn, known[0].preprocessing, seed, progress("beside the nodules")),
        run.outliers,
    ]
    scopes = {}
    for variant, backend in backends.items():
        told = progress(f"scope of {variant}")
        embed = partial(answer, backend, progress=told, output="embedding")
        train, validation = ((embed(plain), embed(varied)) for plain, varied in twice)
        shown = [embed(pictures) for pictures in outliers if len(pictures)]
        scope = fit_scope(train, validation, shown)
        withheld = float(np.mean(scope.score(embed(test)) > 1))
        scopes[variant] = write_scope(scope), withheld
    return scopes


def _stage(
    record: Record, tolerance: Mapping[Variant, float], scopes: Collection[Variant]
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


def _gate(
    record: Record,
    made: Converted,
    sound: Sequence[Variant],
    comparisons: Sequence[Comparison],
    layers: Mapping[Variant, Sequence[LayerError]],
    placement: Placement | None,
    compiled: Compiled | None,
    complaint: str | None,
    gpu: Sequence[GpuComparison],
) -> dict[str, Any]:
    """All of `gate.json`."""
    tuned = made.fine_tuning
    return {
        "interpreter": made.backends[REFERENCE].compute.interpreter,
        "split": "test",
        "split_sha256": record.data.split_sha256,
        "images": sum(record.data.counts["test"].values()),
        "limits": asdict(record.recipe.limits),
        "variants": [asdict(its) for its in comparisons],
        "fine_tuning_of_int8": None if tuned is None else asdict(tuned),
        "float_layers_of_int8": made.in_float,
        "operators": {variant: versions(made.models[variant]) for variant in sound},
        "layers": {variant: [_finite(its) for its in worst(layers[variant])] for variant in layers},
        "edgetpu": None if placement is None else _placed(placement, compiled, complaint),
        "gpu": [asdict(its) | {"holds": its.holds} for its in gpu],
    }


def _manifest(
    order: Order, record: Record, stage: Stage, contents: Mapping[str, bytes]
) -> Manifest:
    """What the bundle says of its members and of where it comes from."""
    return Manifest(
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


def _placed(
    placement: Placement, compiled: Compiled | None, complaint: str | None
) -> dict[str, Any]:
    """What an Edge TPU would run, for `gate.json`."""
    return {
        "share": placement.share,
        "parameter_bytes": placement.parameter_bytes,
        "streamed_bytes": placement.streamed_bytes,
        "unplaced": [asdict(its) for its in placement.unplaced],
        "compiled": None if compiled is None else [asdict(its) for its in compiled.table],
        "complaint": complaint,
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


def _where(its: Comparison, layers: Mapping[Variant, Sequence[LayerError]], order: Order) -> str:
    """The layers in which a variant's error arises, in words, and what was not tried against it."""
    if its.variant not in layers:
        return ""
    named = ", ".join(f"{one.layer} ({one.snr_db:.0f} dB)" for one in worst(layers[its.variant]))
    ways = {
        f"--keep-float {AUTO} computes the worst in float": not order.keep_float,
        "--quantisation-aware fine-tunes int8": not order.aware,
    }
    open_ways = [way for way in ways if ways[way] and its.variant == "int8"]
    return "; ".join([f"; most error arises in {named}", *open_ways])


def _finite(error: LayerError) -> dict[str, Any]:
    """An error for JSON, which knows no infinity: None stands where nothing differs."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in asdict(error).items()
    }
