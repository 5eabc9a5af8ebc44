"""Recipes: the shipped ones are what they promise, and bad ones are refused by name."""

from pathlib import Path

import pytest

from devices import BadInput
from tests.conftest import TINY
from train.network import build
from train.recipe import read_recipe, shipped


def test_the_shipped_recipes_read() -> None:
    assert shipped() == ["seed-average", "seed-cnn"]
    for name in shipped():
        assert read_recipe(name).task.labels == ("benign", "malignant")


def test_seed_cnn_is_the_founding_design() -> None:
    recipe = read_recipe("seed-cnn")
    assert recipe.preprocessing.endswith("resize(224)")
    assert (recipe.fit.learning_rate, recipe.fit.batch) == (1e-3, 32)
    model = build(recipe.network, 224, 2)
    kinds = [type(layer).__name__ for layer in model.layers]
    convolutions = ["Conv2D", "MaxPooling2D"] * 3
    head = ["Flatten", "Dense", "Dropout", "Dense", "Softmax"]
    assert kinds == ["InputLayer", "Rescaling", *convolutions, *head]
    assert model.count_params() == 25_747_394
    assert model.get_layer("dropout").rate == 0.2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("epochs = 80", "epochs = 0"), "fit.epochs"),
        (("epochs = 80", "epoch = 40"), "fit.epochs"),
        (('head = "average"', 'head = "other"'), "network.head"),
        (("resize(32)", "resize(7)"), "16 to 1024"),
        (('"benign", "malignant"]', '"benign"]'), "task"),
        (("[limits]", "[limits"), "recipe"),
        (("filters = [8, 16]", "filters = [8, 8, 8, 8, 8, 8]"), "cannot be halved 6 times"),
        (('"benign", "malignant"]', '"benign", "b\\u001bd"]'), "task.labels"),
        (("sensitivity = 0.90", 'sensitivity = "high"'), "operating_point.sensitivity"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    path = tmp_path / "mine.toml"
    assert change[0] in TINY
    path.write_text(TINY.replace(*change))
    with pytest.raises(BadInput) as refusal:
        read_recipe(str(path))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="recipe"):
        read_recipe(str(path))


def test_an_unknown_recipe_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no recipe 'none'; there are seed-average, seed-cnn"):
        read_recipe("none")
