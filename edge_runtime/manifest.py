"""What a bundle says of itself: `manifest.json`, as dataclasses that refuse anything else."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from devices import BadInput
from devices.records import read_json, write_json
from edge_runtime import preprocess

SCHEMA: Literal[1] = 1
Variant = Literal["float32", "float16", "dynamic", "int8"]
EDGETPU_MEMBER = "int8_edgetpu.tflite"
"""The member with int8 as compiled for the Edge TPU, beside the plain one."""
REFERENCE: Variant = "float32"
"""The variant that the others are held against; a bundle for a small device may lack it."""

NAME = r"\A[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}\Z"
Name = Annotated[str, Meta(pattern=NAME)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Share = Annotated[float, Meta(ge=0, le=1)]
MEMBER_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,40}\.[a-z0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the bundle besides the manifest itself."""

    size: Annotated[int, Meta(ge=0)]
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The probability of the positive class from which a picture counts as positive."""

    threshold: Share
    sensitivity: Share
    """What was asked for when the threshold was chosen."""
    chosen_on: str
    """The data it was chosen on, never the test split."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How a stream of probabilities becomes a label."""

    smoothing_seconds: Annotated[float, Meta(ge=0, le=60)]
    """Time constant of the exponential mean over frames; 0 judges every frame alone."""
    margin: Annotated[float, Meta(ge=0, lt=0.5)]
    """Closer than this to the threshold no label is given."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a variant may stay behind float32 before it is refused."""

    auroc_drop: Share
    """Of the AUROC difference's 95 % interval the lower limit may not lie beyond it."""
    sensitivity_drop: Share
    label_agreement: Share
    """The least share of pictures on which both give the same label."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One model of the bundle with all that is needed to ask it and to read its answer.

    The model takes `picture`, uint8 ``[1, side, side, 1]``, and answers `probability`, float32
    ``[1, labels]``, calibrated. `side` is that of the preprocessing.
    """

    name: Name
    task: str
    labels: Annotated[tuple[Name, ...], Meta(min_length=2, max_length=2)]
    aliases: dict[str, Name]
    """Other spellings of a label that data sets use, such as `1` for `malignant`."""
    preprocessing: str
    variants: dict[Variant, str]
    """Which member holds which variant."""
    operating_point: OperatingPoint
    decision: Decision
    limits: Limits
    golden_tolerance: dict[Variant, Share]
    """The largest difference to the golden answers that each variant may show on a device."""
    scopes: dict[Variant, str] = field(default_factory=dict)
    """Which member holds the scope of which variant; none where the model has no embedding."""

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label stands twice")
        if not set(self.aliases.values()) <= set(self.labels):
            raise ValueError("an alias names no label")
        if not self.variants:
            raise ValueError("no variant")
        if set(self.variants) != set(self.golden_tolerance):
            raise ValueError("golden_tolerance and variants name different variants")
        if self.scopes and set(self.scopes) != set(self.variants):
            raise ValueError("scopes and variants name different variants")
        try:
            preprocess.parse(self.preprocessing)
        except BadInput as error:
            raise ValueError(str(error)) from error

    @property
    def positive(self) -> str:
        """The label that the threshold speaks of: the last."""
        return self.labels[-1]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the model comes from: enough to find the run that made it."""

    recipe: str
    seed: int
    data: str
    data_sha256: Sha256
    split_sha256: Sha256
    software: dict[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole of `manifest.json`."""

    schema: Literal[1]
    name: Name
    version: Annotated[int, Meta(ge=1)]
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1, max_length=1)]
    """One today; a second would be refused rather than left out without a word."""
    origin: Origin
    members: dict[str, Member]

    def __post_init__(self) -> None:
        for name in self.members:
            if not MEMBER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no member name")
        for stage in self.stages:
            for variant, member in (*stage.variants.items(), *stage.scopes.items()):
                if member not in self.members:
                    raise ValueError(f"{variant} of {stage.name} names {member}, not a member")


def read_manifest(text: bytes) -> Manifest:
    """Reads `manifest.json`. Raises BadInput, naming the first entry that is wrong."""
    return read_json(text, Manifest, "manifest.json")


def write_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: UTF-8, indented, the same for the same manifest."""
    return write_json(manifest)
