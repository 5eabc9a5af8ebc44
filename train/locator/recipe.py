"""The recipe of a locator: one short TOML file, read into frozen dataclasses."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from devices import BadInput
from devices.regular_file import read_regular
from devices.schema_io import read_toml
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.policies import PoolingPolicy, TrackingPolicy
from train.augmentation import Augmentation
from train.recipe import LOCATORS, Count, EfficientNetLite, MobileNetV2, Rate

Weight = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class LocatorFit:
    """How long and how fast a locator learns: AdamW, a warm-up and a cosine, averaged weights."""

    learning_rate: Annotated[float, Meta(gt=0, lt=1)]
    """The highest learning rate."""
    batch: Count
    """Pictures in one step."""
    steps: Count
    """Steps in all."""
    frozen: Annotated[int, Meta(ge=0, le=5)]
    """How many stages of the backbone, from the first, keep the weights of ImageNet."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """The kinds of pictures that a batch is drawn from, by relative weight."""

    marked: Annotated[float, Meta(gt=0, le=1)]
    """Pictures with a nodule. A data set with four times the pictures is drawn twice as often."""
    empty: Weight
    """Pictures that are known to show no nodule."""
    other: Weight
    """Pictures of other organs, if there are any."""
    simulated: Weight
    """Pictures of the phantom."""
    borrowed_tones: Weight = 0.0
    """The share of pictures that take the grey levels of another picture."""


@dataclass(frozen=True, slots=True)
class LocatorLimits:
    """How far a variant may stay behind float32 before the gate refuses it."""

    ap50_drop: Rate
    """AP50 may be smaller by this much."""
    recall_drop: Rate
    """The recall at the operating point may be smaller by this much."""


@dataclass(frozen=True, slots=True)
class LocatorRecipe:
    """Everything that makes a locator, but for the data and the seed."""

    kind: Literal["locator"]
    """Distinguishes the recipe from that of a classifier."""
    about: str
    """One line for people: what this recipe makes."""
    preprocessing: str
    """The steps from a picture to the input of the network; crop makes the picture a square."""
    network: EfficientNetLite | MobileNetV2
    channels: Annotated[int, Meta(ge=16, le=512)]
    """Channels of the pyramid and of the head."""
    fit: LocatorFit
    sampling: Sampling
    augmentation: Augmentation
    tracking: TrackingPolicy
    """How boxes become tracks; the three scores are chosen anew on the validation clips."""
    pooling: PoolingPolicy
    """How the frames of one track become a decision."""
    limits: LocatorLimits
    false_frames: Rate
    """The largest share of empty validation frames with a box; the scores are chosen within it."""

    def __post_init__(self) -> None:
        try:
            preprocessing = preprocess.parse(self.preprocessing)
        except BadInput as error:
            raise ValueError(str(error)) from error
        if not preprocessing.crops:
            raise ValueError("a locator sees the whole picture in a square: add crop(context=1)")
        if preprocessing.side % 32:
            raise ValueError("the side of a locator's picture is a multiple of 32 pixels")


def is_locator(name: str) -> bool:
    """Whether a recipe is that of a locator, by its name, or by the entry `kind` of its file."""
    path = Path(name)
    if name in LOCATORS:
        return True
    if path.suffix != ".toml" or not path.is_file():
        return False
    try:
        return tomllib.loads(read_regular(path).decode()).get("kind") == "locator"
    except (BadInput, ValueError, RecursionError):
        return False  # whoever reads the recipe as that of a classifier tells what is wrong


def is_locator_run(folder: Path) -> bool:
    """Whether a folder holds the run of a locator."""
    try:
        return b'"kind": "locator"' in read_regular(folder / "run.json")[:64]
    except (BadInput, OSError):
        return False


def read_locator_recipe(name: str) -> LocatorRecipe:
    """Reads the recipe of a locator by its name in the package, or by the path of a file.

    Raises BadInput where there is none, or naming the first entry that is wrong.
    """
    if name in LOCATORS:
        content = (resources.files("train") / "locator" / f"{name}.toml").read_bytes()
    elif name.endswith(".toml") and Path(name).is_file():
        content = read_regular(Path(name))
    else:
        raise BadInput(
            f"no recipe {name!r}; there are {', '.join(LOCATORS)}, or give the path of a .toml"
        )
    return read_toml(content, LocatorRecipe, f"recipe {name}")
