"""A run becomes a bundle: variants, golden frames, the measured comparison, the card."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.assessment import assess, gate_entries
from convert.card import Card, card_text, read_other
from convert.gate import answer
from convert.golden import make_golden
from convert.reference import drift_reference
from convert.report import write_gate_report
from convert.variants import ConversionOptions, Progress, require_layers
from devices.compute import CpuBackend
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.archive import CARD, GATE, Bundle, list_members, write_bundle
from edge_runtime.bundle.gate import Comparison
from edge_runtime.bundle.golden import GOLDEN, write_golden
from edge_runtime.bundle.manifest import (
    EDGETPU_MEMBER,
    SCHEMA,
    ClassifierStage,
    Manifest,
    OperatingPoint,
    Origin,
    Variant,
    require_reachable,
)
from edge_runtime.bundle.scope import write_scope
from edge_runtime.files import whole_folder
from edge_runtime.models.classifier import CPU_PREFERENCE
from train.batches import read_patch_set
from train.network import predict
from train.outliers import places_beside
from train.run import Record, Run, prevalence, software
from train.samples import Sample, load_pictures
from train.scope import fit_scope

ROUNDING = 0.06
"""Allowed on top of a variant's own difference: other kernels round otherwise. On the golden frames
the packaged int8 was .02 further off by tflite-runtime 2.14 than by LiteRT 2.3, and .03 by what
LiteRT computes with in qemu's user emulation of ARM64. A broken model is far beyond."""
SCOPE_SAMPLES = 1500
"""Training images that a variant's scope is fitted on. Each variant has its own: rounding moves an
int8 embedding by less than pictures differ, but by more than the training pictures spread."""


@dataclass(frozen=True)
class Built:
    """What was written, and what was measured on the way."""

    bundle: Bundle | None
    """None where plain TFLite files alone were wanted."""
    comparisons: tuple[Comparison, ...]
    complaint: str | None
    """Why the Edge TPU's compiler, where there is one, made nothing of int8."""


def build_bundle(
    run: Run,
    out: Path | None,
    options: ConversionOptions,
    progress: Progress,
    models: Path | None = None,
) -> Built:
    """Converts `run` to the bundle `out`, and writes the gate's report beside it.

    Where `models` is given, the plain TFLite files of the bundle are written to that new folder;
    without `out` nothing else is written.

    Every variant is compared with float32 on the test split; the bundle holds those that keep their
    limits. A variant that cannot be converted or run has failed. The representative set comes from
    the training split alone. Raises BadInput where an image is gone, where a label would never be
    given, where the exported float32 is not the trained model, or where `out` cannot be written,
    and CheckFailed, naming the layers in which the error arises, where the gate lets nothing pass.
    """
    record = run.record
    require_layers(run, options.keep_float)
    if out is not None:
        recipe = record.recipe
        require_reachable(recipe.task.labels, record.thresholds, recipe.decision.margin)
    quoted = [read_other(folder, record) for folder in options.quoted]
    preprocessing = preprocess.parse(record.recipe.preprocessing)
    pictures = load_pictures(run.split.of("test"), preprocessing, progress("test images"))
    golden = make_golden(lambda tensors: predict(run.model, tensors), preprocessing)
    assessment = assess(run, options, pictures, golden, progress)
    if models is not None:
        with whole_folder(models) as part:
            for variant, model in assessment.models.items():
                (part / f"{variant}.tflite").write_bytes(model)
    if out is None or options.key is None:
        return Built(None, assessment.comparisons, assessment.complaint)
    scopes = _scopes(run, assessment.backends, pictures, progress)
    tolerance = {
        variant: assessment.golden_differences[variant] + ROUNDING for variant in assessment.sound
    }
    stage = _stage(record, tolerance, scopes)
    variant = next(name for name in CPU_PREFERENCE if name in assessment.sound)
    reference = drift_reference(
        stage,
        variant,
        assessment.converted.answers[variant],
        scopes[variant][1] if scopes else None,
        [sample.group for sample in run.split.of("test")],
        record.seed,
    )
    card = card_text(
        Card(
            name=options.name,
            version=options.version,
            stage=stage,
            record=record,
            assessment=assessment,
            withheld={name: float(np.mean(scores > 1)) for name, (_, scores) in scopes.items()},
            others=quoted,
        )
    )
    compiled = assessment.compiled
    contents = {
        **{stage.variants[variant]: model for variant, model in assessment.models.items()},
        **{stage.scopes[variant]: scope for variant, (scope, _) in scopes.items()},
        **({} if compiled is None else {EDGETPU_MEMBER: compiled.model}),
        CARD: card.encode(),
        GATE: (
            json.dumps(gate_entries(record, assessment, reference), indent=2, allow_nan=False)
            + "\n"
        ).encode(),
        GOLDEN: write_golden(golden),
    }
    manifest = _manifest(options, record, stage, contents)
    bundle = write_bundle(out, manifest, contents, options.key)
    try:
        write_gate_report(out.with_suffix(".html"), bundle, record, assessment)
    except BaseException:  # the two belong together, and a bundle alone would bar the next attempt
        out.unlink()
        raise
    return Built(bundle, assessment.comparisons, assessment.complaint)


def _scopes(
    run: Run,
    backends: Mapping[Variant, CpuBackend],
    test: NDArray[np.uint8],
    progress: Progress,
) -> dict[Variant, tuple[bytes, NDArray[np.float32]]]:
    """The scope of each variant, fitted on its own answers; none without an embedding.

    Beside it are the out-of-scope scores of the test pictures, ``[N]``.
    """
    if run.scope is None:
        return {}
    recipe, seed = run.record.recipe, run.record.seed
    drawn = _some(run.split.of("train"), seed)
    known = (
        read_patch_set(drawn, recipe, progress("training images")),
        read_patch_set(run.split.of("validation"), recipe, progress("validation images")),
    )
    varying = progress("as other scanners show them")
    plain_and_varied = [
        (patches.prepared(), patches.varied(seed, place, progress=varying))
        for place, patches in enumerate(known)
    ]
    outliers = [
        places_beside(drawn, known[0].preprocessing, seed, progress("beside the nodules")),
        run.outliers,
    ]
    scopes = {}
    for variant, backend in backends.items():
        shown = progress(f"scope of {variant}")
        embed = partial(answer, backend, progress=shown, output="embedding")
        train, validation = ((embed(plain), embed(varied)) for plain, varied in plain_and_varied)
        scope = fit_scope(
            train, validation, [embed(pictures) for pictures in outliers if len(pictures)]
        )
        scopes[variant] = write_scope(scope), scope.score(embed(test))
    return scopes


def _stage(
    record: Record, tolerance: Mapping[Variant, float], scopes: Collection[Variant]
) -> ClassifierStage:
    """What the manifest says of the model; the variants are those that have a tolerance."""
    recipe = record.recipe
    return ClassifierStage(
        name="classifier",
        task=recipe.task.name,
        labels=recipe.task.labels,
        aliases=recipe.task.aliases,
        learnt=record.learnt,
        prevalence=prevalence(record.data),
        preprocessing=recipe.preprocessing,
        variants={variant: f"{variant}.tflite" for variant in tolerance},
        operating_point=OperatingPoint(
            thresholds=record.thresholds,
            sensitivity=recipe.operating_point.sensitivity,
            chosen_on="validation",
        ),
        decision=recipe.decision,
        limits=recipe.limits,
        golden_tolerance=dict(tolerance),
        scopes={variant: f"scope_{variant}.npz" for variant in scopes},
    )


def _manifest(
    options: ConversionOptions,
    record: Record,
    stage: ClassifierStage,
    contents: Mapping[str, bytes],
) -> Manifest:
    """What the bundle says of its members and of where it comes from."""
    return Manifest(
        schema=SCHEMA,
        name=options.name,
        version=options.version,
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


def _some(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """`SCOPE_SAMPLES` of the samples, or all where there are fewer, in their own order."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(samples), size=min(SCOPE_SAMPLES, len(samples)), replace=False)
    return [samples[index] for index in sorted(drawn)]
