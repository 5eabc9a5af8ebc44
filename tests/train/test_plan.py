"""The classes of a data set become a recipe's, and what was taken for granted is said."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import BadInput
from train.plan import Changes, make_plan
from train.recipe import read_recipe

DEFAULT = "efficientnet-lite0"
Folders = Callable[..., Path]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """`folders("cyst", "solid")`: class folders with one image each."""

    def make(*labels: str) -> Path:
        for label in labels:
            (tmp_path / "mass" / label).mkdir(parents=True)
            noise = np.random.default_rng(0).integers(0, 255, (80, 80), np.uint8)
            cv2.imwrite(str(tmp_path / "mass" / label / "1.png"), noise)
        return tmp_path / "mass"

    return make


def test_labels_that_a_recipe_knows_change_nothing(folders: Folders) -> None:
    plan = make_plan(folders("benign", "malignant"), DEFAULT, Changes())
    assert plan.recipe == read_recipe(DEFAULT)
    assert plan.assumed == "labels: benign, malignant; positive: malignant; task: thyroid nodule"
    data = folders("0", "1")
    shutil.rmtree(data / "benign")
    shutil.rmtree(data / "malignant")
    assert make_plan(data, DEFAULT, Changes()).recipe == read_recipe(DEFAULT)


def test_other_labels_are_taken_from_the_data(folders: Folders) -> None:
    plan = make_plan(folders("solid", "cyst"), DEFAULT, Changes())
    task = plan.recipe.task
    assert (task.name, task.labels) == ("mass", ("cyst", "solid"))
    assert (task.aliases, task.tirads) == ({}, {})
    assert plan.assumed.startswith("labels: cyst, solid; positive: solid; task: mass (taken from")
    assert {sample.label for sample in plan.collection.samples} == {"cyst", "solid"}
    assert plan.recipe.network == read_recipe(DEFAULT).network


def test_a_class_that_the_recipe_does_not_know_makes_three(folders: Folders) -> None:
    plan = make_plan(folders("normal", "benign", "malignant"), DEFAULT, Changes())
    assert plan.recipe.task.labels == ("benign", "malignant", "normal")
    assert "positive" not in plan.assumed.partition("(")[0]


@pytest.mark.parametrize(
    ("names", "positive", "labels"),
    [
        (("Cancer", "healthy"), None, ("healthy", "Cancer")),
        (("abnormal", "normal"), None, ("normal", "abnormal")),
        (("cyst", "solid"), "cyst", ("solid", "cyst")),
        (("0", "1", "2"), "1", ("0", "2", "1")),
    ],
)
def test_the_positive_class_is_the_last(
    folders: Folders, names: tuple[str, ...], positive: str | None, labels: tuple[str, ...]
) -> None:
    plan = make_plan(folders(*names), DEFAULT, Changes(positive=positive))
    assert plan.recipe.task.labels == labels


def test_a_recipe_of_the_users_own_is_left_as_it_is(folders: Folders, tiny_recipe: Path) -> None:
    data = folders("cyst", "solid")
    with pytest.raises(BadInput, match="'cyst' is no class"):
        make_plan(data, str(tiny_recipe), Changes())
    plan = make_plan(data, str(tiny_recipe), Changes(labels=("cyst", "solid")))
    assert plan.recipe.task.labels == ("cyst", "solid")


def test_the_usual_things_are_changed_without_a_file(folders: Folders) -> None:
    changes = Changes(task="breast mass", epochs=3, distillation=False, positive="benign")
    recipe = make_plan(folders("benign", "malignant"), DEFAULT, changes).recipe
    assert recipe.task.labels == ("malignant", "benign")
    assert recipe.task.name == "breast mass"
    assert recipe.task.aliases == read_recipe(DEFAULT).task.aliases
    assert recipe.fit.epochs == 3
    assert recipe.distillation is None
    kept = make_plan(folders("cyst"), DEFAULT, Changes(epochs=4)).recipe
    assert kept.distillation is not None
    assert (kept.fit.epochs, kept.distillation.epochs) == (4, 4)


@pytest.mark.parametrize(
    ("names", "changes", "problem"),
    [
        (("cyst",), Changes(), r"1 class\(es\), cyst; 2 to 100"),
        (("cyst", "bösartig"), Changes(), "'bösartig' needs another name"),
        (("cyst", "solid"), Changes(positive="lump"), "--positive lump: no such class"),
        (("cyst", "solid"), Changes(labels=("cyst", "lump")), "'solid' is no class"),
        (("cyst", "solid"), Changes(labels=("cyst", "cyst")), "2 to 100 different"),
        ([f"c{number}" for number in range(101)], Changes(), r"101 class\(es\)"),
    ],
)
def test_classes_that_no_task_can_have_are_refused(
    folders: Folders, names: tuple[str, ...], changes: Changes, problem: str
) -> None:
    with pytest.raises(BadInput, match=problem):
        make_plan(folders(*names), DEFAULT, changes)
