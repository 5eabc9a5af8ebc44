"""A recipe: one short TOML file that says how a model is made, read into frozen dataclasses."""

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from devices import BadInput
from devices.regular_file import read_regular
from devices.schema_io import read_toml
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.manifest import Decision, Limits
from train.augmentation import Augmentation
from train.samples import Task

Count = Annotated[int, Meta(ge=1, le=100_000)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Rate = Annotated[float, Meta(ge=0, lt=1)]


class Convolutions(Struct, frozen=True, tag_field="kind", tag="convolutions"):
    """Convolutions of 3x3 with ReLU and max-pooling, then a head."""

    filters: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=6)]
    """Filters of each convolution; max-pooling of 2 follows each."""
    head: Literal["flatten", "average"]
    """Whether the last layer is flattened, or averaged over the picture."""
    dropout: Rate
    """The share of units that are switched off while the network learns."""
    dense: Count | None = None
    """Units of a ReLU layer between head and answer; left out, there is no such layer."""

    @property
    def halvings(self) -> int:
        """How often height and width are halved."""
        return len(self.filters)


class InvertedResiduals(Struct, frozen=True, tag_field="kind"):
    """Depthwise convolutions between narrow layers; see `train.network.BLOCKS`."""

    halvings: ClassVar[int] = 5
    kind: ClassVar[str]
    dropout: Rate
    """The share of filters that are switched off while the network learns."""
    weights: Literal["imagenet", "random"] = "random"
    """The weights before the training: those of ImageNet, or random weights."""
    activation: Literal["relu", "relu6", "hard_swish"] = "relu6"
    """The function after each convolution."""
    width: Annotated[float, Meta(ge=0.25, le=2)] = 1.0
    """Factor on the filters of each block."""
    depth: Annotated[float, Meta(ge=0.25, le=3)] = 1.0
    """Factor on the repeats of each stage."""
    outputs: tuple[Literal["evidence", "embedding"], ...] = ()
    """What the model answers besides the probability; `evidence` exists only with two classes."""

    def __post_init__(self) -> None:
        if self.weights == "imagenet":
            known = IMAGENET if self.kind == EfficientNetLite.kind else ()
            if (self.width, self.depth) not in known:
                raise ValueError(
                    "there are ImageNet weights for efficientnet-lite of width and depth "
                    + ", ".join(f"{width} and {depth}" for width, depth in IMAGENET)
                )


class EfficientNetLite(InvertedResiduals, frozen=True, tag="efficientnet-lite"):
    """EfficientNet without what small processors are slow at."""

    kind: ClassVar[str] = "efficientnet-lite"


class MobileNetV2(InvertedResiduals, frozen=True, tag="mobilenet-v2"):
    """MobileNetV2."""

    kind: ClassVar[str] = "mobilenet-v2"


IMAGENET = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))
"""Width and depth of EfficientNet-Lite0, 1 and 2, whose weights are published."""

Network = Convolutions | EfficientNetLite | MobileNetV2


@dataclass(frozen=True, slots=True)
class Fit:
    """How long and how fast to learn: AdamW on categorical cross-entropy."""

    learning_rate: Annotated[float, Meta(gt=0, lt=1)]
    """The highest learning rate."""
    batch: Count
    """Pictures in one step."""
    epochs: Count
    """How often the network sees all training pictures."""
    patience: Count | None = None
    """The training ends after more than this many epochs without a better validation AUROC, and the
    best epoch is kept. Left out, the last epoch is kept."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` lets the rate fall to zero until the last epoch (Loshchilov and Hutter, SGDR, ICLR
    2017)."""
    warmup: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The share of all steps in which the rate rises from zero."""
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The decay of AdamW."""
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The share of each label that is spread over all labels."""
    mixup: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """Both parameters of the beta distribution by which two pictures are mixed; 0 mixes none."""
    balance: Literal["none", "sampling", "weights"] = "none"
    """`sampling` draws images of a rare class more often; `weights` gives each of these images more
    weight."""
    average: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Momentum of an exponential mean over the weights of all steps; 0 keeps the last weights. A
    short training takes a lower momentum; see `train.learner`."""

    def __post_init__(self) -> None:
        if self.warmup and self.schedule == "constant":
            raise ValueError("warmup belongs to the cosine schedule")
        if self.average and self.patience:
            raise ValueError("averaged weights are those of the last epoch; leave patience out")


@dataclass(frozen=True, slots=True)
class Distillation:
    """Several networks, the teachers, learn as `[fit]` says, each with its own seed. Then the first
    of them goes on as the student, and learns the mean answer of the teachers.

    Hinton et al., "Distilling the knowledge in a neural network", 2015. The student learns from
    pictures that are mixed with one another, so that it sees more of the teachers' answers: Beyer
    et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022.
    """

    teachers: Annotated[int, Meta(ge=2, le=16)]
    """How many teachers there are."""
    learning_rate: Annotated[float, Meta(gt=0, lt=1)]
    """The highest learning rate of the student."""
    epochs: Count
    """How often the student sees all training pictures."""
    mixup: Annotated[float, Meta(ge=0, le=2)] = 1.0
    """As in `[fit]`, for the student."""

    def student(self, fit: Fit) -> Fit:
        """How the student learns; what is not said here is as for its teachers."""
        return replace(
            fit,
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            mixup=self.mixup,
            label_smoothing=0.0,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """The sensitivity that the operating point must reach on the validation split.

    With more than two classes, each class must reach it against all others.
    """

    sensitivity: Share
    """The smallest share of a class's validation images that reach the threshold of the class."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes a model, but for the data and the seed."""

    about: str
    """One line for people: what this recipe makes."""
    preprocessing: str
    """The steps from a picture to the input of the network: gray, crop if wanted, resize."""
    task: Task
    network: Network
    fit: Fit
    operating_point: Target
    decision: Decision
    limits: Limits
    augmentation: Augmentation | None = None
    """How the pictures are varied from epoch to epoch; not at all where it is left out."""
    distillation: Distillation | None = None
    """One network learns from the labels alone where it is left out."""

    def __post_init__(self) -> None:
        if self.distillation and self.fit.patience:
            raise ValueError("distillation takes teachers of the last epoch; leave patience out")
        try:
            side = preprocess.parse(self.preprocessing).side
        except BadInput as error:
            raise ValueError(str(error)) from error
        if side >> self.network.halvings < 1:
            raise ValueError(f"{side} pixels cannot be halved {self.network.halvings} times")


LOCATORS = ("nodule-locator",)
"""The recipes of locators in the package; see `train.locator.recipe`."""


def shipped() -> list[str]:
    """The names of the recipes of classifiers in the package."""
    folder = resources.files("train") / "recipes"
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".toml"))


def read_recipe(name: str) -> Recipe:
    """Reads a shipped recipe by name, or a recipe file by path.

    Raises BadInput where there is none, or naming the first entry that is wrong.
    """
    if name in shipped():
        content = (resources.files("train") / "recipes" / f"{name}.toml").read_bytes()
    elif name.endswith(".toml") and Path(name).is_file():
        content = read_regular(Path(name))
    else:
        names = ", ".join((*shipped(), *LOCATORS))
        raise BadInput(f"no recipe {name!r}; there are {names}, or give the path of a .toml")
    return read_toml(content, Recipe, f"recipe {name}")
