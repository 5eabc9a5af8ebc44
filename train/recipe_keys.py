"""The keys of a recipe in words: meaning, range and default, read from the classes that read it."""

import ast
import inspect
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from edge_runtime.bundle.manifest import NAME, Decision, Limits
from edge_runtime.bundle.policies import PoolingPolicy, TrackingPolicy
from train.augmentation import Augmentation
from train.locator.recipe import LocatorFit, LocatorLimits, LocatorRecipe, Sampling
from train.recipe import (
    Convolutions,
    Distillation,
    EfficientNetLite,
    Fit,
    MobileNetV2,
    Recipe,
    Target,
)
from train.samples import Task

TABLES: dict[str, type] = {
    "task": Task,
    "fit": Fit,
    "distillation": Distillation,
    "augmentation": Augmentation,
    "operating_point": Target,
    "decision": Decision,
    "limits": Limits,
}
"""The tables of a recipe with the class that reads each; of `network` see `NETWORKS`."""
LOCATOR_TABLES: dict[str, type] = {
    "fit": LocatorFit,
    "sampling": Sampling,
    "augmentation": Augmentation,
    "tracking": TrackingPolicy,
    "pooling": PoolingPolicy,
    "limits": LocatorLimits,
}
"""The same of the recipe of a locator."""
NETWORKS: dict[str, type] = {
    str(kind.__struct_config__.tag): kind for kind in (Convolutions, EfficientNetLite, MobileNetV2)
}
"""The class that reads `[network]`, by its `kind`."""


@dataclass(frozen=True)
class Key:
    """One key of a recipe."""

    table: str
    """Empty for those above all tables."""
    name: str
    type: str
    allowed: str
    """What values it may have, in words; empty where all of its type."""
    default: str
    """As TOML spells it; `required` where it must be written."""
    meaning: str


def recipe_keys(network: str = EfficientNetLite.kind, recipe: type = Recipe) -> list[Key]:
    """Every key of a recipe with the network of that kind, in the order of a file.

    `recipe` is the class that reads it: `Recipe`, or `LocatorRecipe`.
    """
    hints = get_type_hints(recipe)
    tables = TABLES if recipe is Recipe else LOCATOR_TABLES
    names = ", ".join(str(kind.__struct_config__.tag) for kind in get_args(hints["network"]))
    chosen = Key("network", "kind", "text", names, "required", "The kind of network.")
    found = [*_keys("", recipe, {*tables, "network"})]
    for table, kind in tables.items():
        if table == "fit":
            found += [chosen, *_keys("network", NETWORKS[network])]
        found += _keys(table, kind)
    return found


def _keys(table: str, kind: type, tables: Collection[str] = ()) -> Iterator[Key]:
    docs = _docstrings(kind)
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is ClassVar or name in tables:
            continue
        word, allowed = _type_and_range(hint)
        yield Key(table, name, word, allowed, default_of(kind, name), docs.get(name, ""))


def _docstrings(kind: type) -> dict[str, str]:
    """The docstring below each key of a class and of the classes that it extends."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith(("train.", "edge_runtime.")):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for before, after in zip(tree.body, tree.body[1:], strict=False):
            text = after.value if isinstance(after, ast.Expr) else None
            if not isinstance(text, ast.Constant) or not isinstance(before, ast.AnnAssign):
                continue
            assert isinstance(before.target, ast.Name)
            docs[before.target.id] = " ".join(str(text.value).split())
    return docs


def _type_and_range(hint: Any) -> tuple[str, str]:
    """A type in words, and the values that it allows, empty where it allows all."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        word, inner = _type_and_range(arguments[0])
        if arguments[1].pattern == NAME:
            return word, "1 to 64 letters, digits, blanks, and _ . -"
        return word, ", ".join(filter(None, [*_limits(arguments[1]), inner]))
    if origin in (Union, UnionType):
        return next(_type_and_range(argument) for argument in arguments if argument is not NoneType)
    if origin is Literal:
        return "text", ", ".join(map(str, arguments))
    if origin is tuple:
        word, allowed = _type_and_range(arguments[0])
        return f"list of {word}s", f"each {allowed}" if allowed else ""
    if origin is dict:
        return "table of texts", ""
    return {str: "text", int: "whole number", float: "number"}[hint], ""


def _limits(meta: msgspec.Meta) -> list[str]:
    signs = (("at least", meta.ge), ("above", meta.gt), ("at most", meta.le), ("below", meta.lt))
    texts = [f"{sign} {limit:,}" for sign, limit in signs if limit is not None]
    if meta.min_length is not None:
        texts.append(f"{meta.min_length} to {meta.max_length} entries")
    return texts


def default_of(kind: type, name: str) -> str:
    """The default of a key as TOML spells it; `required` where it must be written."""
    if is_dataclass(kind):
        field = next(field for field in fields(kind) if field.name == name)
        default: object = field.default
        missing = field.default is MISSING and field.default_factory is MISSING
    else:
        (entry,) = (entry for entry in msgspec.structs.fields(kind) if entry.name == name)
        default = entry.default
        missing = entry.default is msgspec.NODEFAULT and entry.default_factory is msgspec.NODEFAULT
    if missing:
        return "required"
    if default is None:
        return "left out"
    return toml_value(default) if isinstance(default, str | int | float) else "none"


def toml_value(value: object) -> str:
    """A value as TOML spells it."""
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()  # TOML's basic strings escape as JSON's do
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(
            f"{toml_value(name)} = {toml_value(entry)}" for name, entry in value.items()
        )
        return f"{{ {pairs} }}" if pairs else "{}"
    return str(value)


def commented(recipe: Recipe | LocatorRecipe) -> str:
    """The recipe as a TOML file that explains each of its keys."""
    entries = msgspec.to_builtins(recipe)
    lines: list[str] = []
    table = ""
    absent = {name for name in TABLES if name in entries and entries[name] is None}
    for key in recipe_keys(entries["network"]["kind"], type(recipe)):
        if key.table in absent:
            continue
        if key.table != table:
            table = key.table
            lines += ["", f"[{table}]"]
        value = (entries[table] if table else entries)[key.name]
        limits = [key.allowed] if key.allowed else []
        if key.default != "required":
            limits.append(f"by default {key.default}")
        about = f"{key.meaning} ({'; '.join(limits)})" if limits else key.meaning
        lines += textwrap.wrap(about, width=96, initial_indent="# ", subsequent_indent="# ")
        lines.append(
            f"# {key.name} is left out" if value is None else f"{key.name} = {toml_value(value)}"
        )
    for name in sorted(absent):
        lines += ["", f"# [{name}] is left out"]
    return "\n".join(lines) + "\n"
