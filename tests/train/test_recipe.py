"""Recipes: the shipped ones are what they promise, and bad ones are refused by name."""

from pathlib import Path

import pytest

from devices import BadInput
from tests.conftest import SLIM, TINY
from train.augmentation import Augmentation
from train.network import build
from train.recipe import Convolutions, Distillation, Fit, InvertedResiduals, read_recipe, shipped


def test_the_shipped_recipes_read() -> None:
    assert shipped() == ["efficientnet-lite0", "mobilenet-v2", "seed-average", "seed-cnn"]
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


def test_efficientnet_lite0_is_of_imagenet_and_tells_what_it_saw() -> None:
    recipe = read_recipe("efficientnet-lite0")
    assert isinstance(recipe.network, InvertedResiduals)
    assert recipe.network.weights == "imagenet"
    assert recipe.network.outputs == ("evidence", "embedding")
    assert recipe.augmentation == Augmentation()


def test_without_a_table_nothing_is_augmented() -> None:
    for name in ("seed-average", "seed-cnn"):
        recipe = read_recipe(name)
        assert isinstance(recipe.network, Convolutions)
        assert recipe.augmentation is None


@pytest.mark.parametrize(
    ("base", "change", "said"),
    [
        (TINY, ("epochs = 30", "epochs = 0"), "fit.epochs"),
        (TINY, ("epochs = 30", "epoch = 40"), "fit.epochs"),
        (TINY, ('head = "average"', 'head = "other"'), "network.head"),
        (TINY, ("resize(32)", "resize(7)"), "16 to 1024"),
        (TINY, ('"benign", "malignant"]', '"benign"]'), "task"),
        (TINY, ("[limits]", "[limits"), "recipe"),
        (TINY, ("[8, 16]", "[8, 8, 8, 8, 8, 8]"), "cannot be halved 6 times"),
        (TINY, ('"benign", "malignant"]', '"benign", "b\\u001bd"]'), "task.labels"),
        (TINY, ("sensitivity = 0.90", 'sensitivity = "high"'), "operating_point.sensitivity"),
        (TINY, ('kind = "convolutions"', 'kind = "transformer"'), "network"),
        (TINY, ('kind = "convolutions"', ""), "network"),
        (TINY, ("batch = 16", "batch = 16\nwarmup = 0.1"), "warmup belongs to the cosine"),
        (TINY, ("batch = 16", "batch = 16\naverage = 0.9"), "leave patience out"),
        (TINY, ("batch = 16", 'batch = 16\nbalance = "always"'), "fit.balance"),
        (TINY, ("batch = 16", "batch = 16\nlabel_smoothing = 1"), "fit.label_smoothing"),
        (SLIM, ("resize(32)", "resize(31)"), "31 pixels cannot be halved 5 times"),
        (SLIM, ('weights = "random"', 'weights = "imagenet"'), "width and depth 1.0 and 1.0"),
        (SLIM, ('weights = "random"', 'weights = "mine"'), "weights"),
        (SLIM, ("width = 0.25", "width = 0.2"), "width"),
        (SLIM, ('"evidence", "embedding"', '"evidence", "saliency"'), "outputs"),
        (SLIM, ("width = 0.25", "filters = [8]"), "filters"),
        (SLIM, ("[augmentation]", "[augmentation]\nrotate = 5"), "augmentation.rotate"),
        (SLIM, ("[augmentation]", "[augmentation]\njpeg = 2"), "augmentation.jpeg"),
    ],
)
def test_a_bad_entry_is_named(
    tmp_path: Path, base: str, change: tuple[str, str], said: str
) -> None:
    path = tmp_path / "mine.toml"
    assert change[0] in base
    path.write_text(base.replace(*change))
    with pytest.raises(BadInput) as refusal:
        read_recipe(str(path))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_there_are_no_imagenet_weights_of_mobilenet(tmp_path: Path) -> None:
    """Not even at the width and depth of EfficientNet-Lite0."""
    path = tmp_path / "mine.toml"
    network = 'kind = "mobilenet-v2"\nweights = "imagenet"\ndropout = 0.2'
    head, _, rest = SLIM.partition("[network]")
    path.write_text(f"{head}[network]\n{network}\n[fit]{rest.partition('[fit]')[2]}")
    with pytest.raises(BadInput, match="there are ImageNet weights for efficientnet-lite"):
        read_recipe(str(path))


def test_a_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="recipe"):
        read_recipe(str(path))


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"no recipe 'none'; there are .*, seed-cnn, nodule-locator"):
        read_recipe("none")


def test_a_student_learns_as_its_teachers_but_for_what_distillation_says() -> None:
    fit = Fit(learning_rate=1e-3, batch=8, epochs=3, weight_decay=0.05, label_smoothing=0.1)
    table = Distillation(teachers=2, learning_rate=1e-4, epochs=7, mixup=0.5)
    assert table.student(fit) == Fit(
        learning_rate=1e-4, batch=8, epochs=7, weight_decay=0.05, mixup=0.5
    )
