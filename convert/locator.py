"""The run of a locator joins the classifier of a bundle: a bundle that finds what it classifies.

The classifier, the scopes and the gate stay byte for byte what they were. Each variant of the
locator is held against float32 on the test pictures, and the bundle gets those that hold.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from nacl.signing import SigningKey
from numpy.typing import NDArray

from convert.assessment import gpu_entries, layer_entries
from convert.bias_correction import correct_biases
from convert.build import ROUNDING
from convert.card import gpu_line
from convert.edgetpu import place
from convert.gate import answer_all
from convert.gpu import GpuComparison, compare_gpu
from convert.layer_errors import LayerError, layer_errors, worst
from convert.tflite import calibrate, convert, quantise
from convert.variants import DIAGNOSED, ON_GPU, Progress, try_each
from devices import CheckFailed
from devices.compute import CpuBackend
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.archive import CARD, Bundle, list_members, write_bundle
from edge_runtime.bundle.gate import Comparison, Figure, rows
from edge_runtime.bundle.golden import read_golden
from edge_runtime.bundle.manifest import (
    LOCATOR_GATE,
    REFERENCE,
    ClassifierStage,
    LocatorStage,
    Variant,
    require_reachable,
)
from edge_runtime.models.boxes import decode_boxes
from edge_runtime.models.classifier import Classifier
from edge_runtime.models.locator import locator_tensors
from train.locator import metrics
from train.locator.dataset import LocatorPicture, network_tensor, read_squares
from train.locator.run import LocatorRecord, LocatorRun

REPRESENTATIVE = 160
"""Training pictures that set the ranges of int8, half of them with a nodule."""
RESAMPLES = 200
"""Of the interval of a difference, over groups."""

OUTPUTS = ("score", "sides")
"""What the network answers; see `train.locator.network`."""

Answers = Mapping[str, NDArray[np.float32]]
Layers = Mapping[Variant, Sequence[LayerError]]


@dataclass(frozen=True)
class JoinedBundle:
    """What was written, and what was measured on the way."""

    bundle: Bundle
    comparisons: tuple[Comparison, ...]
    """Of every variant of the locator, float32 first."""


def join_locator(
    run: LocatorRun,
    classifier: Bundle,
    out: Path,
    name: str,
    version: int,
    variants: Sequence[Variant],
    key: SigningKey,
    progress: Progress,
) -> JoinedBundle:
    """Writes the bundle `out` with the classifier of a bundle and the locator of a run.

    Raises BadInput where a picture of the run is gone, where the classifier does not open here, or
    where a label would never be given, and CheckFailed where no variant holds.
    """
    record = run.record
    joined = classifier.manifest.classifier
    room = joined.decision.margin + record.recipe.pooling.hysteresis
    require_reachable(joined.labels, joined.operating_point.thresholds, room)
    for variant in joined.variants:
        Classifier(classifier, joined, variant)
    preprocessing = preprocess.parse(record.recipe.preprocessing)
    test = list(read_squares(run.of("test"), preprocessing.side, progress("test pictures")))
    tensors = np.concatenate([network_tensor(picture, preprocessing) for picture in test])
    converted = _convert_variants(run, variants, tensors, progress)
    comparisons = (*compare(record, test, converted.answers), *converted.lost)
    sound = _require_sound(run, comparisons, variants)
    layers: Layers = {
        variant: layer_errors(
            converted.models[REFERENCE], converted.models[variant], tensors[:DIAGNOSED]
        )
        for variant in sound
        if variant in ("int8", "dynamic")
    }
    gpu = [
        compare_gpu(
            converted.models[variant], member_of(variant), tensors[:DIAGNOSED], None, OUTPUTS
        )
        for variant in sound
        if variant in ON_GPU
    ]
    frames = locator_tensors(read_golden(classifier).frames, preprocessing)
    golden = {
        variant: answer_all(converted.backends[variant], frames)["score"]
        for variant in dict.fromkeys((REFERENCE, *sound))
    }
    stage = LocatorStage(
        name="locator",
        preprocessing=record.recipe.preprocessing,
        variants={variant: member_of(variant) for variant in sound},
        tracking=record.tracking,
        pooling=record.recipe.pooling,
        chosen_on="validation" if "validation" in record.clips else "none",
        golden="locator_golden.npz",
        golden_tolerance={
            variant: float(np.abs(golden[variant] - golden[REFERENCE]).max()) + ROUNDING
            for variant in sound
        },
    )
    written = io.BytesIO()
    np.savez_compressed(written, score=golden[REFERENCE])
    held = classifier.manifest
    kept = [each for each in held.stages if isinstance(each, ClassifierStage)]
    own = {member for each in held.stages if each not in kept for member in each.members.values()}
    contents = {
        **{member: classifier.read(member) for member in held.members if member not in own},
        **{stage.variants[variant]: converted.models[variant] for variant in sound},
        stage.golden: written.getvalue(),
        LOCATOR_GATE: _gate(record, comparisons, layers, gpu),
    }
    int8 = converted.models.get("int8")
    share = None if int8 is None else place(int8, member_of("int8")).share
    measured = _Measured(comparisons, share, layers, gpu)
    contents[CARD] = _card(classifier, name, version, record, measured).encode()
    manifest = replace(
        held, name=name, version=version, stages=(*kept, stage), members=list_members(contents)
    )
    return JoinedBundle(write_bundle(out, manifest, contents, key), comparisons)


@dataclass(frozen=True)
class _Converted:
    """The variants of a locator that could be made and run; float32 is always among them."""

    models: dict[Variant, bytes]
    backends: dict[Variant, CpuBackend]
    answers: dict[Variant, Answers]
    """On the test pictures."""
    lost: tuple[Comparison, ...]
    """Those that could not; a variant that cannot be measured has failed."""


def _convert_variants(
    run: LocatorRun, variants: Sequence[Variant], tensors: NDArray[np.uint8], progress: Progress
) -> _Converted:
    """Makes float32 and the `variants`, each with its answers to the test pictures `tensors`.

    Raises BadInput where float32 cannot be made or run.
    """
    representative = _representative(run, progress)
    models: dict[Variant, bytes] = {}
    backends: dict[Variant, CpuBackend] = {}
    answers: dict[Variant, Answers] = {}

    def make(variant: Variant) -> None:
        if variant == "int8":
            calibrated = calibrate(correct_biases(run.model, representative), representative)
            side = run.model.input_shape[1]
            model = quantise(calibrated, side, outputs=tuple(run.model.output))
        else:
            model = convert(run.model, variant, representative)
        backend = CpuBackend(model, member_of(variant))
        answers[variant] = answer_all(backend, tensors, progress(f"testing {variant}"))
        models[variant], backends[variant] = model, backend

    lost = try_each(run.folder, dict.fromkeys((REFERENCE, *variants)), make)
    return _Converted(models, backends, answers, lost)


def _require_sound(
    run: LocatorRun, comparisons: Sequence[Comparison], variants: Sequence[Variant]
) -> tuple[Variant, ...]:
    """Those of the `variants` that hold. Raises CheckFailed where none does."""
    sound = tuple(
        comparison.variant
        for comparison in comparisons
        if not comparison.failures and comparison.variant in variants
    )
    if not sound:
        failures = "; ".join(
            f"{each.variant}: {', '.join(each.failures)}" for each in comparisons if each.failures
        )
        raise CheckFailed(f"{run.folder}: no variant of the locator holds: {failures}")
    return sound


def compare(
    record: LocatorRecord, test: Sequence[LocatorPicture], answers: Mapping[Variant, Answers]
) -> list[Comparison]:
    """Each variant against float32 on the same pictures, with paired intervals over groups."""
    truths = [picture.square.boxes for picture in test]
    groups = np.unique([picture.marked.group for picture in test], return_inverse=True)[1]
    rng = np.random.default_rng(record.seed)
    count = int(groups.max()) + 1
    draws = [
        np.bincount(rng.integers(0, count, count), minlength=count)[groups].astype(np.float64)
        for _ in range(RESAMPLES)
    ]
    every = np.ones(len(test))
    score, limits = record.tracking.still_score, record.recipe.limits
    matched = {
        variant: metrics.match(
            truths, [decode_boxes(*maps) for maps in zip(each["score"], each["sides"], strict=True)]
        )
        for variant, each in answers.items()
    }
    reference = matched[REFERENCE]
    comparisons = []
    for variant, found in matched.items():
        figures: dict[str, Figure] = {"images": Figure(len(test)), "groups": Figure(count)}
        for name, level in (("AP50", 0), ("AP50-95", None)):
            values = [_precision(found, weights, level) for weights in (every, *draws)]
            figures[name] = _figure(values)
            if level == 0:
                pairs = zip(values, (every, *draws), strict=True)
                differences = [
                    value - _precision(reference, weights, level) for value, weights in pairs
                ]
                figures["AP50_difference"] = _figure(differences)
        for allowed in metrics.FALSE_BOXES:
            values = [
                metrics.sensitivity_at(found, allowed, weights) for weights in (every, *draws)
            ]
            figures[f"sensitivity_at_{allowed:g}_false_boxes"] = _figure(values)
        recalls = [metrics.recall_from(found, weights, score) for weights in (every, *draws)]
        figures["recall"] = _figure(recalls)
        sure = found.right[:, 0] & (found.scores >= score)
        if sure.any():
            figures["median_IoU"] = Figure(float(np.median(found.best[sure])))
        failures = []
        recall = metrics.recall_from(reference, every, score)
        for name, drop, limit in (
            ("AP50", -figures["AP50_difference"].value, limits.ap50_drop),
            ("recall", recall - figures["recall"].value, limits.recall_drop),
        ):
            if drop > limit + 1e-9:  # the difference of two shares is rounded
                failures.append(f"{name} lower by {drop:.4f} > {limit}")
        comparisons.append(Comparison(variant, figures, tuple(failures)))
    return comparisons


def _precision(found: metrics.Detections, weights: NDArray[np.float64], level: int | None) -> float:
    levels = range(len(metrics.IOUS)) if level is None else (level,)
    return float(np.mean([metrics.average_precision(found, weights, each) for each in levels]))


def _figure(values: Sequence[float]) -> Figure:
    """The first value, with the interval of the others."""
    low, high = np.nanpercentile(values[1:], (2.5, 97.5))
    return Figure(float(values[0]), (float(low), float(high)))


def _representative(run: LocatorRun, progress: Progress) -> NDArray[np.uint8]:
    """Training pictures that set the ranges of int8, ``[N, side, side, 1]``.

    Half of them show no nodule, where there are enough.
    """
    preprocessing = preprocess.parse(run.record.recipe.preprocessing)
    pictures, rng = run.of("train"), np.random.default_rng(run.record.seed)
    drawn = []
    for shows_nodule in (True, False):
        kind = [picture for picture in pictures if bool(picture.boxes) is shows_nodule]
        size = min(REPRESENTATIVE // 2, len(kind))
        drawn += [kind[place] for place in rng.choice(len(kind), size, replace=False)]
    squares = read_squares(drawn, preprocessing.side, progress("representative set"))
    return np.concatenate([network_tensor(picture, preprocessing) for picture in squares])


def member_of(variant: Variant) -> str:
    """The file of a variant of the locator in the bundle."""
    return f"locator_{variant}.tflite"


def _gate(
    record: LocatorRecord,
    comparisons: Sequence[Comparison],
    layers: Layers,
    gpu: Sequence[GpuComparison],
) -> bytes:
    entries = {
        "split": "test",
        "split_sha256": record.split_sha256,
        "limits": asdict(record.recipe.limits),
        "variants": [asdict(comparison) for comparison in comparisons],
        "layers": layer_entries(layers),
        "gpu": gpu_entries(gpu),
    }
    return (json.dumps(entries, indent=2, allow_nan=False) + "\n").encode()


def _share(share: float | None) -> str:
    """The share in words, or nothing where it is one of no frames."""
    return "" if share is None else f"{share:.2f} of "


CARD_SECTION = """

## Locator

{about} Recipe `{recipe}`, seed {seed}, trained on {data}: {counts} pictures to train, of which
{empty} show no nodule. Boxes begin a track from a score of {start:.2f} on and continue one from
{keep:.2f}. These scores are {scores_are}.

{head}
{variants}

{clips}The split has the sha256 `{split}`.{edgetpu}{layers}{gpu}
"""
ON_EDGETPU = " Of int8, {share:.0%} of the operations run on an Edge TPU, by Coral's documentation."


LAYERS = " Of {variant}, most error arises in {worst}."
ON_GPU_TOO = " On a GPU, against the CPU: {gpu}."


@dataclass(frozen=True)
class _Measured:
    """What the card says of the variants."""

    comparisons: Sequence[Comparison]
    share: float | None
    """Of the operations of int8 that an Edge TPU computes."""
    layers: Layers
    gpu: Sequence[GpuComparison]


def _card(
    classifier: Bundle, name: str, version: int, record: LocatorRecord, measured: _Measured
) -> str:
    """The card of the classifier with a section on the locator."""
    text = classifier.read(CARD).decode()
    text = text.partition("\n\n## Locator\n")[0].partition("\n")[2].rstrip()
    names = [comparison.variant for comparison in measured.comparisons]
    lines = [
        "| " + " | ".join([figure, *(cell.replace("\n", " ") for cell in cells)]) + " |"
        for figure, cells in rows(measured.comparisons).items()
    ]
    clips = "".join(
        f"On the {part} clips, after tracking: {_share(figures.found)}{figures.marked} frames with "
        f"a nodule have a box at IoU 0.3 or more, {_share(figures.false)}"
        f"{figures.frames - figures.marked} empty frames have a box, and "
        f"{figures.false_tracks:.1f} false tracks a minute.\n\n"
        for part, figures in record.clips.items()
    )
    return f"# {name}, version {version}\n{text}" + CARD_SECTION.format(
        about=record.recipe.about,
        recipe=record.recipe_name,
        seed=record.seed,
        data=", ".join(record.data),
        counts=record.counts["train"]["pictures"],
        empty=record.counts["train"]["empty"],
        start=record.tracking.start_score,
        keep=record.tracking.keep_score,
        scores_are=record.scores_are,
        head=f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}",
        variants="\n".join(lines),
        clips=clips,
        split=record.split_sha256,
        edgetpu="" if measured.share is None else ON_EDGETPU.format(share=measured.share),
        layers="".join(
            LAYERS.format(
                variant=variant,
                worst=", ".join(
                    f"{each.layer} ({each.snr_db:.0f} dB)" for each in worst(errors, 3)
                ),
            )
            for variant, errors in measured.layers.items()
        ),
        gpu=ON_GPU_TOO.format(gpu="; ".join(map(gpu_line, measured.gpu))) if measured.gpu else "",
    )
