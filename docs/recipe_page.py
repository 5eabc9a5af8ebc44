"""Writes docs/recipe.md: every key of a recipe, read from the classes that read a recipe.

`make docs` runs it as `python -m docs.recipe_page > docs/recipe.md`.
"""

import ast
import inspect
import sys
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from edge_runtime.bundle.manifest import NAME, Decision, Limits
from edge_runtime.bundle.preprocess import PREPROCESSING_STEPS
from train.augmentation import Augmentation
from train.recipe import (
    Convolutions,
    Distillation,
    EfficientNetLite,
    Fit,
    InvertedResiduals,
    MobileNetV2,
    Recipe,
    Target,
    read_recipe,
    shipped,
)
from train.samples import Task

TABLES: dict[str, type] = {
    "task": Task,
    "network": Convolutions,
    "fit": Fit,
    "distillation": Distillation,
    "augmentation": Augmentation,
    "operating_point": Target,
    "decision": Decision,
    "limits": Limits,
}
"""The tables of a recipe, in the order of the page, with the class that reads each."""

HEAD = """\
# Write a recipe

A *recipe* is one short TOML file that says how a model is made. The data and the seed are all that
it leaves open. `sonolite train --recipe NAME` takes a recipe of the package by name, or a file by
path.

The package holds {shipped}.
Copy the nearest file from `train/recipes/`, change what you need, and train with it:

    sonolite train my-images --recipe my-recipe.toml --out run

[Train on your own data](train.md#write-a-recipe-of-your-own) has a whole small recipe. A key that
is unknown, missing or out of range is refused. The message names the key.

This page is generated from the code (`docs/recipe_page.py`). Edit the docstrings in
`train/recipe.py`, `train/scanner.py`, `train/samples.py` and `edge_runtime/bundle/manifest.py`
instead of this page.
"""


def key_docs(kind: type) -> dict[str, str]:
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


def type_and_range(hint: Any) -> tuple[str, str]:
    """A type in words, and the values that it allows in words, empty where it allows all."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        word, _ = type_and_range(arguments[0])
        if arguments[1:] == (msgspec.Meta(pattern=NAME),):
            return word, "1 to 64 letters, digits, spaces, `_`, `.`, `-`"
        return word, ", ".join(limits(arguments[1]))
    if origin in (Union, UnionType):
        words = [type_and_range(argument) for argument in arguments if argument is not NoneType]
        return words[0]
    if origin is Literal:
        return "string", ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        word, allowed = type_and_range(arguments[0])
        return f"list of {word}s", f"each {allowed}" if allowed else ""
    if origin is dict:
        return "table of strings", ""
    return {str: "string", int: "whole number", float: "number"}[hint], ""


def limits(meta: msgspec.Meta) -> list[str]:
    """The limits of a value in words."""
    signs = (("at least", meta.ge), ("above", meta.gt), ("at most", meta.le), ("below", meta.lt))
    texts = [f"{sign} {limit:,}" for sign, limit in signs if limit is not None]
    if meta.min_length is not None:
        texts.append(f"{meta.min_length} to {meta.max_length} entries")
    return texts


def default_of(kind: type, name: str) -> str:
    """The default of a key in TOML's spelling; `required` where there is none."""
    if is_dataclass(kind):
        field = next(field for field in fields(kind) if field.name == name)
        default, factory = field.default, field.default_factory
        missing = default is MISSING and factory is MISSING
    else:
        (entry,) = (entry for entry in msgspec.structs.fields(kind) if entry.name == name)
        default, factory = entry.default, entry.default_factory
        missing = default is msgspec.NODEFAULT and factory is msgspec.NODEFAULT
    if missing:
        return "required"
    if default is None:
        return "left out"
    if isinstance(default, str):
        return f'`"{default}"`'
    return f"`{default:g}`" if isinstance(default, int | float) else "none"


def rows(kind: type) -> list[str]:
    """The rows of the table of a class's keys."""
    docs, lines = key_docs(kind), []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is ClassVar:
            continue
        word, allowed = type_and_range(hint)
        meaning = docs.get(name, MEANINGS.get(f"{kind.__name__}.{name}", ""))
        assert meaning, f"{kind.__name__}.{name} has no docstring and no entry in MEANINGS"
        lines.append(f"| `{name}` | {word} | {default_of(kind, name)} | {allowed} | {meaning} |")
    return lines


MEANINGS = {
    "Convolutions.filters": "Filters of each 3x3 convolution; max-pooling of 2 follows each.",
    "Convolutions.head": "Flatten the last layer, or average it over the picture.",
    "Convolutions.dropout": "The share of units that are switched off while the network learns.",
    "InvertedResiduals.dropout": (
        "The share of filters that are switched off while the network learns."
    ),
    "InvertedResiduals.weights": "Where the weights start: from ImageNet, or at random.",
    "InvertedResiduals.activation": "The function after each convolution.",
    "InvertedResiduals.width": "Factor on the filters of each block.",
    "Fit.learning_rate": "The highest learning rate.",
    "Fit.batch": "Pictures in one step.",
    "Fit.epochs": "How often the network sees all training pictures.",
    "Fit.weight_decay": "The decay of AdamW.",
    "Fit.label_smoothing": "The share of each label that is spread over all labels.",
    "Distillation.teachers": "How many networks the last one learns from.",
    "Distillation.learning_rate": "The highest learning rate of the last network.",
    "Distillation.epochs": "How long the last network learns.",
    "Target.sensitivity": "The sensitivity that the threshold must reach on the validation split.",
    "Task.name": "What is classified, in a few words.",
    "Task.labels": "The two labels; the positive class is the last.",
    "Limits.sensitivity_drop": "How far a variant's sensitivity may lie below that of float32.",
}
"""The meaning of keys that have no docstring of their own in the code."""

COLUMNS = "| key | type | default | allowed | meaning |\n|---|---|---|---|---|"


def table(kind: type) -> str:
    """A table of a class's keys."""
    return "\n".join([COLUMNS, *rows(kind)])


def about(kind: type) -> str:
    """A class's docstring as one paragraph."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split())


def network_section() -> str:
    """The networks, and the keys of each."""
    parts = ["`kind` names the network. Each kind has keys of its own."]
    parts += [f'### `kind = "convolutions"`\n\n{about(Convolutions)}', table(Convolutions)]
    kinds = " and ".join(f'`kind = "{one.kind}"`' for one in (EfficientNetLite, MobileNetV2))
    parts += [f"### {kinds}\n\n{about(InvertedResiduals)}", table(InvertedResiduals)]
    return "\n\n".join(parts)


def page() -> str:
    """The page as Markdown."""
    names = [f"`{name}`" for name in shipped()]
    sections = [HEAD.format(shipped=", ".join(names[:-1]) + " and " + names[-1])]
    sections.append(
        "## The keys above all tables\n\n"
        f"{COLUMNS}\n"
        "| `about` | string | required | | One line for people: what this recipe makes. |\n"
        "| `preprocessing` | string | required | steps joined by `\\|` | How a picture becomes the "
        'input of the network, such as `"gray\\|crop(context=1.6)\\|resize(128)"`. |'
    )
    sections.append("### The steps of `preprocessing`\n\n| step | meaning |\n|---|---|")
    sections[-1] += "".join(
        f"\n| `{name}` | {about(step)} |" for name, step in PREPROCESSING_STEPS.items()
    )
    optional = {name for name in TABLES if default_of(Recipe, name) != "required"}
    for name, kind in TABLES.items():
        body = network_section() if name == "network" else f"{about(kind)}\n\n{table(kind)}"
        need = "This table may be left out." if name in optional else "This table is required."
        sections.append(f"## `[{name}]`\n\n{need}\n\n{body}")
    sections.append("## The recipes in the package\n\n| recipe | what it makes |\n|---|---|")
    sections[-1] += "".join(f"\n| `{name}` | {read_recipe(name).about} |" for name in shipped())
    return "\n\n".join(section.strip() for section in sections) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
