"""Every key of a recipe is explained, and a commented recipe is the recipe."""

from pathlib import Path

import pytest

from tests.conftest import refused, sonolite
from train.locator.recipe import LocatorRecipe, read_locator_recipe
from train.recipe import LOCATORS, Recipe, read_recipe, shipped
from train.recipe_keys import NETWORKS, commented, recipe_keys


@pytest.mark.parametrize("recipe", [Recipe, LocatorRecipe])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_key_is_explained(network: str, recipe: type) -> None:
    keys = recipe_keys(network, recipe)
    assert len({(key.table, key.name) for key in keys}) == len(keys)
    for key in keys:
        assert key.meaning.endswith((".", "`")), key
        assert key.default, key


@pytest.mark.parametrize("name", shipped())
def test_a_commented_recipe_is_read_as_the_same(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    path = tmp_path / "a.toml"
    path.write_text(commented(recipe))
    assert read_recipe(str(path)) == recipe


@pytest.mark.parametrize("name", LOCATORS)
def test_a_commented_recipe_of_a_locator_is_read_as_the_same(name: str, tmp_path: Path) -> None:
    recipe = read_locator_recipe(name)
    path = tmp_path / "a.toml"
    path.write_text(commented(recipe))
    assert read_locator_recipe(str(path)) == recipe


def test_the_recipe_of_a_locator_is_written_checked_and_explained(tmp_path: Path) -> None:
    path = tmp_path / "finder.toml"
    words = ("recipe", "new", path, "--like", "nodule-locator")
    refused(sonolite(*words, "--labels", "cyst,solid"), "a locator takes no --labels")
    assert sonolite(*words).code == 0
    for recipe in (path, "nodule-locator"):
        done = sonolite("recipe", "check", recipe)
        assert done.stdout == f"{recipe}: a locator; efficientnet-lite, 1900 steps\n"
    path.write_text(path.read_text().replace("steps = 1900", "steps = 0"))
    refused(sonolite("recipe", "check", path), "fit.steps")
    explained = sonolite("recipe", "explain", "sampling")
    assert explained.stdout.startswith("sampling.marked: of a locator, number; above 0")


def test_a_recipe_is_written_checked_and_explained(tmp_path: Path) -> None:
    path = tmp_path / "mass.toml"
    words = ("--labels", "cyst,solid", "--task", "breast mass")
    assert sonolite("recipe", "new", path, *words).code == 0
    checked = sonolite("recipe", "check", path)
    assert checked.code == 0
    assert "breast mass; labels: cyst, solid" in checked.stdout
    refused(sonolite("recipe", "new", path), "exists already")
    path.write_text(path.read_text().replace("epochs = 8", "epochs = 0"))
    refused(sonolite("recipe", "check", path), "fit.epochs")
    explained = sonolite("recipe", "explain", "fit.balance")
    assert explained.stdout.startswith("fit.balance: text; none, sampling, weights")
    refused(sonolite("recipe", "explain", "fit.speed"), "no key 'fit.speed'", "fit.batch")
