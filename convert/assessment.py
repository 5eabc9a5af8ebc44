"""What the release gate finds in the variants of a run, before the bundle is written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.edgetpu import Compiled, Placement, compile_model, place
from convert.gate import answer
from convert.gpu import GpuComparison, compare_gpu
from convert.layer_errors import LayerError, layer_errors, worst
from convert.tflite import versions
from convert.variants import (
    AUTO,
    DIAGNOSED,
    ON_GPU,
    ConversionOptions,
    Converted,
    Progress,
    compare_on,
    convert_variants,
)
from devices import BadInput, CheckFailed
from devices.compute import CpuBackend
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.gate import Comparison, DriftReference
from edge_runtime.bundle.golden import Golden, golden_tensors
from edge_runtime.bundle.manifest import REFERENCE, Variant
from edge_runtime.bundle.preprocess import Preprocessing
from train.run import Record, Run

EXPORT_TOLERANCE = 1e-4
"""How far float32 may be from Keras on the golden frames; more, and another model was exported. The
rank of answers that differ by less is chance."""
SAME_AUROC = 0.002
"""How far float32 may be from what the run measured on the same test images."""


@dataclass(frozen=True)
class Assessment:
    """The converted variants of a run, and what the gate measured of them on the test split."""

    converted: Converted
    comparisons: tuple[Comparison, ...]
    """Of every variant, float32 first; those that could not be made or run too."""
    sound: tuple[Variant, ...]
    """The variants that were ordered and hold their limits: those of the bundle."""
    golden_differences: Mapping[Variant, float]
    """The largest difference of each variant's probabilities from the golden ones."""
    layers: Mapping[Variant, Sequence[LayerError]]
    """The error of each layer of the quantised variants."""
    placement: Placement | None
    """What an Edge TPU would run of int8; None without int8."""
    compiled: Compiled | None
    """int8 for the Edge TPU; None where there is no compiler, or it failed."""
    complaint: str | None
    """Why the Edge TPU's compiler, where there is one, made nothing of int8."""
    gpu: tuple[GpuComparison, ...]

    @property
    def models(self) -> dict[Variant, bytes]:
        """The TFLite file of each sound variant."""
        return {variant: self.converted.models[variant] for variant in self.sound}

    @property
    def backends(self) -> dict[Variant, CpuBackend]:
        """The interpreter of each sound variant."""
        return {variant: self.converted.backends[variant] for variant in self.sound}

    @property
    def interpreter(self) -> str:
        """The name and version of the interpreter that every variant ran in."""
        return self.converted.backends[REFERENCE].compute.interpreter


def assess(
    run: Run,
    options: ConversionOptions,
    pictures: NDArray[np.uint8],
    golden: Golden,
    progress: Progress,
) -> Assessment:
    """Converts `run`, and compares every variant with float32.

    `pictures` are those of the test split, uint8 ``[N, side, side, 1]``. Raises BadInput where the
    exported float32 is not the trained model, and CheckFailed, naming the layers in which the error
    arises, where the gate lets nothing pass.
    """
    converted = convert_variants(run, options, pictures, progress)
    preprocessing = preprocess.parse(run.record.recipe.preprocessing)
    golden_differences = {
        variant: _golden_difference(backend, golden, preprocessing)
        for variant, backend in converted.backends.items()
    }
    if not golden_differences[REFERENCE] <= EXPORT_TOLERANCE:  # so that NaN fails too
        raise BadInput(f"{run.folder}: the exported {REFERENCE} is not the trained model")
    comparisons = (*compare_on(run, run.split.of("test"), converted.answers), *converted.lost)
    if np.ptp(converted.answers[REFERENCE], axis=0).max() > EXPORT_TOLERANCE:
        _require_same_auroc(run, comparisons[0])
    layers: dict[Variant, Sequence[LayerError]] = {
        variant: layer_errors(
            converted.models[REFERENCE], converted.models[variant], pictures[:DIAGNOSED]
        )
        for variant, answered in converted.answers.items()
        if variant in ("int8", "dynamic") and np.isfinite(answered).all()
    }
    sound = _require_sound(run, options, comparisons, layers)
    placement, compiled, complaint = None, None, None
    if "int8" in sound:
        placement = place(converted.models["int8"], "int8.tflite")
        try:
            compiled = compile_model(converted.models["int8"], "int8.tflite")
        except BadInput as error:  # all else holds, and serves other devices
            complaint = str(error)
    return Assessment(
        converted=converted,
        comparisons=comparisons,
        sound=sound,
        golden_differences=golden_differences,
        layers=layers,
        placement=placement,
        compiled=compiled,
        complaint=complaint,
        gpu=tuple(
            compare_gpu(
                converted.models[variant],
                f"{variant}.tflite",
                pictures[:DIAGNOSED],
                run.record.rule,
            )
            for variant in sound
            if variant in ON_GPU
        ),
    )


def _require_same_auroc(run: Run, reference: Comparison) -> None:
    """Raises BadInput where float32 ranks the test images otherwise than the run did."""
    auroc, trained = reference.figures["auroc"].value, run.record.metrics["test"].auroc
    if abs(auroc - trained) > SAME_AUROC:
        raise BadInput(
            f"{run.folder}: {REFERENCE} has AUROC {auroc:.4f} on the test images, the run says "
            f"{trained:.4f}; are these its images?"
        )


def _require_sound(
    run: Run,
    options: ConversionOptions,
    comparisons: Sequence[Comparison],
    layers: Mapping[Variant, Sequence[LayerError]],
) -> tuple[Variant, ...]:
    """The ordered variants that hold. Raises CheckFailed where that is not enough."""
    ordered = [comparison for comparison in comparisons if comparison.variant in options.variants]
    failed = [comparison for comparison in ordered if comparison.failures]
    sound = tuple(comparison.variant for comparison in ordered if not comparison.failures)
    if not sound or (options.needed and failed):
        raise CheckFailed(
            f"{run.folder}: the gate lets no bundle pass: "
            + "; ".join(
                f"{comparison.variant}: {', '.join(comparison.failures or ())}"
                for comparison in failed
            )
            + "".join(_error_sources(comparison, layers, options) for comparison in failed)
        )
    return sound


def _golden_difference(backend: CpuBackend, golden: Golden, preprocessing: Preprocessing) -> float:
    """The largest difference between a backend's answers and the golden ones."""
    tensors = golden_tensors(golden.frames, golden.box, preprocessing)
    return float(np.abs(answer(backend, tensors) - golden.probability).max())


def _error_sources(
    comparison: Comparison,
    layers: Mapping[Variant, Sequence[LayerError]],
    options: ConversionOptions,
) -> str:
    """The layers in which a variant's error arises, in words, and what was not tried against it."""
    if comparison.variant not in layers:
        return ""
    named = ", ".join(
        f"{error.layer} ({error.snr_db:.0f} dB)" for error in worst(layers[comparison.variant])
    )
    return "; ".join([f"; most error arises in {named}", *remedies(comparison.variant, options)])


def remedies(variant: Variant, options: ConversionOptions) -> list[str]:
    """What was not tried yet against the error of a variant: options of `sonolite convert`."""
    untried = {
        f"--keep-float {AUTO} computes the worst in float": not options.keep_float,
        "--quantisation-aware fine-tunes int8": not options.aware,
    }
    return [remedy for remedy in untried if untried[remedy] and variant == "int8"]


def gate_entries(
    record: Record, assessment: Assessment, reference: DriftReference
) -> dict[str, Any]:
    """All of `gate.json`."""
    tuned = assessment.converted.fine_tuning
    return {
        "interpreter": assessment.interpreter,
        "split": "test",
        "split_sha256": record.data.split_sha256,
        "images": sum(record.data.counts["test"].values()),
        "limits": asdict(record.recipe.limits),
        "variants": [asdict(comparison) for comparison in assessment.comparisons],
        "fine_tuning_of_int8": None if tuned is None else asdict(tuned),
        "float_layers_of_int8": assessment.converted.in_float,
        "operators": {
            variant: versions(assessment.converted.models[variant]) for variant in assessment.sound
        },
        "layers": layer_entries(assessment.layers),
        "edgetpu": _edgetpu_entry(assessment),
        "gpu": gpu_entries(assessment.gpu),
        "reference": asdict(reference),
    }


def layer_entries(layers: Mapping[Variant, Sequence[LayerError]]) -> dict[Variant, Any]:
    """The worst layers of each variant, for a gate's JSON."""
    return {
        variant: [_finite(error) for error in worst(errors)] for variant, errors in layers.items()
    }


def gpu_entries(gpu: Sequence[GpuComparison]) -> list[dict[str, Any]]:
    """The comparisons of a GPU with the CPU, for a gate's JSON."""
    return [asdict(comparison) | {"holds": comparison.holds} for comparison in gpu]


def _edgetpu_entry(assessment: Assessment) -> dict[str, Any] | None:
    """What an Edge TPU would run, for `gate.json`."""
    placement, compiled = assessment.placement, assessment.compiled
    if placement is None:
        return None
    return {
        "share": placement.share,
        "parameter_bytes": placement.parameter_bytes,
        "streamed_bytes": placement.streamed_bytes,
        "unplaced": [asdict(operation) for operation in placement.unplaced],
        "compiled": None if compiled is None else [asdict(entry) for entry in compiled.table],
        "complaint": assessment.complaint,
    }


def _finite(error: LayerError) -> dict[str, Any]:
    """An error for JSON, which knows no infinity: None stands where nothing differs."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in asdict(error).items()
    }
