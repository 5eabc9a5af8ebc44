"""Train, convert, validate, run: the whole way, on images of the phantom."""

import json
from pathlib import Path

import pytest

from tests.conftest import TINY, draw_labelled, sonolite


def test_the_run_folder_holds_what_was_promised(run_folder: Path) -> None:
    names = sorted(path.name for path in run_folder.iterdir())
    assert names == [
        *("answers.csv", "logs", "model.keras", "report.html", "run.json", "split.csv")
    ]
    record = json.loads((run_folder / "run.json").read_text())
    assert record["metrics"]["test"]["auroc"] > 0.9
    assert 0 < record["metrics"]["test"]["majority"] < 1


def test_evaluate_measures_the_float_model(run_folder: Path, tmp_path: Path) -> None:
    others = draw_labelled(tmp_path / "others", patients=5, first=20)
    done = sonolite("evaluate", run_folder, "--data", others, "--json")
    assert done.code == 0, done
    figures = json.loads(done.stdout)
    assert figures["metrics"]["samples"] == 20
    assert figures["metrics"]["auroc"] > 0.9
    assert figures["dropped"] == {}


def test_validate_holds_each_variant_against_float(bundle_path: Path, labelled: Path) -> None:
    done = sonolite("validate", bundle_path, "--data", labelled, "--json")
    assert done.code == 0, done
    variants = {row["variant"]: row["figures"] for row in json.loads(done.stdout)}
    assert list(variants) == ["float32", "float16", "dynamic", "int8"]
    assert variants["float32"]["largest_difference"]["value"] == 0
    assert 0 < variants["int8"]["largest_difference"]["value"] < 0.2
    assert abs(variants["int8"]["auroc_difference"]["value"]) <= 0.05


@pytest.mark.slow
def test_a_model_that_learnt_whole_pictures_walks_the_same_way(
    tmp_path: Path, labelled: Path
) -> None:
    """Without a crop the golden frames are seen whole, whatever box stands beside them."""
    recipe = tmp_path / "whole.toml"
    recipe.write_text(TINY.replace("crop(context=1.2)|", ""))
    run, bundle = tmp_path / "run", tmp_path / "whole.sonolite"
    assert sonolite("train", labelled, "--recipe", recipe, "--out", run).code == 0
    words = ("convert", run, "--out", bundle, "--variants", "float32")
    assert sonolite(*words).code == 0
    for region in ((), ("--roi", "145,190,115,105")):
        source = ("--source", "phantom:?frames=2&live=no", "--json")
        done = sonolite("run", bundle, *source, *region)
        assert done.code == 0, done
        assert len(done.stdout.splitlines()) == 2


def test_a_run_over_the_phantom_gives_a_result_a_frame(bundle_path: Path) -> None:
    done = sonolite(
        *("run", bundle_path, "--source", "phantom:?frames=9&live=no", "--json"),
        *("--roi", "145,190,115,105"),
    )
    assert done.code == 0, done
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["frame"] for result in results] == list(range(9))
    assert {result["state"] for result in results} == {"LIVE"}
    assert "9 read, 9 classified" in done.stderr
