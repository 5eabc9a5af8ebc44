"""Writes docs/recipe.md: every key of a recipe, read from the classes that read a recipe.

`make docs` runs it as `python -m docs.recipe_page > docs/recipe.md`.
"""

import inspect
import sys

from edge_runtime.bundle.preprocess import PREPROCESSING_STEPS
from train.locator.recipe import LocatorRecipe, read_locator_recipe
from train.recipe import (
    LOCATORS,
    Convolutions,
    EfficientNetLite,
    InvertedResiduals,
    MobileNetV2,
    Recipe,
    read_recipe,
    shipped,
)
from train.recipe_keys import LOCATOR_TABLES, NETWORKS, TABLES, Key, default_of, recipe_keys

HEAD = """\
# Write a recipe

A *recipe* is one short TOML file that says how a model is made. Only the data and the seed are not
in it. `sonolite train --recipe NAME` takes the name of a recipe in the package, or the path of a
file.

The package holds {shipped}.
`sonolite recipe new my-recipe.toml` writes a recipe that you can change. Train with it:

    sonolite train my-images --recipe my-recipe.toml --out run

[Train on your own data](train.md#write-a-recipe-of-your-own) has a complete small recipe. A key
that is unknown, missing or out of range is refused. The message names the key.

This page is generated from the code (`docs/recipe_page.py`). Edit the docstrings in
`train/recipe.py`, `train/augmentation.py`, `train/samples.py`, `train/locator/recipe.py`,
and in `manifest.py`, `policies.py` and `preprocess.py` of `edge_runtime/bundle/` instead of this
page.
"""

COLUMNS = "| key | type | default | allowed | meaning |\n|---|---|---|---|---|"


def table(keys: list[Key]) -> str:
    """A table of keys."""
    rows = []
    for key in keys:
        assert key.meaning, f"{key.table}.{key.name} has no docstring"
        cells = (f"`{key.name}`", key.type, _code(key.default), key.allowed, key.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([COLUMNS, *rows])


def _code(default: str) -> str:
    return default if default in ("required", "left out", "none") else f"`{default}`"


def about(kind: type) -> str:
    """A class's docstring as one paragraph."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split())


def keys_of(name: str, network: str = EfficientNetLite.kind) -> list[Key]:
    """The keys of one table; of `network` those of one kind of network."""
    return [key for key in recipe_keys(network) if key.table == name]


def network_section() -> str:
    """The networks, and the keys of each."""
    kinds = " and ".join(f"`{one.kind}`" for one in (EfficientNetLite, MobileNetV2))
    return "\n\n".join(
        [
            f"`kind` names the network: {', '.join(NETWORKS)}. Each kind has keys of its own.",
            f"### `convolutions`\n\n{about(Convolutions)}",
            table(keys_of("network", "convolutions")),
            f"### {kinds}\n\n{about(InvertedResiduals)}",
            table(keys_of("network")),
        ]
    )


def locator_section() -> str:
    """The keys of the recipe of a locator that are not those of a classifier."""
    keys = recipe_keys(recipe=LocatorRecipe)
    parts = [
        "## The recipe of a locator",
        "A locator [finds nodules](locate.md). All tables of its recipe are required. `[network]` "
        "is as above, without the kind `convolutions`. `[augmentation]` is as above.",
        table([key for key in keys if not key.table]),
    ]
    for name, kind in LOCATOR_TABLES.items():
        if kind not in TABLES.values():
            own = [key for key in keys if key.table == name]
            parts.append(f"### `[{name}]` of a locator\n\n{about(kind)}\n\n{table(own)}")
    return "\n\n".join(parts)


def page() -> str:
    """The page as Markdown."""
    names = [f"`{name}`" for name in (*shipped(), *LOCATORS)]
    sections = [HEAD.format(shipped=", ".join(names[:-1]) + " and " + names[-1])]
    sections.append(f"## The keys above all tables\n\n{table(keys_of(''))}")
    sections.append("### The steps of `preprocessing`\n\n| step | meaning |\n|---|---|")
    sections[-1] += "".join(
        f"\n| `{name}` | {about(step)} |" for name, step in PREPROCESSING_STEPS.items()
    )
    tables = dict.fromkeys(key.table for key in recipe_keys() if key.table)
    for name in tables:
        kind = TABLES.get(name)
        body = network_section() if kind is None else f"{about(kind)}\n\n{table(keys_of(name))}"
        required = default_of(Recipe, name) == "required"
        need = "This table is required." if required else "This table may be left out."
        sections.append(f"## `[{name}]`\n\n{need}\n\n{body}")
    sections.append(locator_section())
    sections.append("## The recipes in the package\n\n| recipe | what it makes |\n|---|---|")
    sections[-1] += "".join(f"\n| `{name}` | {read_recipe(name).about} |" for name in shipped())
    sections[-1] += "".join(
        f"\n| `{name}` | {read_locator_recipe(name).about} |" for name in LOCATORS
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
