"""The recipe of a locator: the shipped one reads, and a wrong entry is named in one line."""

from pathlib import Path

import pytest

from devices import BadInput
from edge_runtime.bundle.preprocess import parse
from tests.conftest import FINDER, TINY
from train.locator.recipe import is_locator, read_locator_recipe
from train.recipe import LOCATORS, shipped


@pytest.mark.parametrize("name", LOCATORS)
def test_the_shipped_recipe_reads(name: str) -> None:
    recipe = read_locator_recipe(name)
    assert parse(recipe.preprocessing).side == 192
    assert recipe.network.weights == "imagenet"
    assert recipe.limits.ap50_drop < 0.01


def test_a_recipe_of_ones_own_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(FINDER)
    recipe = read_locator_recipe(str(path))
    assert (recipe.channels, recipe.fit.steps, recipe.tracking.max_nodules) == (16, 6, 4)


WRONG = (
    ("channels", "channels = 16", "channels = 8"),
    ("fit.batch", "batch = 4", "batch = 0"),
    ("fit.steps", "steps = 6", 'steps = "many"'),
    ("fit.frozen", "frozen = 0", "frozen = 6"),
    ("sampling.marked", "marked = 0.7", "marked = 1.5"),
    ("sampling.other", "other = 0.0\n", ""),
    ("limits.ap50_drop", "ap50_drop = 0.99", "ap50_drop = -0.1"),
    ("fit.epochs", "steps = 6", "steps = 6\nepochs = 3"),
    ("false_frames", "false_frames = 0.05", "false_frames = 1.0"),
    ("network", 'kind = "efficientnet-lite"', 'kind = "transformer"'),
    ("kind", 'kind = "locator"', 'kind = "finder"'),
    ("keep_score", "keep_score = 0.25", "keep_score = 0.75"),
    ("context", "crop(context=1)", "crop(context=9)"),
    ("multiple of 32", "resize(64)", "resize(72)"),
    ("sampling.marked", "marked = 0.7\nempty = 0.3", "marked = 0.0\nempty = 0.3"),
    ("whole picture", "crop(context=1)|", ""),
)


@pytest.mark.parametrize(("entry", "right", "wrong"), WRONG)
def test_a_wrong_entry_is_named(tmp_path: Path, entry: str, right: str, wrong: str) -> None:
    assert right in FINDER
    path = tmp_path / "a.toml"
    path.write_text(FINDER.replace(right, wrong, 1))
    with pytest.raises(BadInput) as refusal:
        read_locator_recipe(str(path))
    line = str(refusal.value)
    assert line.startswith(f"recipe {path}: ")
    assert entry in line
    assert "\n" not in line


def test_a_recipe_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none.toml"), str(tmp_path), "no-locator"):
        with pytest.raises(BadInput, match="no recipe"):
            read_locator_recipe(name)


def test_a_locator_is_known_by_its_name_or_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(FINDER)
    assert is_locator(str(path))
    assert all(map(is_locator, LOCATORS))


@pytest.mark.parametrize("content", [TINY, "kind = ", "[kind]\n", 'kind = "classifier"', "\udcff"])
def test_another_file_is_no_locator(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert not is_locator(str(path))


def test_neither_is_what_is_no_recipe_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(FINDER)
    for name in (*shipped(), str(tmp_path / "a.txt"), str(tmp_path), str(tmp_path / "none.toml")):
        assert not is_locator(name)
