"""A recipe: one short TOML file that says how a model is made, read into frozen dataclasses."""

import json
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from devices import BadInput
from edge_runtime import preprocess
from edge_runtime.manifest import Decision, Limits, explain
from train.samples import Task

_STRICT = ConfigDict(extra="forbid")
Count = Annotated[int, Field(ge=1, le=100_000)]
Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Network:
    """Convolutions of 3x3 with ReLU and max-pooling, then a head."""

    __pydantic_config__ = _STRICT
    filters: Annotated[tuple[Count, ...], Field(min_length=1, max_length=6)]
    head: Literal["flatten", "average"]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    dense: Count | None = None
    """Units of a ReLU layer between head and answer; none where it is left out."""


@dataclass(frozen=True)
class Fit:
    """How long and how fast to learn: Adam on categorical cross-entropy."""

    __pydantic_config__ = _STRICT
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    batch: Count
    epochs: Count
    patience: Count


@dataclass(frozen=True)
class Target:
    """The sensitivity that the operating point must reach on the validation split."""

    __pydantic_config__ = _STRICT
    sensitivity: Share


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a model, but for the data and the seed."""

    __pydantic_config__ = _STRICT
    about: str
    preprocessing: str
    task: Task
    network: Network
    fit: Fit
    operating_point: Target
    decision: Decision
    limits: Limits

    def __post_init__(self) -> None:
        try:
            side = preprocess.parse(self.preprocessing).side
        except BadInput as error:
            raise ValueError(str(error)) from error
        if side >> len(self.network.filters) < 1:
            raise ValueError(f"{side} pixels cannot be halved {len(self.network.filters)} times")


def shipped() -> list[str]:
    """The names of the recipes in the package."""
    folder = resources.files("train") / "recipes"
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".toml"))


def read_recipe(name: str) -> Recipe:
    """Reads a shipped recipe by name, or a recipe file by path.

    Raises BadInput where there is none, or naming the first entry that is wrong.
    """
    if name in shipped():
        content = (resources.files("train") / "recipes" / f"{name}.toml").read_bytes()
    elif name.endswith(".toml") and Path(name).is_file():
        content = Path(name).read_bytes()
    else:
        raise BadInput(
            f"no recipe {name!r}; there are {', '.join(shipped())}, or give the path of a .toml"
        )
    try:
        entries = json.dumps(tomllib.loads(content.decode()), default=str)
        return TypeAdapter(Recipe).validate_json(entries)
    except ValidationError as error:
        raise BadInput(f"recipe {name}: {explain(error)}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise BadInput(f"recipe {name}: {error}") from error
