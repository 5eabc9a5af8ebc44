"""`sonolite recipe`: a recipe file is written, checked and explained."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from devices import BadInput
from edge_runtime.files import refuse_existing, whole_file

recipes = typer.Typer(help="Write, check and explain recipes.", no_args_is_help=True)


@recipes.command()
def new(
    file: Annotated[Path, typer.Argument(help="The new file, NAME.toml.")],
    like: Annotated[
        str, typer.Option(help="The recipe to begin with: a shipped one, or a file.")
    ] = "efficientnet-lite0",
    labels: Annotated[
        str | None,
        typer.Option(help="The classes, such as cyst,solid; the positive one of two comes last."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help='What the classes tell apart, such as "breast mass".')
    ] = None,
) -> None:
    """Write a recipe file that explains each of its keys.

    Examples: sonolite recipe new mass.toml --labels cyst,solid --task "breast mass"

    sonolite recipe new finder.toml --like nodule-locator
    """
    from train.locator.recipe import LocatorRecipe, is_locator, read_locator_recipe
    from train.plan import Changes, changed
    from train.recipe import Recipe, read_recipe
    from train.recipe_keys import commented

    if file.suffix != ".toml":
        raise BadInput(f"{file}: a recipe's name ends in .toml")
    refuse_existing(file)
    recipe: Recipe | LocatorRecipe
    if is_locator(like):
        if labels or task:
            raise BadInput(f"--like {like}: a locator takes no --labels and no --task")
        recipe = read_locator_recipe(like)
    else:
        names = tuple(word.strip() for word in labels.split(",")) if labels else ()
        recipe = changed(read_recipe(like), Changes(labels=names, task=task), str(file))
    with whole_file(file) as path:
        path.write_text(commented(recipe), "utf-8")
    typer.echo(f"{file}: written; train with --recipe {file}", err=True)


@recipes.command()
def check(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe, or a file, such as mine.toml.")],
) -> None:
    """Say whether a recipe can be used; exit 2, naming the first entry that is wrong.

    Example: sonolite recipe check mass.toml
    """
    from train.locator.recipe import is_locator, read_locator_recipe
    from train.recipe import read_recipe

    if is_locator(recipe):
        locator = read_locator_recipe(recipe)
        kind = locator.network.__struct_config__.tag
        typer.echo(f"{recipe}: a locator; {kind}, {locator.fit.steps} steps")
        return
    plan = read_recipe(recipe)
    teachers = plan.distillation and f", {plan.distillation.teachers} teachers"
    typer.echo(
        f"{recipe}: {plan.task.name}; labels: {', '.join(plan.task.labels)}; "
        f"{plan.network.__struct_config__.tag}, {plan.fit.epochs} epochs{teachers or ''}"
    )


@recipes.command()
def explain(
    key: Annotated[
        str | None, typer.Argument(help="A key or table, such as fit.epochs; without it all.")
    ] = None,
    network: Annotated[
        str, typer.Option(help="The kind of network whose keys are explained.")
    ] = "efficientnet-lite",
) -> None:
    """Explain the keys of a recipe: meaning, range and default.

    Examples: sonolite recipe explain

    sonolite recipe explain fit.balance
    """
    from train.locator.recipe import LocatorRecipe
    from train.recipe_keys import NETWORKS, recipe_keys

    if network not in NETWORKS:
        raise BadInput(f"--network {network}: there are {', '.join(NETWORKS)}")
    own = recipe_keys(network)
    more = [entry for entry in recipe_keys(network, LocatorRecipe) if entry not in own]
    named = [(f"{entry.table}.{entry.name}".lstrip("."), entry) for entry in (*own, *more)]
    chosen = [pair for pair in named if key in (None, pair[0], pair[1].name, pair[1].table)]
    if not chosen:
        names = dict.fromkeys(name for name, _ in named)
        raise BadInput(f"no key {key!r}; there are {', '.join(names)}")
    console = Console()
    for name, entry in chosen:
        whose = "" if entry in own else "of a locator, "
        allowed = f"; {entry.allowed}" if entry.allowed else ""
        console.print(f"{name}: {whose}{entry.type}{allowed} ({entry.default})", markup=False)
        console.print(f"    {entry.meaning}", markup=False)
