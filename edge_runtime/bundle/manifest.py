"""`manifest.json`: the contents of a bundle, as types that refuse other contents."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from devices import BadInput
from devices.compute.backend import Variant as Variant
from devices.schema_io import read_json, write_json
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.policies import PoolingPolicy, TrackingPolicy

SCHEMA: Literal[2] = 2
EDGETPU_MEMBER = "int8_edgetpu.tflite"
"""The member with the int8 model compiled for the Edge TPU, in addition to the plain model."""
LOCATOR_GATE = "gate_locator.json"
"""The member with the figures of the locator; `gate.json` has those of the classifier."""
REFERENCE: Variant = "float32"
"""The variant that the others are compared with; a bundle for a small device may lack it."""

NAME = r"\A[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}\Z"
Name = Annotated[str, Meta(pattern=NAME)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Share = Annotated[float, Meta(ge=0, le=1)]
Threshold = Annotated[float, Meta(gt=0, lt=1)]
"""At 0 every picture would get the label, and at 1 none."""
Tolerance = Annotated[float, Meta(ge=0, lt=0.5)]
"""From 0.5 on, answers of no use would pass as those of the model."""
MAX_SUM_ERROR = 1e-3
MIN_PREVALENCE = 1e-6
"""Probabilities at another prevalence are divided by that of the manifest."""
MAX_VERSION = 2**53 - 1
"""The largest number that every reader of JSON keeps (RFC 8259, section 6). A bundle with a larger
one would run, and keep each later version from running."""
MEMBER_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,40}\.[a-z0-9]{1,8}")


def require_reachable(
    labels: Sequence[str], thresholds: Mapping[str, float], margin: float
) -> None:
    """Raises BadInput where a label would never be given: no probability is so far from its
    threshold.
    """
    for label, threshold in thresholds.items():
        below = labels[0] if len(labels) == 2 and threshold < margin else None
        if never := label if threshold + margin > 1 else below:
            margins = f"the threshold {threshold:.3f} and a margin of {margin:g}"
            raise BadInput(f"the label {never} would never be given, with {margins}")


@dataclass(frozen=True, slots=True)
class BundleMember:
    """One file of the bundle other than the manifest."""

    size: Annotated[int, Meta(ge=0)]
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The probabilities from which on a label is given."""

    thresholds: dict[Name, Threshold]
    """The threshold of each label; of two labels only that of the positive label."""
    sensitivity: Share
    """The sensitivity that the thresholds were chosen for."""
    chosen_on: str
    """The data that the thresholds were chosen on; never the test split."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How probabilities over time become a label."""

    smoothing_seconds: Annotated[float, Meta(ge=0, le=60)]
    """Time constant of the exponential mean over frames; 0 switches the smoothing off."""
    margin: Annotated[float, Meta(ge=0, lt=0.5)]
    """There is no label if the probability is closer to the threshold than this."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a variant may stay behind float32 before the gate refuses it."""

    auroc_drop: Share
    """The lower limit of the 95 % interval of the AUROC difference may lie this far below 0."""
    sensitivity_drop: Share
    """The sensitivity may be smaller by this much. It is that of the last of two labels, or that of
    each of more labels."""
    label_agreement: Share
    """The smallest share of pictures with the same label."""


class ClassifierStage(Struct, frozen=True, kw_only=True, tag_field="kind", tag="classifier"):
    """A model that gives a picture a label, with all the facts that are needed to run it.

    The input is `picture`, uint8 ``[1, side, side, 1]``, with the side of the preprocessing. The
    output is `probability`, float32 ``[1, labels]``, calibrated.
    """

    name: Name
    task: str
    labels: Annotated[tuple[Name, ...], Meta(min_length=2, max_length=100)]
    aliases: dict[str, Name]
    """Other spellings of a label that data sets use, such as `1` for `malignant`."""
    learnt: Literal["boxes", "pictures"]
    """Whether the model learnt nodules that were marked with boxes, or whole pictures."""
    prevalence: dict[Name, Share]
    """The share of each label in the data that the model learnt from and was calibrated on; its
    probabilities hold at this prevalence."""
    preprocessing: str
    variants: dict[Variant, str]
    """The member of each variant."""
    operating_point: OperatingPoint
    decision: Decision
    limits: Limits
    golden_tolerance: dict[Variant, Tolerance]
    """The largest difference from the golden answers that each variant may show on a device."""
    scopes: dict[Variant, str] = {}
    """The member with the scope of each variant; empty where the model has no embedding."""

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label stands twice")
        with_threshold = {self.positive} if self.is_binary else set(self.labels)
        if set(self.operating_point.thresholds) != with_threshold:
            raise ValueError(f"thresholds are those of {', '.join(sorted(with_threshold))}")
        if set(self.prevalence) != set(self.labels):
            raise ValueError("prevalence is the share of each label")
        if min(self.prevalence.values()) < MIN_PREVALENCE:
            raise ValueError(f"a share of prevalence is below {MIN_PREVALENCE:g}")
        if abs(sum(self.prevalence.values()) - 1) > MAX_SUM_ERROR:
            raise ValueError("the shares of prevalence do not add up to 1")
        if not set(self.aliases.values()) <= set(self.labels):
            raise ValueError("an alias names no label")
        if not self.variants:
            raise ValueError("no variant")
        if set(self.variants) != set(self.golden_tolerance):
            raise ValueError("golden_tolerance and variants name different variants")
        if self.scopes and set(self.scopes) != set(self.variants):
            raise ValueError("scopes and variants name different variants")
        try:
            crops = preprocess.parse(self.preprocessing).crops
            require_reachable(self.labels, self.operating_point.thresholds, self.decision.margin)
        except BadInput as error:
            raise ValueError(str(error)) from error
        if self.learnt == "boxes" and not crops:
            raise ValueError("the model learnt boxes, but its preprocessing does not crop to them")

    @property
    def members(self) -> dict[str, str]:
        """The members that the stage names, by what it calls them."""
        variants = {str(variant): member for variant, member in self.variants.items()}
        scopes = {f"scope of {variant}": member for variant, member in self.scopes.items()}
        return {**variants, **scopes}

    @property
    def is_binary(self) -> bool:
        """Whether there are two labels; one of them is the positive label."""
        return len(self.labels) == 2

    @property
    def positive(self) -> str:
        """The positive label of two, which the threshold belongs to: the last label."""
        return self.labels[-1]


class LocatorStage(Struct, frozen=True, kw_only=True, tag_field="kind", tag="locator"):
    """A model that finds nodules in a whole picture, with all the facts that are needed to run it.

    The input is `picture`, uint8 ``[1, side, side, 1]``, with the side of the preprocessing. The
    outputs are `score`, float32 ``[1, places, places]``: how much a place looks like the centre of
    a nodule, from 0 to 1; and `sides`, float32 ``[1, places, places, 4]``: how far the left, the
    upper, the right and the lower side of its box are, as shares of the side of the picture.
    """

    name: Name
    preprocessing: str
    variants: dict[Variant, str]
    """The member of each variant."""
    tracking: TrackingPolicy
    """How boxes become tracks; its scores are the operating point of the locator."""
    pooling: PoolingPolicy
    """How the frames of one track become a decision."""
    chosen_on: str
    """The data that the scores of the tracks were chosen on, or `none`; never the test split."""
    golden: str
    """The member with the golden answers of the float model."""
    golden_tolerance: dict[Variant, Tolerance]
    """The largest difference of a score from the golden answers on a device."""

    def __post_init__(self) -> None:
        if not self.variants:
            raise ValueError("no variant")
        if set(self.variants) != set(self.golden_tolerance):
            raise ValueError("golden_tolerance and variants name different variants")
        try:
            preprocess.parse(self.preprocessing)
        except BadInput as error:
            raise ValueError(str(error)) from error

    @property
    def members(self) -> dict[str, str]:
        """The members that the stage names, by what it calls them."""
        variants = {str(variant): member for variant, member in self.variants.items()}
        return {**variants, "golden": self.golden}


Stage = ClassifierStage | LocatorStage
"""One model of a bundle. `kind` names the type; a new type of stage joins this union."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of the model: enough to find the run that made it."""

    recipe: str
    seed: int
    data: str
    data_sha256: Sha256
    split_sha256: Sha256
    software: dict[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of `manifest.json`."""

    schema: Literal[2]
    name: Name
    version: Annotated[int, Meta(ge=1, le=MAX_VERSION)]
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1, max_length=8)]
    origin: Origin
    members: dict[str, BundleMember]

    def __post_init__(self) -> None:
        if len([stage for stage in self.stages if isinstance(stage, ClassifierStage)]) != 1:
            raise ValueError("exactly one stage is a classifier")
        if len([stage for stage in self.stages if isinstance(stage, LocatorStage)]) > 1:
            raise ValueError("at most one stage is a locator")
        for name in self.members:
            if not MEMBER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no member name")
        for stage in self.stages:
            for entry, member in stage.members.items():
                if member not in self.members:
                    raise ValueError(f"{entry} of {stage.name} names {member}, not a member")
        if self.locator is not None:
            classifier, hysteresis = self.classifier, self.locator.pooling.hysteresis
            thresholds = classifier.operating_point.thresholds
            try:
                require_reachable(
                    classifier.labels, thresholds, classifier.decision.margin + hysteresis
                )
            except BadInput as error:
                raise ValueError(str(error)) from error

    @property
    def classifier(self) -> ClassifierStage:
        """The stage that gives labels."""
        return next(stage for stage in self.stages if isinstance(stage, ClassifierStage))

    @property
    def locator(self) -> LocatorStage | None:
        """The stage that finds nodules; None where somebody has to mark them."""
        return next((stage for stage in self.stages if isinstance(stage, LocatorStage)), None)


@dataclass(frozen=True, slots=True)
class _Version:
    schema: int


def read_manifest(text: bytes) -> Manifest:
    """Reads `manifest.json`. Raises BadInput, naming the first entry that is wrong."""
    schema = read_json(text, _Version, "manifest.json", whole=False).schema
    if schema != SCHEMA:
        age = "an earlier" if schema < SCHEMA else "a later"
        raise BadInput(
            f"manifest.json: made by {age} version of sonolite (schema {schema}, not {SCHEMA}); "
            "convert the run again with this version"
        )
    return read_json(text, Manifest, "manifest.json")


def write_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: UTF-8, indented, the same for the same manifest."""
    return write_json(manifest)
