"""Pipes, sparse files and deep nesting among the files of a collection or a run end in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from devices import BadInput
from train.arguments import check_evaluation
from train.cluster import read_cluster
from train.importers.boxes.files import read_bytes, read_root
from train.importers.rows import first_line_of
from train.importers.xml import MAX_DEPTH, read_xml
from train.locator.recipe import is_locator, is_locator_run, read_locator_recipe
from train.locator.run import read_locator_run
from train.recipe import read_recipe


def _make_pipe(path: Path) -> None:
    os.mkfifo(path)


def _make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 36)


@pytest.fixture(params=[_make_pipe, _make_sparse])
def make(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    maker: Callable[[Path], None] = request.param
    return maker


@pytest.mark.timeout(60)
def test_an_annotation_is_unreadable(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.xml")
    for read in (read_xml, read_root, read_bytes):
        assert read(tmp_path / "a.xml") is None


@pytest.mark.timeout(60)
def test_a_table_has_no_columns(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.csv")
    assert first_line_of(tmp_path / "a.csv", ["path"]) == set()


@pytest.mark.timeout(60)
def test_a_recipe_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    recipe = tmp_path / "a.toml"
    make(recipe)
    assert not is_locator(str(recipe))
    for read in (read_recipe, read_locator_recipe):
        with pytest.raises(BadInput):
            read(str(recipe))


@pytest.mark.timeout(60)
def test_a_run_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "run.json")
    (tmp_path / "model.keras").touch()
    assert not is_locator_run(tmp_path)
    with pytest.raises(BadInput):
        read_locator_run(tmp_path)
    with pytest.raises(BadInput):
        check_evaluation(tmp_path, tmp_path, None, None)


def test_nesting_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH)
    assert read_xml(path) is not None
    path.write_text("<a>" * 200_000 + "</a>" * 200_000)
    assert read_xml(path) is None


def test_a_deep_cluster_is_refused() -> None:
    with pytest.raises(BadInput, match="TF_CONFIG"):
        read_cluster({"TF_CONFIG": "[" * 200_000})
